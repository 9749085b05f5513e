"""CLI: archives and the storage groups in them."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, dialect
from dkv.cli.nouns.printing import address, archive_line, connected, exited_line, lines, process_line, show
from dkv.cli.session import Session
from dkv.client import Json
from dkv.client.dialect import DialectClient, Query, exactly
from dkv.client.manager import quoted

OF_DATABASE = DB_NAME._replace(required=False, help="only archives of this database")
REMOVED = Param("--removed", "switch", "show deleted archives that are not purged instead", default=False)
ARCHIVE_ID = Param("--archive-id", "number", "the archive's id", required=True, low=0, high=10**9)
SG_NAME = Param("--sg-name", "text", "the storage group's name", required=True)
ARCHIVES = Param("--archive-ids", "words", "the archives' ids", required=True)

VERBS = (
    Cmdlet(
        "create archive",
        "Defines an archive: a directory on a server that holds a copy of a database's data.",
        "nouns.archives:create",
        (
            DB_NAME,
            Param("--server-id", "text", "the id of the server that the archive is on", required=True),
            Param("--archive-path", "text", "the archive's directory on that server", required=True),
            Param(
                "--journal-path",
                "text",
                "a directory on the same disk; accepted without effect: an engine's journal is in its archive",
            ),
            Param("--restored", "switch", "the directory already holds the archive's data", default=False),
            ARCHIVE_ID._replace(required=False, help="id of a deleted archive, which is brought back"),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "delete archive",
        "Removes an archive from its database; --purge deletes its record too.",
        "nouns.archives:delete",
        (ARCHIVE_ID, Param("--purge", "switch", "also delete its record, and rename its directory", default=False), *CHANGES),
    ),
    Cmdlet("get archives", "Lists archives.", "nouns.archives:get", (OF_DATABASE, REMOVED, *SHARED)),
    Cmdlet(
        "show archives",
        "Shows archives, each with its process or with the end of its last one.",
        "nouns.archives:show_all",
        (OF_DATABASE, REMOVED, *SHARED),
    ),
    Cmdlet("get storage-groups", "Lists a database's storage groups.", "nouns.archives:get_groups", (DB_NAME, *SHARED)),
    Cmdlet(
        "show storage-groups",
        "Shows a database's storage groups with their processes; * marks those that may lead.",
        "nouns.archives:show_groups",
        (DB_NAME, *SHARED),
    ),
    Cmdlet(
        "add storage-group",
        "Puts a storage group into archives.",
        "nouns.archives:add_group",
        (DB_NAME, SG_NAME, ARCHIVES, *CHANGES),
    ),
    Cmdlet(
        "remove storage-group",
        "Takes a storage group out of archives.",
        "nouns.archives:remove_group",
        (DB_NAME, SG_NAME, ARCHIVES, *CHANGES),
    ),
    Cmdlet(
        "delete storage-group",
        "Deletes a storage group whose data is lost.",
        "",
        (DB_NAME, SG_NAME, *CHANGES),
        Call("DELETE", "/databases/{--db-name}/storageGroups/{--sg-name}"),
    ),
)


# Archives ------------------------------------------------------------------------------------------------------------


def create(session: Session, bound: Bound) -> int:
    """Create an archive, or bring a deleted one back."""
    body = {
        "dbName": bound["--db-name"],
        "host": bound["--server-id"],
        "path": bound["--archive-path"],
        "restored": bound["--restored"],
    }
    if bound["--journal-path"]:
        body["journalPath"] = bound["--journal-path"]
    client, archive_id = dialect(session, bound), bound["--archive-id"]
    if archive_id is None:
        show(session, "Archive", client.change("POST", "/archives", body))
    else:
        show(session, "Archive", client.change("PUT", f"/archives/{archive_id}", body))
    return DONE


def delete(session: Session, bound: Bound) -> int:
    """Delete an archive and print it as it was."""
    path = f"/archives/{bound['--archive-id']}"
    show(session, "Archive", dialect(session, bound).change("DELETE", path, purge=bound["--purge"]))
    return DONE


def _query(bound: Bound) -> Query:
    database = bound["--db-name"]
    filters = {"dbName": exactly(database) if database else None}
    return Query("/archives", "id", filters, {"removed": True} if bound["--removed"] else {})


def get(session: Session, bound: Bound) -> int:
    """List archives."""
    client = dialect(session, bound)
    path, order, filters, also = _query(bound)
    show(session, "Archive", client.of_database(bound["--db-name"], client.items(path, order, also, **filters)))
    return DONE


def show_all(session: Session, bound: Bound) -> int:
    """Each archive with its living process, or else with its newest tombstone."""
    client = dialect(session, bound)
    sms = Query("/processes", "startId", {"type": "SM"})
    archives, processes, servers = client.at_once(_query(bound), sms, Query("/peers", "id"))
    client.of_database(bound["--db-name"], archives)
    living = {process["archiveId"]: process for process in processes}
    ended = _ended(client) if set(living) < {archive["id"] for archive in archives} else {}
    states = {server["id"]: connected(server) for server in servers}

    def text() -> Iterator[str]:
        for archive in archives:
            yield archive_line(archive, bound["--removed"])
            if archive["id"] in living:
                yield f"  {process_line(living[archive['id']], states)}"
            elif archive["id"] in ended:
                yield f"  {exited_line(ended[archive['id']])}"

    lines(session, [a | {"process": living.get(a["id"]), "lastExited": ended.get(a["id"])} for a in archives], text())
    return DONE


def _ended(client: DialectClient) -> dict[int, Json]:
    """The newest tombstone of each archive."""
    tombstones = client.items("/processes/exited", "databaseIncarnation", process__type="SM")
    return {tombstone["process"]["archiveId"]: tombstone for tombstone in tombstones}


# Storage groups ------------------------------------------------------------------------------------------------------


def _groups(client: DialectClient, bound: Bound) -> list[Json]:
    return client.items(f"/databases/{quoted(bound['--db-name'])}/storageGroups", "sgName")


def get_groups(session: Session, bound: Bound) -> int:
    """List the groups."""
    show(session, "StorageGroup", _groups(dialect(session, bound), bound))
    return DONE


def show_groups(session: Session, bound: Bound) -> int:
    """Each group with the processes that serve it."""
    client = dialect(session, bound)
    groups = _groups(client, bound)
    living = {str(process["startId"]): process for process in client.items("/processes", "startId")}

    def text() -> Iterator[str]:
        for group in groups:
            yield f"[{group['sgId']:>4}] [name = {group['sgName']}] [state = {group['state']}]"
            for start_id in sorted(group["processStates"], key=int):
                process, leads = living.get(start_id, {}), start_id in map(str, group["leaderCandidates"])
                where = (address(process) if process else None) or "<UNKNOWN ADDRESS>"
                role, star = process.get("type", "?"), " *" if leads else ""
                yield f"  [{role}] {where} [start_id = {start_id}] {group['processStates'][start_id]}{star}"

    lines(session, groups, text())
    return DONE


def add_group(session: Session, bound: Bound) -> int:
    """One request an archive, as nuocmd does it."""
    return _each_archive(session, bound, "/archives/addStorageGroup")


def remove_group(session: Session, bound: Bound) -> int:
    """One request an archive."""
    return _each_archive(session, bound, "/archives/removeStorageGroup")


def _each_archive(session: Session, bound: Bound, path: str) -> int:
    client = dialect(session, bound)
    for archive_id in bound["--archive-ids"]:
        body = {"dbName": bound["--db-name"], "sgName": bound["--sg-name"], "archiveId": archive_id}
        show(session, "StorageGroup", client.change("POST", path, body))
    return DONE
