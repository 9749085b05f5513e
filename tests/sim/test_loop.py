"""The loop in virtual time: nothing waits, owners can be frozen and killed at any await."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dkv.sim.loop import Livelock, SimLoop


def play(scenario: Callable[[SimLoop], Awaitable[object]], seed: int = 1) -> SimLoop:
    loop = SimLoop(seed)  # type: ignore[abstract]
    try:
        loop.run_until_complete(scenario(loop))
    finally:
        loop.close()
    return loop


async def ticking(ticks: list[float], loop: SimLoop) -> None:
    try:
        while True:
            ticks.append(round(loop.time(), 3))
            await asyncio.sleep(1)
    finally:
        ticks.append(-1.0)


def test_an_hour_passes_at_once() -> None:
    loop = play(lambda loop: asyncio.sleep(3600))
    assert loop.time() == 3600


def test_timeouts_groups_and_events_work_as_anywhere() -> None:
    async def scenario(loop: SimLoop) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(2))
            tasks.create_task(asyncio.sleep(3))
        assert loop.time() == 8

    play(scenario)


def test_a_frozen_owner_stands_still_and_goes_on_late() -> None:
    ticks: list[float] = []

    async def scenario(loop: SimLoop) -> None:
        loop.start("m", ticking(ticks, loop))
        await asyncio.sleep(1.5)
        loop.freeze("m")
        await asyncio.sleep(10)
        assert ticks == [0.0, 1.0]
        loop.thaw("m")
        await asyncio.sleep(1.2)

    play(scenario)
    assert ticks[:4] == [0.0, 1.0, 11.5, 12.5]


def test_a_killed_owner_does_not_even_clean_up() -> None:
    ticks: list[float] = []

    async def scenario(loop: SimLoop) -> None:
        loop.start("m", ticking(ticks, loop))
        await asyncio.sleep(1.5)
        loop.kill("m")
        await asyncio.sleep(10)
        assert ticks == [0.0, 1.0]
        with pytest.raises(ValueError):
            loop.start("m", never := asyncio.sleep(1))
        never.close()

    play(scenario)


def test_what_an_owner_starts_belongs_to_it() -> None:
    ticks: list[float] = []

    async def parent(loop: SimLoop) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ticking(ticks, loop))
            await asyncio.sleep(100)

    async def scenario(loop: SimLoop) -> None:
        loop.start("m", parent(loop))
        await asyncio.sleep(0.5)
        loop.kill("m")
        await asyncio.sleep(10)
        assert ticks == [0.0]

    play(scenario)


def test_a_strike_comes_after_so_many_steps_of_its_owner() -> None:
    ticks: list[float] = []

    async def scenario(loop: SimLoop) -> None:
        loop.start("m", ticking(ticks, loop))
        loop.inject("m", 3, lambda: loop.kill("m"))
        await asyncio.sleep(60)
        assert ticks[-1] != -1.0
        assert len(ticks) < 5

    play(scenario)


def test_the_seed_orders_owners_and_never_one_owners_steps() -> None:
    def order(seed: int) -> list[str]:
        steps: list[str] = []

        async def speak(who: str) -> None:
            for number in range(3):
                steps.append(f"{who}{number}")
                await asyncio.sleep(0)

        async def scenario(loop: SimLoop) -> None:
            await asyncio.gather(*(loop.start(who, speak(who)) for who in "abc"))

        play(scenario, seed)
        for who in "abc":
            assert [step for step in steps if step[0] == who] == [f"{who}0", f"{who}1", f"{who}2"]
        return steps

    orders = [order(seed) for seed in range(8)]
    assert order(3) == orders[3]
    assert len({tuple(step) for step in orders}) > 1


def test_a_loop_that_never_sleeps_is_found() -> None:
    async def scenario(loop: SimLoop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        play(scenario)


def test_threads_are_refused() -> None:
    async def scenario(loop: SimLoop) -> None:
        with pytest.raises(RuntimeError, match="no threads"):
            await asyncio.to_thread(print)

    play(scenario)
