"""The engine contract, second half: engines ordered about, engines that end, and what is read of them."""

from __future__ import annotations

import pytest

from dkv.engine.contract import Cause, EngineError, EngineUnreachable, Position, RunOptions
from tests.contract.engine_harness import Machine, ended, has_marker, leading, ready, seen, started


def refused(answer: str) -> bool:
    return answer.startswith("-")


# -- ordering about ----------------------------------------------------------------------------------------------------


def test_a_fence_stops_writes_and_not_reads_nor_markers(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        assert await machine.write(1, "k", "v") == "+OK"
        await machine.engines.fence(1)
        assert (await seen(machine, 1)).writes.fenced
        assert refused(await machine.write(1, "k", "w"))
        assert await machine.read(1, "k") == "v"
        await machine.engines.mark(1, 1, 9, "f00d")
        assert has_marker(1, 9)(await seen(machine, 1))
        assert refused(await machine.write(1, "k", "w"))
        await machine.engines.unfence(1)
        assert await machine.write(1, "k", "w") == "+OK"

    engine_machine.play(scenario)


def test_options_are_set_on_a_running_engine_and_seen(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        engine = await leading(machine, machine.spec(1, 1))
        assert (engine.options.max_memory, engine.options.append_fsync) == (64 << 20, "always")
        for memory, fsync in ((96 << 20, "everysec"), (96 << 20, "everysec"), (80 << 20, "always")):
            await machine.engines.set_options(1, RunOptions(memory, fsync))
            engine = await seen(machine, 1)
            assert (engine.options.max_memory, engine.options.append_fsync) == (memory, fsync)
        await machine.engines.set_options(1, RunOptions(80 << 20, "always", "allkeys-lfu", "xKE", 300))
        assert await machine.write(1, "k", "v") == "+OK"
        await machine.restart_manager()
        options = (await seen(machine, 1)).options
        assert (options.max_memory, options.append_fsync) == (80 << 20, "always")
        assert (options.maxmemory_policy, options.notify_keyspace_events, options.max_clients) == ("allkeys-lfu", "xKE", 300)
        await machine.engines.set_options(1, RunOptions(80 << 20, "always"))
        options = (await seen(machine, 1)).options
        assert (options.maxmemory_policy, options.notify_keyspace_events) == ("noeviction", "")
        assert options.max_clients == options.clients_by_memory > 0

    engine_machine.play(scenario)


def test_a_rewritten_leader_begins_with_its_marker(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        for number in range(20):
            await machine.write(1, f"key-{number}", "v" * 100)
        before = await seen(machine, 1)
        await machine.engines.rewrite(1, (1, 2, "cafe"))
        rewritten = await seen(
            machine,
            1,
            lambda engine: not engine.files.rewriting and engine.files.incremental_bytes < before.files.incremental_bytes,
        )
        assert has_marker(1, 2)(rewritten)
        position = await machine.engines.read_position(spec.directory)
        assert (position.sequence, position.bytes_after) == (2, 0)
        assert await machine.dbsize(1) == 20

    engine_machine.play(scenario)


def test_a_tail_is_set_aside_and_its_absence_is_said(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        assert await machine.write(1, "kept", "v") == "+OK"
        keep = await machine.engines.read_position(spec.directory)
        assert await machine.engines.set_aside(1, keep) is None
        assert await machine.write(1, "lost", "w") == "+OK"
        path = await machine.engines.set_aside(1, keep)
        assert path is not None
        after = await machine.engines.read_position(spec.directory)
        assert after.order > keep.order

    engine_machine.play(scenario)


def test_take_over_that_is_not_answered_kills(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        machine.freeze(1)
        with pytest.raises(EngineUnreachable):
            await machine.engines.take_over(1)
        engine = await ended(machine, 1)
        assert (engine.cause, engine.signal, engine.reaped) == (Cause.NEVER_ANSWERED, 9, True)

    engine_machine.play(scenario)


def test_a_frozen_engine_is_silent_and_comes_back(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        machine.freeze(1)
        engine_seen = await seen(machine, 1, lambda engine: not engine.answering and engine.silent_ms > 600)
        assert engine_seen.role == "follower"
        machine.thaw(1)
        engine_seen = await seen(machine, 1, lambda engine: engine.answering)
        assert engine_seen.silent_ms == 0

    engine_machine.play(scenario)


# -- ends --------------------------------------------------------------------------------------------------------------


def test_stop_kill_and_foreign_kill_are_told_apart(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        for start_id in (1, 2, 3, 4):
            await started(machine, machine.spec(start_id, start_id))
        await machine.engines.shut_down(1)
        await machine.engines.kill(2, Cause.OPERATOR_KILL)
        await machine.engines.kill(3, Cause.FENCED_BY_MANAGER)
        machine.kill_from_outside(4)
        ends = [await ended(machine, start_id) for start_id in (1, 2, 3, 4)]
        assert [engine.cause for engine in ends] == [
            Cause.GRACEFUL_STOP,
            Cause.OPERATOR_KILL,
            Cause.FENCED_BY_MANAGER,
            Cause.KILLED_BY_SIGNAL,
        ]
        assert [(engine.exit_code, engine.signal) for engine in ends] == [(0, None), (137, 9), (137, 9), (137, 9)]
        assert ends[3].detail == "killed by signal 9, sender unknown"
        await machine.engines.forget_exit(4)
        assert [engine.start_id for engine in (await machine.engines.survey()).exits] == [1, 2, 3]

    engine_machine.play(scenario)


def test_an_end_wakes_whoever_waits(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        await machine.engines.survey()
        machine.kill_from_outside(1)
        await machine.engines.wait_for_change(30)
        assert (await ended(machine, 1)).signal == 9

    engine_machine.play(scenario)


def test_an_engine_outlives_its_manager_and_is_adopted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        before = await leading(machine, spec)
        await machine.restart_manager()
        engine = await seen(machine, 1, ready)
        assert (engine.pid, engine.role, engine.writes.fenced) == (before.pid, "leader", False)
        assert has_marker(1, 1)(engine)
        assert await machine.write(1, "k", "v") == "+OK"
        await machine.engines.fence(1)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(machine, 1)).cause is Cause.OPERATOR_KILL

    engine_machine.play(scenario)


def test_an_end_without_a_manager_is_known_to_the_next(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        await started(machine, machine.spec(2, 2))
        machine.kill_from_outside(1)
        await machine.engines.shut_down(2)
        await machine.restart_manager()
        first, second = await ended(machine, 1), await ended(machine, 2)
        assert (first.cause, first.exit_code, first.signal) == (Cause.KILLED_BY_SIGNAL, 137, 9)
        assert (second.cause, second.exit_code) == (Cause.GRACEFUL_STOP, 0)
        assert first.last_words

    engine_machine.play(scenario)


def test_a_machine_restart_is_told_as_such(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.write(1, "k", "v")
        await machine.restart_machine()
        engine = await ended(machine, 1)
        assert engine.cause is Cause.MACHINE_RESTARTED
        await machine.engines.forget_exit(1)
        await leading(machine, machine.spec(2, 1), fresh=False, term=2)
        assert await machine.read(2, "k") == "v"

    engine_machine.play(scenario)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_positions_order_by_term_marker_and_bytes(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        empty = await machine.engines.prepare(spec.directory, spec.identity, True)
        assert empty == Position()
        await machine.engines.release(spec.directory)
        await leading(machine, spec)
        marked = await machine.engines.read_position(spec.directory)
        await machine.write(1, "k", "v")
        written = await machine.engines.read_position(spec.directory)
        await machine.engines.mark(1, 1, 2, "aa")
        again = await machine.engines.read_position(spec.directory)
        await machine.engines.mark(1, 2, 1, "bb")
        later = await machine.engines.read_position(spec.directory)
        assert empty.order < marked.order < written.order < again.order < later.order

    engine_machine.play(scenario)


def test_commands_are_counted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        for number in range(3):
            await machine.write(1, f"key-{number}", "v")
        await machine.read(1, "key-0")
        (engine,) = await machine.engines.count()
        assert (engine.start_id, engine.gets, engine.puts, engine.keys) == (1, 1, 3, 3)
        (statistics,) = await machine.engines.statistics(1)
        assert (statistics.start_id, statistics.group) == (1, machine.spec(1, 1).group)
        assert statistics.fields["role"] == "master"
        assert statistics.fields["cmdstat_set"].startswith("calls=3,"), statistics.fields
        assert statistics.fields["db0"].startswith("keys=3,")
        assert statistics.fields["cluster_state"] == "ok"
        assert await machine.engines.statistics(2) == []
        (latencies,) = await machine.engines.latencies()
        assert latencies.start_id == 1 and max(latencies.commands["set"].values()) == 3

    engine_machine.play(scenario)


def test_orders_to_an_engine_that_ended_fail(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        machine.kill_from_outside(1)
        await ended(machine, 1)
        for order in (machine.engines.fence, machine.engines.unfence, machine.engines.admit, machine.engines.failover):
            with pytest.raises(EngineError):
                await order(1)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(machine, 1)).cause is Cause.KILLED_BY_SIGNAL

    engine_machine.play(scenario)
