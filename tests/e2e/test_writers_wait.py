"""Writers that only have to wait are never refused: NOREPLICAS is an answer that no client library repeats."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.writers import Client, at_work, clients_of


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("waiting"), servers=2) as running_domain:
        yield running_domain


def writers(domain: LocalDomain, store: str, to: str, count: int = 4) -> list[Client]:
    """Connections that write to one node of a store all the time."""
    view = domain.client.store(store)
    archive_id = next(instance["archiveId"] for instance in view["instances"] if instance["instanceName"] == to)
    every = [clients_of(view, f"w{number}", leaders_only=False, pace=0.0002) for number in range(count)]
    return [client for clients in every for client in clients if client.archive_id == archive_id]


def replies(clients: list[Client]) -> set[str]:
    """What kinds of answers they got besides OK."""
    return {answer.reply.split(" ")[0] for client in clients for answer in client.refused}


def everybody_wrote(clients: list[Client], more_than: int = 0) -> bool:
    return all(len(client.accepted) > more_than for client in clients)


def lose_leader(domain: LocalDomain, store: str, name: str) -> Path:
    """Its engine is killed and its directory is not where it was; where it is now."""
    directory, pid = domain.archive(store, name), domain.pid(store, name)
    host = domain.instance(store, name)["server"]
    manager = next(manager for manager in domain.managers if manager.server_id == host)
    manager.kill()
    os.kill(pid, signal.SIGKILL)
    away = directory.with_name(f"{directory.name}.away")
    directory.rename(away)
    manager.restart()
    return away


def test_writers_to_a_copy_that_comes_to_lead_after_a_death_are_shown_the_way_and_then_wait(domain: LocalDomain) -> None:
    domain.create("Heir", "-ReplicationFactor", "2")
    wait_for("two copies are in sync", lambda: len(domain.group("Heir")["inSync"]) == 2)
    leader = str(domain.group("Heir")["leader"])
    (heir,) = {str(name) for name in domain.group("Heir")["inSync"]} - {leader}
    clients = writers(domain, "Heir", heir)
    with at_work(clients):
        wait_for("everybody is shown the way", lambda: all(client.refused for client in clients))
        lose_leader(domain, "Heir", leader)
        wait_for("everybody wrote", lambda: everybody_wrote(clients))
    assert str(domain.group("Heir")["leader"]) == heir
    assert replies(clients) == {"-MOVED"}
    assert not any(client.broken for client in clients)


@pytest.mark.parametrize("how", [(), ("--rolling", "--force")])
def test_the_only_copy_that_is_restarted_ends_its_connections_and_refuses_no_write(
    domain: LocalDomain, how: tuple[str, ...]
) -> None:
    if "Lone" not in [store["name"] for store in domain.client.stores()]:
        domain.create("Lone", "-InstanceCount", "1", "-ReplicationFactor", "1", "-ClustronPort", "7921", "-ClientPort", "7971")
    clients = writers(domain, "Lone", "lone-1")
    pid = domain.pid("Lone", "lone-1")
    with at_work(clients):
        wait_for("everybody writes", lambda: everybody_wrote(clients))
        domain.do("restart", "database", "--db-name", "Lone", *how)
        wait_for("another engine", lambda: domain.pid("Lone", "lone-1") != pid)
        counts = max(len(client.accepted) for client in clients)
        wait_for("everybody writes on", lambda: everybody_wrote(clients, counts))
    assert all(client.broken for client in clients)
    assert replies(clients) == set()
