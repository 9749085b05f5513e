"""Percentiles of the last seconds, from histograms that engines keep since they started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from dkv.api import latencies
from dkv.api.context import Histogram
from dkv.api.latencies import Latencies, Latency, added, latency_of, quantile, within
from tests.api.world import World, scenario


def test_calls_of_a_window_are_what_is_counted_more_than_before() -> None:
    before, after = {1: 90, 8: 100}, {1: 91, 4: 95, 8: 110, 16: 112}
    assert within(before, after) == {1: 1, 4: 5, 8: 10, 16: 12}, "90 calls took at most 4 microseconds before, too"
    assert within(after, after) == {1: 0, 4: 0, 8: 0, 16: 0}
    assert within({}, after) == after


def test_an_engine_whose_statistics_were_reset_is_counted_from_then_on() -> None:
    assert within({1: 90, 8: 100}, {2: 3}) == {2: 3}


def test_engines_of_one_process_are_counted_together() -> None:
    assert added({1: 5, 8: 7}, {4: 2}) == {1: 5, 4: 7, 8: 9}


@pytest.mark.parametrize(
    ("calls", "part", "time"),
    [
        ({1: 0}, 0.5, None),
        ({}, 0.99, None),
        ({1: 100}, 0.5, 0.5),
        ({1: 50, 2: 100}, 0.5, 1.0),
        ({4: 10, 8: 10, 16: 20}, 0.75, 12.0),
        ({1: 990, 1056: 1000}, 0.99, 1.0),
        ({1: 98, 1056: 100}, 0.99, 792.0),
        ({264: 1}, 0.99, 262.7),
    ],
)
def test_a_percentile_is_interpolated_between_bounds(calls: Histogram, part: float, time: float | None) -> None:
    assert quantile(calls, part) == time


def test_the_command_that_was_called_most_of_late_is_shown_and_no_commands_of_managers() -> None:
    before = {"get": {1: 9_000_000}, "set": {1: 5}, "info": {66: 10}}
    after = {"get": {1: 9_000_001}, "set": {1: 5, 4: 105}, "info": {66: 9_999}, "client|list": {8: 9_999}}
    assert latency_of(before, after) == Latency("set", 3.0, 4.0)
    assert latency_of(after, after) == Latency()


@scenario
async def test_a_slow_minute_shows_and_is_gone_after_ten_seconds(world: World) -> None:
    def said(commands: Mapping[str, dict[int, int]]) -> None:
        world.latencies["s1"] = [(1, dict(commands))]

    reader, clock = Latencies(world.context("s1")), Moved(1_000.0)
    said({"get": {1: 1_000_000}})
    assert await reader.read_at(clock()) == {1: Latency()}, "what was before the first reading is unknown"
    said({"get": {1: 1_000_000, 4_224: 1_000_100}})
    slow = await reader.read_at(clock(1.0))
    assert slow[1].p50 is not None and slow[1].p50 > 2_000
    said({"get": {1: 9, 4_224: 10}})
    assert await reader.read_at(clock(0.1)) == slow, "who asks soon after another costs no engine anything"
    said({"get": {1: 1_000_000, 4_224: 1_000_100}})
    assert (await reader.read_at(clock(8.0)))[1].p50 == slow[1].p50
    assert await reader.read_at(clock(4.0)) == {1: Latency()}
    world.latencies["s1"] = []
    assert await reader.read_at(clock(1.0)) == {}
    assert latencies.WINDOW == 10.0, "as the console and the description say"


class Moved:
    """A clock that a test moves."""

    def __init__(self, now: float) -> None:
        self._now = now

    def __call__(self, seconds: float = 0.0) -> float:
        self._now += seconds
        return self._now


def test_two_who_ask_at_once_read_the_engines_once() -> None:
    async def run() -> None:
        world = World()
        world.latencies["s1"] = [(1, {"get": {1: 1}})]
        reader = Latencies(world.context("s1"))
        first, second = await asyncio.gather(reader.read_at(5.0), reader.read_at(5.0))
        assert first == second == {1: Latency()}
        assert len(reader.readings) == 1

    asyncio.run(run())
