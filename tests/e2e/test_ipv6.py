"""A server on an IPv6 address: its manager, engines and copies are there, and clients over IPv6 are told the address outside."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from collections.abc import Iterator

import pytest
from valkey.cluster import ValkeyCluster

from tests.e2e.forwarder import Forwarded, forwarded
from tests.e2e.local_domain import LocalDomain, wait_for

STORE = "Six"
HOST = "::1"
PORT = random.Random().randrange(10_000, 15_000)  # the manager's; engines' are above it
OFFSET = random.Random().randrange(20_000, 40_000)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    """One server on the only IPv6 address that every machine has."""
    try:
        socket.create_server((HOST, 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no {HOST}: {error.strerror}")
    told = {"DKV_ANNOUNCE_IPV6": HOST, "DKV_ANNOUNCE_PORT_OFFSET": str(OFFSET), "DKV_NUODB_PORT": "0"}
    running_domain = LocalDomain(tmp_path_factory.mktemp("six"), 1, told)
    (manager,) = running_domain.managers
    manager.host, manager.port = HOST, PORT
    try:
        running_domain.start()
        ports = ("-ClustronPort", str(PORT + 10), "-ClientPort", str(PORT + 60))
        running_domain.create(STORE, "-InstanceCount", "4", "-ReplicationFactor", "2", *ports)
        yield running_domain
    finally:
        print(running_domain.account())
        running_domain.close()


@pytest.fixture
def ports(domain: LocalDomain) -> Iterator[dict[int, Forwarded]]:
    """The forwarded port of each engine, by what clients are told."""
    with contextlib.ExitStack() as stack:
        instances = domain.client.store(STORE)["instances"]
        yield {
            instance["clientPort"] + OFFSET: stack.enter_context(
                forwarded((HOST, instance["clientPort"] + OFFSET), (HOST, instance["clientPort"]))
            )
            for instance in instances
        }


def test_a_cluster_client_over_ipv6_is_told_the_announced_address_and_goes_on_after_a_failover(
    domain: LocalDomain, ports: dict[int, Forwarded]
) -> None:
    wait_for("copies are in sync", lambda: [len(g["inSync"]) for g in domain.client.store(STORE)["groups"]] == [2, 2])
    client = ValkeyCluster(HOST, min(ports), socket_timeout=10)
    with contextlib.closing(client):
        for number in range(100):
            client.set(f"key{number}", number)
        assert [client.get(f"key{number}") for number in range(100)] == [str(number).encode() for number in range(100)]
        assert {(node.host, node.port) for node in client.get_nodes()} <= {(HOST, port) for port in ports}
    group = domain.client.store(STORE)["groups"][0]
    os.kill(domain.pid(STORE, group["leader"]), signal.SIGKILL)
    wait_for("the group serves again", lambda: domain.client.store(STORE)["groups"][0]["term"] > group["term"])
    wait_for("nothing waits", lambda: not domain.client.waiting())
    with contextlib.closing(ValkeyCluster(HOST, min(ports), socket_timeout=10)) as again:
        assert [again.get(f"key{number}") for number in range(100)] == [str(number).encode() for number in range(100)]


def test_the_command_line_writes_the_address_in_brackets(domain: LocalDomain) -> None:
    assert f"[{HOST}]:{PORT} (LEADER" in domain.do("show", "domain").out
    assert f"[{HOST}]:{PORT + 60}" in domain.do("show", "database", "--db-name", STORE).out
    assert f'"address": "[{HOST}]:{PORT}"' in domain.managers[0].log.read_text()
