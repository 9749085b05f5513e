"""CLI: archives: create, delete, show and get them."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, Look, exactly
from dkv.cli.nouns.printing import lines, show
from dkv.cli.nouns.shapes import archive_line, connected, exited_line, process_line
from dkv.cli.session import Session
from dkv.client import Json

OF_DATABASE = DB_NAME._replace(required=False, help="only those of this database")
REMOVED = Param("--removed", "switch", "those that were deleted and not purged", default=False)
ARCHIVE_ID = Param("--archive-id", "number", "the archive", required=True, low=0, high=10**9)

VERBS = (
    Cmdlet(
        "create archive",
        "Names a directory on a server where a database's data will be durable.",
        "nouns.archives:create",
        (
            DB_NAME,
            Param("--server-id", "text", "the server it is on", required=True),
            Param("--archive-path", "text", "the directory", required=True),
            Param("--journal-path", "text", "accepted where it is the same disk; engines keep their journal in the archive"),
            Param("--restored", "switch", "the directory holds data already", default=False),
            ARCHIVE_ID._replace(required=False, help="bring this deleted archive back"),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "delete archive",
        "Takes an archive out of its database; with --purge it is forgotten.",
        "nouns.archives:delete",
        (ARCHIVE_ID, Param("--purge", "switch", "forget it and retire its directory", default=False), *CHANGES),
    ),
    Cmdlet("get archives", "Lists archives.", "nouns.archives:get", (OF_DATABASE, REMOVED, *SHARED)),
    Cmdlet(
        "show archives",
        "Shows archives, each with its process or with how the last one ended.",
        "nouns.archives:show_all",
        (OF_DATABASE, REMOVED, *SHARED),
    ),
)


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
    door, archive_id = DialectClient(session, bound), bound["--archive-id"]
    if archive_id is None:
        show(session, "Archive", door.change("POST", "/archives", body))
    else:
        show(session, "Archive", door.change("PUT", f"/archives/{archive_id}", body))
    return DONE


def delete(session: Session, bound: Bound) -> int:
    """Delete an archive and print it as it was."""
    path = f"/archives/{bound['--archive-id']}"
    show(session, "Archive", DialectClient(session, bound).change("DELETE", path, purge=bound["--purge"]))
    return DONE


def _archives(bound: Bound) -> Look:
    database = bound["--db-name"]
    return Look(
        "/archives", "id", {"dbName": exactly(database) if database else None}, {"removed": True} if bound["--removed"] else {}
    )


def _all(door: DialectClient, bound: Bound) -> list[Json]:
    path, order, filters, also = _archives(bound)
    return door.of_database(bound["--db-name"], door.items(path, order, also, **filters))


def get(session: Session, bound: Bound) -> int:
    """List archives."""
    show(session, "Archive", _all(DialectClient(session, bound), bound))
    return DONE


def show_all(session: Session, bound: Bound) -> int:
    """Each archive with its living process, or else with its newest tombstone."""
    door = DialectClient(session, bound)
    of_sms = Look("/processes", "startId", {"type": "SM"})
    found, processes, servers = door.at_once(_archives(bound), of_sms, Look("/peers", "id"))
    archives = door.of_database(bound["--db-name"], found)
    living = {process["archiveId"]: process for process in processes}
    ended = (
        {t["process"]["archiveId"]: t for t in door.items("/processes/exited", "databaseIncarnation", process__type="SM")}
        if set(living) < {a["id"] for a in archives}
        else {}
    )
    here = {server["id"]: connected(server) for server in servers}

    def text() -> Iterator[str]:
        for archive in archives:
            yield archive_line(archive, bound["--removed"])
            if archive["id"] in living:
                yield f"  {process_line(living[archive['id']], here)}"
            elif archive["id"] in ended:
                yield f"  {exited_line(ended[archive['id']])}"

    lines(session, [a | {"process": living.get(a["id"]), "lastExited": ended.get(a["id"])} for a in archives], text())
    return DONE
