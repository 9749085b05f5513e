"""Clients of a follower that begins to lead: MOVED before, then their writes wait, and are taken or refused only by an order."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import EngineRefused, EngineSeen, EngineSpec
from tests.contract.engine_harness import (
    RealRoom,
    Room,
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


async def orphan(room: Room) -> tuple[EngineSpec, EngineSpec]:
    """A follower that is linked, shows its clients the way, and whose leader is killed."""
    leader, follower = room.spec(1, 1), room.spec(2, 2)
    await leading(room, leader)
    await following(room, follower, leader)
    assert (await room.write(2, "k", "v")).startswith("-MOVED")
    room.kill_from_outside(1)
    await ended(room, 1)
    return leader, follower


def waits(one: EngineSeen) -> bool:
    return one.role == "leader" and one.fenced and one.held and not one.paused and one.refuses == "NOREPLICAS"


async def held(room: Room) -> asyncio.Task[str]:
    """The follower took over, and one write waits in it."""
    await orphan(room)
    await room.engines.take_over(2)
    assert waits(await seen(room, 2, lambda one: one.answering))
    write = asyncio.ensure_future(room.write(2, "k", "v"))
    await room.pause(LONG)
    assert not write.done()
    return write


def test_writes_wait_from_takeover_until_the_engine_is_unfenced(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        write = await held(room)
        await room.engines.mark(2, 2, 1, "0a1b2c3d")
        await room.engines.admit(2)
        await seen(room, 2, has_marker(2, 1))
        await room.pause(LONG)
        assert not write.done()
        assert await room.dbsize(2) == 0
        await room.engines.take_over(2)
        await room.engines.unfence(2)
        assert await write == "+OK"
        one = await seen(room, 2)
        assert (one.fenced, one.held, one.refuses) == (False, False, "")
        assert await room.read(2, "k") == "v"

    engines_room.play(told)


def test_a_fence_ends_the_wait_and_says_so(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        write = await held(room)
        await room.engines.fence(2)
        assert (await write).startswith("-NOREPLICAS")
        one = await seen(room, 2)
        assert (one.fenced, one.held) == (True, False)
        await room.engines.unfence(2)
        assert await room.write(2, "k", "v") == "+OK"

    engines_room.play(told)


@pytest.mark.parametrize("taken", [True, False])
def test_a_manager_that_comes_later_sees_the_fence_and_lifts_it_by_the_same_words(engines_room: Room, taken: bool) -> None:
    async def told(room: Room) -> None:
        write = await held(room)
        await room.restart_manager()
        assert waits(await seen(room, 2, lambda one: one.answering))
        assert not write.done()
        await room.engines.mark(2, 2, 1, "0a1b2c3d")
        assert waits(await seen(room, 2, has_marker(2, 1)))
        await (room.engines.unfence(2) if taken else room.engines.fence(2))
        assert await write == "+OK" if taken else (await write).startswith("-NOREPLICAS")

    engines_room.play(told)


def test_an_engine_without_clients_is_fenced_as_ever(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        await room.engines.take_over(1)
        one = await seen(room, 1, lambda one: one.role == "leader")
        assert (one.fenced, one.held) == (True, False)
        await room.engines.take_clients(1)
        assert (await room.write(1, "k", "v")).startswith("-NOREPLICAS")

    engines_room.play(told)


def test_a_hot_copy_neither_pauses_nor_frees_writes_that_wait_for_their_leader(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        write = await held(room)
        with pytest.raises(EngineRefused, match="fenced or no leader"):
            await room.engines.pause(2, 1000)
        await room.engines.resume(2)
        await room.restart_manager()
        await room.engines.resume(2)
        await room.pause(LONG)
        assert not write.done()
        assert waits(await seen(room, 2, lambda one: one.answering))
        await room.engines.unfence(2)
        assert await write == "+OK"

    engines_room.play(told)


def test_one_that_was_held_and_follows_takes_what_its_leader_sends(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        await known_as_follower(room, leader, follower)
        await room.engines.take_over(2)
        await seen(room, 2, lambda one: one.held)
        await seen(room, 1, lambda one: one.role == "follower")
        await room.engines.take_over(1)
        await seen(room, 2, lambda one: one.role == "follower")
        await room.engines.mark(1, 2, 1, "0a1b2c3d")
        await room.engines.admit(1)
        await room.engines.unfence(1)
        await room.engines.replicate(2, peer(leader, await seen(room, 1)))
        assert await room.write(1, "k", "v") == "+OK"
        one = await seen(room, 2, lambda one: one.link_up and not one.resyncing)
        assert (one.fenced, one.held) == (True, False)
        assert await room.write(1, "later", "v") == "+OK"
        while await room.dbsize(2) != 2:
            await room.pause(0.02)
        assert (await room.write(2, "k", "v")).startswith("-MOVED")

    engines_room.play(told)


def test_who_attaches_to_a_held_engine_gets_everything_once_it_is_unfenced(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        write = await held(room)
        leader = room.spec(2, 2)
        third = replace(room.spec(3, 3), peers=(known := peer(leader, await seen(room, 2)),))
        await started(room, third)
        await room.engines.mark(2, 2, 1, "0a1b2c3d")
        await room.engines.admit(2)
        await room.engines.meet(2, peer(third))
        await room.engines.replicate(3, known)
        await room.engines.mark(2, 2, 2, "0a1b2c3d")
        await room.engines.unfence(2)
        assert await write == "+OK"
        await seen(room, 3, lambda one: one.link_up and not one.resyncing)
        await room.engines.mark(2, 2, 3, "0a1b2c3d")
        await seen(room, 3, has_marker(2, 3))
        assert await room.dbsize(3) == 1

    engines_room.play(told)


async def writing(spec: EngineSpec, key: str, ended: asyncio.Event, answers: list[str]) -> None:
    """One connection that writes without a pause, and notes what kind of answer came when that changes."""
    reader, writer = await asyncio.open_connection(spec.address, spec.client_port)
    with closing(writer):
        while not ended.is_set():
            writer.write(f"SET {key} 1\r\n".encode())
            said = (await reader.readline()).decode().split(" ")[0].strip()
            if not answers or answers[-1] != said:
                answers.append(said)


def test_fifty_writers_hear_moved_then_nothing_then_ok_and_none_slips_in(tmp_path: Path) -> None:
    """Markers lift the pause for one command; those who wait come after it, and wait again."""

    async def told(room: RealRoom) -> None:
        _, follower = await orphan(room)
        done, answers = asyncio.Event(), [[] for _ in range(WRITERS)]
        tasks = [asyncio.create_task(writing(follower, f"k{i}", done, heard)) for i, heard in enumerate(answers)]
        while not all(answers):
            await room.pause(0.01)
        await room.engines.take_over(2)
        for sequence in range(1, 41):
            await room.engines.mark(2, 2, sequence, "0a1b2c3d")
            assert await room.dbsize(2) == 0
            await room.pause(0.005)
        await room.engines.rewrite(2, (2, 41, "0a1b2c3d"))
        await seen(room, 2, lambda one: not one.rewriting and has_marker(2, 41)(one))
        assert waits(await seen(room, 2))
        assert await room.dbsize(2) == 0
        assert answers == [["-MOVED"]] * WRITERS
        await room.engines.unfence(2)
        while await room.dbsize(2) < WRITERS:
            await room.pause(0.01)
        done.set()
        await asyncio.gather(*tasks)
        assert answers == [["-MOVED", "+OK"]] * WRITERS

    RealRoom(tmp_path).play(told)


def test_a_held_engine_ends_when_it_is_asked_and_so_do_its_connections(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        write = await held(room)
        await room.engines.shut_down(2)
        assert (await ended(room, 2)).exit_code == 0
        assert await write in ("", "-Connection refused") or (await write).startswith("-[Errno")

    RealRoom(tmp_path).play(told)
