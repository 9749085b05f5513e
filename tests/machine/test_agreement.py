"""The domain and the machine agree: whatever the domain assigns, plan() acts on it, or rests for a reason that it reports.

The states are those of many random walks. Each process is shown to its manager as the domain believes its engine to
be, and everything has lasted for an hour, so that no patience is left: what rests here, rests until something happens.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from dkv.domain import facts
from dkv.domain.held_back import rest_of
from dkv.domain.model import DatabaseState, JoinStage, Process, ProcessRole, ProcessState
from dkv.domain.phases import HandingOver, Phase
from dkv.engine.contract import Cause, ExitSeen, Survey
from dkv.machine.conditions import update_history
from dkv.machine.observation import STOPPING, ConditionHistory, Observation, PlanInput
from dkv.machine.perform import Performer
from dkv.machine.plan import plan, process_steps
from dkv.machine.steps import Step
from tests.machine.stage import DATABASE, LONG, Stage, me
from tests.machine.walk import any_engine, any_exit, step

# (process, what it is to its group, its engine): why nothing is to be done. Whatever is not here is acted on.
RESTS = {
    ("TRACKED", "memory only", "runs"): "it is held until all its groups are led",
    ("MONITORED", "memory only", "runs"): "it holds everything, or a leader of its groups is being chosen",
    ("REQUESTED", "held back", "none yet"): "it waits for its next try",
    ("STARTED", "reported, nobody leads", "none yet"): "an engine is only launched when its group has a leader",
    ("whole stop", "does not lead", "none yet"): "nothing is started in a whole stop",
    ("whole stop", "does not lead", "runs"): "it is asked to leave after the clean stop",
    ("TRACKED", "reported, nobody leads", "runs"): "it has answered; the domain chooses",
    ("TRACKED", "reported, another is assigned", "runs"): "it is held until its group's leader runs",
    ("TRACKED", "outside S, another is to lead", "runs"): "it is held until its group's leader runs",
    ("TRACKED", "outside S, another leads", "runs"): "the leader's manager announces it first",
    ("TRACKED", "in S, another leads", "runs"): "it was restarted: the leader's manager takes it out of S first",
    ("MONITORED", "reported, nobody leads", "runs"): "it has answered; the domain chooses",
    ("MONITORED", "reported, another is assigned", "runs"): "it follows when the new term serves",
    ("MONITORED", "in S, another is to lead", "runs"): "it follows when the new term serves",
    ("MONITORED", "outside S, another is to lead", "runs"): "it follows when the new term serves",
    ("MONITORED", "in S, another leads", "runs"): "settled",
    ("MONITORED", "outside S, another leads", "runs"): "the leader's manager announces it first",
    ("MONITORED", "joins, announced", "runs"): "it is attached: the leader's manager marks it",
    ("MONITORED", "joins, required", "runs"): "the leader's manager lets it in",
    ("MONITORED", "leads", "runs"): "settled",
}


def standing(stage: Stage, process: Process) -> str:
    """What a process is to its group, in a word or two."""
    group = stage.group
    if rest_of(process):
        return "held back"
    if process.role is ProcessRole.TE:
        return "memory only"
    phase = group.phase
    if isinstance(phase, HandingOver) and process.start_id in (phase.leader_process, phase.to_process):
        return "hands over" if process.start_id == phase.leader_process else "is handed over to"
    if group.leader_process == process.start_id:
        return "leads" if group.serving else "is to lead" if group.open else "is assigned"
    joining = next((j for j in group.joining if j.start_id == process.start_id), None)
    if joining:
        return f"joins, {joining.stage.value.lower()}"
    if not group.open:
        report = "reported" if process.report else "unreported"
        return f"{report}, nobody leads" if group.leader is None else f"{report}, another is assigned"
    place = "in S" if process.archive_id in group.in_sync else "outside S"
    return f"{place}, {'another leads' if group.serving else 'another is to lead'}"


@dataclass(frozen=True)
class Sight:
    """One process in one state of the domain, shown to its manager, and what that does."""

    case: tuple[str, str, str]
    steps: tuple[Step, ...]
    stage: Stage


def case_of(stage: Stage, process: Process) -> tuple[str, str]:
    """Its state, or how it was asked to go, and what it is to its group."""
    if process.kill:
        return ("killed", standing(stage, process))
    whole = stage.state.databases[DATABASE].state in STOPPING and process.state is not ProcessState.REQUESTED_SHUTDOWN
    if whole and stage.group.leader_process != process.start_id:
        return ("whole stop", "does not lead")
    return (process.state.value, standing(stage, process))


def surveys(stage: Stage, process: Process) -> Iterator[tuple[str, Survey]]:
    """The engine as the domain believes it to be, and ended or gone without a word."""
    if process.pid is not None and process.archive_id is not None:
        yield "runs", Survey(engines=(stage.engine(process.archive_id),))
        yield "ended", Survey(exits=(ExitSeen(process.start_id, "/d", Cause.EXITED, "", 1, None, (), False),))
        yield "gone", Survey()
    elif process.pid is not None:
        yield "runs", Survey(memory=(stage.memory(process.start_id),))
        yield "ended", Survey(exits=(ExitSeen(process.start_id, "/d", Cause.EXITED, "", 1, None, (), False),))
        yield "gone", Survey()
    else:
        yield "none yet", Survey()


def sights(stage: Stage) -> Iterator[Sight]:
    for process in stage.state.processes.values():
        here = me(process.server_id)
        for engine, survey in surveys(stage, process):
            first = update_history(ConditionHistory(now=1_000), stage.state, here, survey, 1_000)
            memory = update_history(first, stage.state, here, survey, LONG)
            steps = tuple(process_steps(PlanInput(stage.state, here, Observation(survey, 3.0, memory)), process))
            yield Sight((*case_of(stage, process), engine), steps, stage)


@cache
def walked() -> tuple[Stage, ...]:
    """Every state of many walks, once."""
    stages: list[Stage] = []
    for seed in range(150):
        chance = random.Random(f"walk {seed}")
        stage = Stage(2 + seed % 2, min_in_sync=1 + seed // 2 % 2)
        if seed % 3:
            stage.settled()
        for _ in range(50):
            before = stage.state
            step(stage, chance.randrange)
            if stage.state is not before:
                stages.append(copy(stage))
    return tuple(stages)


@cache
def seen() -> dict[tuple[str, str, str], set[bool]]:
    """For each case met: whether a manager acted on it."""
    cases: dict[tuple[str, str, str], set[bool]] = defaultdict(set)
    for stage in walked():
        for sight in sights(stage):
            cases[sight.case].add(bool(sight.steps))
    return cases


def test_the_walks_meet_whatever_the_domain_can_assign() -> None:
    states = {process for process, _, _ in seen()}
    assert states == {"killed", "whole stop", *(state.value for state in ProcessState)}
    standings = {standing for _, standing, _ in seen()}
    for word in ("leads", "is to lead", "is assigned", "hands over", "is handed over to", "unreported, nobody leads"):
        assert word in standings
    assert {f"joins, {stage.value.lower()}" for stage in JoinStage} <= standings
    assert {type(stage.group.phase) for stage in walked()} == set(get_args(Phase))
    assert {database.state for stage in walked() for database in stage.state.databases.values()} >= {
        state for state in DatabaseState if state is not DatabaseState.TOMBSTONE
    }
    assert any(archive.removed for stage in walked() for archive in stage.state.archives.values())


def test_whatever_the_table_does_not_name_is_acted_on() -> None:
    idle = sorted(case for case, acted in seen().items() if False in acted and case not in RESTS)
    assert not idle, f"plan() does nothing here, and RESTS does not say why: {idle}"


def test_whatever_the_table_names_is_a_rest() -> None:
    gone = sorted(case for case in RESTS if False not in seen().get(case, set()))
    assert not gone, f"take these out of RESTS: {gone}"


def test_an_end_is_never_rested_on() -> None:
    assert all(acted == {True} for (_, _, engine), acted in seen().items() if engine in ("ended", "gone"))


def test_where_nobody_acts_and_time_changes_nothing_the_store_is_well_or_waits_for_somebody_with_a_name() -> None:
    stuck = []
    for stage in walked():
        acts = any(sight.steps for sight in sights(stage) if sight.case[2] in ("runs", "none yet"))
        if not acts and not well(stage) and not waits_for(stage) and not moves_by_itself(stage):
            stuck.append([case_of(stage, p) for p in stage.state.processes.values()])
    assert not stuck, stuck


def well(stage: Stage) -> bool:
    """Every process that runs is in sync, or none runs."""
    mine = [p for p in stage.state.processes.values() if p.archive_id is not None]
    return not mine or (stage.group.serving and all(p.archive_id in stage.group.in_sync for p in mine))


def waits_for(stage: Stage) -> bool:
    """A machine that is away, archives that nobody started (all of S, or the one that an operator chose to lead), or
    the proof that a former leader stopped, which is the lock of an archive that nobody started.
    """
    buried = [stage.state.tombstones[s].process for s in stage.group.suspects if s in stage.state.tombstones]
    if any(p.archive_id is None or stage.state.process_on(p.archive_id) is None for p in buried):
        return True
    enforced = stage.group.enforced
    needed = stage.group.in_sync if enforced is None else (enforced,)
    missing = bool(needed) and all(stage.state.process_on(a) is None for a in needed)
    return missing or not all(server.alive for server in stage.state.servers.values())


def moves_by_itself(stage: Stage) -> bool:
    """Whether the domain's own clocks bring something about."""
    later = copy(stage)
    for _ in range(8):
        later.offer(facts.Tick(clock=later.state.clock + 15_000))
    return replace(later.state, clock=0) != replace(stage.state, clock=0)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_plan_never_raises_and_equal_glances_give_equal_steps(data: st.DataObject) -> None:
    """Whatever the domain is and whatever the engines show, rightly or wrongly."""
    chance = data.draw(st.randoms(use_true_random=False))
    pick = chance.randrange
    stage = Stage(2 + pick(2))
    if pick(2):
        stage.settled()
    for _ in range(pick(25)):
        step(stage, pick)
    past = ConditionHistory()
    for glance in range(1, 4):
        engines = [any_engine(stage, a, pick) for a in stage.state.archives if stage.state.process_on(a) and pick(4)]
        exits = [any_exit(start_id, pick) for start_id in range(stage.state.next_start_id) if pick(8) == 0]
        tes = [p for p in stage.state.processes.values() if p.archive_id is None]
        roles = [("leader", "follower")[pick(4) > 0] for _ in tes]
        memory = [stage.memory(p.start_id, role=r, link_up=pick(2) == 0) for p, r in zip(tes, roles, strict=True) if pick(3)]
        for server in stage.state.servers:
            survey = Survey(tuple(engines), tuple(exits), tuple(memory))
            past = update_history(past, stage.state, me(server), survey, 1_000.0 * glance * glance)
            shown = Observation(survey, float(pick(4)), past, frozenset({"/d"}))
            planned = plan(stage.state, me(server), shown)
            assert planned == plan(stage.state, me(server), shown)
            assert len(set(planned.steps)) <= len(planned.steps)  # steps are remembered by what they are
            assert 0 < planned.next_look <= 1
            if planned.lasts:  # then it need not be made again while nothing differs
                later = update_history(past, stage.state, me(server), survey, past.now + LONG)
                assert planned == plan(stage.state, me(server), replace(shown, conditions=later))
        step(stage, pick)


# Every step has somebody who carries it out ----------------------------------------------------------------------------


def kinds_of(kind: type[Step]) -> list[type[Step]]:
    return [subclass for direct in kind.__subclasses__() for subclass in (direct, *kinds_of(direct))]


def test_every_step_that_plan_may_choose_can_be_carried_out() -> None:
    """A step without a handler would fail at a machine, at night."""
    nothing: Any = None
    performer = Performer(
        "s1", engines=nothing, submitter=nothing, store=nothing, still=nothing, token=nothing, probe=nothing, monotonic=nothing
    )
    kinds = {kind for kind in kinds_of(Step) if kind.__module__.startswith("dkv.")}
    assert set(performer.handlers) == kinds
