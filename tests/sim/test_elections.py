"""Several groups of a database that are to be handed over at the same moment: engines elect one leader at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from dkv.domain.orders import Switchover
from dkv.domain.phases import Open
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import DATABASE, Shape, World

COPIES = 2
T = TypeVar("T")


def play(seed: int, scenario: Callable[[World], Awaitable[T]]) -> T:
    """Run a scenario in a database of three groups whose copies are all in sync; what it returns."""
    world = World(seed, Shape(servers=COPIES, groups=3))

    async def run() -> T:
        await world.create_domain()
        assert await world.until(lambda: whole(world), 60.0)
        return await scenario(world)

    try:
        return world.loop.run_until_complete(run())
    finally:
        world.loop.close()


def whole(world: World) -> bool:
    groups = world.state.groups.values()
    return all(isinstance(g.phase, Open) and g.phase.serving and len(g.in_sync) == COPIES for g in groups)


def followers(world: World) -> list[SimEngine]:
    engines = {engine.start_id: engine for engine in world.net.engines.values()}
    leaders = {group.leader_process for group in world.state.groups.values()}
    return [engine for start_id, engine in sorted(engines.items()) if start_id not in leaders]


async def an_operator_asks_for_all(world: World) -> None:
    before = {key: group.leader for key, group in world.state.groups.items()}
    await world.order(Switchover(actor="operator", database=DATABASE))
    moved = await world.until(lambda: whole(world) and all(world.state.groups[k].leader != before[k] for k in before), 4.0)
    assert moved, "\n".join(world.trace_lines[-40:])


SEEDS = 40  # in which some are not elected at least once: about one in eight


@pytest.mark.parametrize("seed", range(8))
def test_all_groups_are_handed_over_one_after_the_other(seed: int) -> None:
    play(seed, an_operator_asks_for_all)


async def all_are_asked_at_once(world: World) -> int:
    """How many of three engines lead that were asked to in the same moment."""
    asked = followers(world)
    for engine in asked:
        engine.begin_failover()
    await asyncio.sleep(0.5)
    return sum(engine.role == "leader" for engine in asked)


def test_of_engines_that_are_asked_at_once_some_are_not_elected() -> None:
    """The trap, as Valkey 9.1.2 has it: it is what makes the test above one that can fail."""
    assert any(play(seed, all_are_asked_at_once) < 3 for seed in range(SEEDS))
