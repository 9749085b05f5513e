"""Unmodified clients against every node of real stores: valkey-py's cluster client, redis-cli -c, redis-benchmark --cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import valkey

from dkv.client import Json
from dkv.confirm import ConfirmingClient, slot_of
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

SHAPES = {"1x2": 1, "2x2": 2, "3x2": 3}  # groups x copies: instances on each of two servers
KEYS = [f"key-{n}" for n in range(60)]


@dataclass(frozen=True)
class Running:
    """A store whose nodes all know each other."""

    domain: LocalDomain
    name: str
    store: Json

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """Where clients may connect."""
        return [(str(i["host"]), int(i["clientPort"])) for i in self.store["instances"]]


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("clients"), servers=2) as running_domain:
        yield running_domain


@pytest.fixture(scope="module", params=list(SHAPES))
def running(request: pytest.FixtureRequest, domain: LocalDomain) -> Iterator[Running]:
    name = f"shape-{request.param}"
    store = domain.create(name, "-InstanceCount", str(SHAPES[request.param]), "-ReplicationFactor", "2")
    assert f"{len(store['groups'])}x{len(store['instances']) // len(store['groups'])}" == request.param
    cluster = Running(domain, name, store)
    for node in cluster.nodes:
        wait_for(f"{node} knows the cluster", lambda node=node: knows_all(node, len(cluster.nodes)))
    yield cluster
    domain.remove(name)


def knows_all(node: tuple[str, int], count: int) -> bool:
    """Whether a node's table has every node, nobody else, and shows clients all of them, with an owner for each slot.

    A follower is shown to clients once gossip brought its offset, which can be seconds after it is in sync.
    """
    with valkey.Valkey(*node, decode_responses=True) as client:
        table = client.execute_command("CLUSTER NODES")
        healthy = all(entry["connected"] and "fail" not in entry["flags"].split(",") for entry in table.values())
        slots = client.execute_command("CLUSTER SLOTS")
        named = {owner[2] for _, _, *owners in slots for owner in owners}
        covered = sum(high - low + 1 for low, high, *_ in slots)
    return len(table) == count and healthy and len(named) == count and covered == 16384


def redis_tool(name: str) -> str:
    """The program, installed by whoever set this machine up."""
    path = shutil.which(name)
    if path is None and os.geteuid() != 0:
        pytest.skip(f"{name} is missing and only root could install it: apt-get install redis-tools")
    assert path is not None, f"{name} is missing: run ./dev setup, which installs redis-tools"
    return path


def test_the_keys_of_the_test_meet_every_group(running: Running) -> None:
    for group in running.store["groups"]:
        assert any(low <= slot_of(key) <= high for key in KEYS for low, high in group["slots"])


def test_valkey_py_connects_to_any_node(running: Running) -> None:
    for n, (host, port) in enumerate(running.nodes):
        with valkey.ValkeyCluster(host=host, port=port, decode_responses=True) as client:
            assert len(client.get_nodes()) == len(running.nodes)
            for key in KEYS:
                assert client.set(f"{key}:{n}", f"{n}") is True
    with valkey.ValkeyCluster(host=running.nodes[-1][0], port=running.nodes[-1][1], decode_responses=True) as client:
        for n in range(len(running.nodes)):
            assert [client.get(f"{key}:{n}") for key in KEYS] == [str(n)] * len(KEYS)
        assert client.incr("counted") == 1
        pipeline = client.pipeline()
        for key in KEYS:
            pipeline.delete(f"{key}:0")
        assert pipeline.execute() == [1] * len(KEYS)


def test_valkey_py_reads_from_followers(running: Running) -> None:
    host, port = running.nodes[0]
    with valkey.ValkeyCluster(host=host, port=port, decode_responses=True) as client:
        for key in KEYS:
            client.set(key, "to be read")
    with valkey.ValkeyCluster(host=host, port=port, decode_responses=True, read_from_replicas=True) as reader:
        wait_for("the followers to have it", lambda: all(reader.get(key) == "to be read" for key in KEYS))


def test_redis_cli_follows_redirections_from_any_node(running: Running) -> None:
    program = redis_tool("redis-cli")
    for n, (host, port) in enumerate(running.nodes):
        words = "".join(f"SET cli:{key}:{n} there\n" for key in KEYS[:12]) + "".join(f"GET cli:{key}:{n}\n" for key in KEYS[:12])
        output = subprocess.run(
            [program, "-c", "-h", host, "-p", str(port)], input=words, capture_output=True, text=True, timeout=30, check=True
        )
        answers = [line for line in output.stdout.splitlines() if line and not line.startswith("-> Redirected")]
        assert answers == ["OK"] * 12 + ["there"] * 12, output


def test_redis_benchmark_runs_against_any_node(running: Running) -> None:
    """The program calls a cluster with one primary invalid, so a store with one group is met by its leader alone."""
    program = redis_tool("redis-benchmark")
    single = len(running.store["groups"]) == 1
    leader = running.store["groups"][0]["leaderEndpoint"]
    for host, port in running.nodes:
        if single and f"{host}:{port}" != leader:
            continue
        words = ["-h", host, "-p", str(port), "-n", "2000", "-c", "12", "-r", "1000", "-t", "set,get", "-q"]
        output = subprocess.run(
            [program, *([] if single else ["--cluster"]), *words], capture_output=True, text=True, timeout=60, check=False
        )
        text = output.stdout.replace("\r", "\n")
        assert output.returncode == 0, output
        for command in ("SET", "GET"):
            assert re.search(rf"^{command}: [\d.]+ requests per second", text, re.MULTILINE), output
        assert "error" not in (text + output.stderr).lower(), output


def test_confirmed_writes_reach_every_group(running: Running) -> None:
    addresses = running.domain.addresses.split(",")
    with ConfirmingClient(addresses, running.name) as client:
        outcomes = [client.set(f"sure:{key}", "sure", timeout=20) for key in KEYS[:20]]
        counted = client.execute("INCR", "sure-counted", timeout=20)
        refused = client.execute("INCR", f"sure:{KEYS[0]}", timeout=20)
    assert all(outcome.confirmed for outcome in outcomes), outcomes
    assert counted.confirmed and counted.reply == 1
    assert refused.kind == "failed" and "integer" in refused.reason
    for node in running.nodes:  # on every copy, with no wait: that is what it means
        with valkey.Valkey(*node, decode_responses=True) as copy:
            copy.readonly()
            for key in KEYS[:20]:
                try:
                    assert copy.get(f"sure:{key}") == "sure"
                except valkey.exceptions.ResponseError as elsewhere:
                    assert str(elsewhere).startswith("MOVED"), elsewhere
