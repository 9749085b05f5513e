"""CLI: databases: create, start, shut down, delete and show them; their start plans, captured and enforced."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, CliError, Usage
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, dialect, native, only_one, region_ids, unknown_region
from dkv.cli.nouns.printing import (
    connected,
    database_line,
    exited_line,
    lines,
    process_line,
    read_json,
    repr_line,
    say_ignored,
    say_transport,
    say_waiting,
    write_json,
)
from dkv.cli.nouns.processes import TIMEOUT
from dkv.cli.output import effect_line
from dkv.cli.session import Session
from dkv.client import ClientError, Json, ManagerRefused
from dkv.client.dialect import DialectClient, Query, exactly
from dkv.client.manager import quoted
from dkv.database_options import OPTIONS, TABLE

TE_SERVERS = Param("--te-server-ids", "words", "ids of the servers that get a TE each")
SMS_RUN = Param(
    "--sms-running-timeout", "number", "seconds to wait for the SMs before the TEs are requested; default: 0", low=0, high=86400
)
DEFAULT_OPTIONS = Param(
    "--default-options",
    "pairs",
    "the options, as key value key value; one that is unset has the default below",
    keys=tuple((option.name, option.described()) for option in TABLE),
)
PATH = "/databases/{--db-name}"
KEYS = ("archiveId", "dbName", "engineType", "host", "labels", "overrideOptions")
"""What two processes must have in common to be the same one for enforce."""

VERBS = (
    Cmdlet(
        "create database",
        "Creates a database and starts it on its archives; --no-autostart creates it only.",
        "nouns.databases:create",
        (
            DB_NAME,
            Param("--dba-user", "text", "the database administrator's name, where the database is to have one"),
            Param(
                "--dba-password",
                "any",
                "the database administrator's password; -: the first line of standard input; else DKV_DBA_PASSWORD",
            ),
            Param("--open", "switch", "let in every client, without a password, although there is access control", default=False),
            TE_SERVERS,
            Param("--capture-file", "text", "write the start plan to this file, and start nothing"),
            Param("--no-autostart", "switch", "create the database only, and start nothing", default=False),
            Param("--archive-assignment", "words", "pairs of archive group and server id, where a start plan leaves a choice"),
            Param("--region-assignment", "pairs", "pairs of server id and region"),
            DEFAULT_OPTIONS._replace(
                help="the options, as key value key value; else the manager's settings, then the defaults below"
            ),
            Param("--engine-tls", "word", OPTIONS["engine-tls"].described(), choices=OPTIONS["engine-tls"].choices),
            Param(
                "--insecure-engine-traffic",
                "switch",
                "accept engines without TLS that another machine can reach, which every view then says",
                default=False,
            ),
            SMS_RUN,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "start database",
        "Starts a database: requests an SM on each archive, and the TEs of --te-server-ids.",
        "nouns.databases:start_database",
        (
            DB_NAME,
            TE_SERVERS,
            Param("--incremental", "switch", "start only the missing processes of a database that runs", default=False),
            Param("--unconditional", "switch", "start it whether it runs or not", default=False),
            SMS_RUN,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "shutdown database",
        "Stops a whole database, TEs before SMs, and waits for its end.",
        "nouns.databases:shutdown",
        (DB_NAME, TIMEOUT, *CHANGES),
    ),
    Cmdlet(
        "delete database",
        "Marks a stopped database as deleted; with --purge its history is deleted too.",
        "",
        (DB_NAME, Param("--purge", "switch", "also delete its history", default=False), *CHANGES),
        Call("DELETE", PATH, query=(("purge", "--purge"),)),
    ),
    Cmdlet("get database", "Shows one database.", "", (DB_NAME, *SHARED), Call("GET", PATH, "Database")),
    Cmdlet("get databases", "Lists databases.", "", SHARED, Call("GET", "/databases?orderBy=name", "Database", many=True)),
    Cmdlet(
        "show database",
        "Shows a database with its processes, and how ended processes ended.",
        "nouns.databases:show_database",
        (
            DB_NAME,
            Param("--num-incarnations", "number", "number of incarnations (cold starts) to go back", high=10**9),
            Param("--all-incarnations", "switch", "go back to the first incarnation", default=False),
            Param("--skip-exited", "switch", "leave out processes that have ended", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "update database-options",
        "Changes a database's options, and prints what follows for processes that run.",
        "nouns.databases:update_options",
        (
            DB_NAME,
            DEFAULT_OPTIONS,
            Param("--replace-all", "switch", "unset every option that is not named", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "get startplan",
        "Writes the processes that start a database to a file.",
        "nouns.databases:get_startplan",
        (
            DB_NAME,
            Param("--output-file", "text", "the file; -: standard output", required=True),
            TE_SERVERS,
            Param("--one-time", "switch", "the plan is for the present incarnation only", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "capture database",
        "Writes the running processes of a database to a file, for enforce database.",
        "nouns.databases:capture",
        (DB_NAME, Param("--capture-file", "text", "the file; -: standard output", required=True), *SHARED),
    ),
    Cmdlet(
        "enforce database",
        "Starts the processes of a captured database that do not run.",
        "nouns.databases:enforce",
        (
            Param("--capture-file", "text", "the file that capture database wrote", required=True),
            Param("--incremental", "switch", "start only the missing processes of a database that runs", default=False),
            Param("--unconditional", "switch", "start it whether it runs or not", default=False),
            SMS_RUN,
            *CHANGES,
        ),
    ),
)


# Creating, stopping, showing -----------------------------------------------------------------------------------------


def create(session: Session, bound: Bound) -> int:
    """Create a database; its start plan is kept in a file, thrown away, or carried out."""
    only_one(bound, "--capture-file", "--no-autostart")
    client = dialect(session, bound)
    given = {
        "engine-tls": bound["--engine-tls"],
        "insecure-engine-traffic": "yes" if bound["--insecure-engine-traffic"] else None,
    }
    transport = {name: value for name, value in given.items() if value is not None}
    body: Json = {
        **_administrator(session, bound),
        "teHosts": bound["--te-server-ids"] or [],
        "hostAssignments": _regions(client, bound),
        "smHosts": {},
        **({"open": True} if bound["--open"] else {}),
        "defaultOptions": {**(bound["--default-options"] or {}), **transport},
    }
    plan = client.change("PUT", f"/databases/{quoted(bound['--db-name'])}", body, mayExist=False)
    say_ignored(session, bound["--default-options"])
    if bound["--no-autostart"]:
        return DONE
    if bound["--capture-file"]:
        write_json(session, bound["--capture-file"], plan)
        return DONE
    return carry_out(session, client, plan or {"processes": []}, bound)


def _administrator(session: Session, bound: Bound) -> Json:
    """The first user of the database, if it is to have one. Raises Usage."""
    if not bound["--dba-user"]:
        if bound["--dba-password"]:
            raise Usage("--dba-password needs --dba-user.", "Give the administrator's name too, or leave both out.")
        return {}
    return {"databaseDbaUser": bound["--dba-user"], "databaseDbaPassword": _dba_password(session, bound)}


def _dba_password(session: Session, bound: Bound) -> str:
    """From the command line, as nuocmd has it; better from standard input or the environment. Raises Usage."""
    given: str | None = bound["--dba-password"]
    password = sys.stdin.readline().rstrip("\r\n") if given == "-" and sys.stdin else given
    if password or (password := session.environ.get("DKV_DBA_PASSWORD")):
        return password
    raise Usage("The database administrator's password is required.", "Give --dba-password -, or set DKV_DBA_PASSWORD.")


def _regions(client: DialectClient, bound: Bound) -> Json:
    """The region id of each server that is assigned one."""
    names = bound["--region-assignment"] or {}
    if not names:
        return {}
    known = region_ids(client)
    for name in names.values():
        if name not in known:
            raise unknown_region(name, known)
    return {server: known[name] for server, name in names.items()}


def shutdown(session: Session, bound: Bound) -> int:
    """Stop a database and wait until it does not run."""
    client, name, seconds = dialect(session, bound), bound["--db-name"], bound["--timeout"]
    path = f"/databases/{quoted(name)}"
    client.change("POST", f"{path}/shutdown")
    if not seconds:
        return DONE
    state = session.until(lambda: _state(client, path), _is_down, seconds, progress=lambda state: f"{name}: {state}")
    if _is_down(state):
        return DONE
    session.screen.error(
        f"{name} is {state} after {seconds} s.", f"The shutdown goes on: see dkv show database --db-name {name}."
    )
    return FAILED


def _is_down(state: str) -> bool:
    return state in ("NOT_RUNNING", "TOMBSTONE")


def _state(client: DialectClient, path: str) -> str:
    try:
        return str(client.get(path)["state"])
    except ManagerRefused as refused:
        if refused.status != 503:
            raise
        return "UNKNOWN"


def show_database(session: Session, bound: Bound) -> int:
    """The database, its living processes, then its tombstones, newest first, by incarnation."""
    only_one(bound, "--num-incarnations", "--all-incarnations", "--skip-exited")
    client, name = dialect(session, bound), bound["--db-name"]
    queries = [
        Query(f"/databases/{quoted(name)}"),
        Query("/processes", "startId", {"dbName": exactly(name)}),
        Query("/peers", "id"),
        *([] if bound["--skip-exited"] else [_exited(name)]),
    ]
    database, processes, servers, *exited = client.at_once(*queries)
    states = {server["id"]: connected(server) for server in servers}
    major = database["incarnation"]["major"]
    tombstones = _of_incarnations(bound, exited[0] if exited else [], major)

    def text() -> Iterator[str]:
        yield repr_line("Database", database)
        yield f"  {database_line(database)}"
        yield from (f"    {process_line(process, states)}" for process in processes)
        yield from _tombstone_lines(tombstones, major)

    lines(session, {**database, "processes": processes, "exited": tombstones}, text())
    _say_leaders(session, bound)
    say_transport(session, database)
    say_waiting(session, database)
    return DONE


def _say_leaders(session: Session, bound: Bound) -> None:
    """Print beside the data who leads each group, which nuocmd's layout has no place for."""
    try:
        store = native(session, bound).store(bound["--db-name"])
    except ClientError:
        return  # it was shown; the manager went away since
    starts = {i["instanceName"]: i["process"]["startId"] for i in store["instances"] if i["process"]}
    for group in store["groups"]:
        leader, in_sync = group["leader"], ", ".join(group["inSync"]) or "none"
        leads = f"{leader} leads (start_id = {starts.get(leader, '?')})" if leader else "no leader"
        session.screen.note(f"{store['name']}/{group['name']}: {leads}, in sync: {in_sync}")


def _exited(name: str) -> Query:
    """All tombstones of a database, newest first."""
    fields = "databaseIncarnation.major,databaseIncarnation.minor,process.startId"
    newest: dict[str, object] = {"descendingFields": "databaseIncarnation.major,databaseIncarnation.minor"}
    return Query("/processes/exited", fields, {"process__dbName": exactly(name)}, newest)


def _of_incarnations(bound: Bound, tombstones: Sequence[Json], major: int) -> list[Json]:
    """The tombstones of the incarnations that were asked for."""
    oldest = 0 if bound["--all-incarnations"] else major - (bound["--num-incarnations"] or 1) + 1
    return [tombstone for tombstone in tombstones if tombstone["databaseIncarnation"]["major"] >= oldest]


def _tombstone_lines(tombstones: Sequence[Json], major: int) -> Iterator[str]:
    for tombstone in tombstones:
        if tombstone["databaseIncarnation"]["major"] != major:
            major = tombstone["databaseIncarnation"]["major"]
            yield f"  [incarnation = {major}]"
        yield f"    {exited_line(tombstone)}"


def update_options(session: Session, bound: Bound) -> int:
    """Set options; print for each changed one whether it is in force or needs a restart."""
    options = bound["--default-options"] or {}
    if not options and not bound["--replace-all"]:
        raise Usage("There is nothing to change.", "Give --default-options KEY VALUE, or --replace-all to unset all.")
    path = f"/databases/{quoted(bound['--db-name'])}/options"
    answer = dialect(session, bound).change("POST", path, options, replaceAll=bound["--replace-all"])
    effects = (answer or {}).get("effects", [])
    lines(session, effects, (effect_line(session.screen, effect) for effect in effects))
    return DONE


# Start plans ---------------------------------------------------------------------------------------------------------


def get_startplan(session: Session, bound: Bound) -> int:
    """Write the start plan to a file."""
    servers, client = bound["--te-server-ids"], dialect(session, bound)
    write_json(
        session, bound["--output-file"], _start_plan(client, bound["--db-name"], servers, reusable=not bound["--one-time"])
    )
    return DONE


def _start_plan(client: DialectClient, name: str, te_servers: Sequence[str] | None, *, reusable: bool) -> Json:
    """The requests that a start needs now."""
    body = {"reusable": reusable, "teHosts": list(te_servers or ()), "smHosts": {}}
    return dict(client.ask(f"/databases/{quoted(name)}/startplan", body))


def start_database(session: Session, bound: Bound) -> int:
    """Ask for a one-time plan and carry it out."""
    only_one(bound, "--incremental", "--unconditional")
    client, name = dialect(session, bound), bound["--db-name"]
    plan = _start_plan(client, name, bound["--te-server-ids"], reusable=False)
    _check_running(name, bool(plan.get("incremental")), bound, "Start")
    return carry_out(session, client, plan, bound)


def _check_running(name: str, runs: bool, bound: Bound, verb: str) -> None:
    """--incremental is for a database that runs. Raises CliError."""
    if bound["--unconditional"] or runs == bound["--incremental"]:
        return
    if runs:
        raise CliError(f"{name} runs already.", "Use --incremental to start only the missing processes.")
    raise CliError(f"{name} does not run.", f"{verb} it without --incremental.")


def carry_out(session: Session, client: DialectClient, plan: Json, bound: Bound) -> int:
    """Request each process of a plan: SMs by archive, then TEs."""
    requests = sorted(plan["processes"], key=lambda request: (request["engineType"] == "TE", request.get("archiveId") or 0))
    waited = not bound["--sms-running-timeout"] or bound["--plan"]
    started: list[Json] = []
    for request in requests:
        if request["engineType"] == "TE" and not waited:
            waited = True
            if not _await_sms(session, client, request["dbName"], bound["--sms-running-timeout"]):
                return FAILED
        if not session.screen.as_json:
            session.screen.line(f"STARTING: {repr_line('StartProcessRequest', request)}")
        started.append(client.change("POST", "/processes", request))
    if session.screen.as_json:
        session.screen.data({"started": started})
    return DONE


def _await_sms(session: Session, client: DialectClient, name: str, seconds: int) -> bool:
    if session.until(lambda: _sms_run(client, name), bool, seconds):
        return True
    message = f"The SMs of {name} do not run after {seconds} s; no TE was requested."
    session.screen.error(message, f"See dkv show database --db-name {name}.")
    return False


def _sms_run(client: DialectClient, name: str) -> bool:
    sms = client.items("/processes", "startId", dbName=exactly(name), type="SM")
    return bool(sms) and all((sm["durableState"], sm.get("state")) == ("MONITORED", "RUNNING") for sm in sms)


def capture(session: Session, bound: Bound) -> int:
    """Write what runs now, as a plan."""
    path = f"/databases/{quoted(bound['--db-name'])}/capture"
    write_json(session, bound["--capture-file"], dialect(session, bound).get(path, checkState=True))
    return DONE


def enforce(session: Session, bound: Bound) -> int:
    """Request what a captured plan has and the database has not."""
    only_one(bound, "--incremental", "--unconditional")
    requests = _requests(read_json(bound["--capture-file"]), bound["--capture-file"])
    client, name = dialect(session, bound), str(requests[0]["dbName"])
    _same_archives(client, name, requests)
    database: Json = client.get(f"/databases/{quoted(name)}")
    incarnation, runs = dict(database["incarnation"]), database["state"] != "NOT_RUNNING"
    _check_running(name, runs, bound, "Enforce")
    if not runs:
        incarnation = {"major": incarnation["major"] + 1, "minor": 0}
    living = list(client.get(f"/databases/{quoted(name)}/capture", checkState=False)["processes"])
    missing = []
    for request in requests:
        reason = _why_skipped(request, living, requests)
        if reason:
            session.screen.line(f"SKIPPING: {repr_line('StartProcessRequest', request)}: {reason}")
        else:
            missing.append({**request, "expectedIncarnation": incarnation})
    return carry_out(session, client, {"processes": missing}, bound)


def _requests(plan: Any, path: str) -> list[Json]:
    requests = plan.get("processes") if isinstance(plan, dict) else None
    whole = isinstance(requests, list) and requests and all(isinstance(r, dict) and "dbName" in r for r in requests)
    if not whole:
        raise Usage(f"{path} has no processes.", "Write it with dkv capture database.")
    return [dict(request) for request in requests or ()]


def _same_archives(client: DialectClient, name: str, requests: Sequence[Json]) -> None:
    captured = {request["archiveId"] for request in requests if request.get("archiveId") is not None}
    present = {archive["id"] for archive in client.items("/archives", "id", dbName=exactly(name))}
    if captured != present:
        message = f"The archives of {name} are {sorted(present)}, and {sorted(captured)} were captured."
        raise CliError(message, "Capture the database again, or bring the archives back.")


def _why_skipped(request: Json, living: list[Json], requests: Sequence[Json]) -> str:
    """Why a process of the captured plan needs no start; "" if it does. The process that stands for it leaves `living`."""
    for process in living:
        if all(process.get(key) == request.get(key) for key in KEYS):
            living.remove(process)
            return "it runs"
    archive_id = request.get("archiveId")
    if archive_id is not None:
        return "its archive has a process" if any(process.get("archiveId") == archive_id for process in living) else ""
    wanted = sum(other["engineType"] == "TE" and other["host"] == request["host"] for other in requests)
    present = sum(process["engineType"] == "TE" and process["host"] == request["host"] for process in living)
    return f"{request['host']} has {present} TEs" if present >= wanted else ""
