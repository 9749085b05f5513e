"""How an engine leaves: a leader hands over, a follower is taken out of the in-sync set, then it ends."""

from __future__ import annotations

from dkv.domain import facts, orders
from dkv.domain.model import JoinStage, ProcessState
from dkv.engine.contract import Cause
from dkv.machine.shutdown_steps import HANDOVER_PATIENCE, REDIRECTS, SHRINK_PATIENCE
from dkv.machine.steps import Kill, SubmitFact
from tests.machine.stage import DATABASE, Stage, kinds


def test_a_follower_waits_to_be_shrunk_before_it_stops() -> None:
    stage = Stage().settled().stop(1)
    assert stage.steps("s2", stage.engine(1)) == []
    stage.submit(facts.InSyncShrunk(archive_id=1, reason="it stops", **stage.quote()))
    assert kinds(stage.steps("s2", stage.engine(1))) == ["ShutDown"]


def test_a_follower_does_not_wait_for_ever_nor_for_a_manager_that_is_gone() -> None:
    stage = Stage().settled().stop(1)
    assert kinds(stage.steps("s2", stage.engine(1), lasting=SHRINK_PATIENCE)) == ["ShutDown"]
    stage.server_is_lost("s1")
    assert kinds(stage.steps("s2", stage.engine(1))) == ["ShutDown"]


def test_a_copy_outside_s_just_stops() -> None:
    stage = Stage().led().stop(1)
    assert kinds(stage.steps("s2", stage.engine(1))) == ["ShutDown"]


def test_a_leader_that_handed_over_redirects_clients_before_it_ends() -> None:
    stage = Stage().settled().stop(0).hand_over(1)
    stage.submit(facts.HandoverDone(start_id=stage.process(1).start_id, epoch=105, history="b" * 40, **stage.quote()))
    stage.submit(facts.InSyncShrunk(archive_id=0, reason="it stops", **stage.quote()))
    former = stage.engine(0, takes_clients=True)
    assert stage.steps("s1", former, lasting=REDIRECTS - 1) == []
    assert kinds(stage.steps("s1", former, lasting=REDIRECTS)) == ["ShutDown"]
    assert kinds(stage.steps("s1", stage.engine(0, takes_clients=False))) == ["ShutDown"]


def test_a_killed_follower_is_killed() -> None:
    stage = Stage().settled().stop(1, kill=True)
    (step,) = stage.steps("s2", stage.engine(1))
    assert isinstance(step, Kill)
    assert step.cause is Cause.OPERATOR_KILL


def test_a_leader_hands_over_to_the_furthest_member_of_s() -> None:
    stage = Stage(3).settled().stop(0)
    ahead = (stage.replica(1, offset=900), stage.replica(2, offset=950))
    (step,) = stage.steps("s1", stage.engine(0, replicas=ahead))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, facts.HandoverBegun)
    assert (step.fact.to_archive, step.fact.immediate) == (2, False)


def test_a_leader_hands_over_to_nobody_who_is_silent_leaving_or_not_in_sync() -> None:
    stage = Stage(3).led().join(1).stop(1).stop(0, force=True)
    assert stage.group.in_sync == (0, 1)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["CloseClientPort"]
    stage = Stage().settled().stop(0)
    silent = stage.engine(0, replicas=(stage.replica(1, silent_ms=2_000),))
    assert "HandoverBegun" not in kinds(stage.steps("s1", silent))


def test_a_leader_does_not_leave_before_a_silent_member_of_s_is_back_or_out_of_it() -> None:
    stage = Stage().settled().stop(0)
    silent = stage.engine(0, replicas=(stage.replica(1, online=False),))
    assert stage.steps("s1", silent) == []
    assert kinds(stage.steps("s1", silent, lasting=3_500)) == ["InSyncShrunk"]
    stage.submit(facts.InSyncShrunk(archive_id=1, reason="it is silent", **stage.quote()))
    assert kinds(stage.steps("s1", silent)) == ["CloseClientPort"]


def test_a_leader_that_leaves_takes_a_member_of_s_that_was_restarted_out_of_it_first() -> None:
    stage = Stage().settled().stop(0)
    stage.ends(1)
    assert kinds(stage.steps("s1", stage.engine(0, replicas=()))) == ["InSyncShrunk"]


def test_a_lone_leader_sends_its_clients_away_then_is_fenced_then_shut_down() -> None:
    """No library repeats what a fence refuses; a connection that ends is understood by all."""
    stage = Stage(1).led().stop(0)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["CloseClientPort"]
    assert kinds(stage.steps("s1", stage.engine(0, takes_clients=False))) == ["Fence"]
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True))) == ["ShutDown"]


def test_a_killed_lone_leader_is_killed_at_once() -> None:
    stage = Stage(1).led().stop(0, kill=True)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["Kill"]


def test_a_leader_that_finds_no_successor_in_time_stops_without() -> None:
    stage = Stage().settled().stop(0)
    late = stage.engine(0, fenced=True)
    assert kinds(stage.steps("s1", late, lasting=HANDOVER_PATIENCE - 1)) == ["HandoverBegun"]
    assert kinds(stage.steps("s1", late, lasting=HANDOVER_PATIENCE)) == ["ShutDown"]


def test_a_busy_leader_is_waited_for_before_it_hands_over() -> None:
    stage = Stage().settled().stop(0)
    assert kinds(stage.steps("s1", stage.engine(0, answering=False, silent_ms=5_000))) == ["EngineSilent"]


def test_a_busy_leader_is_not_waited_for_when_it_is_to_be_killed() -> None:
    stage = Stage().settled().stop(0, kill=True)
    assert kinds(stage.steps("s1", stage.engine(0, answering=False, silent_ms=5_000))) == ["EngineSilent", "Kill"]


def test_a_leader_that_is_to_leave_before_it_serves_leads_first() -> None:
    stage = Stage().request(0).rise(0).open().stop(0)
    assert kinds(stage.steps("s1", stage.engine(0, role="follower"))) == ["Lead"]


def test_a_leaving_target_of_a_handover_takes_over_first() -> None:
    stage = Stage().settled().hand_over(1).stop(1, force=True)
    assert kinds(stage.steps("s2", stage.engine(1))) == ["Failover"]


def test_a_joiner_that_leaves_stops_at_once() -> None:
    stage = Stage().led().announce(1).mark(1).require(1).stop(1)
    assert [j.stage for j in stage.group.joining] == [JoinStage.REQUIRED]
    assert kinds(stage.steps("s2", stage.engine(1))) == ["ShutDown"]


def test_an_engine_that_loads_stops_when_asked_to() -> None:
    stage = Stage().request(0).rise(0, ProcessState.CONFIGURED).stop(0)
    assert kinds(stage.steps("s1", stage.engine(0, loading=True))) == ["ShutDown"]


def test_after_a_clean_stop_everything_stops_without_handover() -> None:
    stage = Stage().settled().submit(orders.ShutdownDatabase(name=DATABASE))
    stage.submit(facts.CleanStopReached(reached=(1,), **stage.quote()))
    assert kinds(stage.steps("s1", stage.engine(0, fenced=True))) == ["ShutDown"]
    assert kinds(stage.steps("s2", stage.engine(1))) == ["ShutDown"]


def test_a_forced_whole_stop_kills() -> None:
    stage = Stage().settled().submit(orders.ShutdownDatabase(name=DATABASE, force=True))
    assert kinds(stage.steps("s1", stage.engine(0))) == ["Kill"]
    assert kinds(stage.steps("s2", stage.engine(1))) == ["Kill"]


def test_an_engine_whose_files_were_deleted_leaves_the_in_sync_set_or_hands_over() -> None:
    stage = Stage().settled()
    (step,) = stage.steps("s2", stage.engine(1, lost=True))
    assert isinstance(step, Kill)
    assert step.cause is Cause.ARCHIVE_MISSING
    (step,) = stage.steps("s1", stage.engine(0, lost=True))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, facts.HandoverBegun)


def test_the_last_copy_whose_files_were_deleted_refuses_writes_and_lives_on() -> None:
    stage = Stage(1).led()
    assert kinds(stage.steps("s1", stage.engine(0, lost=True))) == ["Fence"]
    assert stage.steps("s1", stage.engine(0, lost=True, fenced=True)) == []


def test_the_target_of_a_handover_is_not_killed_for_its_lost_files_nor_sent_to_lead() -> None:
    stage = Stage().settled().hand_over(1)
    assert stage.steps("s2", stage.engine(1, lost=True)) == []
    (step,) = stage.steps("s2", stage.engine(1, lost=True, role="leader"))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, facts.HandoverDone)
