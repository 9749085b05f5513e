"""Whom an engine lets in, and what it tells them: nothing before it has a leader to name, and never a made-up one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineRefused, EngineSpec
from tests.contract.engine_harness import (
    Machine,
    ValkeyMachine,
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


async def pair(machine: Machine) -> tuple[EngineSpec, EngineSpec]:
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    assert await machine.write(1, "k", "v") == "+OK"
    await following(machine, follower, leader)
    await seen(machine, 1, lambda engine: any(node.node_id == follower.node_id for node in engine.cluster.nodes))
    await seen(machine, 2, lambda engine: engine.replication.offset >= 1)
    return leader, follower


def test_an_engine_takes_no_clients_before_it_has_a_leader_to_name(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        assert not (await started(machine, machine.spec(1, 1))).takes_clients
        assert (await machine.write(1, "k", "v")).startswith("-")
        with pytest.raises(EngineRefused, match="nothing to tell clients"):
            await machine.engines.take_clients(1)
        assert not (await seen(machine, 1)).takes_clients
        await machine.engines.take_over(1)
        await machine.engines.take_clients(1)
        await machine.engines.take_clients(1)
        assert (await seen(machine, 1)).takes_clients

    engine_machine.play(scenario)


def test_an_engine_whose_manager_was_restarted_is_seen_as_it_is(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await started(machine, machine.spec(2, 2))
        await machine.restart_manager()
        await seen(machine, 1, lambda engine: engine.takes_clients)
        assert not (await seen(machine, 2, ready)).takes_clients

    engine_machine.play(scenario)


def test_an_engine_that_sends_its_clients_away_keeps_its_followers(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await pair(machine)
        await machine.engines.shun_clients(1)
        await machine.engines.shun_clients(1)
        leader_seen = await seen(machine, 1)
        assert not leader_seen.takes_clients
        assert (await machine.write(1, "k", "w")).startswith("-")
        await machine.engines.mark(1, 1, 2, "beef")
        await seen(machine, 2, lambda engine: engine.files.marker is not None and engine.files.marker.sequence == 2)
        await machine.engines.take_clients(1)
        assert await machine.write(1, "k", "w") == "+OK"

    engine_machine.play(scenario)


def test_nobody_replicates_from_a_leader_that_takes_no_clients(engine_machine: Machine) -> None:
    """Replicas come by the same port: a leader that never opened it would stay alone."""

    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await started(machine, leader)
        await machine.engines.take_over(1)
        await machine.engines.admit(1)
        known = peer(leader, await seen(machine, 1))
        await started(machine, replace(follower, peers=(known,)))
        await machine.engines.replicate(2, known)
        await machine.pause(1.5)
        assert not (await seen(machine, 2)).replication.link_up
        await machine.engines.take_clients(1)
        await seen(machine, 2, lambda engine: engine.replication.link_up)

    engine_machine.play(scenario)


def test_each_engine_of_a_memory_only_process_takes_clients_for_itself(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader = machine.spec(1, 1)
        known = peer(leader, await leading(machine, leader))
        await machine.engines.launch_memory(memory_only(replace(machine.spec(2, 2), peers=(known,))))
        await seen(machine, 2, ready)
        with pytest.raises(EngineRefused, match="no engine of group"):
            await machine.engines.take_clients(2, "another")
        await machine.engines.replicate(2, known)
        await seen(machine, 2, lambda engine: engine.replication.link_up)
        await machine.engines.take_clients(2, "g0")
        assert (await seen(machine, 2)).takes_clients

    engine_machine.play(scenario)


def test_a_dead_leader_that_starts_again_is_still_its_followers_leader_to_others(engine_machine: Machine) -> None:
    """It waits to be told what it is; a follower must not lose its leader, or clients would be shown a group without one."""

    async def scenario(machine: Machine) -> None:
        leader, follower = await pair(machine)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        returned = await started(machine, replace(machine.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        assert (returned.role, returned.follows, returned.cluster.phantom, returned.takes_clients) == (
            "follower",
            None,
            True,
            False,
        )
        await machine.pause(1.5)  # of gossip, for what must not happen
        two = await seen(machine, 2)
        assert (two.role, two.follows, two.takes_clients) == ("follower", node_id(1), True)
        assert {node.node_id for node in two.cluster.nodes} == {node_id(1), node_id(2)}
        assert [node.role for node in two.cluster.nodes if node.node_id == node_id(1)] == ["leader"]
        await machine.engines.take_over(3)
        await machine.engines.admit(3)
        await machine.engines.take_clients(3)
        leads = await seen(machine, 3, lambda engine: engine.role == "leader")
        await machine.engines.replicate(2, peer(leader, leads))
        await seen(machine, 2, lambda engine: engine.replication.link_up)

    engine_machine.play(scenario)


def test_a_dead_leader_may_follow_the_one_that_leads_now(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        _, follower = await pair(machine)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await started(machine, replace(machine.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        await machine.engines.take_over(2)
        await machine.engines.admit(2)
        leads = await seen(machine, 2, lambda engine: engine.role == "leader")
        await machine.pause(1.0)
        assert (await seen(machine, 3)).follows is None, "nobody told it"
        await machine.engines.replicate(3, peer(follower, leads))
        await seen(machine, 3, lambda engine: engine.replication.link_up and engine.follows == node_id(2))

    engine_machine.play(scenario)


def test_a_dead_leader_may_lead_although_somebody_else_took_its_slots(engine_machine: Machine) -> None:
    """Two terms later: whoever took over meanwhile outbids its phantom, and is outbid in turn."""

    async def scenario(machine: Machine) -> None:
        _, follower = await pair(machine)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await started(machine, replace(machine.spec(3, 1), peers=(peer(follower),), led=True), fresh=False)
        await machine.engines.take_over(2)
        other = await seen(machine, 2, lambda engine: engine.role == "leader")
        await until(
            machine,
            lambda all: any(
                node.node_id == node_id(2) and node.epoch == other.cluster.epoch
                for engine in all.engines
                if engine.start_id == 3
                for node in engine.cluster.nodes
            ),
        )
        await machine.engines.take_over(3)
        returned = await seen(machine, 3, lambda engine: engine.role == "leader")
        assert returned.cluster.epoch > other.cluster.epoch
        await machine.engines.unfence(3)
        await machine.engines.take_clients(3)
        assert await machine.write(3, "k", "w") == "+OK"
        await seen(machine, 2, lambda engine: engine.role == "follower" and engine.follows == node_id(1))

    engine_machine.play(scenario)


QUESTIONS = (("CLUSTER", "NODES"), ("CLUSTER", "SLOTS"), ("CLUSTER", "SHARDS"))


def test_no_answer_of_valkey_names_a_made_up_node_while_the_leader_is_away(tmp_path: Path) -> None:
    """The whole of what a follower says, from the death of its leader to the next one: always the same, and always true."""

    async def scenario(machine: ValkeyMachine) -> None:
        _, follower = await pair(machine)
        await machine.engines.take_clients(2)

        async def answers() -> list[str]:
            return [await whole(machine, 2, *question) for question in QUESTIONS]

        before = await answers()
        assert all("127.0.0.1" in text for text in before)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await machine.engines.prepare(machine.directory(1), machine.spec(3, 1).identity, False)
        await machine.engines.launch(replace(machine.spec(3, 1), peers=(peer(follower),), led=True))
        for _ in range(100):
            slots = await whole(machine, 2, "CLUSTER", "SLOTS")
            nodes = await whole(machine, 2, "CLUSTER", "NODES")
            assert slots == before[1]
            assert nodes.count("\n") == before[0].count("\n")
            assert "handshake" not in nodes
            assert ":1@" not in nodes
            assert (await machine.say(2, "SET", "k", "w")).startswith("-MOVED")
            assert await machine.read(2, "k") == "v", "a follower goes on answering reads"
            await machine.pause(0.01)
        await seen(machine, 3, ready)

    ValkeyMachine(tmp_path).play(scenario)


async def whole(machine: ValkeyMachine, start_id: int, *words: str) -> str:
    """All that an engine answers its clients to one command, as it came."""
    record = machine._record(start_id)
    reader, writer = await asyncio.open_connection(record.address, record.client_port)
    try:
        writer.write((" ".join(words) + "\r\nPING\r\n").encode())
        return (await reader.readuntil(b"+PONG\r\n")).decode()
    finally:
        writer.close()
