"""A group that is to be handed over: its leader's manager begins, to whom was wished for, as soon as that one is ready."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain.facts import HandoverBegun
from dkv.domain.orders import Switchover
from dkv.machine.steps import SubmitFact
from tests.machine.stage import DATABASE, Stage, facts, me, next_look_of


def requested(copies: int = 3, to: int | None = None) -> Stage:
    """Archive 0 leads and is to hand over, to that archive's process if one is named."""
    stage = Stage(copies).settled()
    return stage.submit(Switchover(database=DATABASE, to=None if to is None else stage.process(to).start_id))


def begun(stage: Stage, **changes: Any) -> int:
    """To which archive the leader's manager hands over."""
    facts_due = [s.fact for s in stage.steps("s1", stage.engine(0, **changes)) if isinstance(s, SubmitFact)]
    (fact,) = [f for f in facts_due if isinstance(f, HandoverBegun)]
    assert not fact.immediate
    return fact.to_archive


def test_the_one_that_was_wished_for_takes_over_although_another_is_further() -> None:
    stage = requested(to=2)
    replicas = (stage.replica(1, offset=2_000), stage.replica(2, offset=1_000))
    assert begun(stage, replicas=replicas) == 2


def test_without_a_name_it_is_the_one_that_is_furthest() -> None:
    stage = requested()
    replicas = (stage.replica(1, offset=1_000), stage.replica(2, offset=2_000))
    assert begun(stage, replicas=replicas) == 2


@pytest.mark.parametrize("trouble", [{"online": False}, {"silent_ms": 2_000}])
def test_nothing_begins_while_the_one_that_was_wished_for_is_not_heard(trouble: dict[str, Any]) -> None:
    stage = requested(to=2)
    replicas = (stage.replica(1), stage.replica(2, **trouble))
    assert "HandoverBegun" not in facts(stage.steps("s1", stage.engine(0, replicas=replicas)))


def test_a_fenced_or_cut_off_leader_is_still_fenced_first() -> None:
    stage = requested()
    alone = stage.engine(0, replicas=(stage.replica(1, online=False), stage.replica(2, online=False)))
    steps = stage.steps("s1", alone, lease=1.0)
    assert next(type(step).__name__ for step in steps) == "Fence"


def test_nothing_begins_twice() -> None:
    stage = requested(to=1).hand_over(1)
    assert "HandoverBegun" not in facts(stage.steps("s1", stage.engine(0)))


def test_its_manager_looks_often_meanwhile() -> None:
    assert next_look_of(requested().state, me("s1")) == 0.05
    assert next_look_of(Stage(3).settled().state, me("s1")) > 0.05
