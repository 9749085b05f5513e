"""Unmodified clients on engines of this package: what they may do, what they may not, and how they find their way."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from valkey.cluster import ValkeyCluster

from dkv.engine.contract import EngineSpec, GroupSlots, RunOptions
from tests.contract.engine_harness import ValkeyMachine, leading, peer, ready, seen, until

GROUPS = (GroupSlots("g0", "a" * 40, ((0, 8191),)), GroupSlots("g1", "b" * 40, ((8192, 16383),)))


async def two_groups(machine: ValkeyMachine) -> tuple[EngineSpec, EngineSpec]:
    """Two leaders, each with half of the slots, started as a manager starts them: no MEET, phantoms forgotten."""
    specs = [replace(machine.spec(number + 1, number + 1), group=GROUPS[number].group, groups=GROUPS) for number in (0, 1)]
    for spec, other, shard in ((specs[0], specs[1], GROUPS[1]), (specs[1], specs[0], GROUPS[0])):
        known = replace(peer(other), shard_id=shard.shard_id, group=shard.group)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        await machine.engines.launch(replace(spec, peers=(known,)))
    for spec in specs:
        await seen(machine, spec.start_id, ready)
        await machine.engines.take_over(spec.start_id)
        await machine.engines.unfence(spec.start_id)
    ours = {spec.node_id for spec in specs}

    def settled() -> bool:
        return all({node.node_id for node in engine.cluster.nodes} == ours for engine in last.engines)

    last = await until(machine, lambda all: all_lead(all.engines, ours))
    while not settled():
        for engine in last.engines:
            for node in engine.cluster.nodes:
                if node.node_id not in ours:
                    await machine.engines.forget(engine.start_id, node.node_id)
        last = await machine.engines.survey()
    for spec in specs:
        await machine.engines.take_clients(spec.start_id)
    return specs[0], specs[1]


def all_lead(engines: object, ours: set[str]) -> bool:
    """Every engine knows both leaders as leaders."""
    return all(
        {node.node_id for node in engine.cluster.nodes if node.role == "leader"} >= ours and engine.cluster.state_ok
        for engine in engines  # type: ignore[attr-defined]
    )


def test_a_cluster_client_from_any_node(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        for spec in await two_groups(machine):
            await asyncio.to_thread(use_cluster_client, spec)

    ValkeyMachine(tmp_path).play(scenario)


def use_cluster_client(spec: EngineSpec) -> None:
    client = ValkeyCluster(host=spec.address, port=spec.client_port)
    try:
        for number in range(50):
            assert client.set(f"key-{number}", "v")
        assert client.mget_nonatomic([f"key-{number}" for number in range(50)]) == [b"v"] * 50
        assert client.dbsize(target_nodes=ValkeyCluster.PRIMARIES) == 50
        assert len(client.keys("*", target_nodes=ValkeyCluster.PRIMARIES)) == 50
        assert client.info()
        assert client.eval("return server.call('GET', KEYS[1])", 1, "key-1") == b"v"
        assert client.flushall(target_nodes=ValkeyCluster.PRIMARIES)
    finally:
        client.close()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here")
def test_the_command_line_client_follows_redirections(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        for spec in await two_groups(machine):
            for number in range(6):
                output = await run("redis-cli", "-c", "-p", str(spec.client_port), "SET", f"key-{number}", "v")
                assert output.strip() == "OK"

    ValkeyMachine(tmp_path).play(scenario)


@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="no redis-benchmark here")
def test_the_benchmark_runs_against_the_cluster(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        first, _ = await two_groups(machine)
        port = str(first.client_port)
        output = await run("redis-benchmark", "--cluster", "-p", port, "-t", "set,get", "-n", "2000", "-r", "100", "-q")
        assert "SET" in output
        assert "rror" not in output, output

    ValkeyMachine(tmp_path).play(scenario)


async def run(*words: str) -> str:
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


DENIED = (
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "DELETE", "dkv_marker"),
    ("FUNCTION", "RESTORE", "x"),
    ("SHUTDOWN",),
    ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ("CLUSTER", "FAILOVER"),
    ("CLUSTER", "RESET"),
    ("CLUSTER", "FORGET", "a" * 40),
    ("ACL", "LIST"),
    ("CONFIG", "GET", "masterauth"),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "NO", "ONE"),
    ("DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-1"),
    ("CLUSTER", "MEET", "127.0.0.1", "1", "2"),
    ("CLUSTER", "FLUSHSLOT", "1"),
    ("PSYNC", "?", "-1"),
    ("REPLCONF", "ACK", "1"),
    ("MONITOR",),
)
ALLOWED = (
    ("INFO",),
    ("ROLE",),
    ("KEYS", "*"),
    ("CLUSTER", "SHARDS"),
    ("CLUSTER", "NODES"),
    ("WAIT", "0", "1"),
    ("FLUSHALL",),
    ("CLIENT", "LIST"),
    ("SORT", "k"),
    ("PFCOUNT", "k"),
    ("COMMAND", "COUNT"),
    ("FUNCTION", "LIST"),
    ("CLUSTER", "MYID"),
    ("CLIENT", "ID"),
)


def test_what_clients_may_and_may_not(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        for words in DENIED:
            assert "NOPERM" in await machine.say(1, *words), words
        for words in ALLOWED:
            assert not (await machine.say(1, *words)).startswith("-"), words

    ValkeyMachine(tmp_path).play(scenario)


def test_a_very_long_directory_has_a_socket_all_the_same(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        assert await machine.write(1, "k", "v") == "+OK"

    deep = tmp_path / ("d" * 120) / "with spaces and 'quotes'"
    deep.mkdir(parents=True)
    ValkeyMachine(deep).play(scenario)


def test_memory_is_bounded_by_the_engine(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, replace(machine.spec(1, 1), options=RunOptions(4 << 20)))
        answers = [await machine.write(1, f"key-{number}", "x" * 100_000) for number in range(40)]
        assert answers[0] == "+OK"
        assert answers[-1].startswith("-OOM")

    ValkeyMachine(tmp_path).play(scenario)
