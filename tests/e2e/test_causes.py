"""Why did it end? Through the whole of dkv each death is described in plain words, with its exit code, beside its look-alikes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from dkv.client import Json
from tests.disks import small_disk
from tests.e2e.local_domain import LocalDomain, wait_for

SETTINGS = {"DKV_RESTART_BUDGET": "1000", "DKV_ENGINE_HANG_TIMEOUT_MS": "4000"}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    """Two servers. The first restarts what ends for ever, the second one within the usual budget."""
    root = tmp_path_factory.mktemp("causes")
    running_domain = LocalDomain(root, 2, SETTINGS)
    del running_domain.managers[1].env["DKV_RESTART_BUDGET"]
    try:
        running_domain.start()
        running_domain.create("Lone", "-Managers", running_domain.managers[0].host)
        yield running_domain
    finally:
        running_domain.close()


@pytest.fixture(scope="module")
def odd(domain: LocalDomain) -> LocalDomain:
    """A second store, on the server with the usual budget, for what fails at each start."""
    domain.create("Odd", "-Managers", domain.managers[1].host)
    with domain.engine("Odd", "odd-1") as client:
        for number in range(200):
            client.set(f"key-{number}", "x" * 100)
    return domain


def running(domain: LocalDomain, store: str = "Lone") -> tuple[int, int]:
    """Start id and pid of a one-node store's engine, once it runs."""
    process = domain.wait_state(store, f"{store.lower()}-1", "Running")["process"]
    return process["startId"], process["pid"]


def ended(domain: LocalDomain, start_id: int, cause: str, reason: str, code: int) -> Json:
    """The tombstone, which must say this."""
    tombstone = wait_for("a tombstone", lambda: next((t for t in domain.client.tombstones() if t["startId"] == start_id), None))
    assert tombstone is not None
    assert (tombstone["cause"], tombstone["exitCode"]) == (cause, code), tombstone
    assert reason in tombstone["reason"], tombstone
    return tombstone


def test_an_operator_stopped_it(domain: LocalDomain) -> None:
    start_id, _ = running(domain)
    domain.do("Stop-DkvStore", "Lone", "lone-1")
    ended(domain, start_id, "graceful stop", "it was asked to stop and did", 0)
    assert domain.instance("Lone", "lone-1")["reason"] == "it was stopped by an operator"
    domain.do("Start-DkvStore", "Lone")


def test_an_operator_killed_it(domain: LocalDomain) -> None:
    start_id, _ = running(domain)
    domain.do("Stop-DkvStore", "Lone", "lone-1", "-Force")
    ended(domain, start_id, "operator kill", "an operator asked for a kill", 137)
    assert domain.instance("Lone", "lone-1")["process"] is None, "a wanted end is not repaired"
    domain.do("Start-DkvStore", "Lone")


def test_somebody_else_killed_it(domain: LocalDomain) -> None:
    start_id, pid = running(domain)
    os.kill(pid, signal.SIGKILL)
    ended(domain, start_id, "killed by signal", "killed by signal 9, sender unknown", 137)
    again = running(domain)[0]
    assert again > start_id, "an unwanted end is repaired"
    led = [e for e in domain.client.events(store="Lone") if e["kind"] == "group.serving" and e["startId"] == again]
    chain = domain.do("show", "events", "--why", str(led[-1]["sequence"])).out.splitlines()
    assert "group Lone/UNPARTITIONED serves" in chain[0]
    assert f"because process {start_id} ended unexpectedly" not in chain[0]
    assert f"lone-1 (process {start_id}) ended: killed by signal 9, sender unknown" in chain[-2]
    assert chain[-1] == "Root cause: ProcessExited, reported by s1."


def test_somebody_else_terminated_it(domain: LocalDomain) -> None:
    start_id, pid = running(domain)
    os.kill(pid, signal.SIGTERM)
    ended(domain, start_id, "terminated from outside", "SIGTERM that this manager did not send", 0)
    assert running(domain)[0] > start_id


def test_it_ended_while_its_manager_was_dead(domain: LocalDomain) -> None:
    start_id, pid = running(domain)
    manager = domain.managers[0]
    manager.kill()
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of the engine", lambda: not os.path.exists(f"/proc/{pid}"))
    manager.restart()
    ended(domain, start_id, "killed by signal", "killed by signal 9, sender unknown", 137)
    assert running(domain)[0] > start_id


def test_it_never_answered(domain: LocalDomain) -> None:
    start_id, pid = running(domain)
    os.kill(pid, signal.SIGSTOP)
    ended(domain, start_id, "never answered", "its manager killed it because it did not answer", 137)
    assert running(domain)[0] > start_id


def fails_at_start(domain: LocalDomain, cause: str, *reasons: str) -> Json:
    """Ask for a start that can never work: refused at once, and tried again, but not within a blink."""
    began, before = time.monotonic(), len(domain.client.tombstones("Odd"))
    output = domain.dkv("Start-DkvStore", "Odd")
    assert output.code == 1, output
    assert "FAILED" in output.out and "the next one starts at" in output.out, output
    wait_for("the third end", lambda: len(domain.client.tombstones("Odd")) == before + 3)
    assert time.monotonic() - began > 4.0
    tombstone = domain.client.tombstones("Odd")[0]
    assert tombstone["cause"] == cause, tombstone
    for reason in reasons:
        assert reason in tombstone["reason"], tombstone
        assert reason in output.out, output
    assert "its last 3 processes ended before or soon after they ran: " in domain.do("Get-DkvStore", "Odd").out
    return tombstone


def lacks_at_start(domain: LocalDomain, cause: str, whom: str, *reasons: str) -> None:
    """Ask for a start that cannot work now: its row says why, and what it waits for."""
    output = domain.dkv("Start-DkvStore", "Odd")
    assert output.code == 1, output
    assert "FAILED" in output.out and "the next one starts at" in output.out, output
    wait_for("a third try", lambda: domain.client.tombstones("Odd")[2]["cause"] == cause)
    for tombstone in domain.client.tombstones("Odd")[:3]:
        assert tombstone["cause"] == cause, tombstone
        for reason in reasons:
            assert reason in tombstone["reason"], tombstone
    waits = domain.do("show", "waiting", "--db-name", "Odd").out
    assert f"(odd-1) waits for {whom}" in waits, waits
    assert "the next one starts at" in waits
    assert "it starts at once with: dkv start process --db-name Odd --archive-id" in waits
    newest = domain.client.tombstones("Odd")[0]["startId"]
    domain.dkv("start", "database", "--db-name", "Odd", "--unconditional")
    wait_for("the try that was asked for", lambda: domain.client.tombstones("Odd")[0]["startId"] > newest)


def comes_back(domain: LocalDomain) -> None:
    """Once what was missing is there nobody has to ask for a start, and all keys are there."""
    domain.wait_state("Odd", "odd-1", "Running")
    with domain.engine("Odd", "odd-1") as client:
        assert client.dbsize() == 200


def works_again(domain: LocalDomain) -> None:
    """Once the cause is cured a start is all that is needed, and all keys are there."""
    domain.do("Start-DkvStore", "Odd")
    with domain.engine("Odd", "odd-1") as client:
        assert client.dbsize() == 200


def test_a_stranger_has_its_port(odd: LocalDomain) -> None:
    odd.do("Stop-DkvStore", "Odd")
    instance = odd.instance("Odd", "odd-1")
    with socket.socket() as stranger:
        stranger.bind((instance["host"], instance["clientPort"]))
        stranger.listen()
        port = f"ports {instance['clientPort']} or "
        lacks_at_start(odd, "port taken", port, "a port it needs is taken", str(instance["clientPort"]))
        assert odd.client.tombstones("Odd")[0]["exitCode"] == 1
    comes_back(odd)


def test_a_file_stands_where_its_directory_was(odd: LocalDomain) -> None:
    odd.do("Stop-DkvStore", "Odd")
    path = odd.archive("Odd", "odd-1")
    aside = path.rename(path.with_name("aside"))
    path.write_text("a file in its place")
    try:
        lacks_at_start(odd, "directory not usable", "a directory on ", str(path), "Not a directory")
        assert path.read_text() == "a file in its place"
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)
    comes_back(odd)


def test_its_directory_is_gone(odd: LocalDomain) -> None:
    """Never initialised over: an archive that vanished is not an empty archive."""
    odd.do("Stop-DkvStore", "Odd")
    path = odd.archive("Odd", "odd-1")
    aside = path.rename(path.with_name("aside"))
    try:
        lacks_at_start(odd, "archive identity missing", "the files of odd-1 on ", str(path))
        assert not path.exists()
    finally:
        aside.rename(path)
    comes_back(odd)


def test_its_append_only_file_is_corrupt_in_the_middle(odd: LocalDomain) -> None:
    odd.do("Stop-DkvStore", "Odd")
    (file,) = (odd.archive("Odd", "odd-1") / "appendonlydir").glob("*.incr.aof")
    good = file.read_bytes()
    middle = good.index(b"*3\r\n", len(good) // 2)  # in a value it would be a value
    bad = good[:middle] + b"\0garbage\0" + good[middle + 9 :]
    file.write_bytes(bad)
    try:
        tombstone = fails_at_start(odd, "corrupt append-only file")  # whoever reads it first finds it: manager or engine
        assert "incr.aof" in tombstone["reason"] or "are not commands" in tombstone["reason"], tombstone
        assert file.read_bytes() == bad, "evidence is not touched"
    finally:
        file.write_bytes(good)
    works_again(odd)


def test_its_disk_is_full(domain: LocalDomain) -> None:
    """The engine gives up rather than acknowledge what it cannot keep; with room it is back with every such key."""
    directory = domain.managers[0].data_dir / "archives" / "Full"
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(small_disk(directory, "2m"))
        domain.create("Full", "-Managers", domain.managers[0].host, "-ClustronPort", "7911", "-ClientPort", "7961")
        start_id, _ = running(domain, "Full")
        acknowledged = fill(domain)
        tombstone = ended(domain, start_id, "disk full", "it said:", 1)
        assert any("No space left" in line or "Short write" in line for line in tombstone["lastWords"])
        subprocess_remount(disk, "16m")
        running(domain, "Full")
        with domain.engine("Full", "full-1") as client:
            assert all(client.exists(key) for key in acknowledged)
        domain.remove("Full")


def fill(domain: LocalDomain) -> list[str]:
    """Write until the engine gives up; the keys it acknowledged."""
    acknowledged: list[str] = []
    with domain.engine("Full", "full-1") as client:
        for number in range(10_000):
            try:
                client.set(f"full-{number}", "x" * 10_000)
            except (valkey.exceptions.ConnectionError, valkey.exceptions.ResponseError):
                return acknowledged
            acknowledged.append(f"full-{number}")
    raise AssertionError("2 MB held 100 MB")


def subprocess_remount(disk: Path, size: str) -> None:
    """Give a small disk more room."""
    code = os.spawnlp(os.P_WAIT, "mount", "mount", "-o", f"remount,size={size}", str(disk))
    assert code == 0


def launched(odd: LocalDomain) -> Json | None:
    """The process of the one instance, once it has an engine."""
    process = odd.instance("Odd", "odd-1")["process"]
    return process if process and process["pid"] else None


def test_a_node_that_crashes_again_and_again_is_tried_less_often_and_says_so(odd: LocalDomain) -> None:
    """Three early ends in a row; then it waits for ten seconds, says why, and any start begins it.

    Each process is killed as soon as it has a pid, before it runs: one that has run for ten seconds does not end early, and a
    busy machine spends those between two requests.
    """
    odd.do("Stop-DkvStore", "Odd")
    odd.client.start_instance("Odd", "odd-1")
    ends: list[Json] = []
    for _ in range(3):
        process = wait_for("it has a pid", lambda: launched(odd))
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)
        ends.append(odd.end_of("Odd", process["startId"]))
    output = odd.do("Get-DkvStore", "Odd").out
    assert "its last 3 processes ended before or soon after they ran: killed by signal 9" in output
    assert "Failed" in output
    assert "Cure the cause; it starts at once with: Start-DkvStore -Name" in output
    works_again(odd)
