"""Clients of a follower that begins to lead: MOVED before, then their writes wait, and are taken or refused only by an order."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import EngineRefused, EngineSeen, EngineSpec
from tests.contract.engine_harness import (
    Machine,
    ValkeyMachine,
    ended,
    following,
    has_marker,
    known_as_follower,
    leading,
    peer,
    seen,
    started,
)

WRITERS = 50
LONG = 0.3  # seconds in which a write that does not wait is answered many times


async def orphan(machine: Machine) -> tuple[EngineSpec, EngineSpec]:
    """A follower that is linked, shows its clients the way, and whose leader is killed."""
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await following(machine, follower, leader)
    assert (await machine.write(2, "k", "v")).startswith("-MOVED")
    machine.kill_from_outside(1)
    await ended(machine, 1)
    return leader, follower


def waits(engine: EngineSeen) -> bool:
    return (
        engine.role == "leader"
        and engine.writes.fenced
        and engine.writes.held
        and not engine.writes.paused
        and engine.writes.refuses == "NOREPLICAS"
    )


async def held(machine: Machine) -> asyncio.Task[str]:
    """The follower took over, and one write waits in it."""
    await orphan(machine)
    await machine.engines.take_over(2)
    assert waits(await seen(machine, 2, lambda engine: engine.answering))
    write = asyncio.ensure_future(machine.write(2, "k", "v"))
    await machine.pause(LONG)
    assert not write.done()
    return write


def test_writes_wait_from_takeover_until_the_engine_is_unfenced(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        write = await held(machine)
        await machine.engines.mark(2, 2, 1, "0a1b2c3d")
        await machine.engines.admit(2)
        await seen(machine, 2, has_marker(2, 1))
        await machine.pause(LONG)
        assert not write.done()
        assert await machine.dbsize(2) == 0
        await machine.engines.take_over(2)
        await machine.engines.unfence(2)
        assert await write == "+OK"
        engine = await seen(machine, 2)
        assert (engine.writes.fenced, engine.writes.held, engine.writes.refuses) == (False, False, "")
        assert await machine.read(2, "k") == "v"

    engine_machine.play(scenario)


def test_a_fence_ends_the_wait_and_says_so(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        write = await held(machine)
        await machine.engines.fence(2)
        assert (await write).startswith("-NOREPLICAS")
        engine = await seen(machine, 2)
        assert (engine.writes.fenced, engine.writes.held) == (True, False)
        await machine.engines.unfence(2)
        assert await machine.write(2, "k", "v") == "+OK"

    engine_machine.play(scenario)


@pytest.mark.parametrize("taken", [True, False])
def test_a_manager_that_comes_later_sees_the_fence_and_lifts_it_by_the_same_words(engine_machine: Machine, taken: bool) -> None:
    async def scenario(machine: Machine) -> None:
        write = await held(machine)
        await machine.restart_manager()
        assert waits(await seen(machine, 2, lambda engine: engine.answering))
        assert not write.done()
        await machine.engines.mark(2, 2, 1, "0a1b2c3d")
        assert waits(await seen(machine, 2, has_marker(2, 1)))
        await (machine.engines.unfence(2) if taken else machine.engines.fence(2))
        assert await write == "+OK" if taken else (await write).startswith("-NOREPLICAS")

    engine_machine.play(scenario)


def test_an_engine_without_clients_is_fenced_as_ever(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        await machine.engines.take_over(1)
        leader = await seen(machine, 1, lambda engine: engine.role == "leader")
        assert (leader.writes.fenced, leader.writes.held) == (True, False)
        await machine.engines.take_clients(1)
        assert (await machine.write(1, "k", "v")).startswith("-NOREPLICAS")

    engine_machine.play(scenario)


def test_a_hot_copy_neither_pauses_nor_frees_writes_that_wait_for_their_leader(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        write = await held(machine)
        with pytest.raises(EngineRefused, match="fenced or no leader"):
            await machine.engines.pause(2, 1000)
        await machine.engines.resume(2)
        await machine.restart_manager()
        await machine.engines.resume(2)
        await machine.pause(LONG)
        assert not write.done()
        assert waits(await seen(machine, 2, lambda engine: engine.answering))
        await machine.engines.unfence(2)
        assert await write == "+OK"

    engine_machine.play(scenario)


def test_one_that_was_held_and_follows_takes_what_its_leader_sends(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        await known_as_follower(machine, leader, follower)
        await machine.engines.take_over(2)
        await seen(machine, 2, lambda engine: engine.writes.held)
        await seen(machine, 1, lambda engine: engine.role == "follower")
        await machine.engines.take_over(1)
        await seen(machine, 2, lambda engine: engine.role == "follower")
        await machine.engines.mark(1, 2, 1, "0a1b2c3d")
        await machine.engines.admit(1)
        await machine.engines.unfence(1)
        await machine.engines.replicate(2, peer(leader, await seen(machine, 1)))
        assert await machine.write(1, "k", "v") == "+OK"
        follower_seen = await seen(machine, 2, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
        assert (follower_seen.writes.fenced, follower_seen.writes.held) == (True, False)
        assert await machine.write(1, "later", "v") == "+OK"
        while await machine.dbsize(2) != 2:
            await machine.pause(0.02)
        assert (await machine.write(2, "k", "v")).startswith("-MOVED")

    engine_machine.play(scenario)


def test_who_attaches_to_a_held_engine_gets_everything_once_it_is_unfenced(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        write = await held(machine)
        leader = machine.spec(2, 2)
        third = replace(machine.spec(3, 3), peers=(known := peer(leader, await seen(machine, 2)),))
        await started(machine, third)
        await machine.engines.mark(2, 2, 1, "0a1b2c3d")
        await machine.engines.admit(2)
        await machine.engines.meet(2, peer(third))
        await machine.engines.replicate(3, known)
        await machine.engines.mark(2, 2, 2, "0a1b2c3d")
        await machine.engines.unfence(2)
        assert await write == "+OK"
        await seen(machine, 3, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
        await machine.engines.mark(2, 2, 3, "0a1b2c3d")
        await seen(machine, 3, has_marker(2, 3))
        assert await machine.dbsize(3) == 1

    engine_machine.play(scenario)


async def writing(spec: EngineSpec, key: str, ended: asyncio.Event, answers: list[str]) -> None:
    """One connection that writes without a pause, and notes what kind of answer came when that changes."""
    reader, writer = await asyncio.open_connection(spec.address, spec.client_port)
    with closing(writer):
        while not ended.is_set():
            writer.write(f"SET {key} 1\r\n".encode())
            reply = (await reader.readline()).decode().split(" ")[0].strip()
            if not answers or answers[-1] != reply:
                answers.append(reply)


def test_fifty_writers_hear_moved_then_nothing_then_ok_and_none_slips_in(tmp_path: Path) -> None:
    """Markers lift the pause for one command; those who wait come after it, and wait again."""

    async def scenario(machine: ValkeyMachine) -> None:
        _, follower = await orphan(machine)
        done, answers = asyncio.Event(), [[] for _ in range(WRITERS)]
        tasks = [asyncio.create_task(writing(follower, f"k{i}", done, replies)) for i, replies in enumerate(answers)]
        while not all(answers):
            await machine.pause(0.01)
        await machine.engines.take_over(2)
        for sequence in range(1, 41):
            await machine.engines.mark(2, 2, sequence, "0a1b2c3d")
            assert await machine.dbsize(2) == 0
            await machine.pause(0.005)
        await machine.engines.rewrite(2, (2, 41, "0a1b2c3d"))
        await seen(machine, 2, lambda engine: not engine.files.rewriting and has_marker(2, 41)(engine))
        assert waits(await seen(machine, 2))
        assert await machine.dbsize(2) == 0
        assert answers == [["-MOVED"]] * WRITERS
        await machine.engines.unfence(2)
        while await machine.dbsize(2) < WRITERS:
            await machine.pause(0.01)
        done.set()
        await asyncio.gather(*tasks)
        assert answers == [["-MOVED", "+OK"]] * WRITERS

    ValkeyMachine(tmp_path).play(scenario)


def test_a_held_engine_ends_when_it_is_asked_and_so_do_its_connections(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        write = await held(machine)
        await machine.engines.shut_down(2)
        assert (await ended(machine, 2)).exit_code == 0
        assert await write in ("", "-Connection refused") or (await write).startswith("-[Errno")

    ValkeyMachine(tmp_path).play(scenario)
