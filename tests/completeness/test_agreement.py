"""The domain and the machine agree: every state the domain can assign is acted on by plan(), or rested in with a reason.

The states are those of one store's life (life.py). Each is shown to plan() three times: with the engine there and as it
should be, with the engine absent, and with its end waiting to be reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import pytest

from dkv.domain.model import Group, Process, ProcessState, State
from dkv.domain.phases import Phase
from dkv.engine.contract import (
    Cause,
    ClusterSeen,
    EngineSeen,
    ExitSeen,
    FilesSeen,
    NodeSeen,
    Position,
    ReplicaSeen,
    ReplicationSeen,
    Survey,
    WritesSeen,
)
from dkv.machine.conditions import update_history
from dkv.machine.observation import ConditionHistory, LocalServer, Observation, directory_of, node_id
from dkv.machine.plan import plan
from dkv.machine.steps import ReportExit, Step
from tests.api.world import HOSTS
from tests.completeness.life import Life

HOUR = 3_600_000.0

RESTS = {
    # (process state, phase of its group, leads?, engine): why nothing is to be done by this process's manager.
    ("STARTED", "VACANT", False, "absent"): "a large dead leader waits for what its followers say",
    ("MONITORED", "ASSIGNED", True, "there"): "it is being given the dead leader's tail",
    ("TRACKED", "ASSIGNED", False, "there"): "it is held until its group's leader runs",
    ("TRACKED", "OPEN", False, "there"): "the leader's manager announces it first",
    ("MONITORED", "OPEN", True, "there"): "settled",
    ("MONITORED", "OPEN", False, "there"): "settled, or another manager's turn in the join",
}


@dataclass(frozen=True)
class Sight:
    """One process in one state of the domain, and what its manager would do."""

    process: ProcessState
    phase: Phase
    leads: bool
    engine: str
    steps: tuple[Step, ...]

    @property
    def case(self) -> tuple[str, str, bool, str]:
        return (self.process.value, self.phase.name, self.leads, self.engine)


def me(server: str) -> LocalServer:
    return LocalServer(server, f"uid-{server}", HOSTS[server], 7801, 8888, "b1", f"/data/{server}", 1 << 33)


def well(state: State, process: Process) -> EngineSeen:
    """The engine of a process as it should be in this state."""
    assert process.archive_id is not None
    archive, group = state.archives[process.archive_id], state.group_of_archive(process.archive_id)
    leads = group.leader_process == process.start_id and group.serving
    joined = process.state is ProcessState.MONITORED
    return EngineSeen(
        start_id=process.start_id,
        directory=directory_of(me(process.server_id).data_dir, archive),
        node_id=node_id(state.uid, archive.archive_id),
        pid=4711,
        answering=True,
        role="leader" if leads else "follower",
        follows=None if leads or group.leader is None else node_id(state.uid, group.leader),
        cluster=ClusterSeen(state_ok=True, nodes=tuple(nodes(state, group))),
        writes=WritesSeen(fenced=not leads),
        admits_replicas=leads,
        takes_clients=leads or joined,
        replication=ReplicationSeen(link_up=joined and not leads, offset=10, replicas=tuple(replicas(state, group))),
        files=FilesSeen(free_bytes=1 << 40, marker=Position(group.term, 1, "n")),
    )


def replicas(state: State, group: Group) -> Iterator[ReplicaSeen]:
    """The other copies, online and level with the leader."""
    for archive in state.archives_of(group.database):
        if archive.archive_id != group.leader and state.process_on(archive.archive_id):
            yield ReplicaSeen(HOSTS[archive.server_id], archive.client_port, 10, online=True, silent_ms=0)


def nodes(state: State, group: Group) -> Iterator[NodeSeen]:
    for archive in state.archives_of(group.database):
        if not archive.removed:
            role = "leader" if archive.archive_id == group.leader else "follower"
            name = node_id(state.uid, archive.archive_id)
            follows = None if role == "leader" or group.leader is None else node_id(state.uid, group.leader)
            host = state.servers[archive.server_id].host
            yield NodeSeen(name, host, archive.client_port, role, follows, False, False, epoch=0)


def surveys(state: State, process: Process) -> Iterator[tuple[str, Survey]]:
    """The three sights of one process's engine."""
    engine = well(state, process)
    end = ExitSeen(process.start_id, engine.directory, Cause.EXITED, "ended", 137, 9, (), reaped=True)
    yield "there", Survey(engines=(engine,))
    yield "absent", Survey()
    yield "ended", Survey(exits=(end,))


def sights(state: State) -> Iterator[Sight]:
    """Every process of a state, seen three ways, each having lasted for an hour."""
    for process in state.processes.values():
        if process.archive_id is None:
            continue  # memory-only ones have no group of their own: tests/machine/test_transaction_engines.py
        group = state.group_of_archive(process.archive_id)
        here = me(process.server_id)
        for engine, survey in surveys(state, process):
            memory = update_history(update_history(ConditionHistory(), state, here, survey, 1.0), state, here, survey, HOUR)
            steps = plan(state, here, Observation(survey, 3.0, memory)).steps
            leads = group.leader_process == process.start_id
            yield Sight(process.state, group.phase, leads, engine, steps)


@pytest.fixture(scope="module")
def seen() -> list[Sight]:
    """Everything that a manager was shown in one store's life."""
    life = Life()
    asyncio.run(life.lived())
    return [sight for state in life.states for sight in sights(state)]


def test_the_life_visits_every_state_of_a_process(seen: list[Sight]) -> None:
    assert {sight.process for sight in seen} == set(ProcessState)
    assert {type(sight.phase) for sight in seen} == set(get_args(Phase))


def test_every_state_is_acted_on_or_rested_in(seen: list[Sight]) -> None:
    idle = {sight.case for sight in seen if not sight.steps} - set(RESTS)
    assert not idle, f"plan() does nothing here, and RESTS does not say why: {sorted(idle)}"


def test_every_rest_is_still_one(seen: list[Sight]) -> None:
    gone = set(RESTS) - {sight.case for sight in seen if not sight.steps}
    assert not gone, f"take these out of RESTS: {sorted(gone)}"


def test_every_end_is_reported_first(seen: list[Sight]) -> None:
    for sight in seen:
        if sight.engine == "ended":
            assert isinstance(sight.steps[0], ReportExit), sight.case
