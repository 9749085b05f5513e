"""Two managers on two hosts, commanded from a third: the life of a store over TLS, and what an attacker on the network gets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from dkv.access import certificates
from dkv.engine.config import REPLICA, replica_password
from dkv.engine.supervisor import Run, read_run
from tests.contract.forged import ping
from tests.e2e.hosts import Domain, Host, hosts, needs_hosts
from tests.e2e.local_domain import wait_for
from tests.tls import Place, now
from tests.tls_program import tls_program, tls_program_or_none

pytestmark = needs_hosts

ASK = """
import socket, ssl, sys
address, bundle, certificate, key, headers = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(bundle)
if certificate:
    context.load_cert_chain(certificate, key)
try:
    plain = socket.create_connection((address, 7801), 30)
    with context.wrap_socket(plain, server_hostname=address) as connection:
        connection.sendall(f"GET /admin/v1/stores HTTP/1.0\\r\\nHost: {address}\\r\\n{headers}\\r\\n".encode())
        print(connection.recv(65536).split(b"\\r\\n")[0].decode())
except OSError as error:
    print(type(error).__name__, error)
"""
IN_CLEAR = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection((sys.argv[1], 7801), 30) as plain:
    plain.sendall(b"GET /admin/v1/stores HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer secret\\r\\n\\r\\n")
    try:
        answer = plain.recv(65536)
    except OSError:
        answer = b""
print(time.monotonic() - began < 2, b"HTTP" in answer)
"""
AGAINST_ENGINES = """
import json, socket, ssl, sys
from tests.contract.forged import heard
attack = json.loads(sys.argv[1])

def context(shown=()):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=attack["authorities"])
    if shown:
        made.load_cert_chain(*shown)
    return made

def said(line, words):
    try:
        line.sendall(words.encode())
        return line.recv(4096).decode("latin-1")
    except OSError:
        return ""

answers = {}
for name, (host, port, bus) in attack["engines"].items():
    packet = bytes.fromhex(attack["packet"])
    answers[f"{name}: a packet in clear"] = heard(host, bus, packet).hex()
    for who, shown in attack["shown"].items():
        answers[f"{name}: a packet of {who}"] = heard(host, bus, packet, context(shown)).hex()
    with socket.create_connection((host, port), 5) as plain:
        answers[f"{name}: a replica in clear"] = said(plain, attack["replica"])
    for what in ("guess", "replica"):
        with socket.create_connection((host, port), 5) as plain:
            with context().wrap_socket(plain, server_hostname=host) as line:
                answers[f"{name}: {what}"] = said(line, attack[what])[:10]
                if what == "replica":
                    answers[f"{name}: PSYNC"] = said(line, "PSYNC ? -1\\r\\n")[:11]
print(json.dumps(answers))
"""
IN_THE_MIDDLE = """
import json, socket, ssl, sys
address, certificate, key, bundle, seen = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listening = socket.create_server((address, 7801))
print("listening", flush=True)
while True:
    plain, _ = listening.accept()
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            request = connection.recv(65536)
            with open(seen, "ab") as file:
                file.write(request)
            body = json.dumps({"bundle": [open(bundle).read()]}).encode()
            connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    except OSError:
        pass
"""


class Network:
    """A domain on two hosts, and a third host from which people, and strangers, work."""

    def __init__(self, root: Path, machines: list[Host]) -> None:
        self.first, self.second, self.desk = machines
        self.domain = Domain(root, [self.first, self.second])
        self.root = root

    @property
    def managers(self) -> str:
        return f"{self.first.address},{self.second.address}"

    def log_in(self, role: str = "admin") -> str:
        """The secret of a new token with which the desk is logged in."""
        secret = self.domain.do(self.first, "create", "token", "--role", role, "--managers", self.first.address).strip()
        uri = f"https://{self.first.address}:7801"
        self.domain.do(self.desk, "login", uri, "--ca-sha256", self.domain.sha256, given=secret)
        return secret

    def store(self, name: str = "Orders") -> dict[str, Any]:
        shown = self.domain.do(self.desk, "Get-DkvStore", name, "-Managers", self.first.address, "-OutputFormat", "Json")
        return dict(json.loads(shown)[0]["store"])

    def changes(self) -> list[str]:
        """All that happened in the domain, but reports of what was refused and of certificates, which come when they are due."""
        shown = self.domain.do(self.first, "show", "events", "--limit", "1000", "-o", "json", "--managers", self.first.address)
        events = [event for event in json.loads(shown) if event["kind"] not in ("server.refused", "process.certificate")]
        return [f"{event['sequence']} {event['kind']} {event['subject']}" for event in events]

    def refused(self) -> Counter[str]:
        """How much the managers refused since they began, by kind."""
        counts: Counter[str] = Counter()
        for host in (self.first, self.second):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(f"{self.domain.data_dir(host)}/manager.sock")
                line.sendall(b"GET /admin/v1/metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
                counts.update(json.loads(line.makefile().read().partition("\n\n")[2])["refusedRequests"])
        return counts


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    root = tmp_path_factory.mktemp("hosts")
    with hosts("10.0.0.11", "10.0.0.12", "10.0.0.13") as machines:
        network = Network(root, machines)
        try:
            network.domain.environ |= {"DKV_VALKEY_SERVER": program} if (program := tls_program_or_none()) else {}
            for host in (network.first, network.second):
                network.domain.start(host)
            network.log_in()
            yield network
        finally:
            network.domain.close()


def asked(network: Network, certificate: tuple[Path, Path] | None = None, headers: str = "") -> str:
    shown = certificate or ("", "")
    return network.desk.script(ASK, network.first.address, network.domain.authorities, *shown, headers).strip()


def test_a_store_lives_on_two_hosts_and_is_commanded_from_a_third(network: Network) -> None:
    domain, desk = network.domain, network.desk
    nowhere = {"XDG_CONFIG_HOME": str(network.root / "nowhere")}
    unknown = domain.dkv(desk, "show", "domain", "--managers", network.first.address, **nowhere)
    assert unknown.code == 1 and domain.sha256 in unknown.err and "dkv login https://10.0.0.11:7801 --ca-sha256" in unknown.err
    output = domain.dkv(network.first, "get", "ca", "--managers", network.first.address)
    assert domain.sha256 in output.err + output.out
    domain.do(desk, "Connect-DkvManager", network.managers)
    # Plain on purpose, also where the engines' program has TLS: not every program has.
    domain.do(desk, "New-DkvStore", "Orders", "orders", "-EngineTls", "off", "-InsecureEngineTraffic", "yes")
    domain.do(desk, "Start-DkvStore", "Orders")
    assert "Running" in domain.do(desk, "Get-DkvStore", "Orders")
    actors = domain.do(desk, "show", "events")
    assert "token " in actors


def test_a_leader_that_is_killed_is_replaced_and_a_switchover_moves_it_back(network: Network) -> None:
    domain, desk = network.domain, network.desk

    def leader() -> dict[str, object]:
        groups = network.store()["groups"]
        assert isinstance(groups, list)
        return dict(groups[0])

    before = leader()
    instances = network.store()["instances"]
    assert isinstance(instances, list)
    pid = next(instance["process"]["pid"] for instance in instances if instance["instanceName"] == before["leader"])
    os.kill(int(pid), signal.SIGKILL)
    wait_for("another term", lambda: leader()["serving"] and int(str(leader()["term"])) > int(str(before["term"])))
    wait_for("both in sync", lambda: len(list(leader()["inSync"])) == 2)  # type: ignore[call-overload]
    leading = leader()["leader"]
    domain.do(desk, "switchover", "database", "--db-name", "Orders")
    wait_for("the other one leads", lambda: leader()["leader"] != leading and leader()["serving"])


def test_each_host_reaches_the_engines_of_the_other_and_is_fit(network: Network) -> None:
    shown = network.domain.do(network.desk, "check", "machines", "--managers", network.first.address)
    for host in (network.first, network.second):
        (line,) = [line for line in shown.splitlines() if f" {host.address}: " in line]
        assert "reaches 2 ports of engines" in line and "clock in step" in line, shown
    assert "PROBLEM" not in shown


def test_one_manager_passes_a_request_on_to_the_other_host(network: Network) -> None:
    shown = network.domain.do(network.desk, "get", "server-config", "--server-id", "s2", "--managers", network.first.address)
    assert '"ThisServerId": "s2"' in shown
    log = network.domain.log(network.second).read_text()
    assert "requests of 10.0.0.11 were refused" not in log


def test_what_is_not_verified_or_shows_nothing_gets_nowhere(network: Network, tmp_path: Path) -> None:
    domain = network.domain
    before = network.changes()
    assert network.desk.script(IN_CLEAR, network.first.address).split() == ["True", "False"]
    assert " 401 " in asked(network)
    assert " 401 " in asked(network, headers="Authorization: Bearer dkvt_0123456789ab_" + "x" * 43 + "\r\n")
    other = Place(tmp_path)
    assert "HTTP" not in asked(network, other.leaf("foreign"))
    log = domain.log(network.first)
    wait_for("the host is named", lambda: "10.0.0.13" in log.read_text())
    assert network.changes() == before


def test_leaves_of_the_true_authority_that_are_old_or_of_no_server_are_refused(network: Network) -> None:
    domain = network.domain
    sealed, uid = authority_of(network)
    before = network.changes()
    authority = {"current": domain.authorities.read_text(), "key": sealed, "domain": uid}
    expired = domain.leaf("expired", authority, now() - 200 * certificates.DAY)
    assert "HTTP" not in asked(network, expired)
    stranger = domain.leaf("stranger", authority, now())
    assert " 401 " in asked(network, stranger)
    of_another_domain = domain.leaf("domain", {**authority, "domain": "b" * 32}, now())
    assert " 401 " in asked(network, of_another_domain)
    assert network.changes() == before


def authority_of(network: Network) -> tuple[str, str]:
    """The sealed key of the domain's authority, and the domain's uid, as a backup of the state has them."""
    path = network.root / f"state-{time.monotonic_ns()}"
    network.domain.do(network.first, "backup", "state", "--file", str(path), "--managers", network.first.address)
    text = path.read_text()
    match = re.search(r'\\?"key\\?": ?\\?"([0-9a-f]{200,})', text)
    uid = re.search(r'"uid": ?"([0-9a-f]{32})"', text)
    assert match and uid, text[:2000]
    return match[1], uid[1]


def test_a_man_in_the_middle_who_shows_the_true_authority_gets_no_secret(network: Network, tmp_path: Path) -> None:
    domain, desk = network.domain, network.desk
    middle = Place(tmp_path, address=desk.address)
    leaf, seen = middle.leaf("middle"), tmp_path / "seen"
    words = [desk.address, *map(str, leaf), str(domain.authorities), str(seen)]
    command = [*desk.inside, sys.executable, "-c", IN_THE_MIDDLE, *words]
    secret = domain.do(network.first, "create", "token", "--role", "admin", "--managers", network.first.address).strip()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stdout and relay.stdout.readline() == "listening\n"
            uri = f"https://{desk.address}:7801"
            for words in (["--ca-sha256", domain.sha256], ["--ca", str(domain.authorities)]):
                output = domain.dkv(desk, "login", uri, *words, given=secret)
                assert output.code == 1 and "not of the authority that is known here" in output.err, output
            output = domain.dkv(desk, "show", "domain", "--managers", uri, DKV_TOKEN=secret)
            assert output.code == 1 and "not of the authority" in output.err
        finally:
            relay.kill()
    assert b"/admin/v1/ca" in seen.read_bytes() and secret.encode() not in seen.read_bytes()


class Sealed:
    """A store whose engines speak TLS, with a copy on each host and a TE: what an attacker may have, and what must stay."""

    def __init__(self, network: Network) -> None:
        self.network = network
        domain, desk = network.domain, network.desk
        managers = ("--managers", network.first.address)
        domain.do(
            desk,
            "New-DkvStore",
            "Sealed",
            "sealed",
            "-ClustronPort",
            "7821",
            "-ClientPort",
            "7871",
            "-Managers",
            network.managers,
        )
        domain.do(desk, "Start-DkvStore", "Sealed", "-Managers", network.managers)
        words = ("--db-name", "Sealed", "--engine-type", "TE", "--server-id", "s2")
        domain.do(desk, "start", "process", *words, *managers)
        wait_for(
            "the TE runs", lambda: '"TE"' in domain.do(desk, "get", "processes", "--db-name", "Sealed", "-o", "json", *managers)
        )
        self.runs = wait_for("three engines", lambda: self._runs() if len(self._runs()) == 3 else None) or []
        self.secret = self.runs[0].record.secret
        wait_for("its copies are in sync", lambda: len(network.store("Sealed")["groups"][0]["inSync"]) == 2)
        leader = next(run for run in self.runs if self._admin(run).role()[0] == b"master")
        assert self._admin(leader).set("kept", "safe")
        wait_for("every engine has it", lambda: {self._admin(run).dbsize() for run in self.runs} == {1})

    def _runs(self) -> list[Run]:
        folders = [self.network.domain.data_dir(host) / "run" for host in (self.network.first, self.network.second)]
        runs = [run for folder in folders for path in folder.iterdir() if (run := read_run(path)) and run.record.tls]
        return [engine for run in runs for engine in (map(run.part, run.record.parts) if run.record.parts else [run])]

    def _admin(self, run: Run) -> valkey.Valkey:
        path = f"{run.record.directory}/admin.sock"
        return valkey.Valkey(unix_socket_path=path, username="dkv-manager", password=run.record.secret)

    def engines(self) -> dict[str, tuple[str, int, int]]:
        """Address, port and bus of each, by what it is."""
        named = {}
        for run in self.runs:
            kind = "TE" if run.record.memory_only else str(self._admin(run).role()[0], "ascii")
            bus = self._admin(run).config_get("cluster-port")["cluster-port"]
            named[kind] = (run.record.address, run.record.client_port, int(bus))
        return named

    def node_id(self, kind: str) -> str:
        """The id of an engine, which every client can ask for."""
        port = self.engines()[kind][1]
        return next(run.record.node_id for run in self.runs if run.record.client_port == port)

    def picture(self) -> tuple[object, ...]:
        """Keys, leader, term, and what changed in the domain."""
        keys = [self._admin(run).dbsize() for run in self.runs]
        return keys, self.network.store("Sealed")["groups"], self.network.changes()

    def authority(self) -> dict[str, str]:
        """As the state has it, its key sealed; and the uids of domain and database."""
        path = self.network.root / "state-of-sealed"
        self.network.domain.do(
            self.network.first, "backup", "state", "--file", str(path), "--managers", self.network.first.address
        )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        records = {line["key"]: json.loads(line["text"]) for line in lines if "key" in line}
        uid = str(records["database/Sealed"]["uid"])
        return {**records[f"authority/{uid}"], "domain": lines[0]["uid"], "database": uid}


def test_engines_over_tls_read_nothing_of_a_stranger_on_the_network(network: Network, tmp_path: Path) -> None:
    """Leader, follower and TE: with no certificate, with one of every kind that a stranger may have, with a stolen password."""
    if not tls_program_or_none():
        tls_program()  # skips, and says why
    sealed = Sealed(network)
    authority, at, before = sealed.authority(), sealed.engines(), sealed.picture()
    assert set(at) == {"master", "slave", "TE"}
    manager = network.domain.data_dir(network.first) / "certificates"
    stranger = Place(tmp_path, address=network.desk.address)
    old = network.domain.leaf("old-engine", authority, now() - 91 * certificates.DAY)
    attack = {
        "authorities": authority["current"],
        "engines": at,
        "packet": ping(sealed.node_id("slave"), *at["slave"], epoch=10**9).hex(),
        "shown": {
            "nobody": [],
            "another authority": [*map(str, stranger.leaf("foreign"))],
            "a manager": [str(manager / "server.pem"), str(manager / "server.key")],
            "an engine that expired": [*map(str, old)],
        },
        "guess": "AUTH dkv-manager guess\r\n",
        "replica": f"AUTH {REPLICA} {replica_password(sealed.secret)}\r\n",
    }
    answers = json.loads(network.desk.script(AGAINST_ENGINES, json.dumps(attack)))
    heard = {what: answer for what, answer in answers.items() if answer}
    refusals = {f"{kind}: {what}": "-WRONGPASS" for kind in at for what in ("guess", "replica")}
    refusals |= {f"{kind}: PSYNC": "-NOAUTH Aut" for kind in at}
    # Who has the replication password, which stands on the machines of engines only, gets a copy of the leader, and no more.
    copied = {"master: replica": "+OK\r\n", "master: PSYNC": "+FULLRESYNC"}
    assert heard == refusals | copied
    assert sealed.picture() == before
    wait_for("the managers count it", lambda: network.refused()["wrong_password"] >= 5 and network.refused()["handshake"])


def test_a_manager_is_ended_through_the_other_and_a_host_is_drained_on_its_own(network: Network) -> None:
    domain, second = network.domain, network.second
    domain.do(network.desk, "shutdown", "server", "--server-id", "s2", "--managers", network.first.address)
    assert domain.processes[second.address].wait(60) == 0
    domain.start(second)
    domain.do(second, "manager", "stop", "--with-engines", "--data-dir", str(domain.data_dir(second)))
    assert domain.processes[second.address].wait(60) == 0
    shown = domain.do(network.desk, "get", "processes", "--managers", network.first.address)
    assert "server_id=s1" in shown and "server_id=s2" not in shown
