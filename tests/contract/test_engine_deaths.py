"""Real engines killed where it hurts: what their disks say afterwards, and what they load from them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineSpec
from dkv.engine.positions import DiskWatch
from tests.contract.engine_harness import RealRoom, ended, following, has_marker, last_file, leading, peer, seen, started, until
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
    return replace(spec, max_memory=PLENTY)


# -- positions after a death under load ------------------------------------------------------------------------------


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_position_on_disk_is_what_the_engine_loads(tmp_path: Path, kind: Kind, times: int) -> None:
    async def told(room: RealRoom) -> None:
        await leading(room, roomy(room.spec(1, 1)))
        for start_id in range(1, times + 1):
            writers = await killed_under_load(room, start_id, kind)
            spec = roomy(room.spec(start_id + 1, 1))
            said = await room.engines.read_position(spec.directory)
            await started(room, spec, fresh=False)
            assert await room.engines.read_position(spec.directory) == said
            whole = DiskWatch(spec.directory).look().marker
            assert whole is not None
            assert whole == replace(said, dataless_bytes=0), "the engine cuts a torn tail exactly where the position ends"
            await holds_what_was_acknowledged(room, spec.start_id, writers)
            await leads_empty(room, spec.start_id)

    RealRoom(tmp_path).play(told)


async def killed_under_load(room: RealRoom, start_id: int, kind: Kind) -> list[Writer]:
    async with load(room, start_id, kind) as writers:
        await all_acknowledged(room, writers, 2 if kind.size > SMALL.size else 50)
        await room.pause(random.uniform(0, 0.1))
        room.kill_from_outside(start_id)
        await ended(room, start_id)
    return writers


async def leads_empty(room: RealRoom, start_id: int) -> None:
    """The next leader, in a term of its own, with nothing in it."""
    await room.engines.take_over(start_id)
    await room.engines.mark(start_id, start_id, 1, "abc")
    await room.engines.unfence(start_id)
    await room.engines.take_clients(start_id)
    assert await room.say(start_id, "FLUSHALL") == "+OK"


@pytest.mark.parametrize("step", [pytest.param(41, id="some cuts"), pytest.param(4, id="all", marks=pytest.mark.full)])
def test_a_cut_inside_a_transaction_takes_all_of_it(tmp_path: Path, step: int) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        assert await room.write(1, "before", "v") == "+OK"
        whole = (await room.engines.read_position(spec.directory)).order
        start = last_file(spec.directory).stat().st_size
        await room.say(1, "EVAL", "redis.call('SET',KEYS[1],'1') redis.call('SET',KEYS[2],'2') return 1", "2", "{t}-1", "{t}-2")
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        data = last_file(spec.directory).read_bytes()
        assert data[start:].startswith(command("MULTI").encode())
        for number, cut in enumerate(range(start + 1, len(data), step), start=2):
            last_file(spec.directory).write_bytes(data[:cut])
            assert (await room.engines.read_position(spec.directory)).order == whole
            await started(room, room.spec(number, 1), fresh=False)
            assert last_file(spec.directory).stat().st_size == start
            assert await room.dbsize(number) == 1
            await room.engines.kill(number, Cause.OPERATOR_KILL)
            await ended(room, number)

    RealRoom(tmp_path).play(told)


# -- full resync -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [pytest.param(1, id="once"), pytest.param(20, id="20 times", marks=pytest.mark.full)])
def test_a_kill_inside_a_full_resync_never_looks_valid_and_newer(tmp_path: Path, times: int) -> None:
    async def told(room: RealRoom) -> None:
        leader = room.spec(1, 1)
        await leading(room, leader)
        for number in range(300):
            await room.write(1, f"key-{number}", "v" * 100)
        await room.engines._known(1).valkey.do(("CONFIG", "SET", "rdb-key-save-delay", 200))
        await following(room, room.spec(2, 2), leader)
        async with load(room, 1, Kind("background", 2, 100)):
            for start_id in range(2, 2 + times):
                await one_broken_resync(room, leader, start_id, sequence=start_id)

    RealRoom(tmp_path).play(told)


async def one_broken_resync(room: RealRoom, leader: EngineSpec, start_id: int, sequence: int) -> None:
    """From a follower in sync to its next engine, killed somewhere in its full resync, to the one after, in sync."""
    directory = room.directory(2)
    await room.engines.mark(1, 1, sequence, "beef")
    await seen(room, start_id, lambda one: has_marker(1, sequence)(one) and not one.rewriting)
    await room.engines.kill(start_id, Cause.OPERATOR_KILL)
    await ended(room, start_id)
    old = (await room.engines.read_position(directory)).order
    leads = await seen(room, 1)
    victim = 1000 + start_id
    await started(room, replace(room.spec(victim, 2), peers=(peer(leader, leads),)), fresh=False)
    await room.engines.replicate(victim, peer(leader, leads))
    await room.pause(random.uniform(0, 0.12))
    room.kill_from_outside(victim)
    await ended(room, victim)
    left = await room.engines.read_position(directory)
    assert left.order == old or left.term == 0, "either the old history, whole, or none that counts"
    assert left.order <= (await room.engines.read_position(leader.directory)).order
    await following(room, room.spec(start_id + 1, 2), leader, fresh=False)


def test_followers_and_leader_rewrite_while_writes_flow(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        async with load(room, 1, Kind("flowing", 20, 1_000)) as writers:
            await all_acknowledged(room, writers, 20)
            for start_id, marker in ((2, None), (1, (1, 2, "cafe"))):
                before = {one.acknowledged for one in writers}
                await room.engines.rewrite(start_id, marker)
                await until(room, lambda all: all.engines != () and not any(one.rewriting for one in all.engines))
                await all_acknowledged(room, writers, max(before) + 5)
            await seen(room, 2, has_marker(1, 2))
            assert not any(one.refused for one in writers)
            for start_id in (1, 2):
                room.kill_from_outside(start_id)
                await ended(room, start_id)
        ahead = await room.engines.read_position(leader.directory)
        behind = await room.engines.read_position(follower.directory)
        assert (ahead.sequence, behind.sequence) == (2, 2)
        assert ahead.bytes_after >= behind.bytes_after
        await started(room, room.spec(3, 1), fresh=False)
        await holds_what_was_acknowledged(room, 3, writers)

    RealRoom(tmp_path).play(told)


# -- phantoms --------------------------------------------------------------------------------------------------------


async def beside(room: RealRoom, times: int, epoch: int) -> int:
    """How many keys a loaded leader has after that many engines came up beside it with phantoms of their own."""
    leader, follower = room.spec(1, 1), room.spec(2, 2)
    await leading(room, leader)
    for number in range(200):
        await room.write(1, f"key-{number}", "v")
    await following(room, follower, leader)
    await room.engines.kill(2, Cause.OPERATOR_KILL)
    await ended(room, 2)
    for start_id in range(3, 3 + times):
        lost = replace(room.spec(start_id, 2, (peer(leader),)), current_epoch=epoch)
        await started(room, lost, fresh=False)
        await room.pause(1.0)
        await room.engines.kill(start_id, Cause.OPERATOR_KILL)
        await ended(room, start_id)
    return await room.dbsize(1)


@pytest.mark.full
@pytest.mark.parametrize("epoch", [0, 1, 101, 9_000, 10**9])
def test_no_epoch_that_is_told_to_our_config_harms_a_living_leader(tmp_path: Path, epoch: int) -> None:
    async def told(room: RealRoom) -> None:
        assert await beside(room, 4, epoch) == 200

    RealRoom(tmp_path).play(told)
