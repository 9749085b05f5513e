"""The documented example word for word on two real managers: typed with dkv, and with the unmodified nuocmd."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dkv.client import Endpoint, ManagerClient
from tests.e2e.documented import SERVERS, DocumentedServers, Player
from tests.e2e.local_domain import wait_for

SHORT, REAL = 3_500, 10_000  # ms of leaderAssignmentTimeout


@contextmanager
def played(root: Path, program: str, timeout_ms: int) -> Iterator[Player]:
    domain = DocumentedServers(root, {"DKV_LEADER_ASSIGNMENT_TIMEOUT_MS": str(timeout_ms)})
    try:
        domain.start()
        yield Player(domain, program, timeout_ms)
    finally:
        domain.close()


def archive_of(player: Player, server: str) -> str:
    """On one machine each server needs a path of its own; the documented two are the same path on two machines."""
    return str(player.domain.root / "archives" / server / "test")


def planned_first(player: Player, words: str, commands: list[str]) -> None:
    """dkv can say before what a command would do; that is no part of the example, and changes nothing."""
    if player.program != "dkv":
        return
    before = player.moments()
    output = player.says(f"{words} --plan")
    planned = [line.partition(". ")[2].partition("(")[0] for line in output.out.splitlines() if not line.startswith(" ")]
    assert (output.code, planned) == (0, commands), output
    assert player.moments() == before


def a_minimal_database(player: Player) -> None:
    player.types(f"create archive --db-name test --server-id server0 --archive-path {archive_of(player, 'server0')}")
    player.types("create database --db-name test --dba-user test --dba-password test --capture-file startplan.json")
    player.types("start process --db-name test --engine-type SM --archive-id 0 --server-id server0")
    player.types("start process --db-name test --engine-type TE --server-id server1")
    player.runs(0, 1)
    player.types("show domain")


def a_redundant_database(player: Player) -> None:
    player.types(f"create archive --db-name test --server-id server1 --archive-path {archive_of(player, 'server1')}")
    player.types("show archives")
    player.types("start process --db-name test --engine-type SM --archive-id 1 --server-id server1")
    player.types("start process --db-name test --engine-type TE --server-id server0")
    player.runs(0, 1, 2, 3)
    player.types("show domain")
    player.types("show archives")


def an_archive_that_does_not_run(player: Player) -> None:
    planned_first(player, "shutdown process --start-id 0", ["ShutdownProcess"])
    player.types("shutdown process --start-id 0")
    player.runs(1, 2, 3)
    player.types("show archives")
    player.types("show domain")
    assert player.state() == "AWAITING_ARCHIVE_HISTORIES_INC"


def nothing_durable_is_left(player: Player) -> None:
    player.types("shutdown process --start-id 2 --kill")
    player.becomes("NOT_RUNNING")
    assert any(move.endswith("-> REQUESTED_TE_SHUTDOWN") for move in player.moves())
    player.types("show domain")
    player.types("show database --db-name test --all-incarnations")


def waiting_group(player: Player) -> Any:
    """The group that waits, once the domain's clock has gone on: since when is known from then on."""
    (group,) = [item for item in player.api("/databases/test")["waiting"] if item["kind"] == "group"]
    return group if group["since"] else None


def one_archive_alone_waits_and_fails(player: Player) -> None:
    player.types("start process --db-name test --engine-type SM --archive-id 0 --server-id server0")
    player.reaches(4, "STARTED")
    player.types("show domain")
    group = wait_for("the domain to notice since when its group waits", lambda: waiting_group(player))
    assert group["for"] == "test-2" and group["hint"], group
    assert group["reason"] == "test-2 was stopped by an operator"
    if player.program == "dkv":  # words beside the data, of which the example has none
        for words in ("show database --db-name test", "show domain"):
            waits = player.says(words).err
            assert "group test/UNPARTITIONED waits for test-2 since" in waits, waits
            assert "hint: Start it: dkv start process --db-name test --archive-id" in waits, "in the words of verbs"
    player.becomes("NOT_RUNNING")
    player.types("show domain")
    player.types("show database --db-name test")


def a_te_alone_waits_and_fails(player: Player) -> None:
    player.types("start process --db-name test --engine-type TE --server-id server0")
    player.reaches(5, "TRACKED")
    player.types("show domain")
    player.becomes("NOT_RUNNING")
    player.types("show domain")
    player.types("show database --db-name test")


def both_archives_start(player: Player) -> None:
    for words in (
        "SM --archive-id 0 --server-id server0",
        "SM --archive-id 1 --server-id server1",
        "TE --server-id server0",
        "TE --server-id server1",
    ):
        player.types(f"start process --db-name test --engine-type {words}")
    player.runs(6, 7, 8, 9)
    player.types("show domain")
    first = next(process for process in player.processes() if process["nodeId"] == 1)
    assert first["archiveId"] == 1, "the archive that stayed up longest has the newest data"


def a_start_plan_and_a_start(player: Player) -> None:
    before = len(player.moves())
    player.types("shutdown database --db-name test")
    player.becomes("NOT_RUNNING")
    went = [move.partition(" -> ")[2] for move in player.moves()[before:]]
    assert went == ["REQUESTED_TE_SHUTDOWN", "REQUESTED_SM_SHUTDOWN", "NOT_RUNNING"]
    player.types("get startplan --db-name test --te-server-ids server0 server1 --output-file startplan.json")
    player.record("cat startplan.json", (player.desk / "startplan.json").read_text())
    planned_first(player, "start database --db-name test --te-server-ids server0 server1", ["StartProcess"] * 4)
    player.types("start database --db-name test --te-server-ids server0 server1")
    player.runs(10, 11, 12, 13)
    player.types("show domain", either=(10, 11))  # after a clean stop either archive may lead


def a_process_over_rest(player: Player) -> None:
    """The documented curl line, on the port it names."""
    player.says("shutdown database --db-name test")
    player.becomes("NOT_RUNNING")
    body = {"archiveId": 0, "dbName": "test", "engineType": "SM", "host": "server0", "labels": {}, "overrideOptions": {}}
    there = ManagerClient(Endpoint(player.domain.managers[0].host, 8888), timeout=10)
    process = json.loads(there.request("POST", "/api/1/processes", body).body)
    assert (process["startId"], process["durableState"], process["host"]) == ("14", "REQUESTED", "server0")
    player.runs(14)


def deleted_and_created_again(player: Player) -> None:
    create = "create database --db-name test --dba-user test --dba-password test --no-autostart"
    player.says("shutdown database --db-name test")
    player.becomes("NOT_RUNNING")
    player.types("delete database --db-name test")
    assert player.state() == "TOMBSTONE"
    player.types("get database --db-name test")
    player.types(create, code=1)
    for archive_id in (0, 1):
        player.types(f"delete archive --archive-id {archive_id} --purge")
    player.types(create)
    player.types("show domain")


STORY: list[Callable[[Player], None]] = [
    a_minimal_database,
    a_redundant_database,
    an_archive_that_does_not_run,
    nothing_durable_is_left,
    one_archive_alone_waits_and_fails,
    a_te_alone_waits_and_fails,
    both_archives_start,
    a_start_plan_and_a_start,
    a_process_over_rest,
    deleted_and_created_again,
]


def play(root: Path, program: str, timeout_ms: int) -> None:
    with played(root, program, timeout_ms) as player:
        assert len(SERVERS) == 2
        for chapter in STORY:
            player.lines.append(f"# {chapter.__name__.replace('_', ' ')}")
            chapter(player)
        player.compare(f"documented_{program}.txt")


def test_the_documented_example_typed_with_dkv(tmp_path: Path) -> None:
    play(tmp_path, "dkv", SHORT)


def test_the_documented_example_typed_with_the_unmodified_nuocmd(tmp_path: Path) -> None:
    assert importlib.util.find_spec("pynuoadmin"), "pynuoadmin is a pinned test dependency: ./dev setup"
    play(tmp_path, "nuocmd", SHORT)


@pytest.mark.full
def test_the_documented_example_with_its_own_ten_seconds(tmp_path: Path) -> None:
    play(tmp_path, "dkv", REAL)
