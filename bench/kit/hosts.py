"""Bench kit: a domain on hosts of a network, and on the same hosts what stands beside it: a stock Valkey cluster, and etcd.

Hosts are network namespaces (`dkv.playground.hosts`); the program that measures is on one of its own, the desk. Only root can
make them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.client import Json
from dkv.kernel import command_line
from dkv.playground.addresses import Place, Record, registry, stop_leftovers
from dkv.playground.hosts import Host, enter, hosts, why_none
from dkv.playground.hosts_domain import DESK, HostsDomain, addresses, site_of
from kit.peer import Node, Peer
from kit.stage import PATIENT, PREFIX, Stage, _end, _interrupt, until
from kit.written import Writer

RETURNS_WITHIN = 180.0  # s a host that was lost has to be whole again
ETCD = shutil.which("etcd") or "etcd"


class OneFile(HostsDomain):
    """Managers on hosts that share one state file, which only hosts of one machine can: what etcd is compared with."""

    def _is_new(self, place: Place) -> bool:
        return False

    def _command(self, place: Place) -> list[str]:
        words = super()._command(place)
        return [*words, "--state", f"sqlite:{self.record.directory / 'domain.sqlite'}"]


@dataclass
class Hosts(Stage):
    """A domain on hosts. `domain` is a HostsDomain."""

    @property
    def network(self) -> HostsDomain:
        """The domain, with its hosts."""
        assert isinstance(self.domain, HostsDomain)
        return self.domain

    def leading(self, name: str) -> str:
        """The server whose instance leads the store's first group."""
        store = self.store(name)
        leader = store["groups"][0]["leader"]
        return str(next(i["server"] for i in store["instances"] if i["instanceName"] == leader))

    def lose(self, server_id: str, *, power: bool) -> None:
        """Take a host's cable out; with `power` everything on it is killed too."""
        if power:
            self.network.lose(server_id)
        else:
            self.network.hosts[server_id].unplug()

    def bring_back(self, server_id: str, name: str) -> Json:
        """Put its cable in, start its manager if that was killed, and wait until the store is whole."""
        self.network.hosts[server_id].plug()
        self.network.start_managers()
        return self.whole(name, RETURNS_WITHIN)

    def manager(self, server_id: str) -> int:
        """The pid of a host's manager."""
        return self.network._managers[server_id].pid

    def join(self, place: Place) -> float:
        """Have the next host join; ms from the start of its manager until it may be given an instance."""
        network = self.network
        network._joining = network._join_token()
        began = time.monotonic()
        network._start(place)
        network._await_ready(place)
        instance = {"instanceName": "probe-1", "server": place.server_id, "clustronPort": 7811, "clientPort": 7861, "group": "g"}
        body = {"name": "probe", "instances": [instance], "groups": [{"name": "g", "slots": [[0, 16383]]}]}
        body |= {"replicationFactor": 1, "insecureEngineTraffic": "yes"}

        def takes() -> bool | None:
            try:
                self.domain.ask(lambda client: client.check_store(body))
            except CliError:
                return None
            return True

        until(takes, PATIENT, f"{place.server_id} to take an instance", 0.02)
        return 1000 * (time.monotonic() - began)

    def member(self, server_id: str) -> int | None:
        """The pid of a host's etcd member."""
        pids = self.network.hosts[server_id].processes()
        return next((pid for pid in pids if Path(command_line(pid).partition(" ")[0]).name == "etcd"), None)


@contextlib.contextmanager
def on_hosts(count: int, *, begin: int = 0, one_file: bool = False, **settings: str) -> Iterator[Hosts]:
    """A domain on so many hosts, ready; this process is at the desk from then on. Of the managers the first `begin` are started,
    0: all. `settings` become DKV_* variables.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    for name, value in {"access_control": "managers", **settings}.items():  # clients are measured without a password
        os.environ[f"DKV_{name.upper()}"] = value
    before = {name: os.environ.pop(name, None) for name in ("DKV_TOKEN", "DKV_CA_FILE")}
    with hosts(DESK, *addresses(count)) as (desk, *made):
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(desk)
            with _domain(made, OneFile if one_file else HostsDomain, begin or count) as domain:
                yield Hosts(domain)
        finally:
            _leave(home)
            for name, value in before.items():
                os.environ.pop(name, None)
                os.environ.update({name: value} if value is not None else {})


@contextlib.contextmanager
def _domain(made: list[Host], kind: type[HostsDomain], begin: int) -> Iterator[HostsDomain]:
    with registry() as place:
        stop_leftovers(place)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        record = Record(place / f"{os.getpid()}.json", directory, temporary=True)
        domain = kind(site_of(directory, made), record, Screen(out=sys.stderr), made)
        record.write()
    try:
        for place in domain.site.places[:begin]:
            domain.start_manager(place)
        if kind is HostsDomain and begin > 1:
            domain.await_voters(3 if begin >= 3 else 1)
        yield domain
    finally:
        for host in made:
            host.kill_all()
        _end(domain)


def _leave(home: int) -> None:
    """Be on the machine's own network again."""
    import ctypes

    try:
        ctypes.CDLL(None, use_errno=True).setns(home, 0)
    finally:
        os.close(home)


# Beside it -----------------------------------------------------------------------------------------------------------


class HostNode(Node):
    """A bare Valkey server on a host."""

    def __init__(self, stage: Hosts, host: Host, directory: Path, port: int, settings: Sequence[str]) -> None:
        super().__init__(stage, directory, port, settings, host=host.address, inside=host.inside)
        self.network_host = host


class HostPeer(Peer):
    """A stock cluster of three primaries and three replicas, two servers on each host."""

    def __init__(self, stage: Hosts, name: str, settings: Sequence[str] = ()) -> None:
        base = ["protected-mode no", "cluster-enabled yes", "cluster-config-file nodes.conf", *settings]
        self.directory = stage.directory / name
        places = [host for _ in range(2) for host in stage.network.hosts.values()]
        self.nodes: list[Node] = [
            HostNode(stage, host, self.directory / str(21000 + i), 21000 + i, base) for i, host in enumerate(places)
        ]

    def lose(self, host: Host, *, power: bool) -> None:
        """Take the host's cable out; with `power` its servers are killed too. The domain's processes there stay."""
        host.unplug()
        for node in self.on(host) if power else ():
            node.kill()

    def bring_back(self, host: Host) -> None:
        """Put the cable in, and start what was killed as a supervisor would."""
        host.plug()
        for node in self.on(host):
            if node.child and node.child.poll() is not None:
                node.start()
                until(node.answers, RETURNS_WITHIN, "the killed server to answer", 0.05)
        until(self.linked, RETURNS_WITHIN, "the peer to be whole", 0.1)

    def on(self, host: Host) -> list[Node]:
        """Its servers on a host."""
        return [node for node in self.nodes if isinstance(node, HostNode) and node.network_host is host]


@contextlib.contextmanager
def bare_etcd(stage: Hosts) -> Iterator[tuple[list[str], list[int]]]:
    """A member of stock etcd on each host, without TLS; their client endpoints and pids."""
    directory = stage.directory / "etcd"
    places = list(stage.network.hosts.items())
    cluster = ",".join(f"{name}=http://{host.address}:23800" for name, host in places)
    children = []
    try:
        for name, host in places:
            client, peer = f"http://{host.address}:23790", f"http://{host.address}:23800"
            words = ["--name", name, "--data-dir", str(directory / name), "--initial-cluster", cluster, "--logger", "zap"]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error"]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            children.append(subprocess.Popen([*host.inside, ETCD, *words], stdin=subprocess.DEVNULL))
            stage.adopt(children[-1].pid)
        yield [f"{host.address}:23790" for _, host in places], [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
        shutil.rmtree(directory, ignore_errors=True)


def proven(writer: Writer, *, at_end: bool = False) -> dict[str, object]:
    """What reading back showed; at the end, of every key."""
    return vars(writer.prove_all() if at_end else writer.prove())


__all__ = ["HostPeer", "Hosts", "bare_etcd", "on_hosts", "proven", "why_none"]
