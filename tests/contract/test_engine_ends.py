"""The engine contract, second half: engines ordered about, engines that end, and what is read of them."""

from __future__ import annotations

import pytest

from dkv.engine.contract import Cause, EngineError, EngineUnreachable, Position
from tests.contract.engine_harness import Room, ended, has_marker, leading, ready, seen, started


def refused(answer: str) -> bool:
    return answer.startswith("-")


# -- ordering about ----------------------------------------------------------------------------------------------------


def test_a_fence_stops_writes_and_not_reads_nor_markers(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        assert await room.write(1, "k", "v") == "+OK"
        await room.engines.fence(1)
        assert (await seen(room, 1)).fenced
        assert refused(await room.write(1, "k", "w"))
        assert await room.read(1, "k") == "v"
        await room.engines.mark(1, 1, 9, "f00d")
        assert has_marker(1, 9)(await seen(room, 1))
        assert refused(await room.write(1, "k", "w"))
        await room.engines.unfence(1)
        assert await room.write(1, "k", "w") == "+OK"

    engines_room.play(told)


def test_options_are_set_on_a_running_engine_and_seen(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        one = await leading(room, room.spec(1, 1))
        assert (one.max_memory, one.append_fsync) == (64 << 20, "always")
        for memory, fsync in ((96 << 20, "everysec"), (96 << 20, "everysec"), (80 << 20, "always")):
            await room.engines.set_options(1, memory, fsync)
            one = await seen(room, 1)
            assert (one.max_memory, one.append_fsync) == (memory, fsync)
        assert await room.write(1, "k", "v") == "+OK"
        await room.restart_manager()
        one = await seen(room, 1)
        assert (one.max_memory, one.append_fsync) == (80 << 20, "always")

    engines_room.play(told)


def test_a_rewritten_leader_begins_with_its_marker(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        for number in range(20):
            await room.write(1, f"key-{number}", "v" * 100)
        before = await seen(room, 1)
        await room.engines.rewrite(1, (1, 2, "cafe"))
        one = await seen(room, 1, lambda one: not one.rewriting and one.incremental_bytes < before.incremental_bytes)
        assert has_marker(1, 2)(one)
        position = await room.engines.read_position(spec.directory)
        assert (position.sequence, position.bytes_after) == (2, 0)
        assert await room.dbsize(1) == 20

    engines_room.play(told)


def test_a_tail_is_set_aside_and_its_absence_is_said(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        assert await room.write(1, "kept", "v") == "+OK"
        keep = await room.engines.read_position(spec.directory)
        assert await room.engines.set_aside(1, keep) is None
        assert await room.write(1, "lost", "w") == "+OK"
        path = await room.engines.set_aside(1, keep)
        assert path is not None
        after = await room.engines.read_position(spec.directory)
        assert after.order > keep.order

    engines_room.play(told)


def test_take_over_that_is_not_answered_kills(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        room.freeze(1)
        with pytest.raises(EngineUnreachable):
            await room.engines.take_over(1)
        one = await ended(room, 1)
        assert (one.cause, one.signal, one.reaped) == (Cause.NEVER_ANSWERED, 9, True)

    engines_room.play(told)


def test_a_frozen_engine_is_silent_and_comes_back(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        room.freeze(1)
        one = await seen(room, 1, lambda one: not one.answering and one.silent_ms > 600)
        assert one.role == "follower"
        room.thaw(1)
        one = await seen(room, 1, lambda one: one.answering)
        assert one.silent_ms == 0

    engines_room.play(told)


# -- ends --------------------------------------------------------------------------------------------------------------


def test_stop_kill_and_foreign_kill_are_told_apart(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        for start_id in (1, 2, 3, 4):
            await started(room, room.spec(start_id, start_id))
        await room.engines.shut_down(1)
        await room.engines.kill(2, Cause.OPERATOR_KILL)
        await room.engines.kill(3, Cause.FENCED_BY_MANAGER)
        room.kill_from_outside(4)
        ends = [await ended(room, start_id) for start_id in (1, 2, 3, 4)]
        assert [one.cause for one in ends] == [
            Cause.GRACEFUL_STOP,
            Cause.OPERATOR_KILL,
            Cause.FENCED_BY_MANAGER,
            Cause.KILLED_BY_SIGNAL,
        ]
        assert [(one.exit_code, one.signal) for one in ends] == [(0, None), (137, 9), (137, 9), (137, 9)]
        assert ends[3].detail == "killed by signal 9, sender unknown"
        await room.engines.forget_exit(4)
        assert [one.start_id for one in (await room.engines.survey()).exits] == [1, 2, 3]

    engines_room.play(told)


def test_an_end_wakes_whoever_waits(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        await room.engines.survey()
        room.kill_from_outside(1)
        await room.engines.wait_for_change(30)
        assert (await ended(room, 1)).signal == 9

    engines_room.play(told)


def test_an_engine_outlives_its_manager_and_is_adopted(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        before = await leading(room, spec)
        await room.restart_manager()
        one = await seen(room, 1, ready)
        assert (one.pid, one.role, one.fenced) == (before.pid, "leader", False)
        assert has_marker(1, 1)(one)
        assert await room.write(1, "k", "v") == "+OK"
        await room.engines.fence(1)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(room, 1)).cause is Cause.OPERATOR_KILL

    engines_room.play(told)


def test_an_end_without_a_manager_is_known_to_the_next(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        await started(room, room.spec(2, 2))
        room.kill_from_outside(1)
        await room.engines.shut_down(2)
        await room.restart_manager()
        first, second = await ended(room, 1), await ended(room, 2)
        assert (first.cause, first.exit_code, first.signal) == (Cause.KILLED_BY_SIGNAL, 137, 9)
        assert (second.cause, second.exit_code) == (Cause.GRACEFUL_STOP, 0)
        assert first.last_words

    engines_room.play(told)


def test_a_machine_restart_is_told_as_such(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await room.write(1, "k", "v")
        await room.restart_machine()
        one = await ended(room, 1)
        assert one.cause is Cause.MACHINE_RESTARTED
        await room.engines.forget_exit(1)
        await leading(room, room.spec(2, 1), fresh=False, term=2)
        assert await room.read(2, "k") == "v"

    engines_room.play(told)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_positions_order_by_term_marker_and_bytes(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        empty = await room.engines.prepare(spec.directory, spec.identity, True)
        assert empty == Position()
        await room.engines.release(spec.directory)
        await leading(room, spec)
        marked = await room.engines.read_position(spec.directory)
        await room.write(1, "k", "v")
        written = await room.engines.read_position(spec.directory)
        await room.engines.mark(1, 1, 2, "aa")
        again = await room.engines.read_position(spec.directory)
        await room.engines.mark(1, 2, 1, "bb")
        later = await room.engines.read_position(spec.directory)
        assert empty.order < marked.order < written.order < again.order < later.order

    engines_room.play(told)


def test_commands_are_counted(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        for number in range(3):
            await room.write(1, f"key-{number}", "v")
        await room.read(1, "key-0")
        (one,) = await room.engines.count()
        assert (one.start_id, one.gets, one.puts, one.keys) == (1, 1, 3, 3)

    engines_room.play(told)


def test_orders_to_an_engine_that_ended_fail(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        room.kill_from_outside(1)
        await ended(room, 1)
        for order in (room.engines.fence, room.engines.unfence, room.engines.admit, room.engines.failover):
            with pytest.raises(EngineError):
                await order(1)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(room, 1)).cause is Cause.KILLED_BY_SIGNAL

    engines_room.play(told)
