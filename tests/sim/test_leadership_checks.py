"""The checkers of leadership can fail: each breach is planted in a domain that is well, and named in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dkv.domain.phases import Assigned
from dkv.sim.checks.leadership import LeadershipChecks
from dkv.sim.clients import Write
from dkv.sim.engines.engines import SimEngines
from tests.sim.test_scenarios import ScenarioRun

CALM = 5.0  # virtual seconds after which everything has been well for long enough


class LeadershipRun(ScenarioRun):
    """A domain of three servers that has been well for a while, watched by these checkers alone."""

    def __init__(self) -> None:
        super().__init__(3)
        self.checks = LeadershipChecks(self.world, self.ledger)
        self.world.watchers = [self.checks]

    def follower(self) -> int:
        """An archive in S that does not lead."""
        return next(archive_id for archive_id in self.group.in_sync if archive_id != self.group.leader)

    def start_id(self, archive_id: int | None) -> int:
        process = self.world.state.process_on(-1 if archive_id is None else archive_id)
        assert process is not None
        return process.start_id

    def engines(self, archive_id: int | None) -> SimEngines:
        """The handle of the manager of an archive's machine."""
        run = self.world.machines[self.world.state.archives[-1 if archive_id is None else archive_id].server_id].run
        assert run is not None
        return run.engines


Breach = Callable[[LeadershipRun], Awaitable[None]]


def failures(breach: Breach) -> str:
    run = LeadershipRun()

    async def after_a_while(_: ScenarioRun) -> None:
        await asyncio.sleep(CALM)
        await breach(run)

    return " / ".join(run.play(after_a_while))


def test_a_domain_that_is_well_gives_no_reason() -> None:
    async def nothing(run: LeadershipRun) -> None:
        run.checks.at_rest = []
        await asyncio.sleep(1.0)
        run.checks.at_the_end()

    assert failures(nothing) == ""


async def another_is_assigned(run: LeadershipRun) -> None:
    state, group, follower = run.world.state, run.group, run.follower()
    assigned = Assigned(leader=follower, leader_process=run.start_id(follower))
    run.checks.committed(state, replace(state, groups={group.key: replace(group, phase=assigned, term=group.term + 1)}), ())


async def a_copy_acknowledges(run: LeadershipRun) -> None:
    now = run.world.now()
    write = Write("k", "v", run.group.key, now, acked_at=now, acked_by=run.follower(), executed_at=now, awake_for=99.0)
    run.ledger.acknowledged(write)


async def a_manager_without_its_lease_orders(run: LeadershipRun) -> None:
    follower = run.follower()
    run.world.machines[run.world.state.archives[follower].server_id].link.away_until = run.world.now() + 60.0
    await asyncio.sleep(8.0)
    await run.engines(follower).admit(run.start_id(follower))


async def a_leader_is_fenced(run: LeadershipRun) -> None:
    await run.engines(run.group.leader).fence(run.start_id(run.group.leader))


async def a_server_is_called_lost(run: LeadershipRun) -> None:
    state = run.world.state
    lost = replace(state.servers["s1"], alive=False)
    await asyncio.sleep(3.0)
    run.checks.committed(state, replace(state, servers={**state.servers, "s1": lost}), ())


async def orders_go_on(run: LeadershipRun) -> None:
    run.checks.at_rest = []
    await run.engines(run.follower()).admit(run.start_id(run.follower()))
    run.checks.at_the_end()


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (another_is_assigned, "leads and takes writes, and archive"),
        (a_copy_acknowledges, "and the manager there had run all the time"),
        (a_manager_without_its_lease_orders, "its lease ended"),
        (a_leader_is_fenced, "is acknowledged by all"),
        (a_server_is_called_lost, "ran and reached the backend all the time"),
        (orders_go_on, "the domain is at rest, and still"),
    ],
)
def test_a_breach_of_leadership_is_named(breach: Breach, words: str) -> None:
    assert words in failures(breach)
