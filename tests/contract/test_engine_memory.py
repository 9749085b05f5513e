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
    RunOptions,
    Survey,
    TeSeen,
    TeSpec,
)
from tests.contract.engine_harness import SHARD, Machine, end, ended, leading, memory_only, of, peer, until

OTHER_SHARD = "5b" * 20
HALVES = (GroupSlots("g0", SHARD, ((0, 8191),)), GroupSlots("g1", OTHER_SHARD, ((8192, 16383),)))
LOW, HIGH = "bar", "foo"  # keys of g0 and g1: slots 5061 and 12182


def half(machine: Machine, start_id: int, archive_id: int, group: str) -> EngineSpec:
    """An engine of a database with two groups."""
    return replace(machine.spec(start_id, archive_id), group=group, groups=HALVES)


def told_of(spec: EngineSpec, leads: EngineSeen | None) -> PeerNode:
    return replace(peer(spec, leads), shard_id=SHARD if spec.group == "g0" else OTHER_SHARD)


async def two_leaders(machine: Machine) -> tuple[PeerNode, PeerNode]:
    """Each group is led and has a key."""
    specs = half(machine, 1, 1, "g0"), half(machine, 2, 2, "g1")
    leaders = [await leading(machine, spec) for spec in specs]
    assert await machine.write(1, LOW, "low") == "+OK"
    assert await machine.write(2, HIGH, "high") == "+OK"
    return told_of(specs[0], leaders[0]), told_of(specs[1], leaders[1])


def two_engines(machine: Machine, *peers: PeerNode) -> TeSpec:
    """A memory-only process of both groups, as process 3."""
    return memory_only(*(replace(half(machine, 3, n, g), peers=peers) for n, g in ((3, "g0"), (4, "g1"))))


async def there(machine: Machine, holds: Callable[[EngineSeen], bool]) -> TeSeen:
    """Process 3, as soon as that holds of each of its engines."""
    survey = await until(machine, lambda all: any(m.start_id == 3 and all_hold(m, holds) for m in all.memory))
    return survey.memory[0]


def all_hold(process: TeSeen, holds: Callable[[EngineSeen], bool]) -> bool:
    return all(holds(engine) for engine in process.engines)


def up(engine: EngineSeen) -> bool:
    return engine.answering and not engine.loading and bool(engine.role)


def synced(engine: EngineSeen) -> bool:
    return engine.replication.link_up and not engine.replication.resyncing


async def attached(machine: Machine) -> TeSeen:
    """A memory-only process whose engines follow the leaders of both groups."""
    low, high = await two_leaders(machine)
    await machine.engines.launch_memory(two_engines(machine, low, high))
    await there(machine, up)
    await machine.engines.replicate(3, low)
    await machine.engines.replicate(3, high)
    await there(machine, synced)
    for leader in (low, high):
        await machine.engines.take_clients(3, leader.group)
    return await there(machine, lambda engine: engine.takes_clients)


async def gone(machine: Machine) -> ExitSeen:
    """Its one end, and nothing else of it."""
    exit = await ended(machine, 3)
    assert not (await machine.engines.survey()).memory
    return exit


def test_it_starts_as_one_process_and_its_engines_wait(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        pid = await machine.engines.launch_memory(two_engines(machine))
        seen = await there(machine, up)
        assert (seen.start_id, seen.pid) == (3, pid)
        assert [engine.group for engine in seen.engines] == ["g0", "g1"]
        assert len({engine.node_id for engine in seen.engines}) == 2
        for engine in seen.engines:
            assert (engine.role, engine.cluster.phantom, engine.writes.fenced, engine.files.marker) == (
                "follower",
                True,
                True,
                None,
            )
        assert not (await machine.engines.survey()).engines
        assert (await machine.write(3, LOW, "v", "g0")).startswith("-")

    engine_machine.play(scenario)


def test_each_of_its_engines_follows_the_leader_of_its_group(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        assert await machine.read(3, LOW, "g0") == "low"
        assert await machine.read(3, HIGH, "g1") == "high"
        for group, key in (("g0", LOW), ("g1", HIGH)):
            assert (await machine.write(3, key, "v", group)).startswith("-MOVED")

    engine_machine.play(scenario)


def test_options_are_set_on_each_of_its_engines(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        await machine.engines.set_options(3, RunOptions(96 << 20, "", "volatile-ttl", "AKE"))
        seen = await there(machine, up)
        assert [(engine.options.max_memory, engine.options.append_fsync) for engine in seen.engines] == 2 * [(96 << 20, "")]
        assert [engine.options.maxmemory_policy for engine in seen.engines] == 2 * ["volatile-ttl"]
        assert [engine.options.notify_keyspace_events for engine in seen.engines] == 2 * ["AKE"]

    engine_machine.play(scenario)


@pytest.mark.parametrize("group", ["g0", "g1"])
def test_when_one_of_its_engines_is_killed_all_are_gone_and_one_end_is_told(engine_machine: Machine, group: str) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        machine.kill_from_outside(3, group)
        exit = await gone(machine)
        assert (exit.cause, exit.exit_code, exit.signal) == (Cause.KILLED_BY_SIGNAL, 137, 9)
        assert exit.detail == f"its engine of {group}: killed by signal 9, sender unknown"
        survey = await machine.engines.survey()
        assert [engine.start_id for engine in survey.engines] == [1, 2]
        assert [engine.start_id for engine in survey.exits] == [3]

    engine_machine.play(scenario)


@pytest.mark.parametrize("cause", [Cause.OPERATOR_KILL, Cause.NEVER_ANSWERED])
def test_a_kill_ends_all_of_it(engine_machine: Machine, cause: Cause) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        await machine.engines.kill(3, cause)
        exit = await gone(machine)
        assert (exit.cause, exit.exit_code) == (cause, 137)

    engine_machine.play(scenario)


def test_a_graceful_end_ends_all_of_it(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        await machine.engines.shut_down(3)
        exit = await gone(machine)
        assert (exit.cause, exit.exit_code) == (Cause.GRACEFUL_STOP, 0)

    engine_machine.play(scenario)


def test_it_is_never_led_by(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.engines.launch_memory(two_engines(machine))
        await there(machine, up)
        engines = machine.engines
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
        assert all(engine.role == "follower" and engine.writes.fenced for engine in (await there(machine, up)).engines)

    engine_machine.play(scenario)


def test_launching_it_twice_is_launching_it_once(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = two_engines(machine)
        pid = await machine.engines.launch_memory(spec)
        assert await machine.engines.launch_memory(spec) == pid
        await machine.engines.kill(3, Cause.OPERATOR_KILL)
        await gone(machine)
        with pytest.raises(EngineError):
            await machine.engines.launch_memory(spec)

    engine_machine.play(scenario)


def test_it_is_found_again_by_the_next_manager(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        before = await attached(machine)
        await machine.restart_manager()
        after = await there(machine, synced)
        assert (after.pid, after.directory) == (before.pid, before.directory)
        assert [engine.node_id for engine in after.engines] == [engine.node_id for engine in before.engines]
        await machine.restart_manager()
        machine.kill_from_outside(3, "g1")
        assert (await gone(machine)).exit_code == 137
        await machine.engines.forget_exit(3)
        assert end(await machine.engines.survey(), 3) is None

    engine_machine.play(scenario)


def test_a_restart_of_the_machine_ends_it(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        await machine.restart_machine()
        assert (await gone(machine)).cause is Cause.MACHINE_RESTARTED

    engine_machine.play(scenario)


def test_one_engine_that_does_not_answer_shows(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        machine.freeze(3, "g1")

        def silent(survey: Survey) -> bool:
            engine = of(survey, 3, "g1")
            return engine is not None and not engine.answering and engine.silent_ms > 600

        survey = await until(machine, silent)
        lively = of(survey, 3, "g0")
        assert lively is not None
        assert lively.answering
        await machine.engines.kill(3, Cause.NEVER_ANSWERED)
        assert (await gone(machine)).cause is Cause.NEVER_ANSWERED

    engine_machine.play(scenario)
