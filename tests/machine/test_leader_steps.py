"""What the manager of a group's leader does: open its term, fence in time, let the in-sync set grow and shrink."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.model import JoinStage, PositionReport, ProcessState
from dkv.machine.conditions import update_history
from dkv.machine.leader_steps import CLEAN_STOP_PATIENCE, MARK_AGAIN, SENT_AWAY_WITHIN
from dkv.machine.observation import Observation
from dkv.machine.steps import Lead, MarkJoiner, Step, SubmitFact
from tests.machine.stage import DATABASE, HISTORY, LONG, Stage, kinds, me, steps_of

CUT = 1.0  # seconds of a lease that could not be renewed


def facts_of(steps: list[Step]) -> list[Command]:
    return [step.fact for step in steps if isinstance(step, SubmitFact)]


# Opening a term ------------------------------------------------------------------------------------------------------


def test_no_takeover_before_the_term_is_open() -> None:
    stage = Stage().request(0).rise(0)
    assert kinds(stage.steps("s1", stage.engine(0, fenced=False))) == ["Fence"]
    assert kinds(stage.steps("s1", stage.engine(0))) == ["OpenTerm"]
    stage.open()
    (lead,) = stage.steps("s1", stage.engine(0, role="follower", fenced=True))
    assert isinstance(lead, Lead)
    assert lead.guarded
    assert (lead.takeover, lead.unfence, lead.term) == (True, True, 1)


def test_an_engine_that_leads_already_is_not_ordered_again_to_take_over() -> None:
    stage = Stage().request(0).rise(0).open()
    (lead,) = stage.steps("s1", stage.engine(0))
    assert isinstance(lead, Lead)
    assert not lead.takeover


def test_a_new_leader_stays_fenced_below_min_in_sync() -> None:
    stage = Stage(min_in_sync=2).request(0).rise(0).open()
    (lead,) = stage.steps("s1", stage.engine(0, fenced=True))
    assert isinstance(lead, Lead)
    assert not lead.unfence
    stage.serve()
    assert stage.steps("s1", stage.engine(0, fenced=True)) == []
    stage.request(1).rise(1).join(1)
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True))) == ["Unfence"]


def test_a_leader_admits_its_replicas_again_after_whatever_shut_them_out() -> None:
    stage = Stage().settled()
    assert kinds(stage.steps("s1", stage.engine(0, admits_replicas=False))) == ["Admit"]


def test_a_leader_that_was_demoted_says_so() -> None:
    stage = Stage().settled()
    assert kinds(stage.steps("s1", stage.engine(0, role="follower", fenced=False))) == ["LeaderSteppedDown"]


# Fencing -------------------------------------------------------------------------------------------------------------


def cut_off(stage: Stage, silent_ms: int, **changes: Any) -> list[Step]:
    replica = stage.replica(1, silent_ms=silent_ms)
    return stage.steps("s1", stage.engine(0, replicas=(replica,), **changes), lease=CUT)


def test_a_cut_off_leader_fences_as_soon_as_a_member_of_s_is_silent() -> None:
    stage = Stage().settled()
    assert kinds(cut_off(stage, 2_000)) == ["Fence"]
    assert kinds(stage.steps("s1", stage.engine(0, replicas=()), lease=CUT)) == ["Fence"]


def test_a_cut_off_leader_serves_on_while_all_of_s_acknowledges() -> None:
    assert cut_off(Stage().settled(), 1_000) == []


def test_a_cut_off_leader_without_followers_serves_on() -> None:
    stage = Stage().led()
    assert "Fence" not in kinds(stage.steps("s1", stage.engine(0, replicas=()), lease=CUT))


def test_a_silent_member_is_no_reason_to_fence_while_the_lease_is_renewed() -> None:
    stage = Stage().settled()
    assert stage.steps("s1", stage.engine(0, replicas=(stage.replica(1, silent_ms=2_000),))) == []


def test_a_cut_off_leader_is_fenced_in_a_handover_too() -> None:
    assert kinds(cut_off(Stage().settled().hand_over(1), 2_000)) == ["Fence"]
    assert kinds(cut_off(Stage().settled().stop(0).hand_over(1), 2_000)) == ["Fence"]


def test_a_cut_off_leader_is_fenced_before_its_group_serves_too() -> None:
    stage = Stage().settled().server_is_lost("s1")
    stage.submit(facts.LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    stage.server_joins("s1")
    assert stage.group.leader is None
    position = PositionReport(term=1, sequence=2, nonce="n", offset=1_000, history=HISTORY)
    for archive_id in (0, 1):
        stage.submit(facts.PositionReported(term=stage.group.term, report=position, **stage.of(archive_id)))
    stage.open()
    assert set(stage.group.in_sync) == {0, 1}
    assert kinds(cut_off(stage, 2_000)) == ["Fence", "Lead"]


def test_a_leader_whose_lease_is_renewed_again_is_unfenced() -> None:
    stage = Stage().settled()
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True))) == ["Unfence"]


# Clients that wait ---------------------------------------------------------------------------------------------------

HELD: dict[str, Any] = {"held": True, "fenced": True}


def test_clients_wait_for_as_long_as_their_engine_begins_to_lead() -> None:
    stage = Stage().settled().ends(0)
    stage.rise(0).open()
    assert kinds(stage.steps("s1", stage.engine(0, role="leader", **HELD))) == ["Lead"]


def test_clients_of_an_engine_that_does_not_come_to_lead_are_refused_rather_than_kept_waiting() -> None:
    stage = Stage().settled().ends(0)
    stage.rise(0)
    vacant = [stage.steps("s2", stage.engine(1, role=role, **HELD)) for role in ("leader", "follower")]
    stage.open()
    other = [stage.steps("s2", stage.engine(1, role=role, **HELD)) for role in ("leader", "follower")]
    refused = stage.steps("s1", stage.engine(0, role="follower", **HELD))
    assert [kinds(steps) for steps in (*vacant, *other, refused)] == [["Fence"]] * 5


def test_a_pause_that_only_its_manager_ends_is_no_hot_copys() -> None:
    stage = Stage().settled().ends(0)
    stage.rise(0).open()
    assert "LiftPause" not in kinds(stage.steps("s1", stage.engine(0, role="leader", **HELD)))


def test_an_engine_that_leaves_while_clients_wait_ends_and_their_connections_with_it() -> None:
    stage = Stage(1).led().stop(0)
    assert kinds(stage.steps("s1", stage.engine(0, **HELD))) == ["ShutDown"]


# Shrinking -----------------------------------------------------------------------------------------------------------


def test_a_follower_leaves_s_after_three_seconds_of_silence() -> None:
    stage = Stage().settled()
    gone = stage.engine(0, replicas=())
    assert stage.steps("s1", gone, lasting=2_900) == []
    assert kinds(stage.steps("s1", gone, lasting=3_100)) == ["InSyncShrunk"]


def test_a_follower_that_is_attached_and_silent_leaves_s_as_well() -> None:
    stage = Stage().settled()
    frozen = stage.engine(0, replicas=(stage.replica(1, silent_ms=4_000),))
    assert kinds(stage.steps("s1", frozen, lasting=1_100)) == ["InSyncShrunk"]


def test_a_leader_that_was_busy_itself_believes_no_silence_at_its_first_glance() -> None:
    stage = Stage().settled()
    frozen = stage.engine(0, replicas=(stage.replica(1, silent_ms=5_000),))
    assert stage.steps("s1", frozen) == []


@pytest.mark.parametrize("copies", [2, 3])
def test_a_planned_stop_takes_a_follower_out_of_s_first(copies: int) -> None:
    stage = Stage(copies).settled().stop(1)
    (fact,) = facts_of(stage.steps("s1", stage.engine(0)))
    assert isinstance(fact, facts.InSyncShrunk)
    assert fact.archive_id == 1


def test_a_member_that_was_restarted_leaves_s_at_once() -> None:
    stage = Stage().settled().ends(1)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["InSyncShrunk"]
    stage.rise(1)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["InSyncShrunk"]


def test_a_leader_is_fenced_before_s_shrinks_below_min_in_sync() -> None:
    stage = Stage(min_in_sync=2).settled().stop(1, force=True)
    assert set(kinds(stage.steps("s1", stage.engine(0)))) == {"Fence"}
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True))) == ["InSyncShrunk"]
    stage.submit(facts.InSyncShrunk(archive_id=1, reason="it stops", **stage.quote()))
    assert stage.steps("s1", stage.engine(0, fenced=True)) == []


def test_s_shrinks_without_a_fence_where_enough_members_stay() -> None:
    stage = Stage(3, min_in_sync=2).settled().stop(2)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["InSyncShrunk"]


def test_s_never_shrinks_while_a_handover_stands() -> None:
    stage = Stage(3).settled().hand_over(1)
    assert kinds(stage.steps("s1", stage.engine(0, replicas=()), lasting=3_500)) == ["HandOver"]


# Growing -------------------------------------------------------------------------------------------------------------


def test_a_loaded_copy_is_announced_then_marked_once_its_link_is_up() -> None:
    stage = Stage().led()
    assert kinds(stage.steps("s1", stage.engine(0))) == ["JoinAnnounced"]
    stage.announce(1)
    assert stage.steps("s1", stage.engine(0, replicas=())) == []
    (step,) = stage.steps("s1", stage.engine(0))
    assert isinstance(step, MarkJoiner)
    assert step.sequence == 2


def test_a_copy_that_is_not_loaded_is_not_announced() -> None:
    stage = Stage().request(0, 1).rise(0).rise(1, ProcessState.CONFIGURED).open().serve()
    assert stage.steps("s1", stage.engine(0)) == []


def test_a_marker_that_is_not_found_is_sent_again() -> None:
    """A rewrite or a resync may have swallowed it."""
    stage = Stage().led().announce(1).mark(1)
    assert stage.steps("s1", stage.engine(0), lasting=MARK_AGAIN - 100) == []
    assert kinds(stage.steps("s1", stage.engine(0), lasting=MARK_AGAIN + 100)) == ["MarkJoiner"]


def grown(stage: Stage, lasting: float, acknowledged: int, noted_at: int = 1_000) -> list[Step]:
    """The glance after `required` has stood for so long, the leader's offset having been `noted_at` since."""

    def engine(offset: int, acked: int) -> Any:
        return stage.engine(0, offset=offset, replicas=(stage.replica(1, offset=acked),))

    before = stage.see("s1", engine(noted_at, 0), lasting=lasting)
    survey = stage.see("s1", engine(noted_at + 500, acknowledged)).survey
    memory = update_history(before.conditions, stage.state, me("s1"), survey, before.conditions.now + 1)
    return steps_of(stage.state, me("s1"), Observation(survey, 3.0, memory))


def test_s_grows_after_required_stood_for_a_second_and_the_offset_noted_then_is_acknowledged() -> None:
    stage = Stage().led().announce(1).mark(1).require(1)
    assert stage.group.joining[0].stage is JoinStage.REQUIRED
    assert kinds(grown(stage, lasting=1_000, acknowledged=1_000)) == ["JoinCompleted"]


def test_s_does_not_grow_within_the_second() -> None:
    stage = Stage().led().announce(1).mark(1).require(1)
    assert grown(stage, lasting=900, acknowledged=9_999) == []


def test_s_does_not_grow_before_the_noted_offset_is_acknowledged() -> None:
    """By itself it would acknowledge within a second; it is asked to do so now."""
    stage = Stage().led().announce(1).mark(1).require(1)
    assert kinds(grown(stage, lasting=1_000, acknowledged=999)) == ["AskFollowers"]


def test_s_does_not_grow_by_a_copy_whose_link_is_down() -> None:
    stage = Stage().led().announce(1).mark(1).require(1)
    offline = stage.engine(0, replicas=(stage.replica(1, online=False),))
    assert stage.steps("s1", offline, lasting=2_000) == []
    assert kinds(stage.steps("s1", offline, lasting=3_100)) == ["JoinAborted"]


def test_no_confirmation_waits_for_a_joiner_that_is_to_leave() -> None:
    """Its server may be lost, and then its end is never reported (simulation, seed 1406 of an earlier schedule)."""
    stage = Stage().led().announce(1).mark(1).require(1)
    joiner = next(p for p in stage.state.processes.values() if p.archive_id == 1)
    stage.state = replace(stage.state, processes={**stage.state.processes, joiner.start_id: replace(joiner, kill=True)})
    (fact,) = facts_of(stage.steps("s1", stage.engine(0, replicas=(stage.replica(1, offset=900),))))
    assert isinstance(fact, facts.JoinAborted)
    assert (fact.archive_id, fact.reason) == (1, "it is about to be stopped")


def test_a_copy_about_to_be_killed_does_not_join() -> None:
    stage = Stage().led().stop(1, kill=True)
    assert stage.steps("s1", stage.engine(0)) == []


# The whole stop ------------------------------------------------------------------------------------------------------


def stopping(stage: Stage) -> Stage:
    return stage.submit(orders.ShutdownDatabase(name=DATABASE))


def test_a_whole_stop_sends_clients_away_before_it_refuses_their_writes() -> None:
    """Libraries understand a connection that ends; NOREPLICAS they hand on. What must be fenced at once is fenced at once."""
    stage = stopping(Stage().settled())
    assert kinds(stage.steps("s1", stage.engine(0))) == ["CloseClientPort"]
    assert kinds(stage.steps("s1", stage.engine(0), lasting=SENT_AWAY_WITHIN + 100)) == ["Fence"]
    assert "Fence" in kinds(stage.steps("s1", stage.engine(0, lost=True)))
    assert kinds(stage.steps("s1", stage.engine(0, takes_clients=False, fenced=True))) == ["CleanStopReached"], "it stays closed"


def test_a_whole_stop_fences_then_waits_until_all_of_s_holds_what_the_leader_has() -> None:
    stage = stopping(Stage().settled())
    assert kinds(stage.steps("s1", stage.engine(0, takes_clients=False))) == ["Fence"]
    behind = stage.engine(0, fenced=True, replicas=(stage.replica(1, offset=999),))
    assert kinds(stage.steps("s1", behind)) == ["AskFollowers"]
    (fact,) = facts_of(stage.steps("s1", stage.engine(0, fenced=True)))
    assert isinstance(fact, facts.CleanStopReached)
    assert fact.reached == (1,)


def test_pings_after_the_fence_do_not_hold_up_a_whole_stop() -> None:
    stage = stopping(Stage().settled())
    first = stage.see("s1", stage.engine(0, fenced=True, offset=1_000, replicas=(stage.replica(1, offset=990),)))
    later = stage.engine(0, fenced=True, offset=1_014, replicas=(stage.replica(1, offset=1_000),))
    survey = stage.see("s1", later).survey
    memory = update_history(first.conditions, stage.state, me("s1"), survey, first.conditions.now + 20)
    assert kinds(steps_of(stage.state, me("s1"), Observation(survey, 3.0, memory))) == ["CleanStopReached"]


def test_a_whole_stop_waits_for_a_straggler_for_a_while_only() -> None:
    stage = stopping(Stage().settled())
    alone = stage.engine(0, fenced=True, replicas=())
    assert stage.steps("s1", alone, lasting=CLEAN_STOP_PATIENCE - 100) == []
    (fact,) = facts_of(stage.steps("s1", alone, lasting=CLEAN_STOP_PATIENCE + 100))
    assert isinstance(fact, facts.CleanStopReached)
    assert fact.reached == ()


def test_in_a_whole_stop_nobody_joins_and_no_fence_is_lifted() -> None:
    stage = stopping(Stage().led())
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True), lasting=LONG)) == ["CleanStopReached"]


def test_a_leader_whose_manager_was_restarted_has_the_whole_second_again() -> None:
    stage = Stage().led().announce(1).mark(1).require(1)
    survey = stage.see("s1", stage.engine(0)).survey
    fresh = update_history(stage.see("s1").conditions, stage.state, me("s1"), survey, 5_000)
    fresh = replace(fresh, since={}, notes={})
    first = update_history(fresh, stage.state, me("s1"), survey, 9_000)
    assert steps_of(stage.state, me("s1"), Observation(survey, 3.0, first)) == []
