"""CLI: processes: request them, end them, list them."""

from __future__ import annotations

from collections.abc import Sequence

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.common import CHANGES, DB_NAME, SERVER_ID, SHARED, START_ID, THIS_SERVER, dialect, server_of
from dkv.cli.nouns.printing import say_ignored, show
from dkv.cli.session import Session
from dkv.client import Json, ManagerRefused
from dkv.client.dialect import DialectClient, exactly
from dkv.client.manager import quoted

EVICT = Param("--evict", "switch", "remove a process that cannot be reached", default=False)
KILL = Param("--kill", "switch", "kill it at once, without a graceful end", default=False)
FORCE = Param("--force", "switch", "go on also where writes stop, or a group's last in-sync copy is there", default=False)
TIMEOUT = Param("--timeout", "number", "seconds to wait for the end; 0: do not wait", default=30, low=0, high=86400)

VERBS = (
    Cmdlet(
        "start process",
        "Requests a process; the manager of its server starts it.",
        "nouns.processes:start",
        (
            DB_NAME,
            SERVER_ID._replace(required=False),
            THIS_SERVER,
            Param("--engine-type", "word", "SM: with an archive; TE: in memory only", choices=("te", "sm", "ssm")),
            Param("--archive-id", "number", "the archive of an SM", low=0, high=10**9),
            Param("--expected-incarnation", "text", "MAJOR or MAJOR.MINOR: start it in this incarnation only"),
            Param(
                "--options", "pairs", "its database's options as they are, or NuoDB's own, which are ignored: key value key value"
            ),
            Param("--labels", "pairs", "the process's labels, as key value key value"),
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
            Param("--exited", "switch", "show processes that have ended instead", default=False),
            *SHARED,
        ),
    ),
)


def start(session: Session, bound: Bound) -> int:
    """Request one process and print it as it is then: REQUESTED."""
    client, role = dialect(session, bound), bound["--engine-type"]
    body: Json = {
        "dbName": bound["--db-name"],
        "host": server_of(client, bound),
        "engineType": role.upper() if role else None,
        "labels": bound["--labels"] or {},
        "overrideOptions": bound["--options"] or {},
    }
    if bound["--archive-id"] is not None:
        body["archiveId"] = bound["--archive-id"]
    if bound["--expected-incarnation"]:
        body["expectedIncarnation"] = incarnation_of(bound["--expected-incarnation"])
    show(session, "Process", client.change("POST", "/processes", body))
    say_ignored(session, bound["--options"])
    return DONE


def incarnation_of(text: str) -> Json:
    """`5` or `5.0` or `(5, 0)` as an incarnation. Raises Usage."""
    parts = text.strip("() ").replace(",", " ").replace(".", " ").split()
    if not 1 <= len(parts) <= 2 or not all(part.isdigit() for part in parts):
        raise Usage(f"--expected-incarnation cannot be '{text}'.", "Write MAJOR or MAJOR.MINOR, such as 5.0.")
    return dict(zip(("major", "minor"), map(int, parts), strict=False))


def shutdown(session: Session, bound: Bound) -> int:
    """End one process and wait until it is gone."""
    client, start_id = dialect(session, bound), bound["--start-id"]
    client.change("DELETE", f"/processes/{start_id}", timeout=0, kill=bound["--kill"], evict=bound["--evict"])
    return _await_gone(session, client, [start_id], bound["--timeout"])


def drain(session: Session, bound: Bound) -> int:
    """End all processes of a server, memory-only ones first, and wait until they are gone."""
    client = dialect(session, bound)
    how = {"kill": bound["--kill"], "evict": bound["--evict"], "force": bound["--force"], "dbName": bound["--db-name"]}
    answer = client.change("DELETE", f"/peers/{quoted(bound['--server-id'])}/processes", **how)
    return _await_gone(session, client, answer["startIds"], bound["--timeout"])


def _await_gone(session: Session, client: DialectClient, start_ids: Sequence[object], seconds: int) -> int:
    """Wait until none of the processes is there any more; an error names those that are left after the time."""
    if not seconds:
        return DONE
    wanted = set(map(str, start_ids))
    left = session.until(
        lambda: sorted(wanted & _living(client)),
        lambda left: not left,
        seconds,
        progress=lambda left: f"waiting for the end of {', '.join(left)}",
    )
    if not left:
        return DONE
    processes = "Processes" if len(left) > 1 else "Process"
    message = f"{processes} {', '.join(left)} did not end within {seconds} s."
    session.screen.error(message, "The shutdown goes on: see dkv show database, or use --kill.")
    return FAILED


def _living(client: DialectClient) -> set[str]:
    try:
        return {str(process["startId"]) for process in client.items("/processes", "startId")}
    except ManagerRefused as refused:
        if refused.status != 503:
            raise
        return set()


def get(session: Session, bound: Bound) -> int:
    """List living processes, or those that ended."""
    client, database = dialect(session, bound), bound["--db-name"]
    name = exactly(database) if database else None
    if bound["--exited"]:
        ended = client.items("/processes/exited", "process.startId", process__dbName=name)
        show(session, "ExitedProcess", client.of_database(database, ended))
    else:
        show(session, "Process", client.of_database(database, client.items("/processes", "startId", dbName=name)))
    return DONE
