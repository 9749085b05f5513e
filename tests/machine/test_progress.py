"""Busy is not dead: what a manager proves of whom an assigned term waits for, and what it takes for a hang."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dkv.domain import facts
from dkv.domain.command import Command
from dkv.domain.decision import Refused
from dkv.domain.model import PositionReport, ProcessState
from dkv.engine.contract import EngineSeen, Survey
from dkv.machine.conditions import update_history
from dkv.machine.observation import HANG_TIMEOUT, ConditionHistory, Observation
from dkv.machine.progress import PROOFS, SPINNING
from dkv.machine.steps import Kill, Step, SubmitFact
from tests.machine.stage import FRESH, HISTORY, LONG, Stage, changed, kinds, me, steps_of

GRACE = 2_000
NEWS = GRACE / PROOFS


def restarting(state: ProcessState = ProcessState.CONFIGURED) -> Stage:
    """The leader's engine ended with a healthy follower; it is restarted, and its term waits for it."""
    return Stage().settled().ends(0).rise(0, state)


def loading(stage: Stage, **changes: Any) -> EngineSeen:
    """One large value: it answers nothing, and nobody knows its place among the nodes yet."""
    return stage.engine(0, answering=False, role="", silent_ms=60_000, **changes)


def proofs(steps: list[Step]) -> list[Command]:
    return [step.fact for step in steps if isinstance(step, SubmitFact) and isinstance(step.fact, facts.LeaderProgressed)]


def test_an_engine_that_loads_in_silence_is_said_to_work_some_times_in_each_failover_grace() -> None:
    stage = restarting()
    reports = []
    for moment in range(0, 2 * GRACE, 50):
        for proof in proofs(stage.steps("s1", loading(stage), lasting=moment)):
            stage.submit(proof)
            reports.append(moment)
            assert isinstance(stage.offer(proof), Refused), "said twice"
    assert len(reports) <= 2 * PROOFS + 1
    assert max(later - earlier for earlier, later in pairwise(reports)) == NEWS


def test_a_view_that_lacks_the_last_proof_costs_none() -> None:
    """A glance at a silent engine takes half a second, and its view is as old."""
    stage = restarting()
    (first,), (second,) = (
        [step for step in stage.steps("s1", loading(stage), lasting=moment) if isinstance(step, SubmitFact) and proofs([step])]
        for moment in (1_000, 1_500)
    )
    assert first.key != second.key, "the first may still be on its way"
    stage.submit(first.fact, second.fact)


def test_an_engine_whose_process_does_nothing_is_not_said_to_work() -> None:
    stage = restarting()
    for idle_ms in (int(NEWS), 500, int(LONG)):
        assert proofs(stage.steps("s1", loading(stage, idle_ms=idle_ms), lasting=NEWS + 1)) == []


def test_a_percentage_that_stands_still_hides_no_progress() -> None:
    stage = restarting()
    stage.submit(facts.LoadingProgressed(percent=7, **stage.of(0)))
    slow = stage.engine(0, loading=True, loading_percent=7, idle_ms=20)
    assert kinds(stage.steps("s1", slow, lasting=NEWS + 1)) == ["LeaderProgressed"]
    assert kinds(stage.steps("s1", replace(slow, loading_percent=8), lasting=600)) == ["LoadingProgressed"], "one fact is enough"


def test_a_loaded_engine_has_the_time_its_cluster_takes() -> None:
    stage = restarting()
    slow = stage.engine(0, state_ok=False)
    assert kinds(stage.steps("s1", slow, lasting=2_500)) == ["LeaderProgressed"]
    assert kinds(stage.steps("s1", slow, lasting=4_000)) == ["ProcessTracked"]


def test_one_that_has_loaded_and_answers_proves_nothing_by_that() -> None:
    stage = restarting(ProcessState.TRACKED)
    assert kinds(stage.steps("s1", stage.engine(0), lasting=LONG)) == ["OpenTerm"]
    silent = stage.engine(0, answering=False, silent_ms=1_000)
    assert kinds(stage.steps("s1", silent, lasting=NEWS + 1)) == ["LeaderProgressed"]


def test_nothing_is_reported_of_an_engine_that_nothing_waits_for() -> None:
    stage = restarting()
    assert proofs(stage.steps("s2", stage.engine(1, answering=False), lasting=LONG)) == [], "another one is assigned"
    alone = Stage(copies=1).settled().ends(0).rise(0, ProcessState.CONFIGURED)
    assert proofs(alone.steps("s1", loading(alone), lasting=LONG)) == [], "nobody else could lead"
    serving = Stage().settled()
    assert proofs(serving.steps("s1", serving.engine(0, answering=False), lasting=LONG)) == []


# A tail --------------------------------------------------------------------------------------------------------------


def fed() -> Stage:
    """A large leader's engine ended; archive 1 is given its tail, and archive 0's manager holds that."""
    stage = Stage(tail_above=0).settled().ends(0)
    held = PositionReport(1, 1, "n", 900, size=5_000)
    stage.submit(facts.ProcessStarted(report=held, **stage.of(0)))
    place = PositionReport(1, 1, "n", 700, offset=800, history=HISTORY, digest="seven")
    stage.submit(facts.PositionReported(term=1, report=place, **stage.of(1)))
    assert stage.group.tail is not None
    return stage


def looks(stage: Stage, server: str, *engines: tuple[EngineSeen, ...], handled: tuple[int, int]) -> list[Step]:
    """Two glances of a manager that read or sent so many bytes of the archive by each."""
    directory = stage.engine(0 if server == "s1" else 1).directory
    before, after = ({directory: count} for count in handled)
    first, last = Survey(engines[0] if engines else ()), Survey(engines[-1] if engines else ())
    begun = update_history(ConditionHistory(now=1_000), stage.state, me(server), first, 1_000, handled=before)
    memory = update_history(begun, stage.state, me(server), last, 1_000 + NEWS + 1, handled=after)
    return steps_of(stage.state, me(server), Observation(last, FRESH, memory, handled=after))


@pytest.mark.parametrize(("handled", "works"), [((0, 1 << 16), True), ((500, 500), False)])
def test_whoever_reads_or_sends_a_tail_works(handled: tuple[int, int], works: bool) -> None:
    assert len(proofs(looks(fed(), "s1", handled=handled))) == works


@pytest.mark.parametrize(
    ("changes", "handled", "works"),
    [
        ({}, (0, 0), False),
        ({}, (0, 1), True),  # its manager compares its disk
        ({"offset": 1_001}, (0, 0), True),
        ({"incremental_bytes": 1}, (0, 0), True),
        ({"answering": False, "idle_ms": 10}, (0, 0), True),  # it takes one large value
        ({"answering": False, "idle_ms": 10_000}, (0, 0), False),
        ({"answering": False, "idle_ms": 10_000}, (0, 1), True),
    ],
)
def test_whoever_takes_a_tail_works(changes: dict[str, Any], handled: tuple[int, int], works: bool) -> None:
    stage = fed()
    before = stage.engine(1, link_up=False)
    steps = looks(stage, "s2", (before,), (changed(before, **changes),), handled=handled)
    assert len(proofs(steps)) == works


# Hangs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent_ms", "idle_ms", "killed"),
    [
        (HANG_TIMEOUT, HANG_TIMEOUT, True),
        (HANG_TIMEOUT, HANG_TIMEOUT - 1, False),
        (SPINNING * HANG_TIMEOUT - 1, 0, False),
        (SPINNING * HANG_TIMEOUT, 0, True),
    ],
)
def test_an_engine_that_answers_nothing_is_killed_once_it_does_nothing_or_never_stops(
    silent_ms: int, idle_ms: int, killed: bool
) -> None:
    stage = Stage().settled()
    steps = stage.steps("s1", stage.engine(0, answering=False, silent_ms=silent_ms, idle_ms=idle_ms))
    assert any(isinstance(step, Kill) for step in steps) == killed


def test_a_load_takes_as_long_as_it_takes() -> None:
    stage = restarting()
    works = loading(stage, idle_ms=0)
    assert not any(isinstance(step, Kill) for step in stage.steps("s1", replace(works, silent_ms=int(LONG))))
    (kill,) = [
        step for step in stage.steps("s1", replace(works, silent_ms=HANG_TIMEOUT, idle_ms=HANG_TIMEOUT)) if isinstance(step, Kill)
    ]
    assert kill.start_id == stage.process(0).start_id
