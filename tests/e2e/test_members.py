"""A domain that grows from one machine to three on etcd members of its own, loses machines, and is recovered on the last one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.members.child import DATA, DIRECTORY
from dkv.members.place import MEMBERS
from tests.contract.etcd_cluster import needs_etcd
from tests.disks import small_disk
from tests.e2e.hosts import Host, hosts, needs_hosts
from tests.e2e.joined_domain import JoinedDomain
from tests.e2e.local_domain import wait_for

pytestmark = [needs_hosts, needs_etcd]
PORTS = ("-ClustronPort", "7831", "-ClientPort", "7881")
LONG = 60.0  # s that a cluster may take to grow: etcd waits 5 s before it adds the third voter


class World:
    """Three hosts, of which the first founds the domain, and one more."""

    def __init__(self, root: Path, machines: list[Host]) -> None:
        self.first, self.second, self.third, self.fourth = machines
        self.hosts = machines[:3]
        self.domain = JoinedDomain(root, machines)

    def store(self, *words: str, code: int = 0) -> str:
        """Have all managers asked from the first host, whose own socket opens its manager only."""
        token = self.domain.do(self.first, "create", "token", "--role", "admin", "--managers", self.first.address).strip()
        managers = ",".join(f"https://{host.address}" for host in self.hosts)
        shown = {"DKV_TOKEN": token, "DKV_CA_FILE": str(self.domain.authorities)}
        output = self.domain.dkv(self.first, *words, "--managers", managers, **shown)
        assert output.code == code, (words, output)
        return output.out + output.err


def empty(directory: Path) -> None:
    """Remove all that is in it; it is a mount point."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def leave_free(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes of a disk."""
    room, ballast = os.statvfs(disk), disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - left)
    return ballast


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hosts("10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14") as machines:
        world = World(tmp_path_factory.mktemp("members"), machines)
        with small_disk(world.domain.data_dir(world.third), "700m"):
            try:
                yield world
            finally:
                world.domain.close()


def test_a_machine_without_etcd_is_refused_and_its_token_stays_good(world: World) -> None:
    domain, first, second = world.domain, world.first, world.second
    domain.found(first)
    assert "All is well" in domain.do(first, "status"), "this machine's only manager is asked where none is named"
    refused = domain.join(second, first, DKV_ETCD_PORT="0")
    assert refused.code == 1, refused
    assert "cannot move to etcd, because the server at 10.0.0.12 cannot run it: its etcd_port is 0" in refused.out
    assert not (domain.data_dir(first) / MEMBERS).exists()
    assert "used 0 of 1 times" in domain.do(first, "get", "join-tokens", "--managers", first.address)


def test_the_second_machine_makes_the_state_move_and_engines_do_not_notice(world: World) -> None:
    domain, first, second = world.domain, world.first, world.second
    alone = ("--managers", first.address)
    domain.do(first, "New-DkvStore", "Orders", "orders", "-InsecureEngineTraffic", "yes", *alone)
    domain.do(first, "Start-DkvStore", "Orders", *alone)
    engines = domain.engines(first)
    events = domain.do(first, "show", "events", "--limit", "1", *alone)
    began = time.monotonic()
    joined = domain.join(second, first)
    assert joined.code == 0, joined
    assert time.monotonic() - began < 15, joined
    assert domain.engines(first) == engines
    assert {server["serverId"] for server in domain.servers(second)} == {"s1", "s2"}
    wait_for("the first one votes", lambda: domain.voters(first) == ["s1"], LONG)
    newest = domain.do(first, "show", "events", "--limit", "1", *alone)
    assert int(newest.split()[0][1:]) > int(events.split()[0][1:]), "the numbers of events go on"
    shown = domain.dkv(first, "show", "domain", *alone)
    assert "domain state: etcd on s1; while s1 is away nothing can be changed" in shown.err + shown.out


def test_three_machines_have_three_voters(world: World) -> None:
    domain, first, third = world.domain, world.first, world.third
    assert domain.join(third, first).code == 0
    wait_for("all vote", lambda: domain.voters(third) == ["s1", "s2", "s3"], LONG)
    shown = domain.do(first, "show", "events", "--managers", first.address)
    assert "s2 has a member of the domain state's etcd" in shown and "3 servers want 3 voters" in shown


def test_a_manager_that_is_killed_leaves_its_member_running_and_adopts_it(world: World) -> None:
    domain, second = world.domain, world.second
    member = domain.member(second)
    domain.kill_manager(second)
    os.kill(member, 0)
    domain.restart(second)
    wait_for("it is one of them", lambda: len(domain.servers(second)) == 3)
    assert domain.member(second) == member


def test_the_founder_finds_the_members_again_although_its_file_names_the_first_only(world: World) -> None:
    domain, first = world.domain, world.first
    known = (domain.data_dir(first) / MEMBERS).read_text()
    assert len(json.loads(known)["clients"]) == 3
    domain.kill_manager(first)
    domain.restart(first)
    assert (domain.data_dir(first) / MEMBERS).read_text() == known
    assert len(domain.servers(first)) == 3


def test_a_member_that_dies_is_started_again_and_changes_go_on(world: World) -> None:
    domain, first = world.domain, world.first
    member = domain.member(first)
    os.kill(member, signal.SIGKILL)
    name = domain.do(world.second, "create", "join-token", "--managers", world.second.address)
    assert name.startswith("dkv1.")
    wait_for("it runs again", lambda: domain.member(first) != member)


def test_a_machine_that_is_lost_stops_nothing_and_comes_back(world: World) -> None:
    domain, third = world.domain, world.third
    domain.kill_all(third)
    wait_for("it is away", lambda: any(not server["alive"] for server in domain.servers(world.first)))
    domain.do(world.first, "create", "join-token", "--managers", world.first.address)
    domain.restart(third)
    wait_for("all are here", lambda: all(server["alive"] for server in domain.servers(third)) and len(domain.voters(third)) == 3)


def test_a_members_disk_that_fills_up_is_shown_with_what_helps_until_there_is_room(world: World) -> None:
    domain, first, third = world.domain, world.first, world.third
    by_first = ("--managers", first.address)

    def shown(*words: str) -> str:
        output = domain.dkv(first, *words, *by_first)
        return " ".join((output.out + output.err).split())

    ballast = leave_free(domain.data_dir(third), 40 << 20)
    try:
        wait_for("it waits", lambda: "less than the 64 MB left" in shown("show", "waiting"))
        assert "Make room on the disk" in shown("show", "waiting")
        assert "less than the 64 MB left" in shown("status") and domain.dkv(first, "status", *by_first).code != 0
        machines = shown("check", "machines")
        assert "less than the 64 MB left" in machines, machines
        assert re.search(r"the disk of its data directory has \d+ MB left", machines), machines
    finally:
        ballast.unlink()
    wait_for("it is well again", lambda: "less than the 64 MB left" not in shown("show", "waiting"))


def test_a_machine_with_an_empty_disk_founds_nothing_takes_no_name_unasked_and_is_back_by_one_command(world: World) -> None:
    domain, first, third = world.domain, world.first, world.third
    by_first = ("--managers", first.address)
    world.store("New-DkvStore", "Copies", "copies", "-ReplicationFactor", "3", "-InsecureEngineTraffic", "yes", *PORTS)
    world.store("Start-DkvStore", "Copies")
    used = domain.do(first, "create", "join-token", *by_first).strip()
    assert "would found a second domain" in domain.dkv(first, "check", "machines", *by_first).out
    uid = json.loads((domain.data_dir(first) / "server.json").read_text())["domain"]
    domain.kill_all(third)
    wait_for("it is away", lambda: any(not server["alive"] for server in domain.servers(first)))
    empty(domain.data_dir(third))
    changed = world.store("Set-DkvStore", "Copies", "-MinInSync", "1", code=1)
    assert changed.count("SUCCESS") == 2 and "The manager at 10.0.0.13:7801 is not reachable" in changed, changed

    founding = domain.restart(third, DKV_DOMAIN=uid)
    assert founding.code == 1 and f"this server is in the domain {uid}" in founding.out, founding
    taking = domain.join_with(used, third, first)
    assert taking.code == 1 and "Server id s3 belongs to another data directory" in taking.out, taking
    assert "dkv replace server --server-id s3" in taking.out, taking

    token = domain.do(first, "replace", "server", "--server-id", "s3", *by_first).strip()
    assert domain.join_with(token, third, first).code == 0
    wait_for("all vote", lambda: domain.voters(third) == ["s1", "s2", "s3"], LONG)
    wait_for("every copy is in sync", lambda: domain.dkv(first, "status", *by_first).code == 0, LONG)
    again = domain.dkv(first, "replace", "server", "--server-id", "s3", *by_first)
    assert again.code == 1 and "Server s3 is here" in again.err, again


def test_a_copy_of_a_servers_data_directory_starts_on_no_other_machine(world: World) -> None:
    domain, third = world.domain, world.third
    copy = domain.root / "copy"
    shutil.copytree(domain.data_dir(third), copy, ignore=shutil.ignore_patterns("*.sock", "run", ".new-*", "archives"))
    member = domain.member(third)
    with domain.unchanged(world.first):
        began = domain.dkv(world.fourth, "manager", "run", "--data-dir", str(copy), "--bind", world.fourth.address)
        assert began.code == 1 and "etcd member of this server is at https://10.0.0.13:8001" in began.err, began
        assert "A copy of its data directory is no server" in began.err
        shutil.rmtree(copy / DIRECTORY)
        again = domain.dkv(world.fourth, "manager", "run", "--data-dir", str(copy), "--bind", world.fourth.address)
        assert again.code == 1 and "Another manager runs as server s3 at 10.0.0.13:7801" in again.err, again
    os.kill(member, 0)


@pytest.mark.full
def test_members_that_are_all_killed_are_all_started_again(world: World) -> None:
    domain, first = world.domain, world.first
    before = {host.name: domain.member(host) for host in world.hosts}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_for("all run again", lambda: all(domain.member(host) != before[host.name] for host in world.hosts))
    made = ("create", "join-token", "--managers", first.address)
    wait_for("changes go on", lambda: domain.dkv(first, *made).code == 0)


@pytest.mark.full
def test_a_change_of_the_authority_restarts_every_member_and_changes_go_on(world: World) -> None:
    domain, first = world.domain, world.first
    before = {host.name: domain.member(host) for host in world.hosts}
    domain.do(first, "rotate", "ca", "--managers", first.address)
    assert all(domain.member(host) != before[host.name] for host in world.hosts)
    domain.do(world.second, "create", "join-token", "--managers", world.second.address)
    assert domain.voters(first) == ["s1", "s2", "s3"]


@pytest.mark.full
def test_a_member_that_lost_its_data_begins_again_and_votes(world: World) -> None:
    domain, third = world.domain, world.third
    pid = domain.member(third)
    os.kill(pid, signal.SIGKILL)
    data = domain.data_dir(third) / DIRECTORY / DATA
    shutil.rmtree(data)
    wait_for("it votes", lambda: data.exists() and domain.member(third) != pid and len(domain.voters(third)) == 3, LONG)


def test_the_last_machine_recovers_the_domain_and_the_lost_ones_join_it_again(world: World) -> None:
    domain, first, second, third = world.domain, world.first, world.second, world.third
    recover = ("recover", "domain", "--data-dir", str(domain.data_dir(first)), "--bind", first.address, "--reason", "the fire")
    domain.kill_manager(first)
    early = domain.dkv(first, *recover)
    assert early.code == 1 and "The domain state answers" in early.err, early
    domain.kill_all(second)
    domain.kill_all(third)
    shown = domain.dkv(first, *recover)
    assert shown.code == 1 and "Nothing was written" in shown.err and "who leads" not in shown.err, shown
    assert "the newest state that this server has seen: revision" in shown.out and "in sync orders" in shown.out
    domain.end_engines(first)
    written = domain.do(first, *recover, "--yes")
    assert "Written:" in written
    domain.restart(first)
    assert wait_for("it votes alone", lambda: domain.voters(first) == ["s1"])
    events = domain.do(first, "show", "events", "--managers", first.address)
    assert "it was recovered on server s1" in events and "the fire" in events
    assert [path.name for path in domain.data_dir(first).glob(f"{DIRECTORY}-set-aside-*")]
    for host in (second, third):
        assert domain.join(host, first).code == 0
    wait_for("all vote again", lambda: domain.voters(first) == ["s1", "s2", "s3"], LONG)
    world.store("Start-DkvStore", "Orders")
