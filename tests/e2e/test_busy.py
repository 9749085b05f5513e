"""Busy is not dead, and planned is not lost: pauses, long scripts, rewrites, broken links, and handovers that are cut short."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import valkey

from tests.e2e.local_domain import PATIENCE, wait_for
from tests.e2e.watched import Watched, watched
from tests.e2e.writers import Client, at_work, clients_of

STORE = "Busy"
QUIET = ("group.assigned", "group.vacated", "group.handover", "process.exited", "group.opened")
SCRIPT = "local ends = os.clock() + tonumber(ARGV[1]) while os.clock() < ends do end return 'done'"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("busy"), STORE, 2, {"DKV_RESTART_BUDGET": "1000"}) as running_domain:
        yield running_domain


def names(domain: Watched) -> tuple[str, str]:
    """The leader and the other one."""
    leader = str(domain.led()["leader"])
    return leader, domain.names(leader)[0]


@contextlib.contextmanager
def nothing_happens(domain: Watched, *allowed: str) -> Iterator[Client]:
    """A writer at work on the leader, none of whose writes is refused; S, term and leader stay as they are."""
    domain.wait_whole()
    seen, before = domain.last_event(), domain.led()
    (writer,) = clients_of(domain.client.store(STORE), "steady", leaders_only=True, patience=20)
    with at_work([writer]):
        wait_for("a write", lambda: writer.acknowledged)
        yield writer
        enough = writer.acknowledged + 20
        wait_for("writes afterwards", lambda: writer.acknowledged >= enough)
    assert (writer.refused[:3], writer.broken) == ([], 0)
    kinds = {event["kind"] for event in domain.client.events(after=seen)} - set(allowed)
    assert not kinds & {*QUIET, "in_sync.shrunk"}, kinds
    domain.wait_whole()
    after = domain.led()
    assert (after["term"], after["leader"]) == (before["term"], before["leader"])


# -- busy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, pytest.param(5.0, marks=pytest.mark.full)])
def test_a_follower_that_pauses_refuses_nobody(domain: Watched, seconds: float) -> None:
    """Within 3 s nothing is decided at all; after that it leaves S until it is back."""
    _, follower = names(domain)
    pid = domain.pid(STORE, follower)
    with nothing_happens(domain, *(() if seconds < 3 else ("in_sync.shrunk",))):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        domain.wait_whole()


def test_a_script_of_five_seconds_on_the_leader_is_no_death(domain: Watched) -> None:
    leader, _ = names(domain)
    with nothing_happens(domain) as writer, domain.engine(STORE, leader) as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 30
        assert client.eval(SCRIPT, 0, work_for(client, 5.0)) == b"done"
        wait_for("the write that waited", lambda: writer.slowest > 2.5)


def work_for(client: valkey.Valkey, seconds: float) -> float:
    """Seconds of work that take so long here; inside a script only the engine's own work is a clock that moves."""
    began = time.monotonic()
    client.eval(SCRIPT, 0, 0.3)
    return seconds * 0.3 / (time.monotonic() - began)


@pytest.mark.full
def test_a_leader_that_pauses_a_second_keeps_its_term(domain: Watched) -> None:
    leader, _ = names(domain)
    pid = domain.pid(STORE, leader)
    with nothing_happens(domain):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(1.0)
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.full
def test_archives_are_rewritten_while_writes_flow(domain: Watched) -> None:
    leader, follower = names(domain)
    with nothing_happens(domain), domain.engine(STORE, leader) as client:
        for number in range(100):
            client.set(f"large-{number % 20}", os.urandom(500_000).hex())
        for name in (follower, leader):
            wait_for(f"{name} rewritten", lambda name=name: incremental(domain.archive(STORE, name)) < 50_000_000)  # type: ignore[misc]
        for number in range(20):
            client.delete(f"large-{number}")


def incremental(archive: Path) -> int:
    """Bytes of its incremental files; one may go while they are counted."""
    sizes = 0
    for file in (archive / "appendonlydir").glob("*.incr.aof"):
        with contextlib.suppress(FileNotFoundError):
            sizes += file.stat().st_size
    return sizes


def test_a_broken_link_goes_on_where_it_was(domain: Watched) -> None:
    leader, follower = names(domain)
    with as_manager(domain, leader) as engine, nothing_happens(domain) as writer:
        full = engine.info("stats")["sync_full"]
        for _ in range(3):
            assert engine.execute_command("CLIENT", "KILL", "TYPE", "replica") >= 1
            wanted = writer.acknowledged + 10
            wait_for("writes go on", lambda wanted=wanted: writer.acknowledged >= wanted)  # type: ignore[misc]
            wait_for("the link again", lambda: engine.info("replication")["connected_slaves"] == 1)
        assert engine.info("stats")["sync_full"] == full
    with domain.engine(STORE, follower) as copy:
        copy.execute_command("READONLY")
        wait_for("every write on the follower", lambda: int(copy.get(writer.key) or 0) >= writer.acknowledged)


@contextlib.contextmanager
def as_manager(domain: Watched, name: str) -> Iterator[valkey.Valkey]:
    """A connection with all rights to an instance's engine."""
    from dkv.engine.config import MANAGER
    from dkv.engine.supervisor import read_run

    instance = domain.instance(domain.store, name)
    run = read_run(domain.manager_of(name).data_dir / "run" / str(instance["process"]["startId"]))
    assert run is not None
    with valkey.Valkey(instance["host"], instance["clientPort"], username=MANAGER, password=run.record.secret) as client:
        yield client


# -- handovers cut short ---------------------------------------------------------------------------------------------


Step = Callable[[Watched, valkey.Valkey, int], bool]


def begun(domain: Watched, engine: valkey.Valkey, seen: int) -> bool:
    return any(event["kind"] == "group.handover" for event in domain.client.events(after=seen))


def sent(domain: Watched, engine: valkey.Valkey, seen: int) -> bool:
    """CLUSTER FAILOVER reached the leader: it pauses its clients, or follows already."""
    paused = engine.info("clients").get("paused_actions", "none") != "none"
    return bool(paused or engine.info("replication")["role"] == "slave")


def done(domain: Watched, engine: valkey.Valkey, seen: int) -> bool:
    return any(event["kind"] == "group.handed_over" for event in domain.client.events(after=seen))


TRIES = [
    pytest.param(
        step,
        victim,
        marks=() if (step, victim) in ((begun, "leader"), (sent, "target")) else pytest.mark.full,
        id=f"{step.__name__}, the manager of the {victim}",
    )
    for step in (begun, sent, done)
    for victim in ("leader", "target", "both")
]


@pytest.mark.parametrize(("step", "victim"), TRIES)
def test_a_handover_survives_its_managers(domain: Watched, step: Step, victim: str) -> None:
    domain.wait_whole()
    leader, target = names(domain)
    before, seen = domain.led(), domain.last_event()
    victims = [domain.manager_of(name) for name in {"leader": [leader], "target": [target], "both": [leader, target]}[victim]]
    (writer,) = clients_of(domain.client.store(STORE), f"handed-{before['term']}", leaders_only=True, patience=20)
    with at_work([writer]), domain.engine(STORE, leader) as engine:
        wait_for("a write", lambda: writer.acknowledged >= 10)
        domain.client.stop_instance(STORE, leader)
        look_closely(lambda: step(domain, engine, seen))
        for manager in victims:
            manager.kill()
        time.sleep(0.2)  # a manager is never back at once
        for manager in victims:
            manager.restart()
        wait_for(f"{leader} stopped", lambda: stopped(domain, leader))
        wait_for(f"{target} leads", lambda: domain.led()["serving"] and domain.led()["leader"] == target)
    with domain.engine(STORE, target) as engine:
        assert writer.acknowledged <= int(engine.get(writer.key) or 0) <= writer.sent
        assert engine.set("writes", "go on")
    assert domain.led()["term"] > before["term"]
    domain.client.start_instance(STORE, leader)
    domain.wait_whole()


def look_closely(holds: Callable[[], bool]) -> None:
    """As wait_for, without a rest: the moment is short."""
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, "the step was never seen"


def stopped(domain: Watched, name: str) -> bool:
    instance = next(instance for instance in domain.client.store(STORE)["instances"] if instance["instanceName"] == name)
    return instance["process"] is None
