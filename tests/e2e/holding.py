"""Ways to hold a domain still in a moment that passes in milliseconds, and a writer that knows what was acknowledged.

Nothing is simulated: a manager is frozen by SIGSTOP at the sight of the moment, and an engine's program is one that
stops itself before it becomes valkey-server, as long as a file says so. Whatever was held goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import valkey

from dkv.client import ClientError, Endpoint, Json, ManagerClient
from dkv.engine.binary import find_binary
from tests.e2e.local_domain import Manager, wait_for
from tests.e2e.watched import Watched

STORE = "Cells"
TE = "a TE"  # stands for the name that it has not
SETTINGS = {
    "DKV_RESTART_BUDGET": "1000",  # a test kills more often than a sick engine is worth restarting
    "DKV_FAILOVER_GRACE_MS": "20000",  # a leader that is held is not superseded
    "DKV_LEADER_ASSIGNMENT_TIMEOUT_MS": "60000",  # who waits for one that is held does not give up
}
JOURNAL = "journal"
PROGRAM = """#!/bin/sh
# The engine's program: stops itself first if it is to be held. The name of its directory, which is that of its archive
# or, for an engine of a TE, that of its group, is the file's.
if [ -e "{held}/$(basename "$(dirname "$1")")" ]; then kill -STOP $$; fi
exec "{valkey}" "$@"
"""


class Stage(Watched):
    """Three managers; a store of two copies on the first two, so that the third can always be asked."""

    def __init__(self, root: Path) -> None:
        self.held = root / "held"
        self.held.mkdir(parents=True)
        program = root / "held-valkey-server"
        program.write_text(PROGRAM.format(held=self.held, valkey=find_binary()))
        program.chmod(0o755)
        self.frozen: set[int] = set()
        super().__init__(root, STORE, 2, SETTINGS | {"DKV_VALKEY_SERVER": str(program)})

    def build(self) -> None:
        """Create the store, started and whole."""
        self.create_it()
        self.whole()

    # -- looking ------------------------------------------------------------------------------------------------

    def roles(self) -> tuple[str, str]:
        """The leader and the other one."""
        leader = str(self.led()["leader"])
        return leader, self.names(leader)[0]

    def run(self, name: str) -> Json:
        """The live process of an instance, or of the TE; empty when there is none."""
        if name == TE:
            return next(
                (dict(process) for process in self.client.processes() if process["store"] == STORE and process["type"] == "TE"),
                {},
            )
        return dict(self.instance(STORE, name)["process"] or {})

    def state(self, name: str) -> str:
        """State and engine state of an instance's process, in the words of `show domain`."""
        run = self.run(name)
        return f"{run['state']}:{run['engineState']}" if run else ""

    def reaches(self, name: str, state: str) -> Json:
        """Wait until an instance's process is there; its view."""
        wait_for(f"{name} {state}", lambda: self.state(name) == state)
        return self.run(name)

    def manager_of(self, name: str) -> Manager:
        """The manager of the server that an instance, or the TE, is on."""
        if name != TE:
            return super().manager_of(name)
        return next(manager for manager in self.managers if manager.server_id == self.run(TE)["server"])

    # -- moving -------------------------------------------------------------------------------------------------

    def start_one(self, name: str) -> int:
        """Request an SM; its start id."""
        return int(self.client.start_instance(STORE, name)["startId"])

    def stop_one(self, name: str) -> None:
        """Stop one copy and wait until it has ended."""
        self.client.stop_instance(STORE, name)
        wait_for(f"{name} ended", lambda: not self.run(name))

    def kill_one(self, name: str) -> None:
        """An operator ends a process at once."""
        if name == TE:
            self.client.request("DELETE", f"/api/1/processes/{self.run(TE)['startId']}?kill=true")
        else:
            self.client.stop_instance(STORE, name, force=True)

    def stop_all(self) -> None:
        """Stop the store as a whole."""
        self.client.stop_store(STORE)
        wait_for("NOT_RUNNING", lambda: self.client.store(STORE)["state"] == "NOT_RUNNING")

    def whole(self) -> None:
        """Start whatever an operator had stopped, and wait until both copies run and are in sync, and the TE if there is one."""

        def look() -> bool:
            store = self.client.store(STORE)
            if store["state"] == "REQUESTED_TE_SHUTDOWN" or store["state"] == "REQUESTED_SM_SHUTDOWN":
                return False
            for instance in store["instances"]:
                if instance["process"] is None:
                    with contextlib.suppress(ClientError):
                        self.client.start_instance(STORE, instance["instanceName"])
            (group,) = store["groups"]
            runs = [f"{r['state']}:{r['engineState']}" for instance in store["instances"] if (r := instance["process"])]
            settled = not group["handover"] and len(group["inSync"]) == 2
            if not (store["state"] == "RUNNING" and group["serving"] and settled and runs == ["MONITORED:RUNNING"] * 2):
                return False
            return self.state(TE) in ("", "MONITORED:RUNNING")

        wait_for(f"{STORE} whole", look)

    # -- a TE ---------------------------------------------------------------------------------------------------

    def start_te(self, beside: str) -> int:
        """Request a TE on the server of an instance; its start id."""
        body = {"dbName": STORE, "engineType": "TE", "host": self.instance(STORE, beside)["server"]}
        return int(json.loads(self.client.request("POST", "/api/1/processes", body).body)["startId"])

    def stop_te(self) -> None:
        """Ask it to leave; does not wait."""
        self.client.request("DELETE", f"/api/1/processes/{self.run(TE)['startId']}")

    def without_te(self) -> None:
        """No TE is there, whatever was before."""
        if self.run(TE):
            with contextlib.suppress(ClientError):
                self.kill_one(TE)
            wait_for("the TE ended", lambda: not self.run(TE))

    def engines_of_te(self) -> list[int]:
        """The pids of its engines, held or not: not what the launcher starts besides them, or parts of itself."""
        launcher, engines = self.run(TE).get("pid"), []
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
                command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"valkey-server" in command_line and b"launcher.sh" not in command_line:
                    engines.append(int(pid))
        return engines

    # -- holding ------------------------------------------------------------------------------------------------

    def hold(self, name: str) -> None:
        """The next engine of an instance, or of a TE, is launched and comes no further."""
        where = f"group-{self.group(STORE)['name']}" if name == TE else self.archive(STORE, name).name
        (self.held / where).touch()

    def without_leader(self) -> tuple[str, str]:
        """Stop both, the follower first: only the last leader may lead the next time. (It, the other one.)"""
        leader, follower = self.roles()
        self.stop_one(follower)
        self.stop_one(leader)
        return leader, follower

    def leader_loads(self) -> tuple[str, str]:
        """The only archive that may lead is launched and comes no further: nobody leads. (It, the other one.)"""
        leader, follower = self.without_leader()
        self.hold(leader)
        self.start_one(leader)
        return leader, follower

    def release_files(self) -> None:
        """Engines that are launched from now on are not held."""
        for file in self.held.iterdir():
            file.unlink()

    def let_go_of_held(self) -> None:
        """Engines that were launched and held go on."""
        self.release_files()
        launched = [int(pid) for name in self.names() if (pid := self.run(name).get("pid"))]
        for pid in {*launched, *self.engines_of_te()} - self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def let_go(self) -> None:
        """Everything that was held goes on."""
        with contextlib.suppress(ClientError):
            self.let_go_of_held()
        self.thaw()

    def thaw(self) -> None:
        """What was frozen goes on."""
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def stop_clock_of(self, *pids: int) -> None:
        """Freeze processes."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            self.frozen.add(pid)

    def freeze(self, manager: Manager) -> None:
        """Freeze a manager, not in the middle of a commit: on one machine that would stop the others too."""
        assert manager.process is not None
        for _ in range(20):
            self.stop_clock_of(manager.process.pid)
            if self._commits():
                return
            os.kill(manager.process.pid, signal.SIGCONT)
        raise AssertionError("it was always found in the middle of a commit")

    def _commits(self) -> bool:
        third = self.managers[2]
        try:
            body = {"key": "held", "newValue": str(time.monotonic())}
            ManagerClient(Endpoint(third.host, third.port), timeout=1).request("PUT", "/api/1/kvstore/held", body)
        except ClientError:
            return False
        return True

    def caught(self, manager: Callable[[], Manager], again: Callable[[], None], sight: Callable[[Json], bool]) -> None:
        """Freeze a manager at the sight of a moment that it alone can end. Missed, the way there is gone `again`."""
        for _ in range(20):
            again()
            whose = manager()
            assert whose.process is not None
            ends = time.monotonic() + 20
            while time.monotonic() < ends and not sight(self.client.store(STORE)):
                pass
            self.freeze(whose)
            if sight(self.client.store(STORE)):
                return
            self.let_go()
            self.whole()
        raise AssertionError("the moment was never caught")

    def close(self) -> None:
        """Nothing stays frozen, and whatever came of that, nothing stays."""
        try:
            self.let_go()
        finally:
            super().close()


class Journal:
    """Writes one field after the other to whoever takes it, and knows what was acknowledged."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.key, self.acknowledged = f"{JOURNAL}-{name}", 0
        self._kept: set[str] = set()
        self._nodes = [
            (str(instance["host"]), int(instance["clientPort"])) for instance in stage.client.store(STORE)["instances"]
        ]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Journal:
        self._thread.start()
        wait_for("a write", lambda: self.acknowledged > 3)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        number, node = 0, 0
        while not self._end.wait(0.005):
            host, port = self._nodes[node]
            with valkey.Valkey(host, port, socket_timeout=1, socket_connect_timeout=1) as client:
                with contextlib.suppress(valkey.exceptions.ValkeyError, OSError):
                    while not self._end.wait(0.005):
                        number += 1
                        client.hset(self.key, str(number), "x")
                        self._kept.add(str(number))
                        self.acknowledged += 1
            node = 1 - node

    def lost(self, stage: Stage) -> set[str]:
        """The acknowledged writes that the leader does not hold."""
        with stage.engine(STORE, stage.roles()[0]) as client:
            return self._missing(client)

    def missed_by_te(self, stage: Stage) -> set[str]:
        """The acknowledged writes that the TE does not hold; none if there is no TE."""
        nodes = [str(endpoint["address"]).rpartition(":") for endpoint in stage.run(TE).get("endpoints", ())]
        missing: set[str] = set()
        for host, _, port in nodes:
            with valkey.Valkey(host, int(port), socket_timeout=10) as client:
                client.readonly()
                missing |= self._missing(client)
        return missing

    def _missing(self, client: valkey.Valkey) -> set[str]:
        return self._kept - {field.decode() for field in client.hkeys(self.key)}


@contextlib.contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """A stage that is set; everything it started has ended when this ends."""
    running = Stage(root)
    try:
        running.start()
        running.build()
        yield running
    finally:
        running.close()
