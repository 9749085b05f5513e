"""CLI: storage groups: who holds them, and who may lead them."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, part
from dkv.cli.nouns.printing import lines, show
from dkv.cli.nouns.shapes import address
from dkv.cli.session import Session
from dkv.client import Json

SG_NAME = Param("--sg-name", "text", "the storage group", required=True)
ARCHIVES = Param("--archive-ids", "words", "the archives", required=True)

VERBS = (
    Cmdlet("get storage-groups", "Lists a database's storage groups.", "nouns.groups:get", (DB_NAME, *SHARED)),
    Cmdlet(
        "show storage-groups",
        "Shows a database's storage groups with their processes; * may lead.",
        "nouns.groups:show_all",
        (DB_NAME, *SHARED),
    ),
    Cmdlet(
        "add storage-group", "Puts a storage group into archives.", "nouns.groups:add", (DB_NAME, SG_NAME, ARCHIVES, *CHANGES)
    ),
    Cmdlet(
        "remove storage-group",
        "Takes a storage group out of archives.",
        "nouns.groups:remove",
        (DB_NAME, SG_NAME, ARCHIVES, *CHANGES),
    ),
    Cmdlet(
        "delete storage-group",
        "Forgets a storage group that is lost for good.",
        "",
        (DB_NAME, SG_NAME, *CHANGES),
        Call("DELETE", "/databases/{--db-name}/storageGroups/{--sg-name}"),
    ),
)


def _all(door: DialectClient, bound: Bound) -> list[Json]:
    return door.items(f"/databases/{part(bound['--db-name'])}/storageGroups", "sgName")


def get(session: Session, bound: Bound) -> int:
    """List the groups."""
    show(session, "StorageGroup", _all(DialectClient(session, bound), bound))
    return DONE


def show_all(session: Session, bound: Bound) -> int:
    """Each group with the processes that serve it."""
    door = DialectClient(session, bound)
    groups = _all(door, bound)
    live = {str(one["startId"]): one for one in door.items("/processes", "startId")}

    def text() -> Iterator[str]:
        for group in groups:
            yield f"[{group['sgId']:>4}] [name = {group['sgName']}] [state = {group['state']}]"
            for start_id in sorted(group["processStates"], key=int):
                one, leads = live.get(start_id, {}), start_id in map(str, group["leaderCandidates"])
                where = (address(one) if one else None) or "<UNKNOWN ADDRESS>"
                kind, star = one.get("type", "?"), " *" if leads else ""
                yield f"  [{kind}] {where} [start_id = {start_id}] {group['processStates'][start_id]}{star}"

    lines(session, groups, text())
    return DONE


def add(session: Session, bound: Bound) -> int:
    """One call an archive, as nuocmd does it."""
    return _each(session, bound, "/archives/addStorageGroup")


def remove(session: Session, bound: Bound) -> int:
    """One call an archive."""
    return _each(session, bound, "/archives/removeStorageGroup")


def _each(session: Session, bound: Bound, path: str) -> int:
    door = DialectClient(session, bound)
    for archive_id in bound["--archive-ids"]:
        body = {"dbName": bound["--db-name"], "sgName": bound["--sg-name"], "archiveId": archive_id}
        show(session, "StorageGroup", door.change("POST", path, body))
    return DONE
