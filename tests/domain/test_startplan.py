"""Tests of the domain: start plans, full and incremental, reusable and one-time; what capture finds is what a plan says."""

from __future__ import annotations

from dkv.domain.decision import Refused
from dkv.domain.startplan import Plan, capture, start_plan
from tests.domain.verbs import ScenarioRunner


def played(*lines: str) -> ScenarioRunner:
    runner = ScenarioRunner()
    for line in ("servers A B", "create orders on=A,B", *lines):
        runner.run(line)
    return runner


def plan(runner: ScenarioRunner, *te_servers: str, reusable: bool = True) -> Plan:
    planned = start_plan(runner.world.state, "orders", te_servers, reusable)
    assert isinstance(planned, Plan)
    return planned


def shown(planned: Plan) -> list[tuple[str, int | None, str, tuple[int, int] | None]]:
    return [(str(p.role), p.archive_id, p.server_id, p.expected) for p in planned.processes]


def test_a_database_that_does_not_run_gets_a_full_plan() -> None:
    planned = plan(played(), "B", "A", "A")
    assert not planned.incremental
    assert shown(planned) == [
        ("SM", 0, "A", None),
        ("SM", 1, "B", None),
        ("TE", None, "A", None),
        ("TE", None, "A", None),
        ("TE", None, "B", None),
    ]


def test_a_one_time_plan_quotes_the_incarnation_it_will_open_and_each_of_its_requests_passes() -> None:
    runner = played()
    planned = plan(runner, reusable=False)
    assert {p.expected for p in planned.processes} == {(1, 0)}
    assert all("refused" not in line for line in runner.run("start orders-1 orders-2 expected=1,0"))
    assert "refused incarnation_changed" in " ".join(played("start orders-1").run("start orders-2 expected=2,0"))


def test_of_a_running_database_only_what_is_missing_is_planned() -> None:
    runner = played("start orders-1 orders-2", "up orders", "stop orders-2", "left orders-2")
    planned = plan(runner, "B", reusable=False)
    assert planned.incremental
    assert shown(planned) == [("SM", 1, "B", (1, 1)), ("TE", None, "B", (1, 1))]


def test_a_capture_is_the_plan_that_would_bring_it_about() -> None:
    runner = played()
    before = plan(runner)
    for line in ("start orders-1 orders-2", "up orders"):
        runner.run(line)
    assert capture(runner.world.state, "orders") == before


def test_a_capture_of_what_does_not_run_whole_is_refused_unless_nobody_minds() -> None:
    runner = played("start orders-1")
    refused = capture(runner.world.state, "orders")
    assert isinstance(refused, Refused)
    assert refused.code == "database_not_running"
    assert "process 0 does not run yet" in refused.message
    captured = capture(runner.world.state, "orders", check_state=False)
    assert isinstance(captured, Plan)
    assert shown(captured) == [("SM", 0, "A", None)]


def test_what_is_not_known_is_refused() -> None:
    state = played().world.state
    for refused in (start_plan(state, "stock"), capture(state, "stock"), start_plan(state, "orders", ["C"])):
        assert isinstance(refused, Refused)
        assert refused.code in ("unknown_database", "unknown_server")
