"""Clients behind forwarded ports: they are told the address outside, and everything they do goes through it.

The address over IPv6 is none of this machine, and managers are shown it too: they must not go by it.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from tests.e2e.forwarder import Forwarded, forwarded
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

STORE = "Outside"
OUTSIDE = "127.0.0.1"
OFFSET = random.Random().randrange(10_000, 40_000)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    settings = {"DKV_ANNOUNCE_IPV4": OUTSIDE, "DKV_ANNOUNCE_IPV6": "2001:db8::7", "DKV_ANNOUNCE_PORT_OFFSET": str(OFFSET)}
    with local_domain(tmp_path_factory.mktemp("announced"), servers=1, settings=settings) as running_domain:
        running_domain.create(STORE, "-InstanceCount", "4", "-ReplicationFactor", "2")
        yield running_domain


@pytest.fixture
def ports(domain: LocalDomain) -> Iterator[dict[int, Forwarded]]:
    """The forwarded port of each engine, by what clients are told."""
    with contextlib.ExitStack() as stack:
        instances = domain.client.store(STORE)["instances"]
        yield {
            instance["clientPort"] + OFFSET: stack.enter_context(
                forwarded((OUTSIDE, instance["clientPort"] + OFFSET), (instance["host"], instance["clientPort"]))
            )
            for instance in instances
        }


def test_a_cluster_client_that_knows_one_forwarded_port_finds_all_groups_through_them(
    domain: LocalDomain, ports: dict[int, Forwarded]
) -> None:
    client = ValkeyCluster(OUTSIDE, min(ports), socket_timeout=10)
    with contextlib.closing(client):
        for number in range(200):
            client.set(f"key{number}", number)
        assert [client.get(f"key{number}") for number in range(200)] == [str(number).encode() for number in range(200)]
        assert {(node.host, node.port) for node in client.get_nodes()} <= {(OUTSIDE, port) for port in ports}
    leaders = {group["leader"] for group in domain.client.store(STORE)["groups"]}
    led = [i["clientPort"] + OFFSET for i in domain.client.store(STORE)["instances"] if i["instanceName"] in leaders]
    assert len(led) == 2 and all(ports[port].connections for port in led)


def test_every_engine_comes_to_be_known_by_its_forwarded_port(ports: dict[int, Forwarded]) -> None:
    def shown() -> set[tuple[str, int]]:
        with valkey.Valkey(OUTSIDE, min(ports), socket_timeout=10) as client:
            slots = client.execute_command("CLUSTER", "SLOTS")
        return {(node[0].decode(), node[1]) for _, _, *nodes in slots for node in nodes}

    wait_for("all four are shown", lambda: shown() == {(OUTSIDE, port) for port in ports})


def test_a_redirection_names_the_forwarded_port(ports: dict[int, Forwarded]) -> None:
    answers = set()
    for port in ports:
        with socket.create_connection((OUTSIDE, port), timeout=10) as line:
            line.sendall(b"GET some-key\r\n")
            answers.add(line.recv(200).decode())
    redirections = {answer.split()[-1] for answer in answers if answer.startswith("-MOVED")}
    assert len(redirections) == 1 and redirections <= {f"{OUTSIDE}:{port}" for port in ports}


def test_copies_are_in_sync_and_nothing_waits(domain: LocalDomain) -> None:
    assert [len(group["inSync"]) for group in domain.client.store(STORE)["groups"]] == [2, 2]
    assert not domain.client.waiting()
