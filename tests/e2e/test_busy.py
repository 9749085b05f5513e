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

from dkv.client import Json, ManagerClient
from tests.e2e.house import House, Manager, house, wait_for
from tests.e2e.writers import Client, at_work, clients_of

STORE = "Busy"
QUIET = ("group.assigned", "group.vacated", "group.handover", "process.exited", "group.opened")
SCRIPT = "local ends = os.clock() + tonumber(ARGV[1]) while os.clock() < ends do end return 'done'"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three managers; a store with two copies on the first two, so that the third can always be asked."""
    with house(tmp_path_factory.mktemp("busy"), 3, {"DKV_RESTART_BUDGET": "1000"}) as found:
        pair = ",".join(found.addresses.split(",")[:2])
        found.do("New-DkvStore", STORE, "busy", "-ReplicationFactor", "2", "-Managers", pair)
        found.do("Start-DkvStore", STORE, "-Managers", pair)
        wait_whole(found)
        yield found


def observer(home: House) -> ManagerClient:
    """The client of the manager that has no engine of this store."""
    return home.managers[2].client


def group(home: House) -> Json:
    return dict(observer(home).store(STORE)["groups"][0])


def wait_whole(home: House) -> None:
    wait_for("both copies in sync", lambda: group(home)["serving"] and len(group(home)["inSync"]) == 2, within=60)


def names(home: House) -> tuple[str, str]:
    """The leader and the other one."""
    leader = str(group(home)["leader"])
    return leader, next(one["instanceName"] for one in home.client.store(STORE)["instances"] if one["instanceName"] != leader)


def news(home: House, after: int) -> list[Json]:
    return observer(home).events(after=after)


def last_event(home: House) -> int:
    return max(int(event["sequence"]) for event in observer(home).events())


@contextlib.contextmanager
def nothing_happens(home: House, *allowed: str) -> Iterator[Client]:
    """A writer at work on the leader, none of whose writes is refused; S, term and leader stay as they are."""
    wait_whole(home)
    seen, before = last_event(home), group(home)
    (writer,) = clients_of(observer(home).store(STORE), "steady", leaders_only=True, patience=20)
    with at_work([writer]):
        wait_for("a write", lambda: writer.acknowledged)
        yield writer
        enough = writer.acknowledged + 20
        wait_for("writes afterwards", lambda: writer.acknowledged >= enough)
    assert (writer.refused[:3], writer.broken) == ([], 0)
    kinds = {event["kind"] for event in news(home, seen)} - set(allowed)
    assert not kinds & {*QUIET, "in_sync.shrunk"}, kinds
    wait_whole(home)
    after = group(home)
    assert (after["term"], after["leader"]) == (before["term"], before["leader"])


# -- busy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, pytest.param(5.0, marks=pytest.mark.full)])
def test_a_follower_that_pauses_refuses_nobody(home: House, seconds: float) -> None:
    """Within 3 s nothing is decided at all; after that it leaves S until it is back."""
    _, follower = names(home)
    pid = home.pid(STORE, follower)
    with nothing_happens(home, *(() if seconds < 3 else ("in_sync.shrunk",))):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_whole(home)


def test_a_script_of_five_seconds_on_the_leader_is_no_death(home: House) -> None:
    leader, _ = names(home)
    with nothing_happens(home) as writer, home.engine(STORE, leader) as client:
        client.connection_pool.connection_kwargs["socket_timeout"] = 30
        assert client.eval(SCRIPT, 0, work_for(client, 5.0)) == b"done"
        wait_for("the write that waited", lambda: writer.slowest > 2.5)


def work_for(client: valkey.Valkey, seconds: float) -> float:
    """Seconds of work that take so long here; inside a script only the engine's own work is a clock that moves."""
    began = time.monotonic()
    client.eval(SCRIPT, 0, 0.3)
    return seconds * 0.3 / (time.monotonic() - began)


@pytest.mark.full
def test_a_leader_that_pauses_a_second_keeps_its_term(home: House) -> None:
    leader, _ = names(home)
    pid = home.pid(STORE, leader)
    with nothing_happens(home):
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(1.0)
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.full
def test_archives_are_rewritten_while_writes_flow(home: House) -> None:
    leader, follower = names(home)
    with nothing_happens(home), home.engine(STORE, leader) as client:
        for number in range(100):
            client.set(f"large-{number % 20}", os.urandom(500_000).hex())
        for name in (follower, leader):
            wait_for(f"{name} rewritten", lambda name=name: incremental(home.archive(STORE, name)) < 50_000_000, within=60)  # type: ignore[misc]
        for number in range(20):
            client.delete(f"large-{number}")


def incremental(archive: Path) -> int:
    """Bytes of its incremental files; one may go while they are counted."""
    sizes = 0
    for file in (archive / "appendonlydir").glob("*.incr.aof"):
        with contextlib.suppress(FileNotFoundError):
            sizes += file.stat().st_size
    return sizes


def test_a_broken_link_goes_on_where_it_was(home: House) -> None:
    leader, follower = names(home)
    with as_manager(home, leader) as engine, nothing_happens(home) as writer:
        full = engine.info("stats")["sync_full"]
        for _ in range(3):
            assert engine.execute_command("CLIENT", "KILL", "TYPE", "replica") >= 1
            wanted = writer.acknowledged + 10
            wait_for("writes go on", lambda wanted=wanted: writer.acknowledged >= wanted)  # type: ignore[misc]
            wait_for("the link again", lambda: engine.info("replication")["connected_slaves"] == 1)
        assert engine.info("stats")["sync_full"] == full
    with home.engine(STORE, follower) as copy:
        copy.execute_command("READONLY")
        wait_for("every write on the follower", lambda: int(copy.get(writer.key) or 0) >= writer.acknowledged)


@contextlib.contextmanager
def as_manager(home: House, name: str) -> Iterator[valkey.Valkey]:
    """A connection with all rights to an instance's engine."""
    from dkv.engine.config import MANAGER
    from dkv.engine.supervisor import read_run

    found = home.instance(STORE, name)
    manager = next(m for m in home.managers if m.server_id == found["server"])
    run = read_run(manager.data_dir / "run" / str(found["process"]["startId"]))
    assert run is not None
    with valkey.Valkey(found["host"], found["clientPort"], username=MANAGER, password=run.record.secret) as client:
        yield client


# -- handovers cut short ---------------------------------------------------------------------------------------------


Step = Callable[[House, valkey.Valkey, int], bool]


def begun(home: House, engine: valkey.Valkey, seen: int) -> bool:
    return any(event["kind"] == "group.handover" for event in news(home, seen))


def sent(home: House, engine: valkey.Valkey, seen: int) -> bool:
    """CLUSTER FAILOVER reached the leader: it pauses its clients, or follows already."""
    paused = engine.info("clients").get("paused_actions", "none") != "none"
    return bool(paused or engine.info("replication")["role"] == "slave")


def done(home: House, engine: valkey.Valkey, seen: int) -> bool:
    return any(event["kind"] == "group.handed_over" for event in news(home, seen))


TRIES = [
    pytest.param(step, victim, marks=() if (step, victim) in ((begun, "leader"), (sent, "target")) else pytest.mark.full,
                 id=f"{step.__name__}, the manager of the {victim}")
    for step in (begun, sent, done) for victim in ("leader", "target", "both")
]  # fmt: skip


@pytest.mark.parametrize(("step", "victim"), TRIES)
def test_a_handover_survives_its_managers(home: House, step: Step, victim: str) -> None:
    wait_whole(home)
    leader, target = names(home)
    before, seen = group(home), last_event(home)
    victims = [manager_of(home, name) for name in {"leader": [leader], "target": [target], "both": [leader, target]}[victim]]
    (writer,) = clients_of(observer(home).store(STORE), f"handed-{before['term']}", leaders_only=True, patience=20)
    with at_work([writer]), home.engine(STORE, leader) as engine:
        wait_for("a write", lambda: writer.acknowledged >= 10)
        observer(home).stop_instance(STORE, leader)
        look_closely(lambda: step(home, engine, seen))
        for manager in victims:
            manager.kill()
        time.sleep(0.2)  # a manager is never back at once
        for manager in victims:
            manager.restart()
        wait_for(f"{leader} stopped", lambda: stopped(home, leader), within=60)
        wait_for(f"{target} leads", lambda: group(home)["serving"] and group(home)["leader"] == target, within=60)
    with home.engine(STORE, target) as engine:
        assert writer.acknowledged <= int(engine.get(writer.key) or 0) <= writer.sent
        assert engine.set("writes", "go on")
    assert group(home)["term"] > before["term"]
    observer(home).start_instance(STORE, leader)
    wait_whole(home)


def look_closely(holds: Callable[[], bool]) -> None:
    """As wait_for, without a rest: the moment is short."""
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends, "the step was never seen"


def stopped(home: House, name: str) -> bool:
    found = next(one for one in observer(home).store(STORE)["instances"] if one["instanceName"] == name)
    return found["process"] is None


def manager_of(home: House, name: str) -> Manager:
    server = home.instance(STORE, name)["server"]
    return next(manager for manager in home.managers if manager.server_id == server)
