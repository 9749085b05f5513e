"""A manager killed between any two awaits, and started again on the same engines, still gets where it was going.

Each scenario runs once undisturbed, which counts the awaits of one manager, then once for each of them, with the
manager dying there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dkv.domain import orders
from dkv.domain.model import DatabaseState
from dkv.domain.phases import HandingOver
from tests.machine.cluster import SERVERS, Cluster
from tests.machine.fakes import FaultPlan
from tests.machine.stage import DATABASE

Scenario = Callable[[Cluster], Awaitable[None]]


async def start(cluster: Cluster) -> None:
    """Nothing runs yet; both copies are requested."""
    await cluster.create_domain()


async def started(cluster: Cluster) -> None:
    await cluster.request(0)
    await cluster.request(1)
    await cluster.until(cluster.both_in_sync)
    leader = (await cluster.group()).leader  # whoever was started first
    assert leader is not None
    await well(cluster, leader)


async def lone(cluster: Cluster) -> None:
    """One copy leads; the other is requested."""
    await start(cluster)
    await cluster.request(0)
    await cluster.until(serves(cluster))


async def joined(cluster: Cluster) -> None:
    await cluster.request(1)
    await cluster.until(cluster.both_in_sync)
    await well(cluster, leader=0)


async def both(cluster: Cluster) -> None:
    """Both copies are in sync."""
    await start(cluster)
    await started(cluster)


async def handed_over(cluster: Cluster) -> None:
    """The leader is stopped: the other leads, and the first is gone."""
    await cluster.stop(0)
    assert (await cluster.group()).leader == 1
    await cluster.until(serves(cluster))
    await well(cluster, leader=1)


async def stopped(cluster: Cluster) -> None:
    """The whole store is stopped, and any copy can start it again."""
    await cluster.submit(orders.ShutdownDatabase(name=DATABASE))

    async def resting() -> bool:
        return (await cluster.state()).databases[DATABASE].state is DatabaseState.NOT_RUNNING

    await cluster.until(resting)
    await cluster.round()
    assert not cluster.world.engines
    assert not any(cluster.world.exits.values())


async def switched(cluster: Cluster) -> None:
    """The other copy is wished for and leads; both stay. The target's manager may die in the handover, which then ends at
    its deadline, and so does the wish: whoever still wants it asks again."""

    async def done() -> bool:
        group = await cluster.group()
        return group.switchover is None and not isinstance(group.phase, HandingOver)

    await cluster.round()  # a manager's first glance knows of no handover how old it is
    for _ in range(2):
        if (await cluster.group()).leader == 0:
            await cluster.submit(orders.Switchover(database=DATABASE))
        await cluster.until(done)
    await cluster.until(cluster.both_in_sync)
    await well(cluster, leader=1)


async def renewed(cluster: Cluster) -> None:
    """Every process is replaced, one after the other, and nothing is left of the restart."""
    below = (await cluster.state()).next_start_id
    await cluster.submit(orders.RestartDatabase(name=DATABASE, rolling=True))

    async def done() -> bool:
        return (await cluster.state()).databases[DATABASE].restart is None

    await cluster.until(done)
    processes = (await cluster.state()).processes
    assert sorted(p.archive_id or 0 for p in processes.values()) == [0, 1]
    assert min(processes) >= below
    await well(cluster, leader=1)


def serves(cluster: Cluster) -> Callable[[], Awaitable[bool]]:
    async def yes() -> bool:
        return (await cluster.group()).serving

    return yes


async def well(cluster: Cluster, leader: int) -> None:
    """The domain's leader leads, alone, accepting writes and replicas; nobody was killed on the way."""

    async def accepts() -> bool:
        engine = cluster.engine(leader)
        return engine.leads and engine.admits and not engine.fenced

    await cluster.until(accepts)
    assert [f.spec.identity.archive_id for f in cluster.world.engines.values() if f.leads] == [leader]
    ends = [t.cause for t in (await cluster.state()).tombstones.values()]
    assert set(ends) <= {"graceful stop"}


SCENARIOS: dict[str, tuple[Scenario, Scenario]] = {
    "a start": (start, started),
    "a join": (lone, joined),
    "a handover": (both, handed_over),
    "a whole stop": (both, stopped),
    "a switchover": (both, switched),
}


LONG_SCENARIOS: dict[str, tuple[Scenario, Scenario]] = {"a rolling restart": (both, renewed)}


async def play_with_a_death(name: str, victim: str, at: int) -> FaultPlan:
    """The scenario with the victim's manager dying at its n-th await (0: never)."""
    harness, act = LONG_SCENARIOS.get(name) or SCENARIOS[name]
    cluster = Cluster()
    await harness(cluster)
    faults = FaultPlan(at)
    cluster.replace_manager(victim, faults)
    await act(cluster)
    assert cluster.deaths == (1 if at else 0)
    return faults


@pytest.mark.long
@pytest.mark.parametrize("victim", SERVERS)
def test_a_rolling_restart_survives_the_death_of_a_manager(victim: str) -> None:
    """It is long, so only some of the awaits: others for each victim."""
    awaits = asyncio.run(play_with_a_death("a rolling restart", victim, at=0)).count
    assert awaits > 100
    for at in range(1 + SERVERS.index(victim), awaits, 7):
        asyncio.run(play_with_a_death("a rolling restart", victim, at))


@pytest.mark.long
@pytest.mark.parametrize("victim", SERVERS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_manager_may_die_between_any_two_awaits(name: str, victim: str) -> None:
    awaits = asyncio.run(play_with_a_death(name, victim, at=0)).count
    assert awaits >= 20
    for at in range(1, awaits + 1):
        try:
            asyncio.run(play_with_a_death(name, victim, at))
        except AssertionError as failure:
            raise AssertionError(f"{name}, {victim} dying at await {at} of {awaits}: {failure}") from failure
