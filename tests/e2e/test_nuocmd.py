"""The unmodified nuocmd of pynuoadmin 2.7.0 drives real managers and engines: the documented example and the daily work."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e import nuocmd_forked
from tests.e2e.local_domain import PATIENCE, LocalDomain, local_domain, wait_for
from tests.e2e.nuocmd import Nuocmd, lines

SHORT = {"DKV_LEADER_ASSIGNMENT_TIMEOUT_MS": "3000"}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("nuocmd"), 2, SHORT) as running_domain:
        yield running_domain


@pytest.fixture(scope="module")
def nuocmd(domain: LocalDomain) -> Iterator[Nuocmd]:
    forked = nuocmd_forked.Nuocmd(domain.managers[0].host, 8888, domain.root, domain.nuocmd_environ)
    yield Nuocmd(domain, forked=forked)
    forked.close()


def create(nuocmd: Nuocmd, name: str, *servers: str) -> list[int]:
    """A database with an archive on each server, nothing started; the archive ids."""
    ids = []
    for server in servers:
        path = nuocmd.domain.root / f"{name}-{server}"
        output = nuocmd.do("create", "archive", "--db-name", name, "--server-id", server, "--archive-path", path)
        match = re.search(r"id=(\d+),.* state=PROVISIONED", output)
        assert match, output
        ids.append(int(match[1]))
    nuocmd.do("create", "database", "--db-name", name, "--dba-user", "dba", "--dba-password", "secret", "--no-autostart")
    return ids


def start(nuocmd: Nuocmd, name: str, archive: int, server: str) -> str:
    """Request an SM; its start id."""
    output = nuocmd.do(
        "start", "process", "--db-name", name, "--engine-type", "SM", "--archive-id", archive, "--server-id", server
    )
    match = re.fullmatch(
        rf"Process\(archive_id={archive}, db_name={name}, durable_state=REQUESTED, engine_state=UNKNOWN, engine_type=SM, "
        rf"ipVersion=v4, labels={{}}, options={{}}, region_name=Default, server_id={server}, start_id=(\d+)\)\n",
        output,
    )
    assert match, output
    return match[1]


def test_the_worked_example(nuocmd: Nuocmd, tmp_path: Path) -> None:
    """The documented example: archives, TEs, states, incarnations, waits that fail, the newest data leading, plans, the end."""
    plan = tmp_path / "startplan.json"
    directory = nuocmd.domain.root / "example"
    output = nuocmd.do("create", "archive", "--db-name", "test", "--server-id", "s1", "--archive-path", directory)
    first = int(re.search(r"id=(\d+)", output)[1])  # type: ignore[index]
    nuocmd.do("create", "database", "--db-name", "test", "--dba-user", "test", "--dba-password", "test", "--capture-file", plan)
    assert [process["archiveId"] for process in json.loads(plan.read_text())["processes"]] == [first]
    zero = start(nuocmd, "test", first, "s1")
    start_te(nuocmd, "s2")
    nuocmd.wait_running("test", 2)
    shown = nuocmd.do("show", "domain")
    rest = r"\S+ \[start_id = \d+\] \[server_id = s{}\] .* MONITORED:RUNNING$"
    expected = rf"^  test \[state = RUNNING\]\n    \[SM\] {rest.format(1)}\n    \[TE\] {rest.format(2)}"
    assert re.search(expected, shown, re.M), shown

    second = create_archive(nuocmd, "test", "s2")
    assert f"[{second}] s2 : " in nuocmd.do("show", "archives", "--db-name", "test")
    assert nuocmd.database("test")["state"] == "RUNNING"  # a PROVISIONED archive is nobody's loss
    two = start(nuocmd, "test", second, "s2")
    start_te(nuocmd, "s1")
    nuocmd.wait_running("test", 4)
    assert [p["nodeId"] for p in nuocmd.processes("test")] == [1, 2, 3, 4]

    nuocmd.do("shutdown", "process", "--start-id", zero, "--timeout", 20)
    nuocmd.wait_state("test", "AWAITING_ARCHIVE_HISTORIES_INC")
    nuocmd.do("shutdown", "process", "--start-id", two, "--kill")
    nuocmd.wait_state("test", "NOT_RUNNING")
    shown = nuocmd.do("show", "database", "--db-name", "test", "--all-incarnations")
    exits = lines(shown, lambda line: "EXITED" in line)
    assert "incarnation=(1, 4)" in shown
    assert [line[:4] for line in exits] == ["[TE]", "[TE]", "[SM]", "[SM]"]
    assert all(
        re.search(r"EXITED\(REQUESTED_SHUTDOWN:SHUTTING_DOWN\):\(\S+\) Gracefully shutdown engine \(0\)$", line)
        for line in (*exits[:2], exits[3])
    )
    assert re.search(
        r"EXITED\(MONITORED:RUNNING\):Removing process from domain state due to service request: \(\S+\+0000\) "
        r"Engine connection to admin process closed \(137\)$",
        exits[2],
    )

    an_sm_alone_waits_in_vain(nuocmd, first)
    a_te_alone_waits_in_vain(nuocmd)

    start(nuocmd, "test", first, "s1")
    start(nuocmd, "test", second, "s2")
    nuocmd.wait_running("test", 2)
    assert {p["archiveId"]: p["nodeId"] for p in nuocmd.processes("test")} == {first: 2, second: 1}
    shutdown_and_start_again(nuocmd, plan)
    delete_and_create_again(nuocmd, first, second, directory)


def start_te(nuocmd: Nuocmd, server: str) -> None:
    """Request a TE."""
    output = nuocmd.do("start", "process", "--db-name", "test", "--engine-type", "TE", "--server-id", server)
    assert output.startswith("Process(db_name=test, durable_state=REQUESTED, engine_state=UNKNOWN, engine_type=TE, "), output


def an_sm_alone_waits_in_vain(nuocmd: Nuocmd, first: int) -> None:
    """Its archive may lack what another one has, and ends waiting for that after the timeout."""
    with nuocmd.passing_state("test", "AWAITING_ARCHIVE_HISTORIES_MSG"):
        start(nuocmd, "test", first, "s1")
    nuocmd.wait_state("test", "NOT_RUNNING")
    (failed,) = lines(nuocmd.do("show", "database", "--db-name", "test"), lambda line: "EXITED" in line)
    assert failed.startswith("[SM] <UNKNOWN ADDRESS> [start_id")
    why = (
        r"local agent connection was rejected: ArchiveHistory failed: Timed out while awaiting leader assignment "
        r"\(3000 ms\): \(\S+\) Engine connection to admin process closed \(2\)"
    )
    assert re.search(rf"EXITED\(STARTED:UNKNOWN\):{why}$", failed)


def a_te_alone_waits_in_vain(nuocmd: Nuocmd) -> None:
    """It has nobody to join, and ends after the same time."""
    with nuocmd.passing_state("test", "AWAITING_ARCHIVE_HISTORIES_MSG"):
        start_te(nuocmd, "s1")
    nuocmd.wait_state("test", "NOT_RUNNING")
    shown = nuocmd.do("show", "database", "--db-name", "test")
    assert "incarnation=(3, 1)" in shown
    why = (
        r"database entry request was rejected: EntryRequest failed: Timed out while awaiting entry node "
        r"\(3000 ms\): \(\S+\) Engine connection to admin process closed \(127\)"
    )
    assert re.search(rf"^    \[TE\] \S+:\d+ \[start_id .* EXITED\(TRACKED:UNKNOWN\):{why}$", shown, re.M), shown


def create_archive(nuocmd: Nuocmd, name: str, server: str) -> int:
    path = nuocmd.domain.root / f"{name}-{server}"
    output = nuocmd.do("create", "archive", "--db-name", name, "--server-id", server, "--archive-path", path)
    return int(re.search(r"id=(\d+)", output)[1])  # type: ignore[index]


def shutdown_and_start_again(nuocmd: Nuocmd, plan: Path) -> None:
    nuocmd.do("shutdown", "database", "--db-name", "test")
    nuocmd.wait_state("test", "NOT_RUNNING")
    servers = ("--te-server-ids", "s1", "s2")
    nuocmd.do("get", "startplan", "--db-name", "test", *servers, "--output-file", plan)
    reusable = json.loads(plan.read_text())
    assert not reusable["incremental"]
    assert [(process["engineType"], process["host"]) for process in reusable["processes"]] == [
        ("SM", "s1"),
        ("SM", "s2"),
        ("TE", "s1"),
        ("TE", "s2"),
    ]
    assert all("expectedIncarnation" not in process for process in reusable["processes"])
    output = nuocmd.do("start", "database", "--db-name", "test", *servers).splitlines()
    assert len(output) == 4
    assert all(
        re.match(
            r"STARTING: StartProcessRequest\((archive_id=\d+, )?db_name=test, engine_type=(SM|TE), "
            r"expected_incarnation_major=5, expected_incarnation_minor=0, ",
            line,
        )
        for line in output
    )
    nuocmd.do("check", "database", "--db-name", "test", "--check-running", "--num-processes", 4, "--timeout", 30)


def delete_and_create_again(nuocmd: Nuocmd, first: int, second: int, directory: Path) -> None:
    """The name is blocked by the data of its archives until they are purged."""
    nuocmd.do("shutdown", "database", "--db-name", "test")
    nuocmd.wait_state("test", "NOT_RUNNING")
    nuocmd.do("delete", "database", "--db-name", "test")
    assert nuocmd.database("test")["state"] == "TOMBSTONE"
    again = ("create", "database", "--db-name", "test", "--dba-user", "test", "--dba-password", "test", "--no-autostart")
    assert f"(archive {first}), test-2 (archive {second})" in nuocmd.refused(*again)
    for archive in (first, second):
        nuocmd.do("delete", "archive", "--archive-id", archive, "--purge")
    assert not directory.exists()
    assert list(directory.parent.glob("example.deleted-*"))
    nuocmd.do(*again)
    assert nuocmd.do("get", "archives", "--db-name", "test") == ""


def test_looking_and_checking(nuocmd: Nuocmd) -> None:
    (archive,) = create(nuocmd, "looks", "s1")
    output = nuocmd.do("start", "database", "--db-name", "looks")
    assert f"archive_id={archive}" in output
    nuocmd.do("check", "database", "--db-name", "looks", "--check-running", "--check-liveness", 20, "--timeout", 30)
    servers = nuocmd.json("get", "servers")
    assert [(server["id"], server["isLocal"]) for server in servers] == [("s1", True), ("s2", False)]
    nuocmd.do("check", "server", "--check-active", "--check-connected", "--check-converged")
    nuocmd.do(
        "check",
        "servers",
        "--check-active",
        "--check-connected",
        "--check-leader",
        "--check-liveness",
        20,
        "--num-servers",
        2,
        "--timeout",
        30,
    )
    assert "name=looks" in nuocmd.do("get", "databases")
    assert "state=RUNNING" in nuocmd.do("get", "database", "--db-name", "looks")
    (process,) = nuocmd.processes("looks")
    nuocmd.do("check", "process", "--start-id", process["startId"], "--check-running")
    assert f"start_id={process['startId']}" in nuocmd.do("get", "sql-connection", "--db-name", "looks")
    nuocmd.do("check", "sql-connection", "--db-name", "looks")
    groups = nuocmd.do("show", "storage-groups", "--db-name", "looks")
    assert "[name = UNPARTITIONED] [state = Available]" in groups
    assert f"[start_id = {process['startId']}]" in groups
    assert "name=UNPARTITIONED" in nuocmd.do("get", "storage-groups", "--db-name", "looks")
    assert "last_ack" in nuocmd.do("show", "database", "--db-name", "looks")
    nuocmd.do("shutdown", "server-processes", "--server-id", "s1", "--db-name", "looks")
    nuocmd.wait_gone("looks")
    nuocmd.do("check", "process", "--start-id", process["startId"], "--check-exited")
    assert "has already exited" in nuocmd.refused("check", "process", "--start-id", process["startId"])
    nuocmd.do("delete", "database", "--db-name", "looks", "--purge")


def test_a_captured_layout_is_enforced(nuocmd: Nuocmd, tmp_path: Path) -> None:
    capture = tmp_path / "capture.json"
    create(nuocmd, "shape", "s1", "s2")
    nuocmd.do("start", "database", "--db-name", "shape")
    nuocmd.wait_running("shape", 2)
    nuocmd.do("capture", "database", "--db-name", "shape", "--capture-file", capture)
    output = nuocmd.do("enforce", "database", "--capture-file", capture, "--incremental")
    assert output.count("SKIPPING") == 2, output
    nuocmd.do("shutdown", "database", "--db-name", "shape")
    nuocmd.wait_state("shape", "NOT_RUNNING")
    assert nuocmd.do("enforce", "database", "--capture-file", capture).count("STARTING") == 2
    nuocmd.wait_running("shape", 2)
    nuocmd.do("shutdown", "database", "--db-name", "shape")
    nuocmd.wait_gone("shape")
    nuocmd.do("delete", "database", "--db-name", "shape", "--purge")


def test_labels_options_and_archives_that_come_back(nuocmd: Nuocmd) -> None:
    first, second = create(nuocmd, "kept", "s1", "s2")
    nuocmd.do("update", "database-options", "--db-name", "kept", "--default-options", "verbose", "all", "mem", "1g")
    nuocmd.do(
        "start",
        "process",
        "--db-name",
        "kept",
        "--engine-type",
        "SM",
        "--archive-id",
        first,
        "--server-id",
        "s1",
        "--labels",
        "zone",
        "a",
        "--options",
        "verbose",
        "flush",
    )
    nuocmd.wait_running("kept", 1)
    (process,) = nuocmd.processes("kept")
    assert (process["labels"], process["options"]) == ({"zone": "a"}, {"verbose": "flush", "mem": "1g"})
    nuocmd.do("update", "database-options", "--db-name", "kept", "--replace-all", "--default-options", "verbose", "net")
    assert "default_options={verbose: net}" in nuocmd.do("get", "database", "--db-name", "kept")

    nuocmd.do("delete", "archive", "--archive-id", second)
    assert f"[{second}]" not in nuocmd.do("show", "archives", "--db-name", "kept")
    assert "REMOVED(PROVISIONED)" in nuocmd.do("show", "archives", "--db-name", "kept", "--removed")
    back = (
        "create",
        "archive",
        "--archive-id",
        second,
        "--db-name",
        "kept",
        "--server-id",
        "s2",
        "--archive-path",
        nuocmd.domain.root / "kept-s2",
    )
    assert f"id={second}" in nuocmd.do(*back)
    nuocmd.do("start", "database", "--db-name", "kept", "--incremental")
    nuocmd.wait_running("kept", 2)
    nuocmd.do("shutdown", "database", "--db-name", "kept")
    nuocmd.wait_gone("kept")
    nuocmd.do("delete", "database", "--db-name", "kept", "--purge")


def test_a_graceful_end_is_waited_for(nuocmd: Nuocmd) -> None:
    (archive,) = create(nuocmd, "waits", "s1")
    start_id = start(nuocmd, "waits", archive, "s1")
    nuocmd.wait_running("waits", 1)
    before = time.monotonic()
    nuocmd.do("shutdown", "process", "--start-id", start_id, "--timeout", 30)
    assert not nuocmd.processes("waits")
    assert time.monotonic() - before < 30
    nuocmd.do("delete", "database", "--db-name", "waits", "--purge")


def test_what_cannot_be_is_said_in_one_sentence(nuocmd: Nuocmd) -> None:
    (archive,) = create(nuocmd, "says", "s1")
    sm = ("start", "process", "--db-name", "says", "--engine-type", "SM")
    assert "There is no archive 999" in nuocmd.refused(*sm, "--archive-id", 999, "--server-id", "s1")
    assert "is on s1, not s2. Use server s1." in nuocmd.refused(*sm, "--archive-id", archive, "--server-id", "s2")
    assert "not 9" in nuocmd.refused(*sm, "--archive-id", archive, "--server-id", "s1", "--expected-incarnation", 9)
    assert "Did you mean says?" in nuocmd.refused("get", "database", "--db-name", "sais")
    assert "start id 12345" in nuocmd.refused("shutdown", "process", "--start-id", 12345)
    assert "no server s9" in nuocmd.refused("create", "archive", "--db-name", "x", "--server-id", "s9", "--archive-path", "/x")
    assert "part of an address" in nuocmd.refused(
        "create", "database", "--db-name", "hotCopyStatus", "--dba-user", "a", "--dba-password", "b", "--no-autostart"
    )
    assert "from outside" in nuocmd.refused(
        "create",
        "database",
        "--db-name",
        "outside",
        "--dba-user",
        "a",
        "--dba-password",
        "b",
        "--is-external",
        "--capture-file",
        "/dev/null",
    )
    assert "one group" in nuocmd.refused("add", "storage-group", "--db-name", "says", "--sg-name", "g", "--archive-id", archive)
    assert "only observe" in nuocmd.refused("set", "archive", "--archive-id", archive, "--passive")
    nuocmd.do("delete", "database", "--db-name", "says", "--purge")


def test_the_dialect_is_spoken_on_both_ports_and_to_no_stranger(domain: LocalDomain) -> None:
    host = domain.managers[0].host
    for port in (7801, 8888):
        assert httpx.get(f"http://{host}:{port}/api/1/peers", auth=domain.credentials).json()["hasNext"] is False
        stranger = httpx.get(f"http://{host}:{port}/api/1/peers", headers={"Host": "evil.example"})
        assert (stranger.status_code, stranger.json()["code"]) == (403, 403)
        nobody = httpx.get(f"http://{host}:{port}/api/1/peers")
        assert (nobody.status_code, nobody.json()["code"]) == (401, 401)


def test_a_second_manager_on_the_dialects_port_is_refused_in_a_sentence(domain: LocalDomain) -> None:
    first = domain.managers[0]
    other = domain.manager(9)
    command = [*other.command(), "--bind", first.host, "--port", "7999"]
    done = subprocess.run(command, env=other.env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "Manager s1 runs on" in done.stderr
    assert "--nuodb-port" in done.stderr
    assert wait_for("s1 still answers", lambda: first.client.ready())
