"""CLI: hot copies: take one, watch it, cancel it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, dialect
from dkv.cli.nouns.printing import address, lines, repr_line, show
from dkv.cli.session import Session
from dkv.client import Json
from dkv.client.dialect import DialectClient, exactly
from dkv.client.manager import quoted

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # s
TIMEOUT = Param("--timeout", "number", "seconds to wait for the copy's end", default=0, low=0, high=10**6)
RUNNING_FOR = Param("--running-for", "number", "only copies that have run for at least so many seconds", low=0, high=10**9)
COORDINATOR = Param(
    "--coordinator-start-id", "number", "start id of the process that coordinates the copy", required=True, low=0, high=10**9
)
COPY = Param("--hotcopy-id", "text", "the hot copy's id", required=True)

VERBS = (
    Cmdlet(
        "hotcopy database",
        "Copies the archives of a database while it serves.",
        "nouns.hotcopies:take",
        (
            DB_NAME,
            Param("--type", "word", "kind of copy", required=True, choices=("simple", "full", "incremental", "journal")),
            Param("--default-backup-dir", "text", "the directory that archives are copied to, on each server"),
            Param("--backup-dirs", "pairs", "pairs of archive id and a directory of its own"),
            Param("--shared", "switch", "make a directory below it for each archive", default=False),
            Param("--max-rate", "text", "most megabytes copied a second"),
            Param(
                "--partial-storage-groups", "switch", "copy also where the archives do not hold all storage groups", default=False
            ),
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
        "Shows one hot copy.",
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
        "Cancels a hot copy; the files copied so far are unusable.",
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
    client, kind, seconds = dialect(session, bound), bound["--type"], bound["--timeout"]
    body = _simple(bound) if kind == "simple" else _set(bound)
    path = f"/databases/{quoted(bound['--db-name'])}/hotCopy" + ("Simple" if kind == "simple" else "")
    copy: Json = client.change("POST", path, body) or {}
    if seconds and copy.get("status") == "running":
        copy = _await_end(session, client, copy, seconds)
    show(session, "HotCopyResponse", copy)
    return FAILED if seconds and copy.get("status") not in (None, "completed") else DONE


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


def _await_end(session: Session, client: DialectClient, copy: Json, seconds: int) -> Json:
    ids = {"coordinatorStartId": copy["coordinatorStartId"], "hotCopyId": copy["hotCopyId"]}
    return session.until(
        lambda: dict(client.get("/databases/hotCopyStatus", **ids)),
        lambda copy: copy.get("status") != "running",
        seconds,
        pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        progress=lambda copy: f"{copy.get('status')}: {copy.get('message') or copy.get('stage') or ''}",
    )


def _statuses(client: DialectClient, bound: Bound) -> Json:
    name, coordinator = bound["--db-name"], bound.get("--coordinator-start-id")
    if (name is None) == (coordinator is None):
        raise Usage("A database or a coordinator is required.", "Give either --db-name or --coordinator-start-id.")
    if name is None:
        return dict(client.get("/databases/hotCopyStatus", coordinatorStartId=coordinator))
    return dict(client.get(f"/databases/{quoted(name)}/hotCopyStatus", minSecondsRunning=bound["--running-for"]))


def info(session: Session, bound: Bound) -> int:
    """The copies, as repr lines."""
    statuses = _statuses(dialect(session, bound), bound)
    copies = [copy for copies in statuses["hotCopyStatuses"].values() for copy in copies]
    lines(session, statuses, (repr_line("HotCopyResponse", copy) for copy in copies))
    return DONE


def show_info(session: Session, bound: Bound) -> int:
    """The copies below the process that coordinates them."""
    client = dialect(session, bound)
    statuses = _statuses(client, bound)
    processes = client.items("/processes", "startId", dbName=exactly(bound["--db-name"]))
    living = {str(process["startId"]): process for process in processes}

    def text() -> Iterator[str]:
        for start_id, copies in sorted(statuses["hotCopyStatuses"].items(), key=lambda item: int(item[0])):
            where = address(living.get(start_id, {})) or "<UNKNOWN ADDRESS>"
            yield f"{where} [start_id = {start_id}]"
            yield from (f"  {_line(copy)}" for copy in copies)
        for start_id, error in sorted((statuses.get("errors") or {}).items()):
            yield f"[start_id = {start_id}] {error}"

    lines(session, statuses, text())
    return DONE


def _line(copy: Mapping[str, object]) -> str:
    end = copy.get("endTimestamp") or ""
    return f"{copy.get('hotCopyId')} [{copy.get('status')}] {copy.get('beginTimestamp')}..{end} : {copy.get('message')}"
