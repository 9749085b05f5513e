"""Bench kit: a domain of its own for one benchmark, and the promise that nothing of it is left running.

It stands on the playground's domain: managers as child processes, cmdlets, the public client, unmodified engines.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from dkv.cli.output import Screen
from dkv.client import Json
from dkv.kernel import is_alive, started
from dkv.playground.addresses import Record, choose, engines, registry, stop_leftovers
from dkv.playground.domain import Domain, lacks

T = TypeVar("T")
DKV = str(Path(sys.executable).parent / "dkv")
PREFIX = "dkv-playground-bench-"  # the playground's own prefix: what a killed benchmark leaves is found and removed
PATIENT = 90.0  # s anything may take before a benchmark gives up


@dataclass
class Stage:
    """A running domain of servers on loopback addresses, sharing one SQLite state."""

    domain: Domain

    @property
    def directory(self) -> Path:
        """Where everything of this run is; removed at the end."""
        return self.domain.record.directory

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which cmdlets reach this domain."""
        return {**os.environ, "DKV_MANAGERS": ",".join(self.domain.managers)}

    @cached_property
    def nuocmd_environ(self) -> dict[str, str]:
        """The environment of nuocmd, as a user that is made for it."""
        name, password = "bench", secrets.token_hex(8)
        body = {"name": name, "roles": ["admin"], "password": password}
        self.domain.ask(lambda client: client.request("PUT", f"/api/1/policies/users/{name}", body))
        return {**self.environ, "NUOCMD_BASIC_CREDS": f"{name}:{password}"}

    def ports(self) -> list[str]:
        """The words New-DkvStore needs where the usual ports are not free."""
        return ["-ClustronPort", str(self.domain.site.cluster_port), "-ClientPort", str(self.domain.site.client_port)]

    def cmdlet(self, *words: str) -> str:
        """Run `dkv WORDS` as a person does, in a process of its own; what it printed. Raises RuntimeError."""
        done = subprocess.run([DKV, *words], env=self.environ, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"dkv {' '.join(words)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def make(self, name: str, *words: str) -> Json:
        """Create and start a store, and wait until it is whole."""
        self.cmdlet("New-DkvStore", "-Name", name, "-InstancePrefix", name, *words, *self.ports())
        self.cmdlet("Start-DkvStore", "-Name", name)
        return self.whole(name)

    def store(self, name: str) -> Json:
        """The store as it is now."""
        return self.domain.ask(lambda client: client.store(name))

    def whole(self, name: str, within: float = PATIENT) -> Json:
        """The store once every copy runs and is in sync."""
        return until(lambda: None if lacks(value := self.store(name)) else value, within, f"{name} to be whole", 0.1)

    def kill(self, pid: int) -> float:
        """SIGKILL an engine of this domain; the moment, in monotonic seconds."""
        if pid not in [own for own, start in engines(self.directory) if is_alive(own, start)]:
            raise RuntimeError(f"process {pid} is no living engine of this benchmark")
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return at

    def adopt(self, pid: int) -> None:
        """Have a process ended with this stage, whatever happens."""
        self.domain.record.processes.append((pid, started(pid)))
        self.domain.record.write()


def leader_pid(store: Json, group: int = 0) -> int:
    """The process that leads a group."""
    leader = store["groups"][group]["leader"]
    return int(next(i["process"]["pid"] for i in store["instances"] if i["instanceName"] == leader))


def until(ask: Callable[[], T | None], within: float, what: str, pause: float = 0.01) -> T:
    """Ask until something comes. Raises RuntimeError."""
    ends = time.monotonic() + within
    while (value := ask()) is None:
        if time.monotonic() > ends:
            raise RuntimeError(f"waited {within:g} s in vain for {what}")
        time.sleep(pause)
    return value


@contextlib.contextmanager
def staged(servers: int, instances: int, **settings: str) -> Iterator[Stage]:
    """A domain that is ready. `settings` become DKV_* variables of its managers."""
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode beside it, so also what is measured
    for name, value in {"access_control": "managers", **settings}.items():  # clients are measured without a password
        os.environ[f"DKV_{name.upper()}"] = value
    with registry() as place:
        stop_leftovers(place)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        record = Record(place / f"{os.getpid()}.json", directory, temporary=True)
        domain = Domain(choose(directory, servers, instances), record, Screen(out=sys.stderr))
        record.write()
        try:
            domain.start_managers()
            if domain.ask(lambda client: client.stores()):
                raise RuntimeError("a manager of somebody else answers on our addresses; try again")
        except BaseException:
            _end(domain)
            raise
    try:
        yield Stage(domain)
    finally:
        _end(domain)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end(domain: Domain) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        domain.stop_managers()
        domain.record.kill_everything()
        domain.record.remove()
        shutil.rmtree(domain.record.directory, ignore_errors=True)
    finally:
        signal.signal(signal.SIGINT, before)


def arguments(text: str | None, parts: Sequence[str] = (), **counts: tuple[int, int, str]) -> argparse.Namespace:
    """The words of a benchmark: `--quick`, `--only` if it has parts, and for each count its (full, quick) default and meaning."""
    first = (text or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(description=first)
    parser.add_argument("--quick", action="store_true", help="tiny counts: shows that it works, not how fast")
    if parts:
        parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="run these parts [all]")
    for name, (full, quick, what) in counts.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{what} [{full}; quick {quick}]")
    wish = parser.parse_args()
    for name, (full, quick, _) in counts.items():
        if getattr(wish, name) is None:
            setattr(wish, name, quick if wish.quick else full)
    return wish
