"""Whom an engine lets in, and what it tells them: nothing before it has a leader to name, and never a made-up one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineRefused, EngineSpec
from tests.contract.engine_harness import (
    RealRoom,
    Room,
    ended,
    following,
    leading,
    memory_only,
    node_id,
    peer,
    ready,
    seen,
    started,
    until,
)


async def pair(room: Room) -> tuple[EngineSpec, EngineSpec]:
    leader, follower = room.spec(1, 1), room.spec(2, 2)
    await leading(room, leader)
    assert await room.write(1, "k", "v") == "+OK"
    await following(room, follower, leader)
    await seen(room, 1, lambda one: any(node.node_id == follower.node_id for node in one.nodes))
    await seen(room, 2, lambda one: one.offset >= 1)
    return leader, follower


def test_an_engine_takes_no_clients_before_it_has_a_leader_to_name(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        assert not (await started(room, room.spec(1, 1))).takes_clients
        assert (await room.write(1, "k", "v")).startswith("-")
        with pytest.raises(EngineRefused, match="nothing to tell clients"):
            await room.engines.take_clients(1)
        assert not (await seen(room, 1)).takes_clients
        await room.engines.take_over(1)
        await room.engines.take_clients(1)
        await room.engines.take_clients(1)
        assert (await seen(room, 1)).takes_clients

    engines_room.play(told)


def test_an_engine_whose_manager_was_restarted_is_seen_as_it_is(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await started(room, room.spec(2, 2))
        await room.restart_manager()
        await seen(room, 1, lambda one: one.takes_clients)
        assert not (await seen(room, 2, ready)).takes_clients

    engines_room.play(told)


def test_an_engine_that_sends_its_clients_away_keeps_its_followers(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await pair(room)
        await room.engines.shun_clients(1)
        await room.engines.shun_clients(1)
        one = await seen(room, 1)
        assert not one.takes_clients
        assert (await room.write(1, "k", "w")).startswith("-")
        await room.engines.mark(1, 1, 2, "beef")
        await seen(room, 2, lambda one: one.marker is not None and one.marker.sequence == 2)
        await room.engines.take_clients(1)
        assert await room.write(1, "k", "w") == "+OK"

    engines_room.play(told)


def test_nobody_replicates_from_a_leader_that_takes_no_clients(engines_room: Room) -> None:
    """Replicas come by the same port: a leader that never opened it would stay alone."""

    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await started(room, leader)
        await room.engines.take_over(1)
        await room.engines.admit(1)
        known = peer(leader, await seen(room, 1))
        await started(room, replace(follower, peers=(known,)))
        await room.engines.replicate(2, known)
        await room.pause(1.5)
        assert not (await seen(room, 2)).link_up
        await room.engines.take_clients(1)
        await seen(room, 2, lambda one: one.link_up)

    engines_room.play(told)


def test_each_engine_of_a_memory_only_process_takes_clients_for_itself(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader = room.spec(1, 1)
        known = peer(leader, await leading(room, leader))
        await room.engines.launch_memory(memory_only(replace(room.spec(2, 2), peers=(known,))))
        await seen(room, 2, ready)
        with pytest.raises(EngineRefused, match="no engine of group"):
            await room.engines.take_clients(2, "another")
        await room.engines.replicate(2, known)
        await seen(room, 2, lambda one: one.link_up)
        await room.engines.take_clients(2, "g0")
        assert (await seen(room, 2)).takes_clients

    engines_room.play(told)


def test_a_dead_leader_that_starts_again_is_still_its_followers_leader_to_others(engines_room: Room) -> None:
    """It waits to be told what it is; a follower must not lose its leader, or clients would be shown a group without one."""

    async def told(room: Room) -> None:
        leader, follower = await pair(room)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        one = await started(room, replace(room.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        assert (one.role, one.follows, one.phantom, one.takes_clients) == ("follower", None, True, False)
        await room.pause(1.5)  # of gossip, for what must not happen
        two = await seen(room, 2)
        assert (two.role, two.follows, two.takes_clients) == ("follower", node_id(1), True)
        assert {node.node_id for node in two.nodes} == {node_id(1), node_id(2)}
        assert [node.role for node in two.nodes if node.node_id == node_id(1)] == ["leader"]
        await room.engines.take_over(3)
        await room.engines.admit(3)
        await room.engines.take_clients(3)
        leads = await seen(room, 3, lambda one: one.role == "leader")
        await room.engines.replicate(2, peer(leader, leads))
        await seen(room, 2, lambda one: one.link_up)

    engines_room.play(told)


def test_a_dead_leader_may_follow_the_one_that_leads_now(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        _, follower = await pair(room)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await started(room, replace(room.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        await room.engines.take_over(2)
        await room.engines.admit(2)
        leads = await seen(room, 2, lambda one: one.role == "leader")
        await room.pause(1.0)
        assert (await seen(room, 3)).follows is None, "nobody told it"
        await room.engines.replicate(3, peer(follower, leads))
        await seen(room, 3, lambda one: one.link_up and one.follows == node_id(2))

    engines_room.play(told)


def test_a_dead_leader_may_lead_although_somebody_else_took_its_slots(engines_room: Room) -> None:
    """Two terms later: whoever took over meanwhile outbids its phantom, and is outbid in turn."""

    async def told(room: Room) -> None:
        _, follower = await pair(room)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await started(room, replace(room.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        await room.engines.take_over(2)
        other = await seen(room, 2, lambda one: one.role == "leader")
        await until(
            room,
            lambda all: any(
                node.node_id == node_id(2) and node.epoch == other.epoch
                for engine in all.engines
                if engine.start_id == 3
                for node in engine.nodes
            ),
        )
        await room.engines.take_over(3)
        one = await seen(room, 3, lambda one: one.role == "leader")
        assert one.epoch > other.epoch
        await room.engines.unfence(3)
        await room.engines.take_clients(3)
        assert await room.write(3, "k", "w") == "+OK"
        await seen(room, 2, lambda one: one.role == "follower" and one.follows == node_id(1))

    engines_room.play(told)


QUESTIONS = (("CLUSTER", "NODES"), ("CLUSTER", "SLOTS"), ("CLUSTER", "SHARDS"))


def test_no_answer_of_valkey_names_a_made_up_node_while_the_leader_is_away(tmp_path: Path) -> None:
    """The whole of what a follower says, from the death of its leader to the next one: always the same, and always true."""

    async def told(room: RealRoom) -> None:
        _, follower = await pair(room)
        await room.engines.take_clients(2)

        async def said() -> list[str]:
            return [await whole(room, 2, *question) for question in QUESTIONS]

        before = await said()
        assert all("127.0.0.1" in text for text in before)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await room.engines.prepare(room.directory(1), room.spec(3, 1).identity, False)
        await room.engines.launch(replace(room.spec(3, 1), peers=(peer(follower),), led=True))
        for _ in range(100):
            slots = await whole(room, 2, "CLUSTER", "SLOTS")
            nodes = await whole(room, 2, "CLUSTER", "NODES")
            assert slots == before[1]
            assert nodes.count("\n") == before[0].count("\n")
            assert "handshake" not in nodes
            assert ":1@" not in nodes
            assert (await room.say(2, "SET", "k", "w")).startswith("-MOVED")
            assert await room.read(2, "k") == "v", "a follower goes on answering reads"
            await room.pause(0.01)
        await seen(room, 3, ready)

    RealRoom(tmp_path).play(told)


async def whole(room: RealRoom, start_id: int, *words: str) -> str:
    """All that an engine answers its clients to one command, as it came."""
    record = room._record(start_id)
    reader, writer = await asyncio.open_connection(record.address, record.client_port)
    try:
        writer.write((" ".join(words) + "\r\nPING\r\n").encode())
        return (await reader.readuntil(b"+PONG\r\n")).decode()
    finally:
        writer.close()
