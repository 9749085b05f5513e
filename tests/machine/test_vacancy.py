"""A group without a leader: everybody says how far it got, fenced; the one that is assigned opens its term."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain import facts, orders
from dkv.domain.model import PositionReport, ProcessState
from dkv.domain.phases import Assigned, Vacant
from dkv.machine.steps import Kill, ReportPosition
from tests.machine.stage import GROUP, HISTORY, LONG, Stage, kinds


def vacant() -> Stage:
    """The leader's engine was killed; its process is requested again."""
    stage = Stage(3).settled().ends(0)
    assert isinstance(stage.group.phase, Vacant)
    return stage


def test_each_living_member_reports_its_position_in_a_vacancy_once() -> None:
    stage = vacant()
    (step,) = stage.steps("s2", stage.engine(1, link_up=False))
    assert isinstance(step, ReportPosition)
    assert (step.term, step.offset, step.history, step.leads) == (1, 1_000, HISTORY, False)
    report = PositionReport(term=1, sequence=2, nonce="n", offset=1_000, history=HISTORY)
    stage.submit(facts.PositionReported(term=1, report=report, **stage.of(1)))
    assert stage.steps("s2", stage.engine(1, link_up=False), lasting=LONG) == []


def test_an_engine_found_leading_is_fenced_before_its_position_is_read() -> None:
    stage = vacant()
    (step,) = stage.steps("s2", stage.engine(1, role="leader", fenced=False))
    assert isinstance(step, ReportPosition)
    assert step.leads


def test_an_engine_that_leads_although_its_position_is_known_is_fenced() -> None:
    stage = vacant()
    report = PositionReport(term=1, sequence=2, nonce="n")
    stage.submit(facts.PositionReported(term=1, report=report, **stage.of(1)))
    assert kinds(stage.steps("s2", stage.engine(1, role="leader", fenced=False))) == ["Fence"]
    assert stage.steps("s2", stage.engine(1, role="leader", fenced=True)) == []


def test_a_suspect_that_follows_says_so() -> None:
    stage = Stage().settled().server_is_lost("s1")
    stage.submit(facts.LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    stage.server_joins("s1")
    assert isinstance(stage.group.phase, Vacant)
    assert stage.process(0).start_id in stage.group.suspects
    assert kinds(stage.steps("s1", stage.engine(0, role="follower"))) == ["LeaderSteppedDown"]
    assert kinds(stage.steps("s1", stage.engine(0, role="leader"))) == ["ReportPosition"]


def test_the_assigned_leader_opens_its_term_and_nobody_else_does_anything() -> None:
    stage = vacant()
    stage.rise(0)
    assert isinstance(stage.group.phase, Assigned)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["OpenTerm"]
    report = PositionReport(term=1, sequence=2, nonce="n", offset=1_000, history=HISTORY)
    stage.submit(facts.PositionReported(term=stage.group.term, report=report, **stage.of(1)))
    assert stage.steps("s2", stage.engine(1, link_up=False)) == []


def test_nothing_is_rewritten_marked_or_attached_in_a_vacancy() -> None:
    stage = vacant()
    huge = stage.engine(1, link_up=False, incremental_bytes=1 << 40)
    assert kinds(stage.steps("s2", huge, lasting=LONG)) == ["ReportPosition"]


@pytest.mark.parametrize("state", [ProcessState.STARTED, ProcessState.CONFIGURED])
def test_a_position_from_disk_stands_until_the_engine_runs(state: ProcessState) -> None:
    stage = Stage().settled()
    stage.ends(0).ends(1)
    stage.rise(1, ProcessState.STARTED)
    assert stage.process(1).report is not None
    assert stage.steps("s2", lasting=LONG) == []


def test_a_suspect_that_leads_and_cannot_be_chosen_is_killed_or_everybody_would_wait_for_it() -> None:
    stage = Stage().led()
    stage.submit(facts.LeaderSteppedDown(**stage.of(0)))
    late = stage.process(1)  # its takeover arrived after its term was over; its archive is not in sync
    suspected = replace(stage.group, suspects=(late.start_id,))
    stage.state = replace(stage.state, groups={GROUP: suspected})
    report = PositionReport(term=1, sequence=2, nonce="n", offset=1_000, history=HISTORY)
    stage.submit(facts.PositionReported(term=1, report=report, **stage.of(0)), facts.Tick(clock=3_600_000))
    assert stage.group.leader is None, "as long as it may lead nobody else does"
    steps = stage.steps("s2", stage.engine(1, role="leader"))
    assert [type(step) for step in steps] == [Kill]
    stage.ends(1)
    assert stage.group.leader == 0


def test_where_an_operator_enforced_an_archive_a_suspect_that_leads_ends() -> None:
    """Its term was open and nobody had heard that it serves; it would be waited for as long as it lives."""
    stage = Stage().settled()
    leads = stage.process(0)
    stage.state = replace(stage.state, groups={GROUP: replace(stage.group, phase=replace(stage.group.phase, serving=False))})
    stage.submit(
        orders.EnforceLeader(database=GROUP[0], group=GROUP[1], archive_id=1, allow_data_loss=True, reason="we cannot wait")
    )
    assert stage.group.leader is None and leads.start_id in stage.group.suspects
    assert kinds(stage.steps("s1", stage.engine(0, role="leader"))) == ["Kill"]
