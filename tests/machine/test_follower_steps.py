"""What the manager of a follower does: attach it when it may, find its marker, report silence, stop a usurper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain.facts import HandoverDone, LeaderSilence, PositionReported
from dkv.domain.model import PositionReport, ProcessState
from dkv.domain.orders import EnforceLeader
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.conditions import update_history
from dkv.machine.follower_steps import PROBE_LASTS
from dkv.machine.observation import ConditionHistory, ProbeResult
from dkv.machine.steps import CheckMarker, Kill, ProbePeer, Replicate, Step, SubmitFact
from tests.machine.stage import LONG, Stage, host, kinds, me, steps_of

LOOSE: dict[str, Any] = {"link_up": False, "link_silent_ms": 10**9}


def test_a_copy_that_was_not_announced_stays_alone() -> None:
    stage = Stage().led()
    assert stage.steps("s2", stage.engine(1), lasting=LONG) == []


def test_an_announced_copy_attaches_at_once() -> None:
    stage = Stage().led().announce(1)
    (step,) = stage.steps("s2", stage.engine(1, **LOOSE))
    assert isinstance(step, Replicate)
    assert step.guarded
    assert step.leader.leads


def test_nobody_attaches_to_a_leader_that_does_not_serve_yet() -> None:
    stage = Stage().settled().ends(0)
    stage.rise(0)
    stage.open()
    assert stage.steps("s2", stage.engine(1, **LOOSE), lasting=LONG) == []


def test_a_resync_is_not_disturbed() -> None:
    stage = Stage().led().announce(1)
    assert stage.steps("s2", stage.engine(1, resyncing=True, **LOOSE), lasting=LONG) == []


def test_a_member_of_s_that_lost_its_leader_may_find_it_again_by_itself() -> None:
    stage = Stage().settled()
    assert stage.steps("s2", stage.engine(1, **LOOSE), lasting=900) == []
    assert kinds(stage.steps("s2", stage.engine(1, **LOOSE), lasting=1_100)) == ["Replicate"]


def test_a_restarted_member_leaves_s_before_it_attaches() -> None:
    """It would resync in full, and until that ended it would hold nothing, being counted."""
    stage = Stage().settled().ends(1)
    stage.rise(1)
    assert 1 in stage.group.in_sync
    assert stage.steps("s2", stage.engine(1, **LOOSE), lasting=LONG) == []


# The marker ----------------------------------------------------------------------------------------------------------


def joiner(**changes: Any) -> list[Step]:
    stage = Stage().led().announce(1).mark(1, sequence=7)
    return stage.steps("s2", stage.engine(1, **changes))


def test_a_joiner_looks_for_its_marker_on_its_own_disk() -> None:
    (step,) = joiner()
    assert isinstance(step, CheckMarker)
    assert (step.term, step.sequence, step.nonce) == (1, 7, "n")


def test_a_joiner_does_not_look_while_its_disk_is_being_replaced() -> None:
    assert joiner(resyncing=True) == []
    assert joiner(rewriting=True) == []
    assert "CheckMarker" not in kinds(joiner(**LOOSE))


# Usurpers ------------------------------------------------------------------------------------------------------------


def test_an_engine_that_leads_without_being_the_leader_is_fenced_then_killed() -> None:
    stage = Stage().settled()
    late = {"role": "leader", "follows": None, "link_up": False, "epoch": 102}
    assert kinds(stage.steps("s2", stage.engine(1, fenced=False, **late))) == ["Fence"]
    (step,) = stage.steps("s2", stage.engine(1, fenced=True, **late))
    assert isinstance(step, Kill)
    assert step.cause is Cause.FENCED_BY_MANAGER


def test_an_old_leader_may_step_down_by_itself_for_a_moment_but_takes_no_writes() -> None:
    """After a handover its engine learns of the new leader, whose epoch is higher, a little later."""
    stage = Stage().settled().hand_over(1)
    stage.submit(HandoverDone(start_id=stage.process(1).start_id, epoch=102, history="b", **stage.quote()))
    old: dict[str, Any] = {"role": "leader", "follows": None, "link_up": False, "epoch": 101}
    assert kinds(stage.steps("s1", stage.engine(0, fenced=False, **old))) == ["Fence"]
    assert stage.steps("s1", stage.engine(0, fenced=True, **old), lasting=1_000) == []
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True, **old), lasting=2_100)) == ["Kill"]


def test_the_target_of_a_standing_handover_is_not_killed_for_leading() -> None:
    stage = Stage().settled().hand_over(1)
    assert kinds(stage.steps("s2", stage.engine(1, role="leader", fenced=False))) == ["HandoverDone"]
    assert stage.steps("s1", stage.engine(0)) == []


def test_a_former_leader_found_following_is_no_suspect_any_more() -> None:
    stage = Stage().settled().hand_over(1)
    stage.submit(HandoverDone(start_id=stage.process(1).start_id, epoch=102, history="b", **stage.quote()))
    steps = stage.steps("s1", stage.engine(0, role="follower"))
    assert kinds(steps) == ["LeaderSteppedDown"]


# Silence -------------------------------------------------------------------------------------------------------------


def probed(
    stage: Stage, server: str, engine: EngineSeen, *, answers: bool = False, accepts: bool = False, age: float = 0, **more: Any
) -> list[Step]:
    """What follows once a probe of the leader's has given this, so many ms ago."""
    seen = stage.see(server, engine, **more)
    steps = steps_of(stage.state, me(server), seen)
    probes = {
        (k.host, k.port, k.engine_port): ProbeResult(seen.conditions.now - age, answers, accepts)
        for k in steps
        if isinstance(k, ProbePeer)
    }
    return [step for step in steps_of(stage.state, me(server), replace(seen, probes=probes)) if not isinstance(step, ProbePeer)]


def silence(steps: list[Step]) -> list[tuple[bool, bool]]:
    """(silent, machine answers) as reported."""
    facts = [step.fact for step in steps if isinstance(step, SubmitFact)]
    return [(fact.silent, fact.machine_answers) for fact in facts if isinstance(fact, LeaderSilence)]


def test_silence_is_reported_only_when_the_leaders_server_lost_its_lease_and_after_a_probe() -> None:
    stage = Stage().settled()
    deaf = stage.engine(1, link_silent_ms=3_000)
    assert kinds(stage.steps("s2", deaf)) == ["ProbePeer"], "what a probe takes is over when the lease ends"
    assert probed(stage, "s2", deaf, answers=False) == []
    stage.server_is_lost("s1")
    assert probed(stage, "s2", stage.engine(1, link_silent_ms=2_999)) == []
    (step,) = stage.steps("s2", deaf)
    assert isinstance(step, ProbePeer)
    assert (step.host, step.port, step.engine_port) == (host("s1"), 7801, 0)
    assert silence(probed(stage, "s2", deaf, answers=False)) == [(True, False)]
    assert silence(probed(stage, "s2", deaf, answers=True)) == [(True, True)]
    assert probed(stage, "s2", deaf, age=PROBE_LASTS + 1) == [], "what was found long ago may have changed"


def test_a_leader_whose_manager_ended_first_is_given_a_second_more_because_engines_count_whole_seconds() -> None:
    stage = Stage(3).settled().server_is_lost("s1")
    deaf, deafer = stage.engine(1, link_silent_ms=3_000), stage.engine(1, link_silent_ms=4_000)
    assert silence(probed(stage, "s2", deaf, lasting=1_500)) == [(True, False)]
    assert silence(probed(stage, "s2", deaf, lasting=1_501)) == []
    assert silence(probed(stage, "s2", deafer, lasting=1_501)) == [(True, False)]
    stage.submit(LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    assert silence(probed(stage, "s2", deaf, lasting=1_501)) == [], "what was reported is not taken back"


def test_a_machine_is_probed_early_only_while_its_link_has_just_become_silent() -> None:
    stage = Stage().settled()
    assert stage.steps("s2", stage.engine(1, link_silent_ms=1_999)) == []
    assert kinds(stage.steps("s2", stage.engine(1, link_silent_ms=2_000))) == ["ProbePeer"]
    assert stage.steps("s2", stage.engine(1, link_silent_ms=10_000)) == []


def test_what_the_domain_has_is_not_reported_again() -> None:
    stage = Stage(3).settled().server_is_lost("s1")
    stage.submit(LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    deaf = stage.engine(1, link_silent_ms=9_000)
    assert silence(probed(stage, "s2", deaf, answers=False)) == []
    assert silence(probed(stage, "s2", deaf, answers=True)) == [(True, True)]


def test_an_open_port_is_not_silence_to_an_engine_that_never_attached() -> None:
    stage = Stage().settled()
    stage.server_is_lost("s1")
    process = stage.process(1)
    stage.state = replace(
        stage.state, processes={**stage.state.processes, process.start_id: replace(process, state=ProcessState.TRACKED)}
    )
    deaf = stage.engine(1, link_silent_ms=9_000, link_up=False)
    (probe,) = [step for step in stage.steps("s2", deaf) if isinstance(step, ProbePeer)]
    assert probe.engine_port == stage.state.archives[0].client_port
    assert silence(probed(stage, "s2", deaf, answers=True, accepts=True)) == []
    assert silence(probed(stage, "s2", deaf, answers=True, accepts=False)) == [(True, True)]


def test_a_leader_that_answers_again_is_reported_too() -> None:
    stage = Stage(3).settled().server_is_lost("s1")
    stage.submit(LeaderSilence(term=1, silent=True, **stage.of(1)))
    assert silence(probed(stage, "s2", stage.engine(1), answers=True)) == [(False, True)]


# What would be lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_old", "of_new", "kept"), [(0, 0, 500), (30, 0, 0), (0, 700, 0)])
def test_what_an_old_leader_holds_beyond_the_new_terms_beginning_is_set_aside_first(of_old: int, of_new: int, kept: int) -> None:
    """All after the marker, where either wrote commands that change no data: a place in one file is none in the other."""
    stage = Stage().settled().ends(0)
    stage.rise(0)  # loaded again, and longer than its successor
    for archive_id, tail, dataless in ((0, 900 + of_old, of_old), (1, 500 + of_new, of_new)):
        report = PositionReport(term=1, sequence=2, nonce="n", bytes_after=tail, dataless_bytes=dataless)
        stage.offer(PositionReported(term=stage.group.term, report=report, **stage.of(archive_id)))
    stage.submit(EnforceLeader(database="orders", group="UNPARTITIONED", archive_id=1, allow_data_loss=True, reason="test"))
    assert stage.group.leader == 1
    stage.open().serve()
    stage.announce(0)
    (step,) = [s for s in stage.steps("s1", stage.engine(0, **LOOSE)) if isinstance(s, Replicate)]
    assert step.keep is not None
    assert step.keep.bytes_after == kept


def test_only_a_second_leader_of_its_own_group_usurps() -> None:
    """It gets its time to step down: not the time for which it led beside the leaders of other groups."""
    stage = Stage().settled()
    other = replace(stage.group, database="other", phase=replace(stage.group.phase, leader_process=99))
    two = replace(
        stage.state,
        groups={**stage.state.groups, other.key: other},
        databases={**stage.state.databases, "other": replace(stage.state.databases[stage.group.database], name="other")},
    )
    follower = stage.process(1).start_id
    for state in (stage.state, two):
        leads = update_history(ConditionHistory(), state, me("s1"), stage.see("s1", stage.engine(0)).survey, 1.0)
        assert not [c for c in leads.since if isinstance(c, tuple) and c[0] == "stale leader"]
        usurps = update_history(ConditionHistory(), state, me("s2"), stage.see("s2", stage.engine(1, role="leader")).survey, 1.0)
        assert ("stale leader", follower) in usurps.since
