"""CLI: start plans: ask for one, carry one out, capture what runs and bring a database back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, CliError, Usage
from dkv.cli.nouns.databases import SMS_RUN, TE_SERVERS, only_one
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, exactly, part
from dkv.cli.nouns.printing import keep, kept
from dkv.cli.nouns.shapes import repr_line
from dkv.cli.session import Session
from dkv.client import Json

POLL = 0.2  # s
KEYS = ("archiveId", "dbName", "engineType", "host", "labels", "overrideOptions")
"""What two processes must have in common to be the same one for enforce."""

VERBS = (
    Cmdlet(
        "get startplan",
        "Writes down what has to be requested to start a database.",
        "nouns.plans:get_startplan",
        (
            DB_NAME,
            Param("--output-file", "text", "the file; - prints it", required=True),
            TE_SERVERS,
            Param("--one-time", "switch", "for this start only: it quotes the incarnation", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "capture database",
        "Writes down which processes of a database run, to enforce it later.",
        "nouns.plans:capture",
        (DB_NAME, Param("--capture-file", "text", "the file; - prints it", required=True), *SHARED),
    ),
    Cmdlet(
        "enforce database",
        "Starts what a captured database lacks.",
        "nouns.plans:enforce",
        (
            Param("--capture-file", "text", "what capture database wrote", required=True),
            Param("--incremental", "switch", "it runs already: only what is missing", default=False),
            Param("--unconditional", "switch", "whether it runs or not", default=False),
            SMS_RUN,
            *CHANGES,
        ),
    ),
)


def get_startplan(session: Session, bound: Bound) -> int:
    """The start plan, into a file."""
    plan = start_plan(
        DialectClient(session, bound), bound["--db-name"], bound["--te-server-ids"], reusable=not bound["--one-time"]
    )
    keep(session, bound["--output-file"], plan)
    return DONE


def start_plan(door: DialectClient, name: str, te_servers: Sequence[str] | None, *, reusable: bool) -> Json:
    """What would have to be requested now."""
    body = {"reusable": reusable, "teHosts": list(te_servers or ()), "smHosts": {}}
    return dict(door.ask(f"/databases/{part(name)}/startplan", body))


def start_database(session: Session, bound: Bound) -> int:
    """Ask for a one-time plan and carry it out."""
    only_one(bound, "--incremental", "--unconditional")
    door, name = DialectClient(session, bound), bound["--db-name"]
    plan = start_plan(door, name, bound["--te-server-ids"], reusable=False)
    if not bound["--unconditional"] and plan.get("incremental") and not bound["--incremental"]:
        raise CliError(f"{name} runs already.", "Use --incremental to start only what is missing.")
    if not bound["--unconditional"] and bound["--incremental"] and not plan.get("incremental"):
        raise CliError(f"{name} does not run.", "Start it without --incremental.")
    return carry_out(door, plan, bound)


def carry_out(door: DialectClient, plan: Json, bound: Bound) -> int:
    """Request each process of a plan: SMs by archive, then TEs."""
    specs = sorted(plan["processes"], key=lambda one: (one["engineType"] == "TE", one.get("archiveId") or 0))
    waited = not bound["--sms-running-timeout"] or bound["--plan"]
    done: list[Json] = []
    for spec in specs:
        if spec["engineType"] == "TE" and not waited:
            waited = True
            if not _await_sms(door, spec["dbName"], bound["--sms-running-timeout"]):
                return FAILED
        if not door.session.screen.as_json:
            door.session.screen.line(f"STARTING: {repr_line('StartProcessRequest', spec)}")
        done.append(door.change("POST", "/processes", spec))
    if door.session.screen.as_json:
        door.session.screen.data({"started": done})
    return DONE


def _await_sms(door: DialectClient, name: str, seconds: int) -> bool:
    session = door.session
    ends = session.clock() + seconds
    while not _sms_run(door, name):
        if session.clock() >= ends:
            said = f"The SMs of {name} do not run after {seconds} s; no TE was requested."
            session.screen.error(said, f"See dkv show database --db-name {name}.")
            return False
        session.sleep(POLL)
    return True


def _sms_run(door: DialectClient, name: str) -> bool:
    found = door.items("/processes", "startId", dbName=exactly(name), type="SM")
    return bool(found) and all((p["durableState"], p.get("state")) == ("MONITORED", "RUNNING") for p in found)


# Capture and enforce ---------------------------------------------------------------------------------------------


def capture(session: Session, bound: Bound) -> int:
    """What runs now, as a plan."""
    path = f"/databases/{part(bound['--db-name'])}/capture"
    keep(session, bound["--capture-file"], DialectClient(session, bound).get(path, checkState=True))
    return DONE


def enforce(session: Session, bound: Bound) -> int:
    """Request what a captured plan has and the database has not."""
    only_one(bound, "--incremental", "--unconditional")
    specs = _specs(kept(bound["--capture-file"]), bound["--capture-file"])
    door, name = DialectClient(session, bound), str(specs[0]["dbName"])
    _same_archives(door, name, specs)
    database: Json = door.get(f"/databases/{part(name)}")
    incarnation, runs = dict(database["incarnation"]), database["state"] != "NOT_RUNNING"
    _agreed(name, runs, bound)
    if not runs:
        incarnation = {"major": incarnation["major"] + 1, "minor": 0}
    live = list(door.get(f"/databases/{part(name)}/capture", checkState=False)["processes"])
    missing = []
    for spec in specs:
        why = _skipped(spec, live, specs)
        if why:
            session.screen.line(f"SKIPPING: {repr_line('StartProcessRequest', spec)}: {why}")
        else:
            missing.append({**spec, "expectedIncarnation": incarnation})
    return carry_out(door, {"processes": missing}, bound)


def _specs(plan: Any, path: str) -> list[Json]:
    found = plan.get("processes") if isinstance(plan, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) and "dbName" in one for one in found):
        raise Usage(f"{path} has no processes.", "Write it with dkv capture database.")
    return [dict(one) for one in found]


def _agreed(name: str, runs: bool, bound: Bound) -> None:
    if bound["--unconditional"] or runs == bound["--incremental"]:
        return
    if runs:
        raise CliError(f"{name} runs already.", "Use --incremental to start only what is missing.")
    raise CliError(f"{name} does not run.", "Enforce it without --incremental.")


def _same_archives(door: DialectClient, name: str, specs: Sequence[Json]) -> None:
    captured = {one["archiveId"] for one in specs if one.get("archiveId") is not None}
    there = {one["id"] for one in door.items("/archives", "id", dbName=exactly(name))}
    if captured != there:
        said = f"The archives of {name} are {sorted(there)}, and {sorted(captured)} were captured."
        raise CliError(said, "Capture the database again, or bring the archives back.")


def _skipped(spec: Json, live: list[Json], specs: Sequence[Json]) -> str:
    """Why a process of the captured plan needs no start; "" if it does. What stands for it is taken out of `live`."""
    for one in live:
        if all(one.get(key) == spec.get(key) for key in KEYS):
            live.remove(one)
            return "it runs"
    if spec.get("archiveId") is not None:
        return "its archive has a process" if any(o.get("archiveId") == spec["archiveId"] for o in live) else ""
    wanted = sum(1 for o in specs if o["engineType"] == "TE" and o["host"] == spec["host"])
    there = sum(1 for o in live if o["engineType"] == "TE" and o["host"] == spec["host"])
    return f"{spec['host']} has {there} TEs" if there >= wanted else ""
