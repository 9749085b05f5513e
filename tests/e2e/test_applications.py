"""Ordinary applications through everything that happens to a store: each keeps its client, and is soon served again.

The libraries run by their defaults, all at once on one store. What an application is handed meanwhile is an error that the
library's documentation lets it repeat the write for: nobody could be reached, or nobody led for a moment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

HERE = Path(__file__).parent / "applications"
IN_PYTHON = ("redis", "redis-async", "valkey", "valkey-async", "valkey-glide")
IN_NODE = ("ioredis", "iovalkey", "node-redis")
SERVED_WITHIN = 20.0  # s after the store is whole again; libraries wait up to seconds between their attempts
STORE = "Apps"
PATIENT = {"DKV_RESTART_BUDGET": "1000"}  # that budget guards against engines that die again and again; here that is wanted

PYTHON = r"ConnectionError|TimeoutError|MaxConnectionsError|ClusterDownError|ClusterError|\w+ClusterException: .*cannot be conn"
NODE = r"Error: (Connection is closed|connect ECONNREFUSED|read ECONNRESET|Too many Cluster redirections|None of startup nodes)"
REPEATABLE = {
    "redis": PYTHON,
    "valkey": PYTHON,
    "valkey-glide": r"ConnectionError|TimeoutError|RequestError: .*([Cc]onnect|ClusterDown|CLUSTERDOWN|disconnect|broken pipe)",
    "ioredis": rf"ClusterAllFailedError|MaxRetriesPerRequestError|AbortError|{NODE}|ReplyError: CLUSTERDOWN",
    "node-redis": r"SocketClosedUnexpectedlyError|ClientClosedError|ConnectionTimeoutError|RootNodesUnavailableError|"
    r"ClientOfflineError|DisconnectsClientError|(Aggregate)?Error: .*(ECONNREFUSED|ECONNRESET|EPIPE)",
}
REPEATABLE |= {"redis-async": REPEATABLE["redis"], "valkey-async": REPEATABLE["valkey"], "iovalkey": REPEATABLE["ioredis"]}

CANNOT = {("valkey-async", "cold start"): "valkey-py issue 327: it never recovers once no node could be reached"}
"""Where a library cannot, whatever a server does: held strictly, so that its repair is noticed."""


@dataclass
class Application:
    """One running application, and what it said."""

    library: str
    process: subprocess.Popen[str]
    written: list[float] = field(default_factory=list)  # moments of writes that were answered
    errors: list[tuple[float, str]] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            report = json.loads(line)
            if report["error"]:
                self.errors.append((report["at"], report["error"]))
            else:
                self.written.append(report["at"])

    def served_since(self, moment: float) -> bool:
        """Whether it writes again, not just once."""
        return sum(at > moment for at in reversed(self.written[-20:])) >= 5

    def unrepeatable(self, moment: float) -> list[str]:
        return [text for at, text in self.errors if at >= moment and not re.match(REPEATABLE[self.library], text)]


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where the libraries for Node.js are; None where there is no Node.js or no way to get them."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    place = tmp_path_factory.mktemp("node")
    shutil.copy(HERE / "package.json", place)
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", str(place / "cache")]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=180, check=False)
    return place if done.returncode == 0 else None


@contextmanager
def at_work(domain: LocalDomain, libraries: tuple[str, ...], node_modules: Path | None) -> Iterator[list[Application]]:
    """An application for each library, that has written already."""
    nodes = ",".join(f"{instance['host']}:{instance['clientPort']}" for instance in domain.client.store(STORE)["instances"])
    applications = [start(library, nodes, node_modules) for library in libraries]
    listeners = [threading.Thread(target=application.listen, daemon=True) for application in applications]
    for listener in listeners:
        listener.start()
    try:
        wait_for("every application writes", lambda: all(application.served_since(0) for application in applications))
        yield applications
    finally:
        for each in applications:
            assert each.process.stdin is not None
            each.process.stdin.close()
            each.process.kill()
            each.process.wait(10)
        for each, listener in zip(applications, listeners, strict=True):
            listener.join(10)
            assert each.process.stdout is not None
            each.process.stdout.close()


def start(library: str, nodes: str, node_modules: Path | None) -> Application:
    python = [sys.executable, "-W", "ignore", str(HERE / "application.py")]
    command = python if library in IN_PYTHON else ["node", str(HERE / "application.mjs")]
    place = None if library in IN_PYTHON else node_modules
    process = subprocess.Popen(
        [*command, library, nodes], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return Application(library, process)


# -- what happens to a store -----------------------------------------------------------------------------------------


def kill_leader(domain: LocalDomain) -> None:
    os.kill(domain.pid(STORE, domain.group(STORE)["leader"]), signal.SIGKILL)
    gone(domain)


def kill_follower(domain: LocalDomain) -> None:
    leader = domain.group(STORE)["leader"]
    os.kill(domain.pid(STORE, next(name for name in names(domain) if name != leader)), signal.SIGKILL)
    gone(domain)


def kill_everybody(domain: LocalDomain) -> None:
    for pid in [domain.pid(STORE, name) for name in names(domain)]:
        os.kill(pid, signal.SIGKILL)
    gone(domain)


def cold_start(domain: LocalDomain) -> None:
    domain.do("Stop-DkvStore", STORE)
    domain.do("Start-DkvStore", STORE)


def switchover(domain: LocalDomain) -> None:
    domain.do("switchover", "database", "--db-name", STORE)


def rolling_restart(domain: LocalDomain) -> None:
    domain.do("restart", "database", "--db-name", STORE, "--rolling")


def restart_managers(domain: LocalDomain) -> None:
    for manager in domain.managers:
        manager.kill(signal.SIGTERM)
        manager.restart()


EVENTS: dict[str, Callable[[LocalDomain], None]] = {
    "kill leader": kill_leader,
    "kill follower": kill_follower,
    "kill everybody": kill_everybody,
    "cold start": cold_start,
    "switchover": switchover,
    "rolling restart": rolling_restart,
    "restart of managers": restart_managers,
}


def names(domain: LocalDomain) -> list[str]:
    return [str(instance["instanceName"]) for instance in domain.client.store(STORE)["instances"]]


def gone(domain: LocalDomain) -> None:
    """The domain knows that somebody is away, so that waiting for the whole store means something."""
    wait_for("the death is known", lambda: not whole(domain))


def whole(domain: LocalDomain) -> bool:
    group = domain.group(STORE)
    return bool(group["serving"]) and len(group["inSync"]) == 2


def goes_through(domain: LocalDomain, event: str, applications: list[Application]) -> dict[str, str]:
    """What was wrong with each library that is not served again, or was handed what nobody repeats a write for."""
    began = time.time()
    EVENTS[event](domain)
    wait_for("the store is whole", lambda: whole(domain), within=90)
    again, wrong = time.time(), {}
    ends = time.monotonic() + SERVED_WITHIN
    while time.monotonic() < ends and not all(application.served_since(again) for application in applications):
        time.sleep(0.05)
    for each in applications:
        if not each.served_since(again):
            wrong[each.library] = f"not served {SERVED_WITHIN:g} s after {event}; last: {each.errors[-1:]}"
        elif handed := each.unrepeatable(began):
            wrong[each.library] = f"handed at {event}: {sorted(set(handed))[:5]}"
    return wrong


def installed(node_modules: Path | None) -> tuple[str, ...]:
    return IN_PYTHON + (IN_NODE if node_modules else ())


def test_every_library_by_its_defaults_survives_a_killed_leader_and_a_switchover(
    tmp_path: Path, node_modules: Path | None
) -> None:
    with local_domain(tmp_path, 2, PATIENT) as domain:
        domain.create(STORE, "-ReplicationFactor", "2")
        with at_work(domain, installed(node_modules), node_modules) as applications:
            wrong = {event: goes_through(domain, event, applications) for event in ("kill leader", "switchover")}
    assert not any(wrong.values()), wrong
    if node_modules is None:
        pytest.skip("held for the libraries in Python; there is no Node.js with npm for the others, or no network")


@pytest.mark.full
@pytest.mark.parametrize("event", EVENTS)
def test_every_library_survives_everything_that_happens_to_a_store(tmp_path: Path, node_modules: Path | None, event: str) -> None:
    """Three times each, because what a client sees of an event depends on the moment."""
    with local_domain(tmp_path, 2, PATIENT) as domain:
        domain.create(STORE, "-ReplicationFactor", "2")
        able = tuple(name for name in installed(node_modules) if (name, event) not in CANNOT)
        with at_work(domain, able, node_modules) as applications:
            wrong = [goes_through(domain, event, applications) for _ in range(3)]
    assert not any(wrong), wrong
    if node_modules is None:
        pytest.skip("held for the libraries in Python; there is no Node.js with npm for the others, or no network")


@pytest.mark.full
@pytest.mark.parametrize(("library", "event"), CANNOT)
def test_what_a_library_cannot_do_it_still_cannot(tmp_path: Path, library: str, event: str) -> None:
    """An expected failure of the library's. When this fails, take it out of CANNOT and of the README."""
    with local_domain(tmp_path, 2, PATIENT) as domain:
        domain.create(STORE, "-ReplicationFactor", "2")
        with at_work(domain, (library,), None) as applications:
            assert any(goes_through(domain, event, applications) for _ in range(3)), CANNOT[(library, event)]
