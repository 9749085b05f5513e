"""A real domain for tests: managers as child processes on loopback addresses of their own, real engines, the real CLI.

Every domain takes a part of 127.0.0.0/8 that nobody uses, so that several test runs live side by side on the standard
ports. It carries a mark in the environment of everything it starts, and by that mark proves that nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import valkey

from dkv.address import endpoint_text
from dkv.client import ClientError, Endpoint, Json, ManagerClient, ManagerRefused

DKV = Path(__file__).parents[2] / ".venv" / "bin" / "dkv"
MARK = "DKV_TEST_DOMAIN"
USER, PASSWORD = "tester", "a password of the tests"  # an administrator of each domain that is asked for one
PATIENCE = 90.0  # s anything may take on a busy machine; waits return as soon as it happened

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], within: float = PATIENCE) -> T:
    """The first answer that is true. A manager that is away for a moment is asked again."""
    ends, last = time.monotonic() + within, ""
    while True:
        try:
            value = look()
            if value:
                return value
            last = repr(value)
        except (ClientError, valkey.exceptions.ConnectionError) as trouble:
            last = str(trouble)
        assert time.monotonic() < ends, f"{what} did not happen within {within:g} s; last seen: {last}"
        time.sleep(0.03)


@dataclass
class Said:
    """What one run of the CLI said."""

    code: int
    out: str
    err: str

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The rows of its tables: manager, action, result, message."""
        cells = [line.split(maxsplit=3) for line in self.out.splitlines()]
        return [(c[0], c[1], c[2], c[3]) for c in cells if len(c) == 4 and c[2] in ("SUCCESS", "FAILED", "SKIPPED", "OK")]


@dataclass
class Manager:
    """One manager of a domain, running or not."""

    server_id: str
    host: str
    data_dir: Path
    state: str
    port: int = 7801
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    words: tuple[str, ...] = ()  # more options that it is started with
    program: Path | None = None  # the directory of another dkv than this tree's

    @property
    def client(self) -> ManagerClient:
        """The public client, asking this manager."""
        return ManagerClient(Endpoint(self.host, self.port), timeout=10)

    @property
    def log(self) -> Path:
        """Where what it says goes."""
        return self.data_dir.parent / f"{self.server_id}.log"

    def command(self) -> list[str]:
        """How it is started."""
        return [
            str(DKV),
            "manager",
            "run",
            "--server-id",
            self.server_id,
            "--bind",
            self.host,
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
            *(("--state", self.state) if self.state else ()),
            *self.words,
        ]

    def start(self) -> None:
        """Start it without waiting."""
        env = self.env | ({"PYTHONPATH": str(self.program)} if self.program else {})
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> None:
        """Wait until it is part of its domain."""
        process = self.process
        assert process is not None
        wait_for(f"{self.server_id} ready", lambda: self.client.ready() or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it by a signal and reap it; its exit code. Its engines go on."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def restart(self) -> None:
        """Start it again and wait until it takes part."""
        self.start()
        self.wait_ready()


class LocalDomain:
    """Some managers that share one domain on this machine."""

    def __init__(self, root: Path, servers: int, settings: dict[str, str] | None = None, state: str = "") -> None:
        self.root = root
        self.net = free_net()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DKV_")}
        # Managers ask who commands them; the clients of these stores have no users (test_database_users.py has such).
        self.env |= {MARK: str(root), "XDG_CONFIG_HOME": str(root / "config"), "DKV_ACCESS_CONTROL": "managers"}
        self.managers = [self.manager(i, settings) for i in range(1, servers + 1)]
        self._has_user = False
        for manager in self.managers:
            manager.state = state or manager.state

    def manager(self, index: int, settings: dict[str, str] | None = None, state: str = "domain.sqlite") -> Manager:
        """One more manager, not started."""
        name = f"s{index}"
        return Manager(
            name, f"{self.net}.{10 + index}", self.root / name, f"sqlite:{self.root / state}", env=self.env | (settings or {})
        )

    def start(self) -> None:
        """Start all managers."""
        for manager in self.managers:
            manager.start()
        for manager in self.managers:
            manager.wait_ready()

    @property
    def client(self) -> ManagerClient:
        """The public client, asking the first manager."""
        return self.managers[0].client

    @property
    def addresses(self) -> str:
        """All managers as the cmdlets take them."""
        return ",".join(endpoint_text(m.host, m.port) for m in self.managers)

    def dkv(self, *words: str, managers: str | None = None, env: dict[str, str] | None = None) -> Said:
        """Run the CLI once, with this domain's managers unless others are named ("" for none)."""
        environ = self.env | {"DKV_MANAGERS": self.addresses if managers is None else managers} | (env or {})
        done = subprocess.run(
            [str(DKV), *words], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=90, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    @property
    def credentials(self) -> tuple[str, str]:
        """Name and password of an administrator, for programs that know nothing of a manager's own socket."""
        if not self._has_user:
            body = {"name": USER, "roles": ["admin"], "password": PASSWORD}
            self.client.request("PUT", f"/api/1/policies/users/{USER}", body)
            self._has_user = True
        return USER, PASSWORD

    @property
    def nuocmd_environ(self) -> dict[str, str]:
        """The environment of the real nuocmd, with its credentials and nothing else that is for it."""
        plain = {name: value for name, value in self.env.items() if not name.startswith(("NUOCMD_", "PYTHONPATH"))}
        return plain | {"NUOCMD_BASIC_CREDS": ":".join(self.credentials)}

    def do(self, *words: str) -> Said:
        """Run the CLI once; it must succeed."""
        output = self.dkv(*words)
        assert output.code == 0, (words, output)
        return output

    def create(self, name: str, *words: str, start: bool = True) -> Json:
        """A store made by the cmdlets and, unless it is not to be started, running; its view."""
        self.do("New-DkvStore", name, name.lower(), *words)
        if start:
            self.do("Start-DkvStore", name)
        return self.client.store(name)

    def remove(self, name: str) -> None:
        """Stop and delete a store, so that the next scenario finds a tidy domain."""
        self.dkv("Stop-DkvStore", name)
        output = self.dkv("Remove-DkvStore", name)
        assert output.code == 0, output

    # -- looking ------------------------------------------------------------------------------------------------

    def instance(self, store: str, name: str) -> Json:
        """One instance of a store as the domain shows it."""
        return next(dict(i) for i in self.client.store(store)["instances"] if i["instanceName"] == name)

    def group(self, store: str) -> Json:
        """The first storage group of a store."""
        return dict(self.client.store(store)["groups"][0])

    def pid(self, store: str, name: str) -> int:
        """The pid of an instance's engine."""
        return int(wait_for(f"{name} has a pid", lambda: (self.instance(store, name)["process"] or {}).get("pid")))

    def wait_state(self, store: str, name: str, state: str, within: float = PATIENCE) -> Json:
        """Wait until an instance is in a documented state; its view then."""

        def look() -> Json | None:
            instance = self.instance(store, name)
            return instance if instance["state"] == state else None

        instance = wait_for(f"{name} {state}", look, within)
        assert instance is not None
        return instance

    def wait_in_sync(self, store: str, *names: str, within: float = PATIENCE) -> None:
        """Wait until the first group serves with exactly these copies in sync."""
        wait_for(
            f"{names} in sync", lambda: set(self.group(store)["inSync"]) == set(names) and self.group(store)["serving"], within
        )

    def engine(self, store: str, name: str) -> valkey.Valkey:
        """A connection to an instance's engine, as any client has it."""
        instance = self.instance(store, name)
        return valkey.Valkey(instance["host"], instance["clientPort"], socket_timeout=10, **self.encrypted(store))

    def encrypted(self, store: str) -> dict[str, Any]:
        """What a client of a store needs beyond an address: the authorities, where its engines speak TLS."""
        transport = self.client.store(store)["transport"]
        return {"ssl": True, "ssl_ca_data": transport["authorities"]} if transport["tls"] else {}

    def archive(self, store: str, name: str) -> Path:
        """The directory of an instance's archive."""
        instance = self.instance(store, name)
        domain = next(m.data_dir for m in self.managers if m.server_id == instance["server"])
        return Path(instance["path"] or domain / "archives" / store / f"{name}-{instance['archiveId']}")

    def end_of(self, store: str, start_id: int) -> Json:
        """The tombstone of a process, as soon as there is one."""

        def look() -> Json | None:
            return next((t for t in self.client.tombstones(store) if t["startId"] == start_id), None)

        tombstone = wait_for(f"the tombstone of process {start_id}", look)
        assert tombstone is not None
        return tombstone

    def picture(self) -> tuple[Any, ...]:
        """All that a refused command must not change: every store whole, and the event log, but for reports of who was refused
        earlier, which come when a manager counts them."""
        stores = self.client.stores()
        for store in stores:
            del store["revision"]
        return stores, [event for event in self.client.events() if event["kind"] != "server.refused"]

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """What is done inside leaves the domain as it was."""
        before = self.picture()
        yield
        assert self.picture() == before

    def account(self) -> str:
        """What the domain shows and what its managers logged last: for whoever reads a failed test."""
        lines = []
        with contextlib.suppress(ClientError):
            for store in self.client.stores():
                lines += [f"{store['name']}: {json.dumps(group)}" for group in store["groups"]]
            lines += [f"waiting: {json.dumps(item)}" for item in self.client.waiting()]
            for event in self.client.newest_events(60)["events"]:
                lines.append(
                    f"{event['sequence']} {event['at']} {event['kind']} {event['subject']}: {event['text']} {event['because']}"
                )
        for manager in self.managers:
            if manager.log.exists():
                lines += [f"{manager.server_id}: {line}" for line in manager.log.read_text(errors="replace").splitlines()[-15:]]
        return "\n".join(lines)

    # -- leaving ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End everything by pid, managers first so that nobody restarts an engine; then nothing is left."""
        for manager in self.managers:
            if manager.process is not None:
                manager.process.kill()
                manager.process.wait(PATIENCE)
        for pid in marked(self.root, self.net):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for("an empty domain", lambda: not marked(self.root, self.net))


def free_net() -> str:
    """Three bytes of a loopback network whose first addresses nobody listens on."""
    chance = random.Random()
    while True:
        net = f"127.{chance.randrange(20, 250)}.{chance.randrange(1, 250)}"
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind((f"{net}.11", 7801))
            return net


def marked(root: Path, net: str = "") -> list[int]:
    """The living processes that carry a domain's mark or work inside it, and engines on its addresses: their titles overwrite
    the environment, and an archive may be anywhere."""
    mark, title, processes = f"{MARK}={root}\0".encode(), f"valkey-server {net}.".encode() if net else b"\0none", []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if not entry.isdigit():
                continue
            inside = os.readlink(f"/proc/{entry}/cwd").startswith(f"{root}/")
            engine = title in Path(f"/proc/{entry}/cmdline").read_bytes()
            if inside or engine or mark in Path(f"/proc/{entry}/environ").read_bytes():
                processes.append(int(entry))
    return processes


@contextlib.contextmanager
def local_domain(root: Path, servers: int = 3, settings: dict[str, str] | None = None, state: str = "") -> Iterator[LocalDomain]:
    """A domain that runs, in a SQLite file of its own unless a state is named; what it started has ended when this ends."""
    root.mkdir(parents=True, exist_ok=True)
    domain = LocalDomain(root, servers, settings, state)
    try:
        domain.start()
        yield domain
    except BaseException:
        print(domain.account())
        raise
    finally:
        domain.close()


def refused(output: Said, *words: str, hint: bool = True) -> None:
    """A refusal worth reading: an exit code, words that name the thing, a hint, and no Python in it."""
    text = output.out + output.err
    assert output.code in (1, 2), output
    for word in words:
        assert word.lower() in text.lower(), (word, output)
    assert not hint or "hint: " in output.err or "FAILED" in output.out, output


__all__ = ["DKV", "LocalDomain", "Manager", "ManagerRefused", "Said", "local_domain", "marked", "refused", "wait_for"]
