"""What people read: causes before consequences, names beside numbers, lines that fit, and no reason before it has lasted."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest

from dkv.cli.main import main
from dkv.cli.nouns.domain import Names
from dkv.cli.nouns.maintenance import RestartProgress
from dkv.cli.output import Row, Screen, metrics_frame, waiting_lines
from dkv.client import ClientError, ManagerClient
from dkv.wire import schemas


def item(subject: str, target: str, reason: str, hint: str = "") -> dict[str, Any]:
    return {"subject": subject, "for": target, "since": None, "reason": reason, "hint": hint, "hintParts": None}


def test_what_one_step_helps_stands_below_its_first_and_names_the_step_once() -> None:
    start = "Start the manager of server s3"
    lines = waiting_lines(
        Screen(io.StringIO(), io.StringIO()),
        [
            item("server s3", "the manager of s3", "its lease ended", f"{start}."),
            item("group a/g1", "orders-3", "too few copies are in sync", f"{start}."),
            item("archive 7 (orders-7)", "an operator", "it does not run", "Start it."),
            item("process 5 (orders-3)", "server s3", "its server is away", f"{start}; or give it up: dkv evict."),
            item("database b", "", "it is being restarted"),
            item("database c", "", "it is being restarted"),
        ],
    )
    assert lines == [
        f"server s3 waits for the manager of s3: its lease ended; hint: {start}.",
        "  group a/g1 waits for orders-3: too few copies are in sync",
        "  process 5 (orders-3) waits for server s3: its server is away; hint: or give it up: dkv evict.",
        "archive 7 (orders-7) waits for an operator: it does not run; hint: Start it.",
        "database b waits: it is being restarted",
        "database c waits: it is being restarted",
    ]


class Domain:
    """In the place of a manager's client: one instance, and a process that ended."""

    def __init__(self) -> None:
        self.reads = 0

    def stores(self) -> list[dict[str, Any]]:
        self.reads += 1
        return [{"instances": [{"archiveId": 2, "instanceName": "orders-3"}]}]

    def processes(self) -> list[dict[str, Any]]:
        return [{"startId": 18, "instanceName": "orders-3"}, {"startId": 19, "instanceName": None}]

    def tombstones(self) -> list[dict[str, Any]]:
        return [{"startId": 4, "instanceName": "orders-1"}]


def test_numbers_of_events_have_names_and_an_unknown_one_stays_as_it_is() -> None:
    domain = Domain()
    names = Names(cast("ManagerClient", domain))
    assert names.put_into("server s1 joined") == "server s1 joined" and domain.reads == 0
    sentence = "#7 process 18 ended because archive 2 left; process 4, process 19, process 99"
    expected = "#7 orders-3 (process 18) ended because orders-3 (archive 2) left; orders-1 (process 4), process 19, process 99"
    assert names.put_into(sentence) == expected
    assert names.put_into(sentence) == expected and domain.reads == 1


def test_events_are_shown_without_names_when_nobody_knows_them() -> None:
    class Away(Domain):
        def stores(self) -> list[dict[str, Any]]:
            raise ClientError("away", "")

    assert Names(cast("ManagerClient", Away())).put_into("process 18 ended") == "process 18 ended"


def metric(node: str, name: str, instance: str = "") -> dict[str, Any]:
    return {"node": node, "instanceName": f"orders-{instance or node}", "category": "DKV", "metric": name, "rate": 2, "total": 3}


def test_numbers_of_more_nodes_than_a_terminal_has_room_for_have_a_line_each() -> None:
    rows = [metric(node, name) for node in "123456" for name in ("Get", "Put", "Remove", "Count")]
    wide, narrow = metrics_frame("Orders", "now", rows), metrics_frame("Orders", "now", rows, 80)
    assert wide[2].split() == ["Category", "Metric", *"123456"]
    assert narrow[2].split() == ["Node", "Get", "Put", "Remove", "Count"]
    assert [line.split()[0] for line in narrow[3:]] == [f"orders-{node}" for node in "123456"]
    assert max(map(len, narrow)) <= 80


def test_lines_of_nodes_are_in_the_order_of_their_names() -> None:
    rows = [metric(node, "Get", instance) for node, instance in (("a", "10"), ("b", "2"), ("c", "1"))]
    assert [line.split()[0] for line in metrics_frame("Orders", "now", rows, 40)[3:]] == ["orders-1", "orders-2", "orders-10"]


def restart(reason: str) -> schemas.Restart:
    return cast("schemas.Restart", {"replaced": 3, "processes": 6, "waitsFor": "orders-1", "reason": reason})


def test_what_a_restart_waits_for_is_said_once_it_has_lasted() -> None:
    now = 0.0
    progress = RestartProgress(lambda: now)
    assert progress(restart("it starts")) == "3 of 6 replaced"
    now = 0.9
    assert progress(restart("it copies")) == "3 of 6 replaced"
    now = 2.0
    assert progress(restart("it copies")) == "3 of 6 replaced; orders-1: it copies"


@pytest.mark.parametrize(("when", "coloured"), [("always", True), ("never", False)])
def test_colours_are_as_they_are_asked_for(when: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def dispatched(screen: Screen, words: list[str]) -> int:
        seen.append(screen.colour)
        assert words == ["status"]
        return 0

    monkeypatch.setattr("dkv.cli.main._dispatch", dispatched)
    assert main([f"--color={when}", "status"]) == main(["--color", when, "status"]) == 0
    assert seen == [coloured, coloured]


def test_a_colour_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--color", "green", "status"]) == 2
    assert "--color cannot be 'green'." in capsys.readouterr().err


def test_a_row_is_painted_where_colours_are_wanted() -> None:
    screen = Screen(io.StringIO(), io.StringIO(), colour=True)
    screen.rows([Row("m", "a", "FAILED", "x")])
    assert "\x1b[31mFAILED" in cast("io.StringIO", screen.out).getvalue()
