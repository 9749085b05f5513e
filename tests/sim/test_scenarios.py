"""Scenarios: schedules that chance would take too long to find, on the same world as the seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from dkv.domain.model import Group
from dkv.sim.checks.writes import Checkers
from dkv.sim.clients import Ledger, Writer
from dkv.sim.world import DATABASE, Shape, World


class ScenarioRun:
    """A whole domain of three servers with one group, and somebody who confirms his writes."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed, Shape(servers=3))
        self.ledger = Ledger()
        self.checkers = Checkers(self.world, self.ledger)
        self.world.watchers = [self.checkers]
        self.writer = Writer(self.world, self.ledger, (DATABASE, "g1"), "somebody", confirms=True)

    def play(self, scenario: Callable[[ScenarioRun], Awaitable[None]]) -> list[str]:
        """The failures of the checkers."""
        try:
            self.world.loop.run_until_complete(self._play(scenario))
            return list(self.world.failures)
        finally:
            self.world.loop.close()

    async def _play(self, scenario: Callable[[ScenarioRun], Awaitable[None]]) -> None:
        await self.world.create_domain()
        await self.until(lambda: len(self.group.in_sync) == 3)
        await self.confirm(5)
        await scenario(self)

    @property
    def group(self) -> Group:
        return self.world.state.groups[(DATABASE, "g1")]

    def leader(self) -> str:
        """The server of the leader; empty while there is none."""
        group = self.group
        return self.world.state.archives[group.leader].server_id if group.leader is not None and group.serving else ""

    async def until(self, true: Callable[[], bool], within: float = 60.0) -> None:
        assert await self.world.until(true, within), "\n".join(self.world.trace_lines[-40:])

    async def confirm(self, count: int) -> None:
        """So many confirmed writes more."""
        before = self.confirmed()
        async with asyncio.timeout(60.0):
            while self.confirmed() < before + count:
                await self.writer.write()

    def confirmed(self) -> int:
        return sum(write.confirmed_at is not None for write in self.ledger.writes)

    def switch_off(self, name: str) -> None:
        self.world.switch_off(name)


async def a_takeover_sent_much_too_late(run: ScenarioRun) -> None:
    """A leads and its machine dies. B is chosen, and its manager freezes between its last look and TAKEOVER. C is
    chosen and confirms writes. Then B's manager goes on, and its engine leads with a higher epoch."""
    world, first = run.world, run.leader()
    frozen: list[str] = []
    others = [name for name in world.machines if name != first]

    def freeze(name: str, command: str) -> None:
        if not frozen and command == "take over":
            frozen.append(name)
            world.freeze_manager(name)

    for name in others:
        world.machines[name].hardware.before = partial(freeze, name)
    run.switch_off(first)
    await run.until(lambda: bool(frozen))
    world.net.cut(others[0], others[1])
    await run.until(lambda: run.leader() not in ("", first, frozen[0]))
    await run.confirm(10)
    world.thaw_manager(frozen[0])
    usurper = world.machines[frozen[0]].hardware
    async with asyncio.timeout(5.0):
        while all(engine.role != "leader" for engine in usurper.engines.values()):
            await asyncio.sleep(0.0002)
    world.net.heal()
    await asyncio.sleep(15.0)
    await run.confirm(5)
    await run.until(lambda: bool(run.leader()))
    run.checkers.at_the_end()


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_takeover_sent_much_too_late_destroys_nothing_confirmed(seed: int) -> None:
    """That the look after TAKEOVER is what saves it is shown in tests/safety, V9."""
    assert ScenarioRun(seed).play(a_takeover_sent_much_too_late) == []


async def a_machine_lost_for_good_and_then_a_leader_killed(run: ScenarioRun) -> None:
    """The leader's machine never comes back. Two servers go on. Later the new leader's engine is killed."""
    world, first = run.world, run.leader()
    run.switch_off(first)
    await run.until(lambda: run.leader() not in ("", first) and len(run.group.in_sync) == 2)
    await run.confirm(5)
    hardware, process = world.machines[run.leader()].hardware, run.group.leader_process
    assert process is not None
    hardware.end(process)
    await run.until(lambda: run.leader() != "" and run.group.leader_process != process, within=30.0)
    await run.confirm(5)
    run.checkers.at_the_end()


@pytest.mark.parametrize("seed", range(1, 4))
def test_two_servers_of_three_go_on_without_the_third_for_good(seed: int) -> None:
    assert ScenarioRun(seed).play(a_machine_lost_for_good_and_then_a_leader_killed) == []
