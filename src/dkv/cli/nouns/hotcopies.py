"""CLI: hot copies: take one, watch it, cancel it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, exactly, part
from dkv.cli.nouns.printing import lines, show
from dkv.cli.nouns.shapes import address, repr_line
from dkv.cli.session import Session
from dkv.client import Json

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # s
TIMEOUT = Param("--timeout", "number", "seconds to wait for the end", default=0, low=0, high=10**6)
RUNNING_FOR = Param("--running-for", "number", "only those that run for so many seconds", low=0, high=10**9)
COORDINATOR = Param("--coordinator-start-id", "number", "the process that coordinates it", required=True, low=0, high=10**9)
COPY = Param("--hotcopy-id", "text", "the copy", required=True)

VERBS = (
    Cmdlet(
        "hotcopy database",
        "Copies the archives of a database while it serves.",
        "nouns.hotcopies:take",
        (
            DB_NAME,
            Param("--type", "word", "what kind", required=True, choices=("simple", "full", "incremental", "journal")),
            Param("--default-backup-dir", "text", "where archives are copied to"),
            Param("--backup-dirs", "pairs", "archive and its own directory"),
            Param("--shared", "switch", "one directory below it for each archive", default=False),
            Param("--max-rate", "text", "megabytes a second at most"),
            Param("--partial-storage-groups", "switch", "the archives need not hold all groups", default=False),
            TIMEOUT,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "get hotcopy-info",
        "Lists hot copies.",
        "nouns.hotcopies:info",
        (DB_NAME._replace(required=False), COORDINATOR._replace(required=False), TIMEOUT, RUNNING_FOR, *SHARED),
    ),
    Cmdlet(
        "show hotcopy-info",
        "Shows hot copies by the process that coordinates them.",
        "nouns.hotcopies:show_info",
        (DB_NAME, TIMEOUT, RUNNING_FOR, *SHARED),
    ),
    Cmdlet(
        "get hotcopy-status",
        "One hot copy.",
        "",
        (COORDINATOR, COPY, TIMEOUT, *SHARED),
        Call(
            "GET",
            "/databases/hotCopyStatus",
            "HotCopyResponse",
            query=(("coordinatorStartId", "--coordinator-start-id"), ("hotCopyId", "--hotcopy-id")),
        ),
    ),
    Cmdlet(
        "cancel hotcopy",
        "Ends a hot copy; what it copied is of no use.",
        "",
        (COORDINATOR, COPY, TIMEOUT, *CHANGES),
        Call(
            "POST",
            "/databases/cancelHotCopy",
            "HotCopyResponse",
            query=(("coordinatorStartId", "--coordinator-start-id"), ("hotCopyId", "--hotcopy-id")),
        ),
    ),
)


def take(session: Session, bound: Bound) -> int:
    """Ask for a copy; with --timeout wait for its end."""
    door, kind = DialectClient(session, bound), bound["--type"]
    body = _simple(bound) if kind == "simple" else _set(bound)
    path = f"/databases/{part(bound['--db-name'])}/hotCopy" + ("Simple" if kind == "simple" else "")
    begun: Json = door.change("POST", path, body) or {}
    if bound["--timeout"]:
        begun = _await(door, begun, bound["--timeout"])
    show(session, "HotCopyResponse", begun)
    return FAILED if bound["--timeout"] and begun.get("status") not in (None, "completed") else DONE


def _common(bound: Bound) -> Json:
    body: Json = {"checkContainsAllSgs": not bound["--partial-storage-groups"]}
    if bound["--max-rate"]:
        try:
            body["maxRate"] = str(int(float(bound["--max-rate"]) * 10**6))
        except ValueError as error:
            raise Usage(f"--max-rate cannot be '{bound['--max-rate']}'.", "It is megabytes a second, such as 50.") from error
    return body


def _simple(bound: Bound) -> Json:
    body = _common(bound) | {"backupLocations": {k: {"copyArchiveDir": v} for k, v in (bound["--backup-dirs"] or {}).items()}}
    if bound["--default-backup-dir"]:
        body["defaultBackupLocation"] = {"copyArchiveDir": bound["--default-backup-dir"]}
    return body


def _set(bound: Bound) -> Json:
    body = _common(bound) | {"type": bound["--type"], "shared": bound["--shared"], "backupSetDirs": bound["--backup-dirs"] or {}}
    if bound["--default-backup-dir"]:
        body["defaultBackupSetDir"] = bound["--default-backup-dir"]
    return body


def _await(door: DialectClient, begun: Json, seconds: int) -> Json:
    session, pause = door.session, FIRST_PAUSE
    ends = session.clock() + seconds
    while begun.get("status") == "running" and session.clock() < ends:
        session.screen.progress(f"{begun.get('status')}: {begun.get('message') or begun.get('stage') or ''}")
        session.sleep(min(pause, max(0.0, ends - session.clock())))
        pause = min(2 * pause, LONGEST_PAUSE)
        ids = {"coordinatorStartId": begun["coordinatorStartId"], "hotCopyId": begun["hotCopyId"]}
        begun = door.get("/databases/hotCopyStatus", **ids)
    return begun


def _statuses(door: DialectClient, bound: Bound) -> Json:
    name, coordinator = bound["--db-name"], bound.get("--coordinator-start-id")
    if (name is None) == (coordinator is None):
        raise Usage("It is not said whose hot copies.", "Give either --db-name or --coordinator-start-id.")
    if name is None:
        return dict(door.get("/databases/hotCopyStatus", coordinatorStartId=coordinator))
    return dict(door.get(f"/databases/{part(name)}/hotCopyStatus", minSecondsRunning=bound["--running-for"]))


def info(session: Session, bound: Bound) -> int:
    """The copies, as repr lines."""
    found = _statuses(DialectClient(session, bound), bound)
    copies = [one for some in found["hotCopyStatuses"].values() for one in some]
    lines(session, found, (repr_line("HotCopyResponse", one) for one in copies))
    return DONE


def show_info(session: Session, bound: Bound) -> int:
    """The copies below the process that coordinates them."""
    door = DialectClient(session, bound)
    found = _statuses(door, bound)
    live = {str(one["startId"]): one for one in door.items("/processes", "startId", dbName=exactly(bound["--db-name"]))}

    def text() -> Iterator[str]:
        for start_id, copies in sorted(found["hotCopyStatuses"].items(), key=lambda one: int(one[0])):
            where = address(live.get(start_id, {})) or "<UNKNOWN ADDRESS>"
            yield f"{where} [start_id = {start_id}]"
            yield from (f"  {_line(one)}" for one in copies)
        for start_id, said in sorted((found.get("errors") or {}).items()):
            yield f"[start_id = {start_id}] {said}"

    lines(session, found, text())
    return DONE


def _line(one: Mapping[str, object]) -> str:
    end = one.get("endTimestamp") or ""
    return f"{one.get('hotCopyId')} [{one.get('status')}] {one.get('beginTimestamp')}..{end} : {one.get('message')}"
