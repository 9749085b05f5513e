"""The engine contract, fourth part: memory-only processes, several engines under one start id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from dkv.engine.contract import (
    Cause,
    EngineError,
    EngineRefused,
    EngineSeen,
    EngineSpec,
    ExitSeen,
    GroupSlots,
    PeerNode,
    Survey,
    TeSeen,
    TeSpec,
)
from tests.contract.engine_harness import SHARD, Room, end, ended, leading, memory_only, of, peer, until

OTHER_SHARD = "5b" * 20
HALVES = (GroupSlots("g0", SHARD, ((0, 8191),)), GroupSlots("g1", OTHER_SHARD, ((8192, 16383),)))
LOW, HIGH = "bar", "foo"  # keys of g0 and g1: slots 5061 and 12182


def half(room: Room, start_id: int, archive_id: int, group: str) -> EngineSpec:
    """An engine of a database with two groups."""
    return replace(room.spec(start_id, archive_id), group=group, groups=HALVES)


def told_of(spec: EngineSpec, leads: EngineSeen | None) -> PeerNode:
    return replace(peer(spec, leads), shard_id=SHARD if spec.group == "g0" else OTHER_SHARD)


async def two_leaders(room: Room) -> tuple[PeerNode, PeerNode]:
    """Each group is led and has a key."""
    specs = half(room, 1, 1, "g0"), half(room, 2, 2, "g1")
    leaders = [await leading(room, spec) for spec in specs]
    assert await room.write(1, LOW, "low") == "+OK"
    assert await room.write(2, HIGH, "high") == "+OK"
    return told_of(specs[0], leaders[0]), told_of(specs[1], leaders[1])


def two_engines(room: Room, *peers: PeerNode) -> TeSpec:
    """A memory-only process of both groups, as process 3."""
    return memory_only(*(replace(half(room, 3, n, g), peers=peers) for n, g in ((3, "g0"), (4, "g1"))))


async def there(room: Room, holds: Callable[[EngineSeen], bool]) -> TeSeen:
    """Process 3, as soon as that holds of each of its engines."""
    survey = await until(room, lambda all: any(m.start_id == 3 and all_hold(m, holds) for m in all.memory))
    return survey.memory[0]


def all_hold(process: TeSeen, holds: Callable[[EngineSeen], bool]) -> bool:
    return all(holds(engine) for engine in process.engines)


def up(one: EngineSeen) -> bool:
    return one.answering and not one.loading and bool(one.role)


def synced(one: EngineSeen) -> bool:
    return one.link_up and not one.resyncing


async def attached(room: Room) -> TeSeen:
    """A memory-only process whose engines follow the leaders of both groups."""
    low, high = await two_leaders(room)
    await room.engines.launch_memory(two_engines(room, low, high))
    await there(room, up)
    await room.engines.replicate(3, low)
    await room.engines.replicate(3, high)
    await there(room, synced)
    for leader in (low, high):
        await room.engines.take_clients(3, leader.group)
    return await there(room, lambda one: one.takes_clients)


async def gone(room: Room) -> ExitSeen:
    """Its one end, and nothing else of it."""
    exit = await ended(room, 3)
    assert not (await room.engines.survey()).memory
    return exit


def test_it_starts_as_one_process_and_its_engines_wait(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        pid = await room.engines.launch_memory(two_engines(room))
        seen = await there(room, up)
        assert (seen.start_id, seen.pid) == (3, pid)
        assert [engine.group for engine in seen.engines] == ["g0", "g1"]
        assert len({engine.node_id for engine in seen.engines}) == 2
        for engine in seen.engines:
            assert (engine.role, engine.phantom, engine.fenced, engine.marker) == ("follower", True, True, None)
        assert not (await room.engines.survey()).engines
        assert (await room.write(3, LOW, "v", "g0")).startswith("-")

    engines_room.play(told)


def test_each_of_its_engines_follows_the_leader_of_its_group(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        assert await room.read(3, LOW, "g0") == "low"
        assert await room.read(3, HIGH, "g1") == "high"
        for group, key in (("g0", LOW), ("g1", HIGH)):
            assert (await room.write(3, key, "v", group)).startswith("-MOVED")

    engines_room.play(told)


def test_options_are_set_on_each_of_its_engines(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        await room.engines.set_options(3, 96 << 20, "")
        seen = await there(room, up)
        assert [(engine.max_memory, engine.append_fsync) for engine in seen.engines] == 2 * [(96 << 20, "")]

    engines_room.play(told)


@pytest.mark.parametrize("group", ["g0", "g1"])
def test_when_one_of_its_engines_is_killed_all_are_gone_and_one_end_is_told(engines_room: Room, group: str) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        room.kill_from_outside(3, group)
        exit = await gone(room)
        assert (exit.cause, exit.exit_code, exit.signal) == (Cause.KILLED_BY_SIGNAL, 137, 9)
        assert exit.detail == f"its engine of {group}: killed by signal 9, sender unknown"
        survey = await room.engines.survey()
        assert [one.start_id for one in survey.engines] == [1, 2]
        assert [one.start_id for one in survey.exits] == [3]

    engines_room.play(told)


@pytest.mark.parametrize("cause", [Cause.OPERATOR_KILL, Cause.NEVER_ANSWERED])
def test_a_kill_ends_all_of_it(engines_room: Room, cause: Cause) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        await room.engines.kill(3, cause)
        exit = await gone(room)
        assert (exit.cause, exit.exit_code) == (cause, 137)

    engines_room.play(told)


def test_a_graceful_end_ends_all_of_it(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        await room.engines.shut_down(3)
        exit = await gone(room)
        assert (exit.cause, exit.exit_code) == (Cause.GRACEFUL_STOP, 0)

    engines_room.play(told)


def test_it_is_never_led_by(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await room.engines.launch_memory(two_engines(room))
        await there(room, up)
        engines = room.engines
        orders: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: engines.take_over(3),
            lambda: engines.admit(3),
            lambda: engines.failover(3),
            lambda: engines.unfence(3),
            lambda: engines.mark(3, 1, 1, "aa"),
            lambda: engines.rewrite(3, None),
        )
        for order in orders:
            with pytest.raises(EngineRefused):
                await order()
        assert all(engine.role == "follower" and engine.fenced for engine in (await there(room, up)).engines)

    engines_room.play(told)


def test_launching_it_twice_is_launching_it_once(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = two_engines(room)
        pid = await room.engines.launch_memory(spec)
        assert await room.engines.launch_memory(spec) == pid
        await room.engines.kill(3, Cause.OPERATOR_KILL)
        await gone(room)
        with pytest.raises(EngineError):
            await room.engines.launch_memory(spec)

    engines_room.play(told)


def test_it_is_found_again_by_the_next_manager(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        before = await attached(room)
        await room.restart_manager()
        after = await there(room, synced)
        assert (after.pid, after.directory) == (before.pid, before.directory)
        assert [one.node_id for one in after.engines] == [one.node_id for one in before.engines]
        await room.restart_manager()
        room.kill_from_outside(3, "g1")
        assert (await gone(room)).exit_code == 137
        await room.engines.forget_exit(3)
        assert end(await room.engines.survey(), 3) is None

    engines_room.play(told)


def test_a_restart_of_the_machine_ends_it(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        await room.restart_machine()
        assert (await gone(room)).cause is Cause.MACHINE_RESTARTED

    engines_room.play(told)


def test_one_engine_that_does_not_answer_shows(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await attached(room)
        room.freeze(3, "g1")

        def silent(survey: Survey) -> bool:
            one = of(survey, 3, "g1")
            return one is not None and not one.answering and one.silent_ms > 600

        survey = await until(room, silent)
        lively = of(survey, 3, "g0")
        assert lively is not None
        assert lively.answering
        await room.engines.kill(3, Cause.NEVER_ANSWERED)
        assert (await gone(room)).cause is Cause.NEVER_ANSWERED

    engines_room.play(told)
