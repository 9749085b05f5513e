"""A manager killed between any two awaits, and started again on the same engines, still gets where it was going.

Each story is told once undisturbed, which counts the awaits of one manager, then once for each of them, with the
manager dying there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dkv.domain import commands as c
from dkv.domain.model import DatabaseState
from tests.machine.fakes import Fate
from tests.machine.stage import DATABASE
from tests.machine.troupe import SERVERS, Troupe

Story = Callable[[Troupe], Awaitable[None]]


async def start(troupe: Troupe) -> None:
    """Nothing runs yet; both copies are requested."""
    await troupe.found()


async def started(troupe: Troupe) -> None:
    await troupe.request(0)
    await troupe.request(1)
    await troupe.until(troupe.both_in_sync)
    leader = (await troupe.group()).leader  # whoever was started first
    assert leader is not None
    await well(troupe, leader)


async def lone(troupe: Troupe) -> None:
    """One copy leads; the other is requested."""
    await start(troupe)
    await troupe.request(0)
    await troupe.until(serves(troupe))


async def joined(troupe: Troupe) -> None:
    await troupe.request(1)
    await troupe.until(troupe.both_in_sync)
    await well(troupe, leader=0)


async def both(troupe: Troupe) -> None:
    """Both copies are in sync."""
    await start(troupe)
    await started(troupe)


async def handed_over(troupe: Troupe) -> None:
    """The leader is stopped: the other leads, and the first is gone."""
    await troupe.stop(0)
    assert (await troupe.group()).leader == 1
    await troupe.until(serves(troupe))
    await well(troupe, leader=1)


async def stopped(troupe: Troupe) -> None:
    """The whole store is stopped, and any copy can start it again."""
    await troupe.tell(c.ShutdownDatabase(name=DATABASE))

    async def resting() -> bool:
        return (await troupe.state()).databases[DATABASE].state is DatabaseState.NOT_RUNNING

    await troupe.until(resting)
    await troupe.round()
    assert not troupe.world.engines
    assert not any(troupe.world.exits.values())


async def switched(troupe: Troupe) -> None:
    """The other copy is wished for and leads; both stay. The target's manager may die in the handover, which then ends at
    its deadline, and so does the wish: whoever still wants it asks again."""

    async def done() -> bool:
        group = await troupe.group()
        return group.switchover is None and group.handover is None

    await troupe.round()  # a manager's first glance knows of no handover how old it is
    for _ in range(2):
        if (await troupe.group()).leader == 0:
            await troupe.tell(c.Switchover(database=DATABASE))
        await troupe.until(done)
    await troupe.until(troupe.both_in_sync)
    await well(troupe, leader=1)


async def renewed(troupe: Troupe) -> None:
    """Every process is replaced, one after the other, and nothing is left of the restart."""
    below = (await troupe.state()).next_start_id
    await troupe.tell(c.RestartDatabase(name=DATABASE, rolling=True))

    async def done() -> bool:
        return (await troupe.state()).databases[DATABASE].restart is None

    await troupe.until(done)
    processes = (await troupe.state()).processes
    assert sorted(p.archive_id or 0 for p in processes.values()) == [0, 1]
    assert min(processes) >= below
    await well(troupe, leader=1)


def serves(troupe: Troupe) -> Callable[[], Awaitable[bool]]:
    async def yes() -> bool:
        return (await troupe.group()).serving

    return yes


async def well(troupe: Troupe, leader: int) -> None:
    """The domain's leader leads, alone, accepting writes and replicas; nobody was killed on the way."""

    async def accepts() -> bool:
        engine = troupe.engine(leader)
        return engine.leads and engine.admits and not engine.fenced

    await troupe.until(accepts)
    assert [f.spec.identity.archive_id for f in troupe.world.engines.values() if f.leads] == [leader]
    ends = [t.cause for t in (await troupe.state()).tombstones.values()]
    assert set(ends) <= {"graceful stop"}


STORIES: dict[str, tuple[Story, Story]] = {
    "a start": (start, started),
    "a join": (lone, joined),
    "a handover": (both, handed_over),
    "a whole stop": (both, stopped),
    "a switchover": (both, switched),
}


LONG_STORIES: dict[str, tuple[Story, Story]] = {"a rolling restart": (both, renewed)}


async def tell(name: str, victim: str, at: int) -> Fate:
    """The story with the victim's manager dying at its n-th await (0: never)."""
    scene, act = LONG_STORIES.get(name) or STORIES[name]
    troupe = Troupe()
    await scene(troupe)
    fate = Fate(at)
    troupe.replace_manager(victim, fate)
    await act(troupe)
    assert troupe.deaths == (1 if at else 0)
    return fate


@pytest.mark.parametrize("victim", SERVERS)
def test_a_rolling_restart_survives_the_death_of_a_manager(victim: str) -> None:
    """It is long, so only some of the awaits: others for each victim."""
    awaits = asyncio.run(tell("a rolling restart", victim, at=0)).count
    assert awaits > 100
    for at in range(1 + SERVERS.index(victim), awaits, 7):
        asyncio.run(tell("a rolling restart", victim, at))


@pytest.mark.parametrize("victim", SERVERS)
@pytest.mark.parametrize("name", STORIES)
def test_a_manager_may_die_between_any_two_awaits(name: str, victim: str) -> None:
    awaits = asyncio.run(tell(name, victim, at=0)).count
    assert awaits >= 20
    for at in range(1, awaits + 1):
        try:
            asyncio.run(tell(name, victim, at))
        except AssertionError as failure:
            raise AssertionError(f"{name}, {victim} dying at await {at} of {awaits}: {failure}") from failure
