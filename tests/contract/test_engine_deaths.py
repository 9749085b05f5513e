"""Real engines killed where it hurts: what their disks say afterwards, and what they load from them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineSpec, RunOptions
from dkv.engine.positions import DiskWatch
from tests.contract.engine_harness import (
    ValkeyMachine,
    ended,
    following,
    has_marker,
    last_file,
    leading,
    peer,
    seen,
    started,
    until,
)
from tests.contract.engine_load import (
    HUGE_MULTI,
    LARGE,
    MULTI,
    SMALL,
    Kind,
    Writer,
    all_acknowledged,
    command,
    holds_what_was_acknowledged,
    load,
)

KINDS = [
    pytest.param(SMALL, id="small"),
    pytest.param(LARGE, id="large"),
    pytest.param(MULTI, id="MULTI"),
    pytest.param(HUGE_MULTI, id="huge MULTI", marks=pytest.mark.full),
]
PLENTY = 2 << 30
TIMES = [pytest.param(1, id="once"), pytest.param(10, id="10 times", marks=pytest.mark.full)]


def roomy(spec: EngineSpec) -> EngineSpec:
    return replace(spec, options=RunOptions(PLENTY))


# -- positions after a death under load ------------------------------------------------------------------------------


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_position_on_disk_is_what_the_engine_loads(tmp_path: Path, kind: Kind, times: int) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, roomy(machine.spec(1, 1)))
        for start_id in range(1, times + 1):
            writers = await killed_under_load(machine, start_id, kind)
            spec = roomy(machine.spec(start_id + 1, 1))
            position = await machine.engines.read_position(spec.directory)
            await started(machine, spec, fresh=False)
            assert await machine.engines.read_position(spec.directory) == position
            whole = DiskWatch(spec.directory).look().marker
            assert whole is not None
            assert whole == replace(position, dataless_bytes=0), "the engine cuts a torn tail exactly where the position ends"
            await holds_what_was_acknowledged(machine, spec.start_id, writers)
            await leads_empty(machine, spec.start_id)

    ValkeyMachine(tmp_path).play(scenario)


async def killed_under_load(machine: ValkeyMachine, start_id: int, kind: Kind) -> list[Writer]:
    async with load(machine, start_id, kind) as writers:
        await all_acknowledged(machine, writers, 2 if kind.size > SMALL.size else 50)
        await machine.pause(random.uniform(0, 0.1))
        machine.kill_from_outside(start_id)
        await ended(machine, start_id)
    return writers


async def leads_empty(machine: ValkeyMachine, start_id: int) -> None:
    """The next leader, in a term of its own, with nothing in it."""
    await machine.engines.take_over(start_id)
    await machine.engines.mark(start_id, start_id, 1, "abc")
    await machine.engines.unfence(start_id)
    await machine.engines.take_clients(start_id)
    assert await machine.say(start_id, "FLUSHALL") == "+OK"


@pytest.mark.parametrize("step", [pytest.param(41, id="some cuts"), pytest.param(4, id="all", marks=pytest.mark.full)])
def test_a_cut_inside_a_transaction_takes_all_of_it(tmp_path: Path, step: int) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        assert await machine.write(1, "before", "v") == "+OK"
        whole = (await machine.engines.read_position(spec.directory)).order
        start = last_file(spec.directory).stat().st_size
        await machine.say(
            1, "EVAL", "redis.call('SET',KEYS[1],'1') redis.call('SET',KEYS[2],'2') return 1", "2", "{t}-1", "{t}-2"
        )
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        data = last_file(spec.directory).read_bytes()
        assert data[start:].startswith(command("MULTI").encode())
        for number, cut in enumerate(range(start + 1, len(data), step), start=2):
            last_file(spec.directory).write_bytes(data[:cut])
            assert (await machine.engines.read_position(spec.directory)).order == whole
            await started(machine, machine.spec(number, 1), fresh=False)
            assert last_file(spec.directory).stat().st_size == start
            assert await machine.dbsize(number) == 1
            await machine.engines.kill(number, Cause.OPERATOR_KILL)
            await ended(machine, number)

    ValkeyMachine(tmp_path).play(scenario)


# -- full resync -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(20, id="20 times", marks=pytest.mark.full)])
def test_a_kill_inside_a_full_resync_never_looks_valid_and_newer(tmp_path: Path, times: int) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader = machine.spec(1, 1)
        await leading(machine, leader)
        for number in range(300):
            await machine.write(1, f"key-{number}", "v" * 100)
        await machine.engines._known(1).valkey.do(("CONFIG", "SET", "rdb-key-save-delay", 200))
        await following(machine, machine.spec(2, 2), leader)
        async with load(machine, 1, Kind("background", 2, 100)):
            for start_id in range(2, 2 + times):
                await one_broken_resync(machine, leader, start_id, sequence=start_id)

    ValkeyMachine(tmp_path).play(scenario)


async def one_broken_resync(machine: ValkeyMachine, leader: EngineSpec, start_id: int, sequence: int) -> None:
    """From a follower in sync to its next engine, killed somewhere in its full resync, to the one after, in sync."""
    directory = machine.directory(2)
    await machine.engines.mark(1, 1, sequence, "beef")
    await seen(machine, start_id, lambda engine: has_marker(1, sequence)(engine) and not engine.files.rewriting)
    await machine.engines.kill(start_id, Cause.OPERATOR_KILL)
    await ended(machine, start_id)
    old = (await machine.engines.read_position(directory)).order
    leads = await seen(machine, 1)
    victim = 1000 + start_id
    await started(machine, replace(machine.spec(victim, 2), peers=(peer(leader, leads),)), fresh=False)
    await machine.engines.replicate(victim, peer(leader, leads))
    await machine.pause(random.uniform(0, 0.12))
    machine.kill_from_outside(victim)
    await ended(machine, victim)
    left = await machine.engines.read_position(directory)
    assert left.order == old or left.term == 0, "either the old history, whole, or none that counts"
    assert left.order <= (await machine.engines.read_position(leader.directory)).order
    await following(machine, machine.spec(start_id + 1, 2), leader, fresh=False)


def test_followers_and_leader_rewrite_while_writes_flow(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        async with load(machine, 1, Kind("flowing", 20, 1_000)) as writers:
            await all_acknowledged(machine, writers, 20)
            for start_id, marker in ((2, None), (1, (1, 2, "cafe"))):
                before = {engine.acknowledged for engine in writers}
                await machine.engines.rewrite(start_id, marker)
                await until(machine, lambda all: all.engines != () and not any(engine.files.rewriting for engine in all.engines))
                await all_acknowledged(machine, writers, max(before) + 5)
            await seen(machine, 2, has_marker(1, 2))
            assert not any(engine.refused for engine in writers)
            for start_id in (1, 2):
                machine.kill_from_outside(start_id)
                await ended(machine, start_id)
        ahead = await machine.engines.read_position(leader.directory)
        behind = await machine.engines.read_position(follower.directory)
        assert (ahead.sequence, behind.sequence) == (2, 2)
        assert ahead.bytes_after >= behind.bytes_after
        await started(machine, machine.spec(3, 1), fresh=False)
        await holds_what_was_acknowledged(machine, 3, writers)

    ValkeyMachine(tmp_path).play(scenario)


# -- phantoms --------------------------------------------------------------------------------------------------------


async def beside(machine: ValkeyMachine, times: int, epoch: int) -> int:
    """How many keys a loaded leader has after that many engines came up beside it with phantoms of their own."""
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    for number in range(200):
        await machine.write(1, f"key-{number}", "v")
    await following(machine, follower, leader)
    await machine.engines.kill(2, Cause.OPERATOR_KILL)
    await ended(machine, 2)
    for start_id in range(3, 3 + times):
        lost = replace(machine.spec(start_id, 2, (peer(leader),)), current_epoch=epoch)
        await started(machine, lost, fresh=False)
        await machine.pause(1.0)
        await machine.engines.kill(start_id, Cause.OPERATOR_KILL)
        await ended(machine, start_id)
    return await machine.dbsize(1)


@pytest.mark.full
@pytest.mark.parametrize("epoch", [0, 1, 101, 9_000, 10**9])
def test_no_epoch_that_is_told_to_our_config_harms_a_living_leader(tmp_path: Path, epoch: int) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        assert await beside(machine, 4, epoch) == 200

    ValkeyMachine(tmp_path).play(scenario)
