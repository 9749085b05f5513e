"""Five hosts: a voter is replaced after its time, all five vote, a former majority that is back ends beside the recovered one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dkv.members.child import DATA, DIRECTORY
from tests.contract.etcd_cluster import needs_etcd
from tests.e2e.hosts import Host, hosts, needs_hosts
from tests.e2e.joined_domain import JoinedDomain
from tests.e2e.local_domain import wait_for

pytestmark = [needs_hosts, needs_etcd, pytest.mark.full]
LONG = 120.0  # s that a cluster may take to grow by two members on a busy machine: etcd waits 5 s before it adds each
REPLACED_AFTER_MS = 3_000


class World:
    """Five hosts, of which the first founds the domain. Three of them vote at most until `all_may_vote`."""

    def __init__(self, root: Path, machines: list[Host]) -> None:
        self.hosts = machines
        self.domain = JoinedDomain(root, machines)
        self.domain.environ |= {"DKV_VOTERS": "3", "DKV_VOTER_REPLACEMENT_AFTER_MS": str(REPLACED_AFTER_MS)}

    def voters(self, seen_by: Host) -> list[str]:
        return self.domain.voters(seen_by)

    def all_may_vote(self) -> None:
        del self.domain.environ["DKV_VOTERS"]
        self.restart_managers()

    def restart_managers(self) -> None:
        for host in self.hosts:
            self.domain.kill_manager(host)
            self.domain.restart(host)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hosts(*(f"10.0.0.{number}" for number in range(11, 16))) as machines:
        world = World(tmp_path_factory.mktemp("five"), machines)
        try:
            yield world
        finally:
            world.domain.close()


def test_a_voter_whose_server_stays_away_is_replaced_and_forgets_when_it_is_back(world: World) -> None:
    domain, (first, *others) = world.domain, world.hosts
    domain.found(first)
    for host in others:
        assert domain.join(host, first).code == 0
    wait_for("three vote", lambda: world.voters(first) == ["s1", "s2", "s3"], LONG)
    third = world.hosts[2]
    domain.kill_all(third)
    wait_for("another server votes instead", lambda: world.voters(first) == ["s1", "s2", "s4"], LONG)
    events = domain.do(first, "show", "events", "--managers", first.address)
    assert re.search(r"its server is away for \d+ s, and s4 can take its place", events), events
    domain.do(first, "create", "join-token", "--managers", first.address)
    domain.restart(third)
    data = domain.data_dir(third) / DIRECTORY / DATA
    wait_for("it is back and has no member", lambda: len(domain.servers(third)) == 5 and not data.exists(), LONG)
    assert world.voters(first) == ["s1", "s2", "s4"]


def test_a_voter_is_replaced_by_hand_without_waiting(world: World) -> None:
    domain, first, fourth = world.domain, world.hosts[0], world.hosts[3]
    domain.environ["DKV_VOTER_REPLACEMENT_AFTER_MS"] = "86400000"
    world.restart_managers()
    order = ("replace", "voter", "--server-id", "s4", "--managers", first.address)
    here = domain.dkv(first, *order)
    assert here.code == 1 and "Server s4 is here: its manager renews its lease" in here.err, here
    domain.kill_all(fourth)
    wait_for("it is away", lambda: any(not server["alive"] for server in domain.servers(first)))
    planned = domain.do(first, *order, "--plan")
    assert "ReplaceVoter" in planned and "s3 can take its place" in planned, planned
    assert world.voters(first) == ["s1", "s2", "s4"]
    assert "Server s3 is to vote in place of s4." in domain.do(first, *order)
    wait_for("the other one votes", lambda: world.voters(first) == ["s1", "s2", "s3"], LONG)
    events = domain.do(first, "show", "events", "--managers", first.address)
    assert "an operator does not wait for it any longer; s3 can take its place" in events, events
    domain.environ["DKV_VOTER_REPLACEMENT_AFTER_MS"] = str(REPLACED_AFTER_MS)
    domain.restart(fourth)


def test_five_servers_have_five_voters(world: World) -> None:
    world.all_may_vote()
    first = world.hosts[0]
    wait_for("all vote", lambda: world.voters(first) == ["s1", "s2", "s3", "s4", "s5"], LONG)
    for host in world.hosts[3:]:
        world.domain.kill_all(host)
    world.domain.do(first, "create", "join-token", "--managers", first.address)
    for host in world.hosts[3:]:
        world.domain.restart(host)
    wait_for("all are here", lambda: all(server["alive"] for server in world.domain.servers(first)), LONG)


def test_a_former_majority_that_is_back_ends_beside_the_recovered_domain(world: World) -> None:
    domain, (first, second, *lost) = world.domain, world.hosts
    for host in lost:
        domain.kill_all(host)
    domain.kill_all(second)
    domain.kill_manager(first)
    where = ("--data-dir", str(domain.data_dir(first)), "--bind", first.address)
    domain.do(first, "recover", "domain", *where, "--reason", "three racks burnt", "--yes")
    domain.restart(first)
    with ThreadPoolExecutor(len(lost)) as at_once:  # one alone has no majority, and would end because of that
        list(at_once.map(domain.restart, lost))
    for host in lost:
        manager = domain.processes[host.address]
        wait_for("its manager ends", lambda manager=manager: manager.poll() is not None, LONG)
        assert "this domain was recovered on server s1" in domain.log(host).read_text()
    for host in lost:
        domain.end_engines(host)
        assert domain.join(host, first).code == 0
    wait_for("three vote again", lambda: len(world.voters(first)) == 3, LONG)
