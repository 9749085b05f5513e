"""CLI: processes: request them, end them, list them."""

from __future__ import annotations

from collections.abc import Sequence

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SERVER_ID, SHARED, DialectClient, exactly, part
from dkv.cli.nouns.printing import say_ignored, show
from dkv.cli.session import Session
from dkv.client import Json, ManagerRefused

START_ID = Param("--start-id", "number", "the process", required=True, low=0, high=10**9)
THIS_SERVER = Param("--this-server", "switch", "on the server that is asked", default=False)
EVICT = Param("--evict", "switch", "forget one that cannot be reached", default=False)
KILL = Param("--kill", "switch", "end it at once, without a graceful end", default=False)
FORCE = Param("--force", "switch", "also where writes would stop, or a group has its last copy in sync there", default=False)
TIMEOUT = Param("--timeout", "number", "seconds to wait until it is gone, 0 for not at all", default=30, low=0, high=86400)
POLL = 0.1  # s

VERBS = (
    Cmdlet(
        "start process",
        "Requests a process; its server starts it.",
        "nouns.processes:start",
        (
            DB_NAME,
            SERVER_ID._replace(required=False),
            THIS_SERVER,
            Param("--engine-type", "word", "SM keeps an archive, TE is memory only", choices=("te", "sm", "ssm")),
            Param("--archive-id", "number", "the archive of an SM", low=0, high=10**9),
            Param("--expected-incarnation", "text", "MAJOR or MAJOR MINOR it has to run in"),
            Param("--options", "pairs", "options of the engine"),
            Param("--labels", "pairs", "labels of the process"),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "shutdown process",
        "Ends a process and waits until it is gone.",
        "nouns.processes:shutdown",
        (START_ID, KILL, EVICT, TIMEOUT, *CHANGES),
    ),
    Cmdlet(
        "shutdown server-processes",
        "Ends the processes of a server, TEs first; leaders hand over.",
        "nouns.processes:drain",
        (SERVER_ID, DB_NAME._replace(required=False, help="only those of this database"), KILL, EVICT, FORCE, TIMEOUT, *CHANGES),
    ),
    Cmdlet(
        "get processes",
        "Lists processes.",
        "nouns.processes:get",
        (
            DB_NAME._replace(required=False, help="only those of this database"),
            Param("--exited", "switch", "those that ended", default=False),
            *SHARED,
        ),
    ),
)


def start(session: Session, bound: Bound) -> int:
    """Request one process and print it as it is then: REQUESTED."""
    door, kind = DialectClient(session, bound), bound["--engine-type"]
    body: Json = {
        "dbName": bound["--db-name"],
        "host": server_of(door, bound),
        "engineType": kind.upper() if kind else None,
        "labels": bound["--labels"] or {},
        "overrideOptions": bound["--options"] or {},
    }
    if bound["--archive-id"] is not None:
        body["archiveId"] = bound["--archive-id"]
    if bound["--expected-incarnation"]:
        body["expectedIncarnation"] = expected(bound["--expected-incarnation"])
    show(session, "Process", door.change("POST", "/processes", body))
    say_ignored(session, bound["--options"])
    return DONE


def server_of(door: DialectClient, bound: Bound) -> str:
    """The server a verb is for: the one it names, or the one that is asked. Raises Usage."""
    named = bound["--server-id"]
    if bool(named) == bool(bound["--this-server"]):
        raise Usage("It is not said on which server.", "Give either --server-id or --this-server.")
    return str(named or next(one["id"] for one in door.items("/peers", "id") if one.get("isLocal")))


def expected(text: str) -> Json:
    """`5` or `5.0` or `(5, 0)` as an incarnation. Raises Usage."""
    parts = text.strip("() ").replace(",", " ").replace(".", " ").split()
    if not 1 <= len(parts) <= 2 or not all(one.isdigit() for one in parts):
        raise Usage(f"--expected-incarnation cannot be '{text}'.", "Write MAJOR or MAJOR.MINOR, such as 5.0.")
    return dict(zip(("major", "minor"), map(int, parts), strict=False))


def shutdown(session: Session, bound: Bound) -> int:
    """End one process and wait until it is gone."""
    door = DialectClient(session, bound)
    _end(door, bound["--start-id"], bound)
    return _await_gone(door, [bound["--start-id"]], bound)


def drain(session: Session, bound: Bound) -> int:
    """End all processes of a server, memory-only ones first, and wait until they are gone."""
    door = DialectClient(session, bound)
    how = {"kill": bound["--kill"], "evict": bound["--evict"], "force": bound["--force"], "dbName": bound["--db-name"]}
    told = door.change("DELETE", f"/peers/{part(bound['--server-id'])}/processes", **how)
    return _await_gone(door, told["startIds"], bound)


def _end(door: DialectClient, start_id: object, bound: Bound) -> None:
    door.change("DELETE", f"/processes/{start_id}", timeout=0, kill=bound["--kill"], evict=bound["--evict"])


def _await_gone(door: DialectClient, start_ids: Sequence[object], bound: Bound) -> int:
    """Wait until none of the processes is there any more; what is left after the time is said."""
    session, waited = door.session, {str(one) for one in start_ids}
    ends = session.clock() + bound["--timeout"]
    if not bound["--timeout"]:
        return DONE
    while left := sorted(str(one["startId"]) for one in _live(door) if str(one["startId"]) in waited):
        if session.clock() >= ends:
            several = "Processes" if len(left) > 1 else "Process"
            hint = "It goes on; see dkv show database, or use --kill."
            session.screen.error(f"{several} {', '.join(left)} did not end within {bound['--timeout']} s.", hint)
            return FAILED
        session.screen.progress(f"waiting for the end of {', '.join(left)}")
        session.sleep(POLL)
    return DONE


def _live(door: DialectClient) -> list[Json]:
    try:
        return door.items("/processes", "startId")
    except ManagerRefused as refused:
        if refused.status != 503:
            raise
        return []


def get(session: Session, bound: Bound) -> int:
    """List living processes, or those that ended."""
    door, database = DialectClient(session, bound), bound["--db-name"]
    name = exactly(database) if database else None
    if bound["--exited"]:
        ended = door.items("/processes/exited", "process.startId", process__dbName=name)
        show(session, "ExitedProcess", door.of_database(database, ended))
    else:
        show(session, "Process", door.of_database(database, door.items("/processes", "startId", dbName=name)))
    return DONE
