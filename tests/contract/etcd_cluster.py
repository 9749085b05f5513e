"""Real etcd members on loopback for the store's tests: started, killed, frozen and ended by pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dkv.store.etcd_address import EtcdAddress
from tests.contract.ports import free_port

PROGRAM = shutil.which("etcd")
HOST = "127.0.0.1"
STARTS_WITHIN = 30.0

needs_etcd = pytest.mark.skipif(PROGRAM is None, reason="there is no etcd on PATH: as root, ./dev setup installs it")


@dataclass
class Member:
    """One member: its ports, directory and process."""

    name: str
    client_port: int
    peer_port: int
    metrics_port: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.client_port}"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


@dataclass
class EtcdCluster:
    """Some members. `tls` is a directory with authorities.pem, server.pem and server.key that they listen with."""

    directory: Path
    size: int
    tls: Path | None = None
    words: tuple[str, ...] = ()  # more of its command line
    members: list[Member] = field(default_factory=list)

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def start(self) -> None:
        for number in range(self.size):
            name = f"m{number}"
            self.members.append(Member(name, free_port(), free_port(), free_port(), self.directory / name))
        for member in self.members:
            self.start_member(member)
        self.wait_healthy(self.members)

    def start_member(self, member: Member) -> None:
        peers = ",".join(f"{m.name}=http://{HOST}:{m.peer_port}" for m in self.members)
        client = f"{self.scheme}://{member.endpoint}"
        peer = f"http://{HOST}:{member.peer_port}"
        words = [
            *("--name", member.name, "--data-dir", str(member.directory)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", peers),
            *("--initial-cluster-token", str(self.directory), "--heartbeat-interval", "50", "--election-timeout", "500"),
            *("--pre-vote", "--logger", "zap", "--log-level", "error", "--strict-reconfig-check"),
            *("--listen-metrics-urls", f"http://{HOST}:{member.metrics_port}"),
            *self.words,
        ]
        if self.tls:
            words += ["--cert-file", str(self.tls / "server.pem"), "--key-file", str(self.tls / "server.key")]
            words += ["--trusted-ca-file", str(self.tls / "authorities.pem"), "--client-cert-auth"]
        assert PROGRAM is not None
        log = (self.directory / f"{member.name}.log").open("ab")
        member.process = subprocess.Popen([PROGRAM, *words], stdout=log, stderr=log, env={"PATH": os.defpath})
        log.close()

    def wait_healthy(self, members: Sequence[Member]) -> None:
        give_up = time.monotonic() + STARTS_WITHIN
        for member in members:
            while not healthy(member):
                assert time.monotonic() < give_up, (self.directory / f"{member.name}.log").read_text()[-2000:]
                time.sleep(0.02)

    def leader(self) -> Member:
        """The member that leads now, as they say themselves; frozen and dead ones are passed over."""
        give_up = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < give_up:
            for member in self.members:
                if "etcd_server_is_leader 1" in metrics(member):
                    return member
            time.sleep(0.02)
        raise AssertionError("no member leads")

    def address(self, prefix: str, only: Sequence[Member] = (), **words: object) -> EtcdAddress:
        endpoints = tuple(member.endpoint for member in only or self.members)
        return EtcdAddress(endpoints, tls=self.tls is not None, prefix=prefix, **words)  # type: ignore[arg-type]

    def end(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.process.kill()
                member.process.wait()


def metrics(member: Member) -> str:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{member.metrics_port}/metrics", timeout=0.5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def healthy(member: Member) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{member.metrics_port}/health", timeout=1) as answer:
            return b'"true"' in answer.read()
    except OSError:
        return False


@contextmanager
def cluster(directory: Path, size: int = 1, tls: Path | None = None, words: tuple[str, ...] = ()) -> Iterator[EtcdCluster]:
    """Members that run, and are gone at the end whatever happened."""
    directory.mkdir(parents=True, exist_ok=True)
    members = EtcdCluster(directory, size, tls, words)
    try:
        members.start()
        yield members
    finally:
        members.end()
