"""The engine contract: an engine that answers nothing is seen to work, or to do nothing, from outside."""

from __future__ import annotations

from dkv.engine.contract import Cause
from tests.contract.engine_harness import Room, ended, leading, memory_only, of, seen, until


def test_an_engine_that_loads_in_silence_is_seen_to_work(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await room.load_in_silence(1)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await room.engines.prepare(spec.directory, spec.identity, False)
        await room.engines.launch(room.spec(2, 1))
        silent, idle = 0, 0
        while not (one := await seen(room, 2)).answering or one.loading:
            silent = max(silent, one.silent_ms)
            idle = max(idle, one.idle_ms)
            await room.pause(0.05)
        assert silent >= 800, "it said something: the test shows nothing"
        assert idle < silent - 300, "its process worked all the time"

    engines_room.play(told)


def test_an_engine_that_stands_still_is_seen_to_do_nothing(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        room.freeze(1)
        one = await seen(room, 1, lambda one: one.silent_ms >= 1_500)
        assert one.idle_ms >= 500
        room.thaw(1)
        one = await seen(room, 1, lambda one: one.answering)
        assert (one.silent_ms, one.idle_ms) == (0, 0)

    engines_room.play(told)


def test_an_engine_without_an_archive_that_stands_still_is_seen_to_do_nothing(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = memory_only(room.spec(1, 1))
        await room.engines.launch_memory(spec)
        await seen(room, 1, lambda one: one.answering and not one.loading)
        room.freeze(1, "g0")
        survey = await until(room, lambda all: (one := of(all, 1)) is not None and one.silent_ms >= 1_500)
        one = of(survey, 1)
        assert one is not None and one.idle_ms >= 500
        room.thaw(1, "g0")

    engines_room.play(told)
