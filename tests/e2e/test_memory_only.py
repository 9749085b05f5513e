"""TEs on real engines: they come and go under load, and never count."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import valkey

from dkv.client import Json
from dkv.confirm import ConfirmingClient, Kind
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

ONE, TWO, SURE = "One", "Two", "Sure"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("memory"), servers=2) as running_domain:
        yield running_domain


# TEs, as people ask for them -------------------------------------------------------------------------------------------


def ask(domain: LocalDomain, method: str, path: str, body: Json | None = None) -> Any:
    """The NuoDB dialect of the first manager."""
    return domain.client.request(method, f"/api/1/{path}", body).value()


def requested(domain: LocalDomain, store: str, server: str) -> int:
    """A TE, just asked for."""
    return int(ask(domain, "POST", "processes", {"dbName": store, "engineType": "TE", "host": server})["startId"])


def shown(domain: LocalDomain, start_id: int) -> Json:
    """A live process as the native API shows it."""
    return next(dict(p) for p in domain.client.processes() if p["startId"] == start_id)


def running(domain: LocalDomain, store: str, server: str) -> int:
    """A TE that holds what its leaders hold."""
    start_id = requested(domain, store, server)
    wait_for(f"TE {start_id} runs", lambda: shown(domain, start_id)["engineState"] == "RUNNING")
    return start_id


def engines_of(launcher: int) -> list[int]:
    """The engines a TE's launcher started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(pid) for pid in children if os.readlink(f"/proc/{pid}/exe").endswith("valkey-server")]


def endpoints(domain: LocalDomain, start_id: int) -> list[tuple[str, int]]:
    """Where its engines are reached."""
    nodes = (endpoint["address"].rpartition(":") for endpoint in shown(domain, start_id)["endpoints"])
    return [(host, int(port)) for host, _, port in nodes]


# Load ------------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that write and read, one from followers too; what went wrong is kept."""

    host: str
    port: int
    errors: list[str] = field(default_factory=list)
    writes: int = 0
    reads: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        with valkey.ValkeyCluster(host=self.host, port=self.port) as client:
            while not self._ended.is_set():
                try:
                    assert client.set(f"key-{self.writes % 50}", self.writes)
                    self.writes += 1
                except Exception as error:
                    self.errors.append(f"write: {error!r}")
                self._ended.wait(0.001)

    def read(self) -> None:
        with valkey.ValkeyCluster(host=self.host, port=self.port, read_from_replicas=True) as client:
            while not self._ended.is_set():
                try:
                    client.get(f"key-{self.reads % 50}")
                    self.reads += 1
                    if self.reads % 400 == 0:
                        client.nodes_manager.initialize()  # learns of nodes that came, as new clients do
                except Exception as error:
                    self.errors.append(f"read: {error!r}")
                self._ended.wait(0.001)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=work, daemon=True) for work in (self.write, self.read, self.read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)

    def goes_on(self, count: int = 300) -> None:
        """So many more reads and writes."""
        reads, writes = self.reads + count, self.writes + count
        wait_for("the load goes on", lambda: self.reads > reads and self.writes > writes)


def reads_served(node: tuple[str, int]) -> int:
    with valkey.Valkey(*node) as engine:
        return int(engine.info("commandstats").get("cmdstat_get", {}).get("calls", 0))


def read(node: tuple[str, int], key: str) -> bytes | None:
    """What a follower has of a key; None also while it redirects, because its group changes its leader."""
    with valkey.Valkey(*node) as engine, contextlib.suppress(valkey.exceptions.ResponseError):
        engine.readonly()
        value = engine.get(key)
        assert value is None or isinstance(value, bytes)
        return value
    return None


# Scenarios ---------------------------------------------------------------------------------------------------------------


def test_tes_come_and_go_under_load_and_no_client_sees_it(domain: LocalDomain) -> None:
    domain.create(ONE, "-InstanceCount", "1", "-ReplicationFactor", "1")
    leader = domain.instance(ONE, "one-1")
    load = Load(leader["host"], leader["clientPort"])
    with load.running():
        load.goes_on()
        first, second = running(domain, ONE, "s1"), running(domain, ONE, "s2")
        nodes = [*endpoints(domain, first), *endpoints(domain, second)]
        wait_for("both TEs serve reads", lambda: all(reads_served(node) > 20 for node in nodes))
        launcher = int(shown(domain, first)["pid"])
        os.kill(engines_of(launcher)[0], signal.SIGKILL)
        end = domain.end_of(ONE, first)
        load.goes_on()
        ask(domain, "DELETE", f"processes/{second}")
        domain.end_of(ONE, second)
        load.goes_on()
        third = running(domain, ONE, "s1")
        os.kill(int(shown(domain, third)["pid"]), signal.SIGKILL)
        domain.end_of(ONE, third)
        load.goes_on()
    assert not load.errors, load.errors[:5]
    assert (end["cause"], end["exitCode"]) == ("killed by signal", 137)
    assert not [p for p in domain.client.processes() if p["store"] == ONE and p["type"] == "TE"]
    for manager in domain.managers:
        wait_for("nothing of a TE is left on disk", lambda manager=manager: not list(manager.data_dir.glob("te/*")))
    domain.remove(ONE)


def test_a_te_has_an_engine_for_each_group_and_redirects_writes(domain: LocalDomain) -> None:
    store = domain.create(TWO, "-InstanceCount", "2", "-ReplicationFactor", "2")
    assert len(store["groups"]) == 2
    te = running(domain, TWO, "s1")
    process = shown(domain, te)
    assert len(engines_of(int(process["pid"]))) == len(process["endpoints"]) == 2
    with valkey.ValkeyCluster(host=store["instances"][0]["host"], port=store["instances"][0]["clientPort"]) as client:
        for n in range(20):
            client.set(f"key-{n}", n)
    served = 0
    for node in endpoints(domain, te):
        with valkey.Valkey(*node) as engine:
            wait_for("its engine knows the cluster", lambda engine=engine: len(engine.execute_command("CLUSTER NODES")) == 6)
            engine.readonly()
            for n in range(20):
                with contextlib.suppress(valkey.exceptions.ResponseError):
                    wait_for("the write arrives", lambda engine=engine, n=n: engine.get(f"key-{n}"))
                    served += 1
                with pytest.raises(valkey.exceptions.ResponseError, match="MOVED"):
                    engine.set(f"key-{n}", "no")
    assert served == 20
    domain.do("Stop-DkvStore", TWO)
    wait_for("all of it has ended", lambda: not [p for p in domain.client.processes() if p["store"] == TWO])
    assert domain.end_of(TWO, te)["cause"] == "graceful stop"
    domain.remove(TWO)


def test_two_tes_that_acknowledge_confirm_nothing_and_follow_the_next_leader(domain: LocalDomain) -> None:
    domain.create(SURE)
    domain.wait_in_sync(SURE, "sure-1", "sure-2")
    tes = [running(domain, SURE, "s1"), running(domain, SURE, "s2")]
    leader = domain.group(SURE)["leader"]
    late = next(domain.instance(SURE, name) for name in ("sure-1", "sure-2") if name != leader)
    with ConfirmingClient(domain.addresses.split(","), SURE) as client:
        assert client.set("before", "1", timeout=20).confirmed
        os.kill(int(late["process"]["pid"]), signal.SIGSTOP)
        try:
            with domain.engine(SURE, leader) as engine:
                assert engine.set("counted", "1")
                assert engine.wait(2, 1_000) == 2, "WAIT counts the two TEs"
            outcome = client.set("stalled", "1", timeout=1.0)
            assert outcome.kind is Kind.ACKNOWLEDGED and f"{late['host']}:{late['clientPort']}" in outcome.reason, outcome
        finally:
            os.kill(int(late["process"]["pid"]), signal.SIGCONT)
        domain.wait_in_sync(SURE, "sure-1", "sure-2")
        assert client.set("after", "1", timeout=20).confirmed
        os.kill(domain.pid(SURE, leader), signal.SIGKILL)
        wait_for("the next term", lambda: domain.group(SURE)["term"] > 1 and domain.group(SURE)["serving"])
        assert client.set("next", "term", timeout=20).confirmed
    nodes = [node for te in tes for node in endpoints(domain, te)]
    for node in nodes:
        wait_for("it follows the leader of the next term", lambda node=node: read(node, "next") == b"term")
    assert [shown(domain, te)["startId"] for te in tes] == tes
    domain.remove(SURE)
