"""Another user of the machine starts a server of his own and meets an engine on its cluster port, which knows no password.

In CI he is uid 65534; without the rights to become him the server runs as this user, which the bus cannot tell apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest
import valkey

from dkv.engine.binary import find_binary
from dkv.engine.supervisor import read_run
from tests.contract.forged import heard, ping
from tests.contract.stranger import STRANGER, Stranger
from tests.e2e.local_domain import wait_for
from tests.e2e.watched import Watched, watched

STORE = "Robbed"
KEYS = 300


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("robbed"), STORE, 2) as running_domain:
        client = running_domain.engine(STORE, running_domain.led()["leader"])
        for number in range(KEYS):
            client.set(f"k{number}", "v" * 20)
        yield running_domain


@pytest.fixture
def stranger(domain: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    directory = tmp_path_factory.mktemp("nobody")
    for above in (directory, *directory.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)  # he has to reach his own
    running = asyncio.run(Stranger.start(directory / "server", find_binary(), 9_000))
    yield running
    asyncio.run(running.end())


def meet(domain: Watched, stranger: Stranger, name: str) -> None:
    """What he does: one command, to his own server."""
    instance = domain.instance(STORE, name)
    asyncio.run(stranger.meet(instance["host"], instance["clientPort"], instance["clustronPort"]))


def admin(domain: Watched, name: str) -> valkey.Valkey:
    """The administration of an engine, as its manager has it."""
    start_id = domain.instance(STORE, name)["process"]["startId"]
    run = read_run(domain.manager_of(name).data_dir / "run" / str(start_id))
    assert run is not None
    secret = run.record.secret
    return valkey.Valkey(unix_socket_path=f"{domain.archive(STORE, name)}/admin.sock", username="dkv-manager", password=secret)


@contextlib.contextmanager
def looking_away(domain: Watched) -> Iterator[None]:
    """The managers of both copies stand still."""
    pids = [domain.manager_of(name).process.pid for name in domain.names()]  # type: ignore[union-attr]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def sizes(domain: Watched) -> set[int]:
    return {domain.engine(STORE, name).dbsize() for name in domain.names()}


def test_a_stranger_who_meets_an_engine_is_not_let_in(domain: Watched, stranger: Stranger) -> None:
    seen = domain.last_event()
    for name in domain.names():
        meet(domain, stranger, name)
    leader = domain.engine(STORE, domain.led()["leader"])
    for number in range(20):  # twice as long as it took to empty both copies
        leader.set("still", number)
        time.sleep(0.1)
    assert sizes(domain) == {KEYS + 1}
    assert leader.delete("still") == 1
    assert STRANGER not in leader.execute_command("CLUSTER NODES")
    assert [event["kind"] for event in domain.client.events(after=seen)] == []


def test_a_stranger_who_was_let_in_is_reported_thrown_out_and_what_he_had_deleted_comes_back(
    domain: Watched, stranger: Stranger
) -> None:
    """The moment in which an engine lets others in is made longer here than it is, and the managers look away in it: else
    they mostly forget him between his joining and his taking the slots.
    """
    seen, leader = domain.last_event(), domain.led()["leader"]
    with admin(domain, leader) as orders:
        orders.execute_command("DEBUG DROP-CLUSTER-PACKET-FILTER -1")
    with looking_away(domain):
        meet(domain, stranger, leader)
        wait_for("both copies emptied", lambda: sizes(domain) == {0})
    (lost,) = wait_for("the event of the theft", lambda: events_of(domain, seen, "group.slots_lost"))
    assert "node ffffffff at 127.0.0.1" in lost["because"]
    assert "which the domain does not know" in lost["because"]
    wait_for("the event of its end", lambda: events_of(domain, seen, "group.slots_owned"))
    domain.wait_whole()
    (event,) = events_of(domain, seen, "group.deletions_kept")
    assert f"before {KEYS} deletions" in event["because"]
    wait_for("every key on both copies", lambda: sizes(domain) == {KEYS})
    assert domain.engine(STORE, domain.led()["leader"]).set("after", "it") is True
    for name in domain.names():
        assert STRANGER not in domain.engine(STORE, name).execute_command("CLUSTER NODES")


def test_a_packet_in_a_followers_name_demotes_the_leader_and_costs_no_write(domain: Watched) -> None:
    """He needs no server of his own: one packet, with the highest epoch there is. Only TLS keeps it out (test_engine_tls.py)."""
    seen, before, keys = domain.last_event(), domain.led(), sizes(domain)
    leader, follower = (domain.instance(STORE, name) for name in (before["leader"], domain.names(before["leader"])[0]))
    with admin(domain, follower["instanceName"]) as orders:
        sender = orders.execute_command("CLUSTER MYID").decode()
    packet = ping(sender, follower["host"], follower["clientPort"], follower["clustronPort"], epoch=2**64 - 1)
    assert heard(leader["host"], leader["clustronPort"], packet), "the bus answers whoever writes like a node"
    wait_for("another term", lambda: domain.led()["term"] > before["term"] and domain.led()["serving"])
    domain.wait_whole()
    assert any("was found following" in event["because"] for event in events_of(domain, seen, "group.vacated"))
    wait_for("every key on both copies", lambda: sizes(domain) == keys)
    hands_over(domain)


@pytest.mark.parametrize("before_the_last", [0, 1])
def test_a_packet_in_the_leaders_name_ends_no_planned_work(domain: Watched, before_the_last: int) -> None:
    """The follower believes it, and the leader hears of the epoch from the follower: without a leader in a newer one nobody could
    be elected any more, and whoever were in the last one could not be followed by another.
    """
    hands_over(domain)
    leader, follower = (
        domain.instance(STORE, name) for name in (domain.led()["leader"], domain.names(domain.led()["leader"])[0])
    )
    with admin(domain, leader["instanceName"]) as orders:
        sender = orders.execute_command("CLUSTER MYID").decode()
    epoch = 2**64 - 1 - before_the_last
    packet = ping(sender, leader["host"], leader["clientPort"], leader["clustronPort"], epoch=epoch, config_epoch=0)
    assert heard(follower["host"], follower["clustronPort"], packet)
    with admin(domain, leader["instanceName"]) as orders:
        wait_for("the leader has the epoch", lambda: current_epoch(orders) >= epoch)
    hands_over(domain)


def current_epoch(orders: valkey.Valkey) -> int:
    return int(orders.execute_command("CLUSTER INFO")["cluster_current_epoch"])


def hands_over(domain: Watched) -> None:
    """A planned handover works; a copy that has just joined may be handed over to some seconds later only."""
    domain.wait_whole()
    wait_for("a switchover", lambda: domain.dkv("switchover", "database", "--db-name", STORE).code == 0, 60)
    domain.wait_whole()
    wait_for("a write", lambda: domain.engine(STORE, domain.led()["leader"]).set("after", "it"))


def events_of(domain: Watched, seen: int, kind: str) -> list[dict[str, str]]:
    return [event for event in domain.client.events(after=seen) if event["kind"] == kind]
