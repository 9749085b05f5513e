"""API: the domain's nouns as the NuoDB dialect shows them (docs/reference/nuodb.md#objects). Derived from one state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, cast

from dkv.api.nuodb import schemas
from dkv.domain import records
from dkv.domain.model import Archive, Database, EngineState, Group, Process, ProcessRole, ProcessState, State, Tombstone
from dkv.domain.startplan import Plan, Spec
from dkv.domain.status import path_of
from dkv.wire.maintenance import waiting_view
from dkv.wire.views import transport_view

T = TypeVar("T")

JOINED = (ProcessState.MONITORED, ProcessState.REQUESTED_SHUTDOWN)
CLOSED = "Engine connection to admin process closed"
GRACEFUL = "Gracefully shutdown engine"
REMOVED = "Removing process from domain state due to service request"
FIRST_GROUP_ID = 10
WHOLE, UNPARTITIONED = "ALL", "UNPARTITIONED"


def _present(kind: type[T], body: Mapping[str, Any]) -> T:
    """Without what is unknown: nuocmd distinguishes a field that is null from one that is not there."""
    return cast(T, {name: value for name, value in body.items() if value is not None})


# Processes ---------------------------------------------------------------------------------------------------


def process(state: State, process: Process, ages: Mapping[str, int]) -> schemas.Process:
    """A process. `ages`: ms since the manager of each server renewed its lease; a server that is away is not in it."""
    return {
        **_process(state, process),
        **_present(schemas.Process, {"lastHeardFrom": ages.get(process.server_id), **_loading(process)}),
    }


def _process(state: State, process: Process) -> schemas.Process:
    server = state.servers.get(process.server_id)
    database = state.databases.get(process.database)
    there = process.pid is not None
    return _present(
        schemas.Process,
        {
            "startId": str(process.start_id),
            "dbName": process.database,
            "host": process.server_id,
            "type": process.role.value,
            "durableState": process.state.value,
            "state": process.engine_state.value,
            "archiveId": process.archive_id,
            "nodeId": process.node_id if process.state in JOINED else None,
            "pid": process.pid,
            "port": process.port or None if there else None,
            "hostname": server.host if server and there else None,
            "regionName": records.region_of(state, process.database, process.server_id),
            "options": {**dict(database.default_options if database else ()), **dict(process.request.options)},
            "labels": dict(process.request.labels),
            "isExternalStartup": False,
        },
    )


def _loading(process: Process) -> dict[str, Any]:
    """How far an SM got with reading its archive, while it does."""
    loads = process.role is ProcessRole.SM and process.state is ProcessState.CONFIGURED
    return {"journalRecoveryProgress": process.loading_percent / 100} if loads else {}


def tombstone(state: State, ended: Tombstone) -> schemas.Tombstone:
    """A process that ended, as it was then."""
    return {
        "process": _process(state, ended.process),
        "databaseIncarnation": {"major": ended.major, "minor": ended.minor},
        "reason": reason(ended),
        "exitCode": ended.exit_code,
        "hasDisconnected": True,
    }


def reason(ended: Tombstone) -> str:
    """Why it ended, in the dialect's words, with the time inside."""
    at = f"({stamp(ended.at)})"
    if ended.process.verdict is not None or ended.cause == "leader assignment timeout":
        return f"{ended.reason}: {at} {CLOSED}"
    if ended.cause == "operator kill":
        return f"{REMOVED}: {at} {CLOSED}"
    return f"{at} {GRACEFUL if ended.cause == 'graceful stop' else ended.reason}"


def stamp(at: int) -> str:
    """A wall-clock time in ms as nuocmd prints it: 2019-05-16T16:55:34.246+0000."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 1000:03d}+0000"


# Databases ---------------------------------------------------------------------------------------------------


def database(state: State, database: Database, mask_password: bool = True, *, judged: bool = False) -> schemas.Database:
    """A database; its password only for who asks for it, null where only its hash is kept; and what it waits for, in our own
    words, while it does. `judged`: the domain has access control, so that it is said of a database that is open to everybody.
    """
    placed = records.placing(state, database.name)
    shown: schemas.Database = {
        "name": database.name,
        "state": database.state.value,
        "incarnation": {"major": database.major, "minor": database.minor},
        "defaultRegionId": placed.default,
        "hostAssignments": dict(placed.servers),
        "databaseOptions": dict(database.default_options),
        "transport": transport_view(state, database),
    }
    if waiting := waiting_view(state, database.name):
        shown["waiting"] = waiting
    if judged and database.access.open:
        shown["open"] = True
    if mask_password:
        return shown
    return {**shown, "dbUser": database.access.dba_user, "dbPassword": None if judged else database.access.dba_password}


def plan(plan: Plan) -> schemas.StartPlan:
    """A start plan, as it is written into a file."""
    return {"incremental": plan.incremental, "processes": [spec(each) for each in plan.processes]}


def spec(spec: Spec) -> schemas.Spec:
    """One process to request. A TE has no archive at all, not even null: nuocmd sorts by it."""
    expected = {"major": spec.expected[0], "minor": spec.expected[1]} if spec.expected else None
    return _present(
        schemas.Spec,
        {
            "archiveId": spec.archive_id,
            "dbName": spec.database,
            "engineType": spec.role.value,
            "expectedIncarnation": expected,
            "host": spec.server_id,
            "labels": dict(spec.labels),
            "overrideOptions": dict(spec.options),
        },
    )


# Archives and groups -----------------------------------------------------------------------------------------


def archive(state: State, archive: Archive) -> schemas.Archive:
    """An archive."""
    return {
        "id": archive.archive_id,
        "dbName": archive.database,
        "host": archive.server_id,
        "path": path_of(state, archive),
        "state": archive.state.value,
        "observerStorageGroups": [],
    }


def storage_groups(state: State, name: str) -> list[schemas.StorageGroup]:
    """The groups of a database with who holds and who may lead them. ALL stands for the whole and lists no archive."""
    groups = state.groups_of(name)
    ids = {group.name: FIRST_GROUP_ID + number for number, group in enumerate(groups)}
    whole: schemas.StorageGroup = {
        "dbName": name,
        "sgName": WHOLE,
        "sgId": 1,
        "state": _available(all(g.serving for g in groups)),
        "archiveStates": {},
        "processStates": {},
        "leaderCandidates": [],
    }
    return [whole, *(_group(state, g, 2 if g.name == UNPARTITIONED else ids[g.name]) for g in groups)]


def _group(state: State, group: Group, number: int) -> schemas.StorageGroup:
    archives = [a for a in state.archives_of(group.database) if a.group == group.name and not a.removed]
    live = [p for a in archives if (p := state.process_on(a.archive_id))]
    may_lead = [p for p in live if p.archive_id in group.in_sync and p.engine_state is EngineState.RUNNING]
    return {
        "dbName": group.database,
        "sgName": group.name.upper(),
        "sgId": number,
        "state": _available(group.serving),
        "archiveStates": {str(a.archive_id): "ADDED" for a in archives},
        "processStates": {str(p.start_id): p.engine_state.value for p in live},
        "leaderCandidates": [str(p.start_id) for p in sorted(may_lead, key=lambda p: (p.archive_id != group.leader, p.start_id))],
    }


def _available(serving: bool) -> Literal["Available", "Unavailable"]:
    return "Available" if serving else "Unavailable"
