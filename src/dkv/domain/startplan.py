"""Domain: start plans, the process requests that bring a database up; and the capture of one that runs. Pure.

A *full* plan is for a database that does not run: an SM on each archive, and the TEs asked for. An *incremental* one
lists only archives without a process, and the TEs asked for. A *reusable* plan may be kept in a file; a *one-time* plan
quotes the incarnation it was made for, so that it is refused once the database moved on (docs/reference/nuodb.md#life-cycles).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dkv.domain.decision import Refused
from dkv.domain.held_back import rest_of
from dkv.domain.model import Database, DatabaseState, EngineState, Process, ProcessRole, ProcessState, State
from dkv.domain.refusals import living_database, no, unknown_server
from dkv.domain.states import RESTING
from dkv.domain.status import instances

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Spec:
    """One process to request. Equal processes have equal specs, so that a captured layout can be compared."""

    database: str
    role: ProcessRole
    server_id: str
    archive_id: int | None = None
    labels: Pairs = ()
    options: Pairs = ()
    expected: tuple[int, int] | None = None

    @property
    def order(self) -> tuple[str, int, str]:
        """SMs by archive before TEs by server."""
        return (self.role, -1 if self.archive_id is None else self.archive_id, self.server_id)


@dataclass(frozen=True)
class Plan:
    """What to request, in order. `incremental`: the database runs already."""

    incremental: bool
    processes: tuple[Spec, ...]


def start_plan(state: State, name: str, te_servers: Sequence[str] = (), reusable: bool = True) -> Plan | Refused:
    """The plan that starts a database, or what of it does not run. A server named twice gets two TEs."""
    database = living_database(state.databases, name)
    if isinstance(database, Refused):
        return database
    for server in te_servers:
        if server not in state.servers:
            return unknown_server(server, state.servers)
    expected = None if reusable else incarnation_to_come(state, database)
    sms = [
        Spec(name, ProcessRole.SM, a.server_id, a.archive_id, expected=expected)
        for a in instances(state, name)
        if _is_to_start(state.process_on(a.archive_id))
    ]
    tes = [Spec(name, ProcessRole.TE, server, expected=expected) for server in te_servers]
    return Plan(database.state not in RESTING, _in_order([*sms, *tes]))


def _is_to_start(process: Process | None) -> bool:
    """Whether a start is to request a process, or to begin the one that is held back."""
    return process is None or (rest_of(process) is not None and not process.leaving)


def capture(state: State, name: str, check_state: bool = True) -> Plan | Refused:
    """The processes that are there now, as a reusable plan. With `check_state` only of a database that runs whole."""
    database = living_database(state.databases, name)
    if isinstance(database, Refused):
        return database
    live = state.processes_of(name)
    if check_state:
        refused = _not_whole(database, live)
        if refused:
            return refused
    return Plan(False, _in_order(spec_of(process) for process in live))


def spec_of(process: Process) -> Spec:
    """The request that would make such a process."""
    return Spec(
        process.database,
        process.role,
        process.server_id,
        process.archive_id,
        tuple(sorted(process.request.labels)),
        tuple(sorted(process.request.options)),
    )


def incarnation_to_come(state: State, database: Database) -> tuple[int, int]:
    """The incarnation the next requested process belongs to: on a database without processes the first opens a new one."""
    if state.processes_of(database.name):
        return (database.major, database.minor)
    return (database.major + 1, 0)


def _in_order(specs: Iterable[Spec]) -> tuple[Spec, ...]:
    return tuple(sorted(specs, key=lambda spec: spec.order))


def _not_whole(database: Database, live: Sequence[Process]) -> Refused | None:
    """Why a capture would not show the layout people mean."""
    fresh = [p for p in live if (p.state, p.engine_state) != (ProcessState.MONITORED, EngineState.RUNNING)]
    if database.state is DatabaseState.RUNNING and not fresh:
        return None
    which = ", ".join(str(p.start_id) for p in fresh)
    message = f"{database.name} is {database.state}" + (f" and process {which} does not run yet." if fresh else ".")
    return no("database_not_running", message, "Capture it when it is RUNNING with all its processes.")
