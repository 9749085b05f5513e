"""A request that waits for the domain is woken by the commit it waits for, and never waits longer than its bound."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from dkv.api.waiting import until
from dkv.domain.model import State
from dkv.domain.orders import PutRecord
from dkv.domain.records import value_of
from tests.api.world import World, scenario

LONG = 30.0  # s, more than any of these tests may take


def is_red(state: State) -> bool:
    return value_of(state, "kvstore", "colour") == "red"


async def paint(world: World, colour: str) -> None:
    await world.submit(PutRecord(actor="dba", kind="kvstore", key="colour", value=f'"{colour}"'))


@scenario
async def test_it_is_woken_by_the_commit_that_it_waits_for(world: World) -> None:
    waiter = asyncio.create_task(until(world.context("s1"), is_red, LONG))
    for colour in ("blue", "red"):
        assert not waiter.done()
        await paint(world, colour)
        await asyncio.sleep(0.01)
    assert is_red(await asyncio.wait_for(waiter, LONG / 2))


@scenario
async def test_it_gives_the_state_as_it_is_when_the_time_is_over(world: World) -> None:
    assert not is_red(await until(world.context("s1"), is_red, 0.05))
    assert not is_red(await until(world.context("s1"), is_red, 0))


@scenario
async def test_neither_a_plan_nor_a_manager_that_ends_waits(world: World) -> None:
    begun = time.monotonic()
    assert not is_red(await until(replace(world.context("s1"), dry_run=True), is_red, LONG))
    assert not is_red(await until(replace(world.context("s1"), closing=lambda: True), is_red, LONG))
    ending = asyncio.Event()
    waiter = asyncio.create_task(until(replace(world.context("s1"), closing=ending.is_set), is_red, LONG))
    await asyncio.sleep(0.01)
    ending.set()
    await waiter
    assert time.monotonic() - begun < LONG / 2


@scenario
async def test_a_store_that_fails_meanwhile_is_waited_for_too(world: World) -> None:
    world.away = True
    waiter = asyncio.create_task(until(world.context("s1"), is_red, LONG))
    await asyncio.sleep(0.01)
    world.away = False
    await paint(world, "red")
    assert is_red(await asyncio.wait_for(waiter, LONG / 2))
