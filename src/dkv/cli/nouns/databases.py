"""CLI: databases: create, start, shut down, delete, show and get them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, Look, exactly, part
from dkv.cli.nouns.printing import keep, lines, say_ignored, say_waiting
from dkv.cli.nouns.processes import POLL, TIMEOUT
from dkv.cli.nouns.shapes import connected, database_line, exited_line, process_line, repr_line
from dkv.cli.session import Session
from dkv.client import Json, ManagerRefused

TE_SERVERS = Param("--te-server-ids", "words", "the servers that get a TE each")
SMS_RUN = Param("--sms-running-timeout", "number", "seconds to wait for the SMs before TEs are requested", low=0, high=86400)
PATH = "/databases/{--db-name}"

VERBS = (
    Cmdlet(
        "create database",
        "Creates a database and, unless told otherwise, starts it on its archives.",
        "nouns.databases:create",
        (
            DB_NAME,
            Param("--dba-user", "text", "the administrator's name", required=True),
            Param("--dba-password", "any", "the administrator's password", required=True),
            TE_SERVERS,
            Param("--capture-file", "text", "write the start plan there and start nothing"),
            Param("--no-autostart", "switch", "start nothing", default=False),
            Param("--archive-assignment", "words", "group of archives and server, where a plan may choose"),
            Param("--region-assignment", "pairs", "server and region"),
            Param("--default-options", "pairs", "options of every process"),
            SMS_RUN,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "start database",
        "Requests an SM on each archive, and the TEs that are asked for.",
        "nouns.plans:start_database",
        (
            DB_NAME,
            TE_SERVERS,
            Param("--incremental", "switch", "it runs already: only what is missing", default=False),
            Param("--unconditional", "switch", "whether it runs or not", default=False),
            SMS_RUN,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "shutdown database",
        "Stops a database whole and waits: TEs first, then SMs.",
        "nouns.databases:shutdown",
        (DB_NAME, TIMEOUT, *CHANGES),
    ),
    Cmdlet(
        "delete database",
        "Marks a stopped database as deleted; with --purge its history is forgotten.",
        "",
        (DB_NAME, Param("--purge", "switch", "forget its history too", default=False), *CHANGES),
        Call("DELETE", PATH, query=(("purge", "--purge"),)),
    ),
    Cmdlet("get database", "One database.", "", (DB_NAME, *SHARED), Call("GET", PATH, "Database")),
    Cmdlet("get databases", "Lists databases.", "", SHARED, Call("GET", "/databases?orderBy=name", "Database", many=True)),
    Cmdlet(
        "show database",
        "Shows a database with its processes and how the ended ones ended.",
        "nouns.databases:show_database",
        (
            DB_NAME,
            Param("--num-incarnations", "number", "how many cold starts back", high=10**9),
            Param("--all-incarnations", "switch", "back to the first", default=False),
            Param("--skip-exited", "switch", "only what lives", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "update database-options",
        "Changes a database's options, and says what that does to processes that run.",
        "nouns.databases:update_options",
        (
            DB_NAME,
            Param("--default-options", "pairs", "the options", default={}),
            Param("--replace-all", "switch", "also drop those that are not named", default=False),
            *CHANGES,
        ),
    ),
)


def create(session: Session, bound: Bound) -> int:
    """Create a database; its start plan is kept in a file, thrown away, or carried out."""
    from dkv.cli.nouns.plans import carry_out  # half of the verbs here have no plan

    only_one(bound, "--capture-file", "--no-autostart")
    door = DialectClient(session, bound)
    body: Json = {
        "databaseDbaUser": bound["--dba-user"],
        "databaseDbaPassword": bound["--dba-password"],
        "teHosts": bound["--te-server-ids"] or [],
        "hostAssignments": _regions(door, bound),
        "smHosts": {},
        "defaultOptions": bound["--default-options"] or {},
    }
    plan = door.change("PUT", f"/databases/{part(bound['--db-name'])}", body, mayExist=False)
    say_ignored(session, bound["--default-options"])
    if bound["--no-autostart"]:
        return DONE
    if bound["--capture-file"]:
        keep(session, bound["--capture-file"], plan)
        return DONE
    return carry_out(door, plan or {"processes": []}, bound)


def _regions(door: DialectClient, bound: Bound) -> Json:
    wanted = bound["--region-assignment"] or {}
    if not wanted:
        return {}
    known = {one["name"]: one["id"] for one in door.items("/regions", "id")}
    for name in wanted.values():
        if name not in known:
            raise Usage(f"There is no region '{name}'.", f"There are: {', '.join(sorted(known))}.")
    return {server: known[name] for server, name in wanted.items()}


def only_one(bound: Bound, *names: str) -> None:
    """Refuse options that exclude each other. Raises Usage."""
    given = [name for name in names if bound[name]]
    if len(given) > 1:
        raise Usage(f"{' and '.join(given)} exclude each other.", "Give one of them.")


def shutdown(session: Session, bound: Bound) -> int:
    """Stop a database and wait until it does not run."""
    door, path = DialectClient(session, bound), f"/databases/{part(bound['--db-name'])}"
    door.change("POST", f"{path}/shutdown")
    ends = session.clock() + bound["--timeout"]
    if not bound["--timeout"]:
        return DONE
    while (state := _state(door, path)) not in ("NOT_RUNNING", "TOMBSTONE"):
        if session.clock() >= ends:
            said = f"{bound['--db-name']} is {state} after {bound['--timeout']} s."
            session.screen.error(said, f"It goes on; see dkv show database --db-name {bound['--db-name']}.")
            return FAILED
        session.screen.progress(f"{bound['--db-name']}: {state}")
        session.sleep(POLL)
    return DONE


def _state(door: DialectClient, path: str) -> str:
    try:
        return str(door.get(path)["state"])
    except ManagerRefused as refused:
        if refused.status != 503:
            raise
        return "not to be seen"


def show_database(session: Session, bound: Bound) -> int:
    """The database, its living processes, then its tombstones, newest first, by incarnation."""
    only_one(bound, "--num-incarnations", "--all-incarnations", "--skip-exited")
    door, name = DialectClient(session, bound), bound["--db-name"]
    looks = [Look(f"/databases/{part(name)}"), Look("/processes", "startId", {"dbName": exactly(name)}), Look("/peers", "id")]
    looks += [] if bound["--skip-exited"] else [_exited(name)]
    database, processes, servers, *exited = door.at_once(*looks)
    here = {server["id"]: connected(server) for server in servers}
    ended = _asked_for(bound, exited[0] if exited else [], database["incarnation"]["major"])

    def text() -> Iterator[str]:
        yield repr_line("Database", database)
        yield f"  {database_line(database)}"
        yield from (f"    {process_line(process, here)}" for process in processes)
        yield from _tombstones(ended, database["incarnation"]["major"])

    lines(session, {**database, "processes": processes, "exited": ended}, text())
    say_waiting(session, database)
    return DONE


def update_options(session: Session, bound: Bound) -> int:
    """Set options; a line for each that was changed says whether it is live or needs a restart."""
    if not bound["--default-options"] and not bound["--replace-all"]:
        raise Usage("Nothing is to be changed.", "Give --default-options KEY VALUE, or --replace-all to unset all.")
    path = f"/databases/{part(bound['--db-name'])}/options"
    done = DialectClient(session, bound).change("POST", path, bound["--default-options"] or {}, replaceAll=bound["--replace-all"])
    effects = (done or {}).get("effects", [])
    lines(session, effects, (f"{one['option']}: {one['effect']}" for one in effects))
    return DONE


def _exited(name: str) -> Look:
    """All tombstones of a database, newest first."""
    fields = "databaseIncarnation.major,databaseIncarnation.minor,process.startId"
    newest: dict[str, object] = {"descendingFields": "databaseIncarnation.major,databaseIncarnation.minor"}
    return Look("/processes/exited", fields, {"process__dbName": exactly(name)}, newest)


def _asked_for(bound: Bound, found: Sequence[Json], major: int) -> list[Json]:
    """Those of the incarnations asked for."""
    oldest = 0 if bound["--all-incarnations"] else major - (bound["--num-incarnations"] or 1) + 1
    return [one for one in found if one["databaseIncarnation"]["major"] >= oldest]


def _tombstones(ended: Sequence[Json], major: int) -> Iterator[str]:
    for one in ended:
        if one["databaseIncarnation"]["major"] != major:
            major = one["databaseIncarnation"]["major"]
            yield f"  [incarnation = {major}]"
        yield f"    {exited_line(one)}"
