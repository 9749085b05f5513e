"""The dead leader's tail: a store above the size fails over to a follower that is given what only the dead leader's disk has.

Every acknowledged addition of twenty lines must show exactly once in the next answer, whoever is killed or stands still
while the tail is being fed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dkv.client import ClientTrouble, Json, ManagerClient
from tests.e2e.counters import Counter, counting, go_on, wrong
from tests.e2e.house import House, Manager, house, wait_for

STORE = "Large"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Four managers; a store of three copies on the first three, so that the last can always be asked."""
    settings = {"DKV_RESTART_BUDGET": "1000", "DKV_TAIL_ABOVE_BYTES": "0"}
    with house(tmp_path_factory.mktemp("tail"), 4, settings) as found:
        three = ",".join(found.addresses.split(",")[:3])
        found.do("New-DkvStore", STORE, "large", "-ReplicationFactor", "3", "-Managers", three)
        found.do("Start-DkvStore", STORE, "-Managers", three)
        wait_whole(found)
        yield found


def asked(home: House) -> ManagerClient:
    """The client of the manager that has no engine of this store."""
    return home.managers[3].client


def group(home: House) -> Json:
    return dict(asked(home).store(STORE)["groups"][0])


def wait_whole(home: House) -> None:
    wait_for("all copies in sync", lambda: group(home)["serving"] and len(group(home)["inSync"]) == 3, within=60)


def instance(home: House, name: str) -> Json:
    return next(dict(i) for i in asked(home).store(STORE)["instances"] if i["instanceName"] == name)


def manager_of(home: House, name: str) -> Manager:
    return next(m for m in home.managers if m.server_id == instance(home, name)["server"])


def pid_of(home: House, name: str) -> int:
    return int(instance(home, name)["process"]["pid"])


def nodes(home: House) -> list[tuple[str, int]]:
    return [(one["host"], one["clientPort"]) for one in asked(home).store(STORE)["instances"]]


def last_event(home: House) -> int:
    return max(int(event["sequence"]) for event in asked(home).events())


def kinds(home: House, after: int) -> list[str]:
    return [str(event["kind"]) for event in asked(home).events(after=after)]


def kill_the_leader(home: House, lag: bool = False) -> str:
    """SIGKILL; with `lag` its followers stood still for a moment before, so that they lack more."""
    leader = str(group(home)["leader"])
    others = [pid_of(home, str(i["instanceName"])) for i in asked(home).store(STORE)["instances"]
              if i["instanceName"] != leader] if lag else []  # fmt: skip
    victim = pid_of(home, leader)
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.3 if lag else 0)
    os.kill(victim, signal.SIGKILL)
    for pid in others:
        os.kill(pid, signal.SIGCONT)
    return leader


def serves_again(home: House, term: int) -> None:
    wait_for("a new term is served", lambda: group(home)["serving"] and group(home)["term"] > term, within=60)


def full_resyncs(home: House) -> dict[str, int]:
    """How often each engine said that it takes everything anew."""
    logs = home.root.glob("*/run/*/engine.log")
    return {str(log): log.read_text(errors="replace").count("Full resync from primary") for log in logs}


@dataclass(frozen=True)
class Failover:
    """How one went: whether another leads by the dead leader's tail, and whether the other follower went on where it was."""

    given: bool
    kept: bool


def fails_over(home: House, counters: list[Counter], lag: bool) -> Failover:
    """Kill the leader and wait until all is whole. A busy machine may take the second choice: the dead leader, restarted."""
    go_on(counters)
    wait_whole(home)
    before, term, resyncs = last_event(home), int(group(home)["term"]), full_resyncs(home)
    dead = kill_the_leader(home, lag)
    serves_again(home, term)
    go_on(counters, 1)
    wait_whole(home)
    told = asked(home).events(after=before)
    opened = next(e["sequence"] for e in told if e["kind"] == "group.opened")
    left = [e for e in told if e["kind"] == "in_sync.shrunk" and e["sequence"] <= opened]
    again = [log for log, count in full_resyncs(home).items() if count != resyncs.get(log, count)]
    if group(home)["leader"] == dead:
        return Failover(given=False, kept=False)
    assert any(event["kind"] == "group.tail_fed" for event in told), "nobody else leads without the tail"
    assert len(left) > 1 or again == [], "whoever stays in sync goes on where it was"
    return Failover(given=True, kept=len(left) == 1)


def test_a_follower_leads_with_the_dead_leaders_tail_and_nobody_resyncs_in_full_but_the_dead(home: House) -> None:
    with counting(nodes(home)) as counters:
        assert any(fails_over(home, counters, lag=False).kept for _ in range(8))
    assert wrong(counters) == []


@pytest.mark.full
def test_twenty_leaders_die_and_every_acknowledged_addition_is_there_once(home: House) -> None:
    with counting(nodes(home)) as counters:
        seen = [fails_over(home, counters, lag=number % 3 == 2) for number in range(20)]
    assert wrong(counters) == []
    print(sum(one.given for one in seen), sum(one.kept for one in seen), sum(one.answered for one in counters))
    assert sum(one.given for one in seen) >= 5, seen
    assert any(one.kept for one in seen), seen


def when(home: House, kind: str, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as an event is told."""
    ready = threading.Event()

    def watch() -> None:
        after = last_event(home)
        ready.set()
        while True:
            try:
                for event in asked(home).follow_events(after=after, silence=30):
                    if event["kind"] == kind:
                        act()
                        return
            except ClientTrouble:
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert ready.wait(10)
    return thread


@pytest.mark.full
@pytest.mark.parametrize("event", ["group.assigned", "group.tail_measured", "group.tail_fed"])
@pytest.mark.parametrize("who", ["feeding manager", "heir", "heirs manager"])
def test_whoever_is_killed_while_the_tail_is_fed_nothing_is_lost_or_done_twice(home: House, event: str, who: str) -> None:
    wait_whole(home)
    with counting(nodes(home)) as counters:
        go_on(counters)
        term, leader = int(group(home)["term"]), str(group(home)["leader"])
        feeder = manager_of(home, leader)
        gone: list[Manager] = []

        def strike() -> None:
            if who == "feeding manager":
                feeder.kill()
                gone.append(feeder)
                return
            heir = str(group(home)["leader"] or "")
            if not heir:
                return
            if who == "heir":
                pid = (instance(home, heir)["process"] or {}).get("pid")
                if pid:
                    os.kill(int(pid), signal.SIGKILL)
                return
            gone.append(manager_of(home, heir))
            gone[0].kill()

        striking = when(home, event, strike)
        kill_the_leader(home, lag=True)
        striking.join(30)
        time.sleep(1.0)
        for manager in gone:
            manager.restart()
        serves_again(home, term)
        go_on(counters)
        wait_whole(home)
        go_on(counters)
    assert wrong(counters) == []


@pytest.mark.full
@pytest.mark.parametrize("event", ["group.assigned", "group.tail_measured", "group.tail_fed"])
def test_a_feeder_that_stood_still_feeds_nobody_afterwards(home: House, event: str) -> None:
    wait_whole(home)
    with counting(nodes(home)) as counters:
        go_on(counters)
        term, leader = int(group(home)["term"]), str(group(home)["leader"])
        feeder = manager_of(home, leader).process
        assert feeder is not None
        striking = when(home, event, lambda: os.kill(feeder.pid, signal.SIGSTOP))
        kill_the_leader(home, lag=True)
        striking.join(30)
        serves_again(home, term)
        go_on(counters)
        os.kill(feeder.pid, signal.SIGCONT)
        wait_whole(home)
        go_on(counters)
    assert wrong(counters) == []
