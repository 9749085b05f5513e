"""Hosts of a network for tests, and a domain on some of them. Only root can make hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dkv.access.certificates import Owner, Reachable, new_leaf
from dkv.access.crypto import KeyPair, read
from dkv.access.domain_key import DOMAIN_KEY, authority_label, key_in
from dkv.domain.access import MANAGERS
from dkv.playground import hosts as network
from dkv.playground.hosts import Host as NetworkHost
from dkv.playground.hosts import why_none
from tests.e2e.local_domain import DKV, Said, wait_for

needs_hosts = pytest.mark.skipif(bool(why := why_none()), reason=f"no hosts of a network: {why}")


class Host(NetworkHost):
    """A host that runs scripts for a test."""

    def script(self, text: str, *words: str | Path) -> str:
        """Run a Python script there; what it printed."""
        command = [*self.inside, sys.executable, "-c", text, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def hosts(*addresses: str) -> Iterator[list[Host]]:
    """Hosts with these addresses of 10.0.0.0/24; nothing of them is left afterwards."""
    with network.hosts(*addresses) as made:
        yield [Host(host.name, host.address, host.switch, host.port) for host in made]


class Domain:
    """Managers on hosts of a network, with access control; they share one state file."""

    def __init__(self, root: Path, members: list[Host]) -> None:
        self.root, self.members = root, members
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("DKV_")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def data_dir(self, host: Host) -> Path:
        return self.root / f"s-{host.address}"

    def log(self, host: Host) -> Path:
        return self.root / f"s-{host.address}.log"

    def start(self, host: Host) -> None:
        """Start a manager there and wait until it serves."""
        command = [str(DKV), "manager", "run", "--server-id", f"s{self.members.index(host) + 1}", "--bind", host.address]
        command += ["--data-dir", str(self.data_dir(host)), "--state", f"sqlite:{self.root / 'domain.sqlite'}"]
        environ = self.environ | {"DKV_ACCESS_CONTROL": "on"}
        with self.log(host).open("wb") as log:
            process = subprocess.Popen([*host.inside, *command], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes[host.address] = process
        wait_for("it serves", lambda: "manager runs" in self.log(host).read_text() or process.poll() is not None)
        assert process.poll() is None, self.log(host).read_text()

    def dkv(self, host: Host, *words: str, given: str = "", **environ: str) -> Said:
        """Run the command line on a host; `given` is its standard input."""
        home = {"XDG_CONFIG_HOME": str(self.root / f"home-{host.address}")}
        done = subprocess.run(
            [*host.inside, str(DKV), *words],
            env=self.environ | home | environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def do(self, host: Host, *words: str, given: str = "", **environ: str) -> str:
        """Run it; it must succeed. What it printed."""
        output = self.dkv(host, *words, given=given, **environ)
        assert output.code == 0, (words, output)
        return output.out

    @property
    def authorities(self) -> Path:
        return self.data_dir(self.members[0]) / "certificates" / "authorities.pem"

    @property
    def sha256(self) -> str:
        return read(self.authorities.read_text()).fingerprint

    def leaf(self, name: str, authority: Mapping[str, str], now: int) -> tuple[Path, Path]:
        """A leaf, in files, that an authority signs at that time for a server that nobody knows: the domain's own authority, or
        `database` that of its engines. `authority` has its certificate (`current`), its sealed `key`, and uid of the `domain`.
        """
        key = key_in(self.data_dir(self.members[0]) / "certificates" / DOMAIN_KEY)
        assert key is not None
        database = authority.get("database", "")
        pair = KeyPair(authority["current"], key.unseal(authority_label(database or MANAGERS), authority["key"]))
        leaf = new_leaf(pair, Owner(authority["domain"], database), Reachable("a" * 32), now)
        paths = self.root / f"{name}.pem", self.root / f"{name}.key"
        paths[0].write_text(leaf.certificate)
        paths[1].write_text(leaf.key)
        return paths

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(30)
