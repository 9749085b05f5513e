"""A manager is dead and its leader's machine is cut off: what its guard does on real hosts, and what it leaves alone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from dkv.engine.supervisor import Run, read_run
from dkv.guard.duty import FILE
from dkv.guarding import PROGRAM
from dkv.kernel import command_line
from tests.e2e.hosts import Domain, Host, hosts, needs_hosts
from tests.e2e.local_domain import wait_for

pytestmark = needs_hosts


class Pair:
    """Two hosts with a store that has a copy on each, and a third from which it is made."""

    def __init__(self, root: Path, machines: list[Host]) -> None:
        *self.hosts, self.desk = machines
        self.domain = Domain(root, self.hosts)

    def begin(self) -> None:
        for host in self.hosts:
            self.domain.start(host)
        first = self.hosts[0]
        secret = self.domain.do(first, "create", "token", "--role", "admin", "--managers", first.address).strip()
        uri = f"https://{first.address}:7801"
        self.domain.do(self.desk, "login", uri, "--ca-sha256", self.domain.sha256, given=secret)
        addresses = ",".join(host.address for host in self.hosts)
        words = ("-EngineTls", "off", "-InsecureEngineTraffic", "yes", "-Managers", addresses)
        self.domain.do(self.desk, "New-DkvStore", "Orders", "orders", *words)
        self.domain.do(self.desk, "Start-DkvStore", "Orders", "-Managers", addresses)
        self.await_whole()

    def store(self, by: Host) -> dict[str, Any]:
        shown = self.domain.do(by, "Get-DkvStore", "Orders", "-Managers", by.address, "-OutputFormat", "Json")
        return dict(json.loads(shown)[0]["store"])

    def await_whole(self) -> None:
        """Both in sync, and both watched over."""
        wait_for("both in sync", lambda: len(self.store(self.hosts[0])["groups"][0]["inSync"]) == 2)
        for host in self.hosts:
            wait_for("its guard and no other", lambda host=host: self.is_guarded(host))  # type: ignore[misc]

    def is_guarded(self, host: Host) -> bool:
        """Whether there is the guard of this manager, with an engine to watch over, and none of an earlier one."""
        duty = json.loads((self.domain.data_dir(host) / "run" / FILE).read_text())
        words = [command_line(pid).split()[-1] for pid in self.guards(host)]
        manager = self.domain.processes[host.address].pid  # `ip` became it
        return bool(duty["engines"]) and words == [duty["manager"]] and words[0].startswith(f"{manager}-")

    def guards(self, host: Host) -> list[int]:
        return [pid for pid in host.processes() if PROGRAM in command_line(pid)]

    def kill_manager(self, host: Host) -> None:
        self.domain.processes[host.address].kill()
        self.domain.processes[host.address].wait(30)

    def run(self, host: Host) -> Run:
        folder = self.domain.data_dir(host) / "run"
        (run,) = [run for path in folder.iterdir() if path.name.isdigit() and (run := read_run(path))]
        return run

    def engine(self, host: Host) -> valkey.Valkey:
        """By its administrative socket, which a cable is nothing to."""
        record = self.run(host).record
        path = f"{record.directory}/admin.sock"
        return valkey.Valkey(unix_socket_path=path, username="dkv-manager", password=record.secret, socket_timeout=10)

    def leads(self, host: Host) -> bool:
        return bool(self.engine(host).role()[0] == b"master")

    def leader(self) -> tuple[Host, Host]:
        """The leader's host, and the other."""
        first, second = self.hosts
        return (first, second) if self.leads(first) else (second, first)


class Writer:
    """Writes to one engine all the time: when each write was acknowledged, and how many were refused."""

    def __init__(self, engine: valkey.Valkey, name: str) -> None:
        self._engine, self._name = engine, name
        self.acknowledged: list[tuple[float, str]] = []
        self.refusals: list[str] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._engine.close()

    def _write(self) -> None:
        number = 0
        while not self._closing.wait(0.01):
            number += 1
            key = f"{self._name}{{orders}}{number}"
            try:
                if self._engine.set(key, "1"):
                    self.acknowledged.append((time.monotonic(), key))
            except valkey.exceptions.ValkeyError as error:
                self.refusals.append(str(error))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with hosts("10.0.0.11", "10.0.0.12", "10.0.0.13") as machines:
        pair = Pair(tmp_path_factory.mktemp("guard"), machines)
        try:
            pair.begin()
            yield pair
        finally:
            pair.domain.close()


@pytest.mark.full
def test_the_end_of_managers_alone_stops_no_write(pair: Pair) -> None:
    """First one, then both: a machine that refuses a connection is there."""
    leading, other = pair.leader()
    with Writer(pair.engine(leading), "alone") as writer:
        pair.kill_manager(leading)
        time.sleep(2.5)
        pair.kill_manager(other)
        time.sleep(2.5)
    assert writer.acknowledged and not writer.refusals
    for host in pair.hosts:
        pair.domain.start(host)
    pair.await_whole()


def test_a_leader_whose_manager_is_dead_refuses_writes_before_the_other_side_leads(pair: Pair) -> None:
    leading, other = pair.leader()
    with Writer(pair.engine(leading), "old") as old:
        wait_for("it writes", lambda: old.acknowledged)
        pair.kill_manager(leading)
        time.sleep(2.0)  # longer than a guard takes: the end of the manager alone stops nothing
        assert not old.refusals
        leading.unplug()
        cut = time.monotonic()
        wait_for("the other leads", lambda: pair.leads(other))
        with Writer(pair.engine(other), "new") as new:
            wait_for("the other takes writes", lambda: new.acknowledged)
            wait_for("some more", lambda: len(new.acknowledged) > 50)
    assert old.refusals and set(old.refusals) == {old.refusals[0]} and "NOREPLICAS" in old.refusals[0]
    assert old.acknowledged[-1][0] < new.acknowledged[0][0], "one after the other"
    fenced, served = old.acknowledged[-1][0] - cut, new.acknowledged[0][0] - cut
    print(f"fenced {fenced:.2f} s after the cut; the other took writes after {served:.2f} s")
    leading.plug()
    pair.domain.start(leading)
    pair.await_whole()
    before = [key for at, key in old.acknowledged if at < cut - 1.0]
    keys = before + [key for _, key in new.acknowledged]
    leads, follows = map(pair.engine, pair.leader())
    assert leads.exists(*keys) == len(keys)
    wait_for("both hold the same", lambda: follows.dbsize() == leads.dbsize())


@pytest.mark.full
def test_the_last_machine_is_fenced_and_its_own_manager_opens_it(pair: Pair) -> None:
    """The other one loses its power. What the guard fenced stays so when another machine answers again."""
    leading, other = pair.leader()
    pair.kill_manager(leading)
    other.kill_all()
    other.unplug()
    admin = pair.engine(leading)
    wait_for("it is fenced", lambda: admin.config_get("min-replicas-to-write") == {"min-replicas-to-write": "99"})
    log = pair.domain.data_dir(leading) / "guard.log"
    wait_for("it says so", lambda: "no other machine has answered" in log.read_text() and ": fenced" in log.read_text())
    assert pair.run(leading).record.secret not in log.read_text()
    other.plug()
    wait_for("it hears the other", lambda: "answers again" in log.read_text())
    assert admin.config_get("min-replicas-to-write") == {"min-replicas-to-write": "99"}
    pair.domain.processes[other.address].wait(30)
    pair.domain.start(leading)
    wait_for("it is opened", lambda: admin.config_get("min-replicas-to-write") == {"min-replicas-to-write": "0"})
    wait_for("it takes writes", lambda: admin.set("{orders}again", "1"))
    pair.domain.start(other)
    pair.await_whole()


def test_a_guard_is_small_owns_its_file_and_ends_with_the_engines(pair: Pair) -> None:
    leading, other = pair.leader()
    (guard,) = pair.guards(leading)
    path = pair.domain.data_dir(leading) / "run" / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    secret = pair.run(leading).record.secret
    assert secret in path.read_text() and secret not in command_line(guard)
    assert os.getsid(guard) == guard, "what ends the manager's session does not end it"
    for host in (leading, other):
        pair.kill_manager(host)
        for pid in host.processes():
            if "valkey" in command_line(pid).partition(" ")[0]:
                os.kill(pid, 9)
    wait_for("nothing is left", lambda: not pair.guards(leading) and not pair.guards(other))
