"""The checkers of orders and of node tables can fail: each breach is planted in a domain that is well, and is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dkv.domain.decision import Event
from dkv.domain.model import State
from dkv.domain.phases import HandingOver, Open, SwitchoverRequest
from dkv.machine import handover
from dkv.machine.observation import node_id
from dkv.sim.checks.health import Health
from dkv.sim.checks.orders import BEGINS_WITHIN, ENDS_WITHIN, OrderChecks
from dkv.sim.checks.tables import KNOWN_FOR, TableChecks
from dkv.sim.engines.gossip import Known
from tests.sim.test_scenarios import ScenarioRun

CALM = 12.0  # virtual seconds after which everything has been well for long enough


class OrderRun(ScenarioRun):
    """A domain of three servers that has been well for a while, watched by these checkers alone."""

    def __init__(self) -> None:
        super().__init__(3)
        self.health = Health(self.world)
        self.orders, self.tables = OrderChecks(self.world, self.health), TableChecks(self.world, self.health)
        self.world.watchers = [self.health, self.orders, self.tables]

    def requested(self) -> State:
        """The state in which another leader is requested."""
        group = self.group
        assert isinstance(group.phase, Open)
        request = SwitchoverRequest(to_process=None, reason="an operator asked for it", at=7)
        return replace(self.world.state, groups={group.key: replace(group, phase=replace(group.phase, switchover=request))})

    def look(self, state: State | None = None) -> None:
        """Time passes in a state."""
        self.world.state = state or self.world.state
        for watcher in self.world.watchers:
            watcher.passed()

    def declined(self, reason: str) -> None:
        """The request ends for that reason."""
        because = f"its leadership was not handed over: {reason}"
        event = Event("group.switchover_failed", self.group.subject, because)
        self.orders.committed(self.requested(), self.world.state, [event])

    def follower(self) -> int:
        """An archive in S that does not lead."""
        return next(archive_id for archive_id in self.group.in_sync if archive_id != self.group.leader)


Breach = Callable[[OrderRun], Awaitable[None]]


def failures(breach: Breach) -> str:
    run = OrderRun()

    async def after_a_while(_: ScenarioRun) -> None:
        await asyncio.sleep(CALM)
        await breach(run)

    return " / ".join(run.play(after_a_while))


async def for_the_want_of_a_copy(run: OrderRun) -> None:
    run.declined("no other copy acknowledges what its leader wrote: its engine or its machine stands still")


async def for_the_want_of_an_answer(run: OrderRun) -> None:
    run.declined(handover.NO_ANSWER)


async def a_request_stands(run: OrderRun) -> None:
    run.look(run.requested())
    await asyncio.sleep(BEGINS_WITHIN + 1.0)
    run.look(run.requested())


async def a_handover_stands(run: OrderRun) -> None:
    group, follower = run.group, run.follower()
    process = run.world.state.process_on(follower)
    assert isinstance(group.phase, Open) and process is not None
    phase = HandingOver(
        leader=group.phase.leader,
        leader_process=group.phase.leader_process,
        to_archive=follower,
        to_process=process.start_id,
        at=7,
        sequence=1,
    )
    state = replace(run.world.state, groups={group.key: replace(group, phase=phase)})
    run.look(state)
    await asyncio.sleep(ENDS_WITHIN + 1.0)
    run.look(state)


async def a_deleted_archive_is_known(run: OrderRun) -> None:
    state = run.world.state
    archive = replace(state.archives[run.follower()], archive_id=99)
    run.tables.committed(replace(state, archives={**state.archives, 99: archive}), state, ())
    await asyncio.sleep(KNOWN_FOR + 1.0)
    process = state.process_on(run.follower())
    engine = run.health.engine_of(process)
    assert engine is not None
    ghost = node_id(state.uid, 99)
    engine.known[ghost] = Known(ghost, "10.0.0.9", 7000, leads=False, epoch=0, follows=None)
    run.look()


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (for_the_want_of_a_copy, "could take over"),
        (for_the_want_of_an_answer, "its leader's engine answers"),
        (a_request_stands, "a switchover of g1 is requested for 20 s"),
        (a_handover_stands, "g1 is being handed over for 20 s"),
        (a_deleted_archive_is_known, "still knows node"),
    ],
)
def test_a_breach_is_named(breach: Breach, words: str) -> None:
    assert words in failures(breach)


def test_what_is_true_is_let_through() -> None:
    async def without_copies(run: OrderRun) -> None:
        for archive_id in run.group.in_sync:
            if archive_id != run.group.leader:
                run.world.switch_off(run.world.state.archives[archive_id].server_id)
        run.declined("no other copy acknowledges what its leader wrote: its engine or its machine stands still")
        run.look(run.requested())
        await asyncio.sleep(BEGINS_WITHIN + 1.0)
        run.look()

    assert failures(without_copies) == ""
