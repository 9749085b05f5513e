"""Tests of the domain: whatever takes long has a stage, says how far it is and what it waits for, and can be ended."""

from __future__ import annotations

from dkv.domain.decide import decide
from dkv.domain.decision import Accepted
from dkv.domain.model import State
from dkv.domain.operations import HOT_COPY, RESTART, SWITCHOVER, Operation, operations
from tests.domain.test_properties import commands_of
from tests.domain.test_scenarios import SCENARIOS
from tests.domain.verbs import ScenarioRunner

LONG = ("hotcopy", "hotcopy_ends", "restart_rolling", "restart_whole", "switchover", "handover_troubles", "planned_stop")


def under_way(state: State) -> list[Operation]:
    return [operation for database in state.databases.values() for operation in operations(state, database)]


def test_every_operation_of_the_scenarios_has_a_stage_and_ends_by_its_order() -> None:
    seen: set[tuple[str, str]] = set()
    for scenario in (path for path in SCENARIOS if path.stem in LONG):
        runner = ScenarioRunner()
        for line in commands_of(scenario.read_text(encoding="utf-8")):
            runner.run(line)
            for operation in under_way(runner.world.state):
                seen.add((operation.kind, operation.stage))
                assert operation.stage in operation.stages
                assert 0 <= operation.done <= operation.total
                assert operation.since > 0
                assert operation.waits_for
                assert operation.reason
                assert ends(runner.world.state, operation) == (operation.cancel is not None)
    assert seen == {
        *((HOT_COPY, stage) for stage in ("PREPARING", "PAUSING", "CUTTING", "HOLDING", "COPYING")),
        (RESTART, "ROLLING"),
        (RESTART, "STOPPING"),
        (SWITCHOVER, "REQUESTED"),
        (SWITCHOVER, "HANDING_OVER"),
    }


def ends(state: State, operation: Operation) -> bool:
    """Whether its order is accepted and it is over then."""
    if operation.cancel is None:
        return False
    decision = decide(state, operation.cancel)
    assert isinstance(decision, Accepted), f"{operation.cancel}: {decision}"
    return (operation.kind, operation.subject) not in {(other.kind, other.subject) for other in under_way(decision.state)}
