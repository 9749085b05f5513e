"""Engines over TLS: a store's life on real engines, with clients that believe the store's authority and nothing else.

The same promises as without TLS: whoever is killed, switched over, restarted, copied or fed a tail, nothing acknowledged is lost
and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pytest
import valkey

from dkv.access import crypto
from dkv.access.certificates import LEAF_DAYS, Owner, new_leaf, reachable
from dkv.access.crypto import KeyPair
from dkv.access.domain_key import DOMAIN_KEY, authority_label, key_in
from dkv.confirm import ConfirmingClient
from dkv.domain.constants import DAY
from dkv.engine import tls
from dkv.engine.config import certificate_settings, replica_password
from dkv.engine.contract import TlsFiles
from dkv.engine.supervisor import read_run
from tests.contract.forged import heard, ping
from tests.contract.stranger import STRANGER, Stranger
from tests.e2e.counters import Counter, counting, go_on, wrong
from tests.e2e.local_domain import wait_for
from tests.e2e.test_recovery import everything_dies, lose_state
from tests.e2e.watched import Watched, watched
from tests.tls import now
from tests.tls_program import tls_program

STORE = "Sealed"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    settings = {"DKV_VALKEY_SERVER": tls_program(), "DKV_RESTART_BUDGET": "1000"}
    with watched(tmp_path_factory.mktemp("tls"), STORE, 3, settings, ("-EngineTls", "on")) as running_domain:
        yield running_domain


def nodes(domain: Watched) -> list[tuple[str, int]]:
    return [(instance["host"], instance["clientPort"]) for instance in domain.client.store(STORE)["instances"]]


def believing(domain: Watched) -> ssl.SSLContext:
    """A client's context: the store's authority, and addresses that its leaves have."""
    return ssl.create_default_context(cadata=domain.client.store(STORE)["transport"]["authorities"])


def counted(domain: Watched) -> tuple[list[tuple[str, int]], int, ssl.SSLContext]:
    return nodes(domain), 8, believing(domain)


def kill_the_leader(domain: Watched) -> str:
    leader = str(domain.led()["leader"])
    os.kill(domain.pid(STORE, leader), signal.SIGKILL)
    return leader


def serves_in_a_later_term(domain: Watched, term: int) -> None:
    wait_for("a later term serves", lambda: domain.led()["serving"] and domain.led()["term"] > term)


def test_views_say_that_engines_speak_tls_and_of_which_program_they_are(domain: Watched) -> None:
    assert "engines speak TLS" in domain.do("Get-DkvStore", STORE).out
    shown = domain.do("show", "domain")
    assert f"{STORE}: engines speak TLS" in shown.err
    assert "engines of server s1: Valkey 9.1" in shown.err
    assert "with TLS" in shown.err
    checked = domain.do("check", "server", "--check-tls")
    assert checked.out == ""
    # Of 90 days, made valid 5 minutes ago: the domain keeps whole days, so a moment later there is one less, at least.
    assert re.search(r"The certificates of the engines of server s1 are valid for 8[89] days at least", checked.err)


def test_a_client_needs_tls_and_the_stores_own_authority(domain: Watched) -> None:
    host, port = nodes(domain)[0]
    with socket.create_connection((host, port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        assert _answer(plain) == b"", "a client without TLS has no answer"
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection((host, port), timeout=5) as line:
        ssl.create_default_context().wrap_socket(line, server_hostname=host)
    with valkey.ValkeyCluster(host=host, port=port, **domain.encrypted(STORE), ssl_check_hostname=True) as client:
        assert client.set("own", "authority")
        assert client.get("own") == b"authority"


def _answer(line: socket.socket) -> bytes:
    try:
        return line.recv(100)
    except ConnectionResetError:
        return b""


def test_a_confirmed_write_goes_over_tls(domain: Watched) -> None:
    with ConfirmingClient([f"{m.host}:{m.port}" for m in domain.managers], STORE) as client:
        assert client.set("confirmed", "yes", timeout=30).confirmed


def test_nothing_is_lost_when_leaders_are_killed_switched_over_and_restarted(domain: Watched) -> None:
    with counting(*counted(domain)) as counters:
        for _ in range(2):
            go_on(counters)
            term = int(domain.led()["term"])
            kill_the_leader(domain)
            serves_in_a_later_term(domain, term)
            domain.wait_whole()
        term = int(domain.led()["term"])
        domain.do("switchover", "database", "--db-name", STORE)
        serves_in_a_later_term(domain, term)
        go_on(counters)
        domain.do("restart", "database", "--db-name", STORE, "--rolling")
        domain.wait_whole()
        go_on(counters)
    assert wrong(counters) == []


def test_a_te_serves_reads_over_tls(domain: Watched) -> None:
    server = domain.managers[-1].server_id
    domain.do("start", "process", "--db-name", STORE, "--engine-type", "TE", "--server-id", server)
    te = wait_for("the TE runs", lambda: next((p for p in _tes(domain) if p.get("state") == "RUNNING"), None))
    leader = domain.engine(STORE, domain.led()["leader"])
    leader.set("read", "here")
    place = {"host": domain.managers[-1].host, "port": te["port"], **domain.encrypted(STORE)}
    with valkey.Valkey(**place, socket_timeout=10) as client:
        client.execute_command("READONLY")
        wait_for("the TE has it", lambda: client.get("read") == b"here")
    domain.do("shutdown", "process", "--start-id", te["startId"])
    wait_for("the TE is gone", lambda: not _tes(domain))


def _tes(domain: Watched) -> list[dict[str, object]]:
    processes = json.loads(domain.do("get", "processes", "--db-name", STORE, "-o", "json").out)
    return [process for process in processes if process["type"] == "TE"]


def test_a_hot_copy_is_made_while_writes_go_on(domain: Watched, tmp_path: Path) -> None:
    with counting(*counted(domain)) as counters:
        go_on(counters)
        words = ("--type", "simple", "--default-backup-dir", str(tmp_path / "copy"), "--timeout", "60")
        assert "completed" in domain.do("hotcopy", "database", "--db-name", STORE, *words).out
        go_on(counters)
    assert wrong(counters) == []


def test_followers_are_fed_the_dead_leaders_tail_over_tls(domain: Watched) -> None:
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "tail-above", "0")
    with counting(*counted(domain)) as counters:
        fed = any(_fails_over_by_tail(domain, counters) for _ in range(8))
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "tail-above", "-1")
    assert wrong(counters) == []
    assert fed


def _fails_over_by_tail(domain: Watched, counters: list[Counter]) -> bool:
    go_on(counters)
    domain.wait_whole()
    before, term = domain.last_event(), int(domain.led()["term"])
    kill_the_leader(domain)
    serves_in_a_later_term(domain, term)
    go_on(counters, 1)
    domain.wait_whole()
    return any(event["kind"] == "group.tail_fed" for event in domain.client.events(after=before))


def test_the_transport_is_fixed_while_the_store_runs(domain: Watched) -> None:
    domain.wait_whole()
    wait_for("every engine's certificate was reported", lambda: _running(domain) <= _certified(domain))
    with domain.unchanged():
        refusal = domain.dkv("update", "database-options", "--db-name", STORE, "--default-options", "engine-tls", "off")
    assert refusal.code == 1
    assert "fixed while it has processes" in refusal.err


def test_a_leaf_that_is_not_the_one_it_was_given_is_replaced_and_proven(domain: Watched) -> None:
    """What an engine shows is compared with what it was given: another file by hand lasts until its manager looks."""
    leader = str(domain.led()["leader"])
    place = domain.archive(STORE, leader) / "tls"
    (before,) = os.listdir(place)
    (stolen,) = (domain.archive(STORE, domain.names(leader)[0]) / "tls").iterdir()
    words = ("tls-cert-file", stolen / "engine.pem", "tls-key-file", stolen / "engine.key")
    assert admin(domain, leader).execute_command("CONFIG", "SET", *map(str, words))
    wait_for("it shows a new leaf", lambda: os.listdir(place) != [before] and len(os.listdir(place)) == 1)
    with counting(*counted(domain)) as counters:
        go_on(counters)
    assert wrong(counters) == []


def test_a_leaf_that_is_overdue_is_seen_by_its_end_and_replaced(domain: Watched) -> None:
    """The store's own authority signed it and the engine was given it: nothing says that it is due but its end, in five days or
    yesterday.
    """
    leader = str(domain.led()["leader"])
    ends = {leader: 5, domain.names(leader)[0]: -1}
    stale = {name: given_a_leaf(domain, name, now() + (days - LEAF_DAYS) * DAY) for name, days in ends.items()}
    for name, files in stale.items():
        shown = wait_for("it shows another leaf", partial(other_leaf, domain, name, files.serial))
        assert int(shown["tls_server_cert_expires_in_seconds"]) > 88 * 86_400
        place = domain.archive(STORE, name) / "tls" / files.name
        wait_for("the files of the stale one are gone", lambda place=place: not place.exists())  # type: ignore[misc]
        assert domain.engine(STORE, name).ping()


def given_a_leaf(domain: Watched, name: str, signed_at: int) -> TlsFiles:
    """Have an engine show a leaf that the store's authority signed at that time, as if its manager had given it that one."""
    server = domain.client.store(STORE)["instances"]
    instance = next(i for i in server if i["instanceName"] == name)
    records = domain.client.state()["records"]
    uid = str(json.loads(records[f"database/{STORE}"])["uid"])
    authority = json.loads(records[f"authority/{uid}"])
    key = key_in(domain.managers[0].data_dir / "certificates" / DOMAIN_KEY)
    assert key is not None
    pair = KeyPair(authority["current"], key.unseal(authority_label(uid), authority["key"]))
    leaf = new_leaf(pair, Owner(str(domain.client.domain()["uid"]), uid), reachable("s", instance["host"]), signed_at)
    serial = f"{crypto.read(leaf.certificate).serial:X}"
    (generation,) = os.listdir(domain.archive(STORE, name) / "tls")
    files = TlsFiles(generation.partition("-")[0], serial.zfill(len(serial) + len(serial) % 2), pair.certificate, *astuple(leaf))
    directory = str(domain.archive(STORE, name))
    tls.write_generation(directory, files)
    words = [word for setting in certificate_settings(files.name).items() for word in setting]
    assert admin(domain, name).execute_command("CONFIG", "SET", *words)
    return files


def other_leaf(domain: Watched, name: str, serial: str) -> dict[str, str]:
    """What an engine says of the leaf that it shows; nothing while it is that one."""
    shown: dict[str, str] = admin(domain, name).info("tls")
    return {} if str(shown["tls_server_cert_serial"]).upper() == serial else shown


def test_the_authority_is_changed_while_clients_write_and_the_former_one_is_believed_no_more(domain: Watched) -> None:
    """Clients that stay connected see nothing of it. One that was given both while it was held needs nothing afterwards."""
    before, former = believing(domain), domain.client.store(STORE)["transport"]["authorities"]
    seen = domain.last_event()
    with counting(*counted(domain)) as counters:
        go_on(counters)
        broken = [counter.broken for counter in counters]
        assert "trusted now" in domain.do("rotate", "ca", "--db-name", STORE, "--prepare").err
        assert f"dkv rotate ca --db-name {STORE}" in domain.do("show", "waiting").out
        for counter in counters:
            counter.context = believing(domain)
        assert "was changed" in domain.do("rotate", "ca", "--db-name", STORE).err
        go_on(counters)
        assert [counter.broken for counter in counters] == broken
    assert wrong(counters) == []
    kinds = [event["kind"] for event in domain.client.events(after=seen) if event["kind"].startswith("authority.")]
    assert kinds == ["authority.prepared", "authority.released", "authority.switched", "authority.done"]
    assert domain.client.store(STORE)["transport"]["authorities"] != former
    host, port = nodes(domain)[0]
    wait_for("every engine shows a leaf of the new authority", lambda: _trusts(domain) == {1})
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection((host, port), timeout=5) as line:
        before.wrap_socket(line, server_hostname=host)
    kill_the_leader(domain)  # replication and the bus go on with the new one
    domain.wait_whole()


def _trusts(domain: Watched) -> set[int]:
    """How many generations of certificate files each engine has."""
    return {len(os.listdir(domain.archive(STORE, name) / "tls")) for name in domain.names()}


# Attacks ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(domain: Watched) -> Path:
    """The files of an engine of another store, which its manager gave it: a leaf of another authority, for the same address."""
    domain.do(
        "New-DkvStore",
        "Other",
        "other",
        "-ReplicationFactor",
        "1",
        "-EngineTls",
        "on",
        "-ClustronPort",
        "7911",
        "-ClientPort",
        "7961",
    )
    domain.do("Start-DkvStore", "Other")
    (files,) = (domain.archive("Other", "other-1") / "tls").iterdir()
    return files


@pytest.fixture
def untouched(domain: Watched) -> Iterator[None]:
    """What an attack leaves as it was: the keys of every copy and the term; and nothing happens to the store."""
    domain.wait_whole()
    domain.engine(STORE, domain.led()["leader"]).set("kept", "safe")
    wait_for("every copy has as many keys", lambda: len(_sizes(domain)) == 1)
    wait_for("every engine's certificate was reported", lambda: _running(domain) <= _certified(domain))
    before = (_sizes(domain), domain.led())
    newest = domain.client.newest_events(1)["events"][-1]["sequence"]
    yield
    assert (_sizes(domain), domain.led()) == before
    reported = [event for event in domain.client.events(newest, STORE) if event["kind"] != "process.certificate"]
    assert reported == []  # certificates are reported when a look is due, here of those that an earlier test changed
    assert domain.engine(STORE, domain.led()["leader"]).get("kept") == b"safe"


def _running(domain: Watched) -> set[str]:
    return {
        f"process {instance['process']['startId']}" for instance in domain.client.store(STORE)["instances"] if instance["process"]
    }


def _certified(domain: Watched) -> set[str]:
    """The processes whose managers have seen their certificates, which takes some seconds after a start."""
    events = domain.client.newest_events(1_000)["events"]
    return {str(event["subject"]) for event in events if event["kind"] == "process.certificate"}


def _sizes(domain: Watched) -> set[int]:
    return {domain.engine(STORE, name).dbsize() for name in domain.names()}


@pytest.mark.usefixtures("untouched")
def test_a_rogue_node_with_the_certificate_of_another_store_is_not_let_in(domain: Watched, foreign: Path, tmp_path: Path) -> None:
    """Without its managers' order to turn newcomers away too: here only the certificate stands in its way."""
    words = ["--tls-cluster", "yes", "--tls-replication", "yes"]
    for name, file in (("cert", "engine.pem"), ("key", "engine.key"), ("ca-cert", "authorities.pem")):
        words += [f"--tls-{name}-file", str(foreign / file)]

    async def attack() -> None:
        rogue = await Stranger.start(tmp_path / "rogue", tls_program(), 9_000, more=words, alien=False)
        try:
            for name in domain.names():
                admin(domain, name).execute_command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-1")
                instance = domain.instance(STORE, name)
                await rogue.meet(instance["host"], instance["clientPort"], instance["clustronPort"])
            for number in range(15):  # on a bus without TLS every copy is empty after a second
                domain.engine(STORE, domain.led()["leader"]).set("kept", f"safe {number}")
                await asyncio.sleep(0.1)
        finally:
            await rogue.end()

    asyncio.run(attack())
    nodes = admin(domain, str(domain.led()["leader"])).execute_command("CLUSTER", "NODES")
    assert STRANGER not in str(nodes)
    domain.engine(STORE, domain.led()["leader"]).set("kept", "safe")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("shows", ["no certificate", "another store's"])
def test_the_bus_reads_no_packet_of_who_has_no_leaf_of_the_store(domain: Watched, foreign: Path, shows: str) -> None:
    """The packet is one that demotes a leader whose bus speaks plain (test_cluster_bus.py)."""
    context = believing(domain)
    if shows != "no certificate":
        context.load_cert_chain(foreign / "engine.pem", foreign / "engine.key")
    leader = str(domain.led()["leader"])
    follower = domain.instance(STORE, domain.names(leader)[0])
    at = follower["host"], follower["clientPort"], follower["clustronPort"]
    sender = admin(domain, follower["instanceName"]).execute_command("CLUSTER", "MYID").decode()
    packet = ping(sender, *at, epoch=10**9)
    for name in domain.names():
        instance = domain.instance(STORE, name)
        assert not heard(instance["host"], instance["clustronPort"], packet, context), "the bus answers nothing and closes"


@pytest.mark.usefixtures("untouched")
def test_the_replication_password_is_of_no_use_without_tls(domain: Watched) -> None:
    leader = domain.instance(STORE, str(domain.led()["leader"]))
    run = read_run(domain.manager_of(leader["instanceName"]).data_dir / "run" / str(leader["process"]["startId"]))
    assert run is not None
    with socket.create_connection((leader["host"], leader["clientPort"]), timeout=5) as line:
        line.sendall(f"AUTH dkv-replica {replica_password(run.record.secret)}\r\nPSYNC ? -1\r\n".encode())
        assert _answer(line) == b""


def admin(domain: Watched, name: str) -> valkey.Valkey:
    """The administration of an engine, as its manager has it."""
    start_id = domain.instance(STORE, name)["process"]["startId"]
    run = read_run(domain.manager_of(name).data_dir / "run" / str(start_id))
    assert run is not None
    path = f"{domain.archive(STORE, name)}/admin.sock"
    return valkey.Valkey(unix_socket_path=path, username="dkv-manager", password=run.record.secret)


# At the end, because it begins everything anew -----------------------------------------------------------------------


def test_a_lost_state_is_rebuilt_from_engines_that_speak_tls(domain: Watched) -> None:
    domain.wait_whole()
    former = domain.client.store(STORE)["transport"]["authorities"]
    leader = domain.engine(STORE, domain.led()["leader"])
    leader.set("before", "the loss")
    keys = leader.dbsize()
    wait_for("every copy has them", lambda: _sizes(domain) == {keys})
    everything_dies(domain)
    lose_state(domain)
    words = [word for manager in domain.managers for word in ("--data-dir", str(manager.data_dir))]
    shown = domain.do("rebuild", "state", "--state", domain.managers[0].state, *words, "--yes").out
    assert "all certificate authorities are made anew" in " ".join(shown.split())
    domain.start()
    domain.start_it()
    transport = domain.client.store(STORE)["transport"]
    assert transport["tls"] and transport["authorities"] != former
    assert domain.engine(STORE, domain.led()["leader"]).get("before") == b"the loss"
    assert _sizes(domain) == {keys}
