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

from dkv.client import ClientError
from tests.e2e.counters import Counter, counting, go_on, wrong
from tests.e2e.local_domain import Manager, wait_for
from tests.e2e.watched import Watched, watched

STORE = "Large"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(
        tmp_path_factory.mktemp("tail"), STORE, 3, {"DKV_RESTART_BUDGET": "1000", "DKV_TAIL_ABOVE_BYTES": "0"}
    ) as running_domain:
        yield running_domain


def nodes(domain: Watched) -> list[tuple[str, int]]:
    return [(instance["host"], instance["clientPort"]) for instance in domain.client.store(STORE)["instances"]]


def kill_the_leader(domain: Watched, lag: bool = False) -> str:
    """SIGKILL; with `lag` its followers stood still for a moment before, so that they lack more."""
    leader = str(domain.led()["leader"])
    others = [domain.pid(STORE, name) for name in domain.names(leader)] if lag else []
    victim = domain.pid(STORE, leader)
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.3 if lag else 0)
    os.kill(victim, signal.SIGKILL)
    for pid in others:
        os.kill(pid, signal.SIGCONT)
    return leader


def serves_again(domain: Watched, term: int) -> None:
    wait_for("a new term is served", lambda: domain.led()["serving"] and domain.led()["term"] > term)


def full_resyncs(domain: Watched) -> dict[str, int]:
    """How often each engine said that it takes everything anew."""
    logs = domain.root.glob("*/run/*/engine.log")
    return {str(log): log.read_text(errors="replace").count("Full resync from primary") for log in logs}


@dataclass(frozen=True)
class Failover:
    """How one went: whether another leads by the dead leader's tail, and whether the other follower went on where it was."""

    by_tail: bool
    continued: bool


def fails_over(domain: Watched, counters: list[Counter], lag: bool) -> Failover:
    """Kill the leader and wait until all is whole. A busy machine may take the second choice: the dead leader, restarted."""
    go_on(counters)
    domain.wait_whole()
    before, term, resyncs = domain.last_event(), int(domain.led()["term"]), full_resyncs(domain)
    dead = kill_the_leader(domain, lag)
    serves_again(domain, term)
    go_on(counters, 1)
    domain.wait_whole()
    events = domain.client.events(after=before)
    opened = next(e["sequence"] for e in events if e["kind"] == "group.opened")
    left = [e for e in events if e["kind"] == "in_sync.shrunk" and e["sequence"] <= opened]
    again = [log for log, count in full_resyncs(domain).items() if count != resyncs.get(log, count)]
    if domain.led()["leader"] == dead:
        return Failover(by_tail=False, continued=False)
    assert any(event["kind"] == "group.tail_fed" for event in events), "nobody else leads without the tail"
    assert len(left) > 1 or again == [], "whoever stays in sync goes on where it was"
    return Failover(by_tail=True, continued=len(left) == 1)


def test_a_follower_leads_with_the_dead_leaders_tail_and_nobody_resyncs_in_full_but_the_dead(domain: Watched) -> None:
    with counting(nodes(domain)) as counters:
        assert any(fails_over(domain, counters, lag=False).continued for _ in range(8))
    assert wrong(counters) == []


@pytest.mark.full
def test_twenty_leaders_die_and_every_acknowledged_addition_is_there_once(domain: Watched) -> None:
    with counting(nodes(domain)) as counters:
        seen = [fails_over(domain, counters, lag=number % 3 == 2) for number in range(20)]
    assert wrong(counters) == []
    print(
        sum(failover.by_tail for failover in seen),
        sum(failover.continued for failover in seen),
        sum(counter.answered for counter in counters),
    )
    assert sum(failover.by_tail for failover in seen) >= 5, seen
    assert any(failover.continued for failover in seen), seen


def when(domain: Watched, kind: str, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as an event is written."""
    ready = threading.Event()

    def watch() -> None:
        after = domain.last_event()
        ready.set()
        while True:
            try:
                for event in domain.client.follow_events(after=after, silence=30):
                    if event["kind"] == kind:
                        act()
                        return
            except ClientError:
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert ready.wait(10)
    return thread


@pytest.mark.full
@pytest.mark.parametrize("event", ["group.assigned", "group.tail_measured", "group.tail_fed"])
@pytest.mark.parametrize("who", ["feeding manager", "heir", "heirs manager"])
def test_whoever_is_killed_while_the_tail_is_fed_nothing_is_lost_or_done_twice(domain: Watched, event: str, who: str) -> None:
    domain.wait_whole()
    with counting(nodes(domain)) as counters:
        go_on(counters)
        term, leader = int(domain.led()["term"]), str(domain.led()["leader"])
        feeder = domain.manager_of(leader)
        gone: list[Manager] = []

        def strike() -> None:
            if who == "feeding manager":
                feeder.kill()
                gone.append(feeder)
                return
            heir = str(domain.led()["leader"] or "")
            if not heir:
                return
            if who == "heir":
                pid = (domain.instance(STORE, heir)["process"] or {}).get("pid")
                if pid:
                    os.kill(int(pid), signal.SIGKILL)
                return
            gone.append(domain.manager_of(heir))
            gone[0].kill()

        striking = when(domain, event, strike)
        kill_the_leader(domain, lag=True)
        striking.join(30)
        time.sleep(1.0)
        for manager in gone:
            manager.restart()
        serves_again(domain, term)
        go_on(counters)
        domain.wait_whole()
        go_on(counters)
    assert wrong(counters) == []


@pytest.mark.full
@pytest.mark.parametrize("event", ["group.assigned", "group.tail_measured", "group.tail_fed"])
def test_a_feeder_that_stood_still_feeds_nobody_afterwards(domain: Watched, event: str) -> None:
    domain.wait_whole()
    with counting(nodes(domain)) as counters:
        go_on(counters)
        term, leader = int(domain.led()["term"]), str(domain.led()["leader"])
        feeder = domain.manager_of(leader).process
        assert feeder is not None
        striking = when(domain, event, lambda: os.kill(feeder.pid, signal.SIGSTOP))
        kill_the_leader(domain, lag=True)
        striking.join(30)
        serves_again(domain, term)
        go_on(counters)
        os.kill(feeder.pid, signal.SIGCONT)
        domain.wait_whole()
        go_on(counters)
    assert wrong(counters) == []
