"""Moving in: a living Valkey or Redis, alone or a small cluster, is copied into a store while it is written to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from valkey.crc import key_slot

from dkv.access.certificates import Owner, Reachable, new_authority, new_leaf
from dkv.engine.binary import find_binary
from tests.contract.ports import free_port
from tests.e2e.local_domain import DKV, LocalDomain, local_domain, wait_for
from tests.tls_program import tls_program

PASSWORD = "source secret"
LIBRARY = "#!lua name=mine\nserver.register_function('f', function() return 7 end)"
KEYS = 3_000


@contextlib.contextmanager
def server(root: Path, *settings: str, authority: Path | None = None, program: Path | str = "") -> Iterator[int]:
    """A Valkey of somebody else, or another program; over TLS only, with a leaf of this authority, where there is one."""
    port = free_port()
    root.mkdir()
    program = program or (tls_program() if authority else find_binary())
    listens = tls_settings(root, authority, port) if authority else ["--port", str(port)]
    words = [*listens, "--dir", str(root), "--save", "", "--requirepass", PASSWORD, *settings]
    process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
    try:
        wait_for("the source answers", lambda: _answers(port, authority))
        yield port
    finally:
        process.kill()
        process.wait()


def redis_server(folder: Path) -> Path:
    """Debian's Redis. Its package redis-tools has the server, too: one program, which goes by the name that it is called by."""
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if found is None:
        pytest.skip("no redis: Debian's redis-tools, which './dev setup' installs, has it")
    program = folder / "redis-server"
    program.symlink_to(found)
    return program


def tls_settings(root: Path, authority: Path, port: int) -> list[str]:
    """The settings of a server that speaks TLS only; the file of its authority is made."""
    now = int(time.time() * 1000)
    pair = new_authority(Owner("somebody"), now)
    leaf = new_leaf(pair, Owner("somebody"), Reachable("source", ("127.0.0.1",)), now)
    for file, text in ((authority, pair.certificate), (root / "leaf", leaf.certificate), (root / "key", leaf.key)):
        file.write_text(text)
    names = {"tls-cert-file": root / "leaf", "tls-key-file": root / "key", "tls-ca-cert-file": authority}
    files = [word for name, file in names.items() for word in (f"--{name}", str(file))]
    return ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *files]


def _answers(port: int, authority: Path | None) -> bool:
    with contextlib.suppress(valkey.exceptions.ConnectionError), at(port, authority=authority) as source:
        return bool(source.ping())
    return False


def at(port: int, database: int = 0, authority: Path | None = None) -> valkey.Valkey:
    encrypted = {"ssl": True, "ssl_ca_certs": str(authority)} if authority else {}
    return valkey.Valkey("127.0.0.1", port, database, PASSWORD, socket_timeout=10, **encrypted)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("import"), servers=1) as running_domain:
        created(running_domain, "Moved", 2, 7811)
        yield running_domain


class Writer:
    """Writes keys of its own at the source until it is stopped; changes and deletes what it wrote before."""

    def __init__(self, client: Any) -> None:
        self._client, self._stopped, self.count = client, threading.Event(), 0
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._stopped.is_set():
            self.count += 1
            self._client.set(f"written:{self.count}", self.count)
            self._client.append(f"written:{self.count // 2}", "x")
            self._client.delete(f"written:{self.count // 3}")
            self._client.rpush("list", self.count)
            time.sleep(0.001)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def fill(source: Any) -> None:
    """Every type, with and without an end."""
    pipeline = source.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.set(f"key:{number}", f"value {number}", ex=5_000 if number % 3 == 0 else None)
    pipeline.execute()
    source.set(b"\x00\xff binary", b"\r\n\x00")
    source.hset("hash", mapping={f"field {n}": n for n in range(1_000)})
    source.sadd("set", *range(1_000))
    source.zadd("sorted", {f"member {n}": n / 3 for n in range(500)})
    source.rpush("list", *range(300))
    source.xadd("stream", {"a": 1})
    source.xgroup_create("stream", "group", 0)
    source.pfadd("distinct", *range(100))


def words(store: str, port: int) -> tuple[str, ...]:
    return ("import", "--db-name", store, "--from", f"redis://127.0.0.1:{port}")


@contextlib.contextmanager
def begun(domain: LocalDomain, store: str, port: int, authority: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """An import that runs beside the test, and is killed if it is not done then."""
    line = words(store, port)
    if authority:
        line = (*line[:-1], line[-1].replace("redis:", "rediss:"), "--from-ca", str(authority))
    environ = domain.env | {"DKV_MANAGERS": domain.addresses, "DKV_SOURCE_PASSWORD": PASSWORD}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [str(DKV), *line], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def created(domain: LocalDomain, store: str, groups: int, port: int) -> None:
    ports = ("-ClustronPort", str(port), "-ClientPort", str(port + 50))
    domain.create(store, "-InstanceCount", str(groups), "-ReplicationFactor", "1", *ports)


def size_of(domain: LocalDomain, store: str) -> int:
    """How many keys a store of one group has."""
    instance = domain.instance(store, domain.group(store)["leader"])
    with valkey.Valkey(instance["host"], instance["clientPort"], socket_timeout=10) as engine:
        return int(engine.dbsize())


def copy_of(domain: LocalDomain, store: str, database: int = 0) -> dict[bytes, bytes]:
    """Every key of a store with what it holds, as text."""
    contents: dict[bytes, bytes] = {}
    for group in domain.client.store(store)["groups"]:
        instance = domain.instance(store, group["leader"])
        with valkey.Valkey(instance["host"], instance["clientPort"], database, socket_timeout=10) as engine:
            contents |= everything(engine)
    return contents


def everything(client: Any) -> dict[bytes, Any]:
    reads = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": lambda key: set(client.smembers(key)),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    contents = {key: reads[client.type(key)](key) for key in client.scan_iter(count=1_000)}
    return contents | {b"ends " + key: client.ttl(key) > 0 for key in list(contents)}


def test_a_server_is_moved_in_while_it_is_written_to_and_its_import_is_killed_and_begun_again(
    domain: LocalDomain, tmp_path: Path
) -> None:
    with server(tmp_path / "source") as port, at(port) as source, at(port, 3) as third, at(port) as writing:
        fill(source)
        third.set("other database", "3")
        source.function_load(LIBRARY)
        writer = Writer(writing)
        try:
            with begun(domain, "Moved", port):
                wait_for("it began", lambda: bool(domain.client.read("/stores/Moved/users")["users"]))
            with begun(domain, "Moved", port) as again:
                assert again.stdout is not None
                lines = [again.stdout.readline(), again.stdout.readline()]
                assert "did not end: it is begun again" in lines[0], lines
                assert "press Enter" in lines[1], lines
                reached = writer.count
                wait_for("it goes on", lambda: writer.count > reached + 100)
                writer.stop()
                rest, _ = again.communicate("\n", timeout=60)
        finally:
            writer.stop()
        assert again.returncode == 0, rest
        assert "of them were compared and are equal" in rest
        assert copy_of(domain, "Moved") == everything(source)
        assert copy_of(domain, "Moved", 3) == everything(third)
        assert source.config_get("notify-keyspace-events")["notify-keyspace-events"] in ("", "AE"), (
            "the killed one could not reset it"
        )
    assert domain.client.read("/stores/Moved/users")["users"] == []
    instance = domain.instance("Moved", domain.client.store("Moved")["groups"][0]["leader"])
    with valkey.Valkey(instance["host"], instance["clientPort"]) as engine:
        assert engine.fcall("f", 0) == 7


def test_a_redis_over_tls_is_moved_in_while_it_is_written_to_and_its_import_is_killed_and_begun_again(
    domain: LocalDomain, tmp_path: Path
) -> None:
    created(domain, "FromRedis", 1, 7851)
    authority, program = tmp_path / "authority.pem", redis_server(tmp_path)
    with (
        server(tmp_path / "source", authority=authority, program=program) as port,
        at(port, authority=authority) as source,
        at(port, authority=authority) as writing,
    ):
        assert source.info("server")["redis_version"][0] in "567"
        fill(source)
        source.function_load(LIBRARY.replace("server.", "redis."))
        writer = Writer(writing)
        try:
            with begun(domain, "FromRedis", port, authority):
                wait_for("keys are there", lambda: size_of(domain, "FromRedis") > 10)
            with begun(domain, "FromRedis", port, authority) as again:
                assert again.stdout is not None
                lines = [again.stdout.readline(), again.stdout.readline()]
                assert "did not end: it is begun again" in lines[0] and "press Enter" in lines[1], lines
                reached = writer.count
                wait_for("it goes on", lambda: writer.count > reached + 100)
                writer.stop()
                rest, _ = again.communicate("\n", timeout=60)
        finally:
            writer.stop()
        assert again.returncode == 0 and "of them were compared and are equal" in rest, rest
        assert copy_of(domain, "FromRedis") == everything(source)
    assert domain.client.read("/stores/FromRedis/users")["users"] == []


def test_a_cluster_is_moved_in(domain: LocalDomain, tmp_path: Path) -> None:
    created(domain, "Clustered", 1, 7821)
    cluster = ("--cluster-enabled", "yes", "--cluster-config-file")
    with server(tmp_path / "one", *cluster, "one.conf") as one, server(tmp_path / "two", *cluster, "two.conf") as two:
        with at(one) as first, at(two) as second:
            first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 9_000)
            second.execute_command("CLUSTER", "ADDSLOTSRANGE", 9_001, 16_383)
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", two)
            wait_for("the cluster is whole", lambda: {c.cluster("INFO")["cluster_state"] for c in (first, second)} == {"ok"})
        with valkey.ValkeyCluster("127.0.0.1", one, password=PASSWORD) as source:
            for number in range(300):
                source.set(f"key:{number}", number)
        ended = domain.dkv(*words("Clustered", one), "--no-follow", env={"DKV_SOURCE_PASSWORD": PASSWORD})
        assert ended.code == 0, ended
        with at(one) as first, at(two) as second:
            assert copy_of(domain, "Clustered") == everything(first) | everything(second)


def test_a_server_over_tls_is_moved_in_by_its_authority_and_by_no_other(domain: LocalDomain, tmp_path: Path) -> None:
    created(domain, "Encrypted", 1, 7831)
    authority = tmp_path / "authority.pem"
    with server(tmp_path / "source", authority=authority) as port, at(port, authority=authority) as source:
        for number in range(300):
            source.set(f"key:{number}", number)
        line = ("import", "--db-name", "Encrypted", "--from", f"rediss://127.0.0.1:{port}", "--no-follow")
        secret = {"DKV_SOURCE_PASSWORD": PASSWORD}
        with domain.unchanged():
            strange = domain.dkv(*line, env=secret)
            plain = domain.dkv(*words("Encrypted", port), "--no-follow", env=secret)
        for output in (strange, plain):
            assert output.code != 0 and "does not answer" in output.err and "rediss://" in output.err, output
        moved = domain.dkv(*line, "--from-ca", str(authority), env=secret)
        assert moved.code == 0, moved
        assert copy_of(domain, "Encrypted") == everything(source)


def test_an_import_goes_on_when_leaders_of_the_store_change(domain: LocalDomain, tmp_path: Path) -> None:
    domain.create("Failing", "-InstanceCount", "2", "-ReplicationFactor", "2", "-ClustronPort", "7841", "-ClientPort", "7891")
    copies = [instance["instanceName"] for instance in domain.client.store("Failing")["instances"]]
    domain.wait_in_sync("Failing", *copies)
    with server(tmp_path / "source") as port, at(port) as source, at(port) as writing:
        for number in range(300):
            source.set(f"key:{number}", number)
        writer = Writer(writing)
        try:
            with begun(domain, "Failing", port) as importing:
                assert importing.stdout is not None
                line = importing.stdout.readline()
                assert "press Enter" in line, line
                former = domain.group("Failing")["leader"]
                domain.do("switchover", "database", "--db-name", "Failing")
                wait_for("another copy leads", lambda: domain.group("Failing")["leader"] not in (former, None))
                os.kill(domain.pid("Failing", domain.group("Failing")["leader"]), signal.SIGKILL)
                reached = writer.count
                wait_for("it was written to meanwhile", lambda: writer.count > reached + 100)
                writer.stop()
                rest, _ = importing.communicate("\n", timeout=90)
        finally:
            writer.stop()
        assert importing.returncode == 0, rest
        assert "of them were compared and are equal" in rest
        assert copy_of(domain, "Failing") == everything(source)
    domain.wait_in_sync("Failing", *copies)


def test_what_cannot_be_imported_is_refused_in_a_sentence_and_changes_nothing(domain: LocalDomain, tmp_path: Path) -> None:
    leader = domain.group("Moved")["leader"]
    with domain.engine("Moved", leader) as engine:
        slots = domain.group("Moved")["slots"][0]
        name = next(name for name in map(str, range(100)) if slots[0] <= key_slot(name.encode()) <= slots[1])
        engine.set(name, 1)
    with server(tmp_path / "source", "--databases", "20") as port, domain.unchanged():
        closed = free_port()
        for source, password, sentence in (
            (f"redis://127.0.0.1:{closed}", PASSWORD, "does not answer"),
            (f"redis://127.0.0.1:{port}", "wrong one", "does not let in"),
            (f"redis://:hidden-word@127.0.0.1:{port}", "", "A password in the address"),
            ("http://127.0.0.1", "", "is not valid"),
            ("redis://127.0.0.1:99999", "", "is not valid"),
        ):
            output = domain.dkv("import", "--db-name", "Moved", "--from", source, env={"DKV_SOURCE_PASSWORD": password})
            assert output.code != 0, output
            assert sentence in output.err and "hint: " in output.err, output
            assert "hidden-word" not in output.err and "wrong one" not in output.err
    with server(tmp_path / "again", "--databases", "20") as port:
        output = domain.dkv(*words("Moved", port), env={"DKV_SOURCE_PASSWORD": PASSWORD})
        assert output.code != 0 and "Moved is not empty: its database 0 has " in output.err, output
        assert domain.client.read("/stores/Moved/users")["users"] == []
        with at(port, 17) as source:
            source.set("k", "v")
        output = domain.dkv(*words("Moved", port), env={"DKV_SOURCE_PASSWORD": PASSWORD})
        assert output.code != 0 and "The source has a database 17" in output.err, output
