"""A planned change of leader, seen by the managers of both ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain.facts import (
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverFailed,
    HandoverWithdrawn,
    LeaderSilence,
    LeaderSteppedDown,
)
from dkv.domain.orders import RestartDatabase, Switchover
from dkv.domain.phases import Open
from dkv.engine.config import BUSY_REPLY_AFTER, FAILOVER_WITHIN
from dkv.engine.contract import Cause, EngineSeen, Position
from dkv.machine.conditions import SILENT, update_history
from dkv.machine.follower_steps import STEP_DOWN
from dkv.machine.handover import DEADLINE, DECLINED, IN_TIME, KILL_PATIENCE, NOT_KNOWN, TARGET_GONE, WITHDRAWN
from dkv.machine.observation import ConditionHistory, Observation
from dkv.machine.steps import Failover, HandOver, Kill, Step, SubmitFact
from tests.machine.stage import HISTORY, Stage, kinds, me, steps_of


def standing(hasty: bool = False) -> Stage:
    """Archive 0 is to hand over to archive 1."""
    return Stage().settled().hand_over(1, hasty=hasty)


# The target ----------------------------------------------------------------------------------------------------------


def test_a_linked_target_with_the_terms_marker_fails_over() -> None:
    stage = standing()
    (step,) = stage.steps("s2", stage.engine(1))
    assert isinstance(step, Failover)
    assert step.guarded


@pytest.mark.parametrize("trouble", [{"link_up": False}, {"resyncing": True}, {"rewriting": True}, {"marker": None}])
def test_a_target_that_could_lose_writes_does_not(trouble: dict[str, Any]) -> None:
    stage = standing()
    assert stage.steps("s2", stage.engine(1, **trouble)) == []


def handing_over(stage: Stage, **changes: Any) -> Observation:
    """What the target's manager sees that asked its engine to take over a moment ago."""
    return replace(stage.see("s2", stage.engine(1, **changes), lasting=DEADLINE), failovers={stage.process(1).start_id: 1e12})


def test_no_failover_in_the_last_six_seconds() -> None:
    stage = standing()
    assert kinds(stage.steps("s2", stage.engine(1), lasting=IN_TIME - 1)) == ["Failover"]
    assert "Failover" not in kinds(stage.steps("s2", stage.engine(1), lasting=IN_TIME))
    assert steps_of(stage.state, me("s2"), handing_over(stage)) == []
    assert DEADLINE - IN_TIME >= 6_000


# A leader inside a script ----------------------------------------------------------------------------------------------


def begun_at(sequence: int) -> Stage:
    """The handover to archive 1 began when that was the number of the leader's newest marker."""
    stage = Stage().settled()
    return stage.submit(HandoverBegun(to_archive=1, sequence=sequence, **stage.quote()))


def test_a_target_takes_over_only_with_a_marker_that_was_written_after_the_handover_began() -> None:
    """No engine writes one inside a script, so none runs there that is older than the handover."""
    stage = begun_at(1)
    assert stage.steps("s2", stage.engine(1, marker=Position(1, 1, "n", 500))) == []
    (step,) = stage.steps("s2", stage.engine(1, marker=Position(1, 2, "n", 0)))
    assert isinstance(step, Failover)
    assert step.after == 1


def test_the_leader_writes_that_marker_at_once_and_again_when_it_may_be_lost() -> None:
    stage = begun_at(1)
    (step,) = stage.steps("s1", stage.engine(0, marker=Position(1, 1, "n", 500)))
    assert isinstance(step, HandOver)
    assert step.sequence == 2
    marked = stage.engine(0, marker=Position(1, 2, "n", 0))
    assert stage.steps("s1", marked) == []
    assert kinds(stage.steps("s1", marked, lasting=IN_TIME - 1)) == ["HandOver"]
    assert stage.steps("s1", marked, lasting=IN_TIME) == []


def test_a_script_that_begins_after_the_marker_is_not_busy_before_the_failover_is_over() -> None:
    """An engine takes part in failovers, and loses its role, inside a script only once that answers BUSY."""
    assert IN_TIME + FAILOVER_WITHIN < BUSY_REPLY_AFTER


def test_nobody_is_handed_over_to_while_the_leader_is_busy_or_silent_and_an_operator_hears_why() -> None:
    stage = Stage().settled().submit(Switchover(database="orders"))
    assert kinds(stage.steps("s1", stage.engine(0))) == ["HandoverBegun"]
    for changes, why in (({"busy": True, "refuses": "BUSY"}, "SCRIPT KILL"), ({"answering": False}, "does not answer now")):
        engine = stage.engine(0, **changes)
        assert not {"HandoverBegun", "HandoverDeclined"} & set(kinds(stage.steps("s1", engine, lasting=DECLINED - 1)))
        facts = [step.fact for step in stage.steps("s1", engine, lasting=DECLINED) if isinstance(step, SubmitFact)]
        (declined,) = [fact for fact in facts if isinstance(fact, HandoverDeclined)]
        assert why in declined.reason
    stage.submit(declined)
    assert stage.group.switchover is None
    assert stage.group.leader == 0


def test_a_copy_that_does_not_acknowledge_is_named() -> None:
    stage = Stage().settled()
    stage.submit(Switchover(database="orders", to=stage.process(1).start_id))
    (step,) = stage.steps("s1", stage.engine(0, replicas=()), lasting=DECLINED)
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, HandoverDeclined)
    assert f"process {stage.process(1).start_id} does not acknowledge" in step.fact.reason


def unknown(stage: Stage) -> Any:
    """The leader in its first seconds beside a copy that has not reported yet that it follows."""
    return stage.engine(0, nodes=tuple(replace(node, follows=None) for node in stage.nodes()))


def test_nobody_is_handed_over_to_whose_request_the_leader_would_ignore() -> None:
    """It would never fail over, and the handover would be given up only after twelve seconds."""
    stage = Stage().settled()
    stage.submit(Switchover(database="orders", to=stage.process(1).start_id))
    assert stage.steps("s1", unknown(stage), lasting=DECLINED - 1) == []
    (step,) = stage.steps("s1", unknown(stage), lasting=DECLINED)
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, HandoverDeclined)
    assert step.fact.reason == NOT_KNOWN
    assert kinds(stage.steps("s1", stage.engine(0), lasting=DECLINED - 1)) == ["HandoverBegun"]


def test_a_leader_that_stops_waits_until_it_knows_who_follows_it() -> None:
    stage = Stage().settled().stop(0)
    assert not {"HandoverBegun", "ShutDown", "Fence", "CloseClientPort"} & set(kinds(stage.steps("s1", unknown(stage))))
    assert kinds(stage.steps("s1", stage.engine(0))) == ["HandoverBegun"]


def test_in_a_restart_of_the_database_the_request_waits() -> None:
    stage = Stage().settled().submit(Switchover(database="orders"), RestartDatabase(name="orders", rolling=True))
    assert stage.steps("s1", stage.engine(0, busy=True), lasting=DECLINED) == []


def test_what_a_busy_leader_was_does_not_make_the_handover_fail() -> None:
    """It may have lost its role inside its script."""
    stage = standing()
    assert stage.steps("s1", stage.engine(0, busy=True), lasting=DEADLINE) == []


def test_a_stop_waits_for_the_script_and_a_kill_does_not_hand_over() -> None:
    stage = Stage().settled().stop(0)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["HandoverBegun"]
    assert stage.steps("s1", stage.engine(0, busy=True), lasting=10 * DEADLINE) == []
    stage = Stage().settled().stop(0, kill=True)
    assert stage.steps("s1", stage.engine(0, busy=True), lasting=KILL_PATIENCE - 1) == []
    assert kinds(stage.steps("s1", stage.engine(0, busy=True), lasting=KILL_PATIENCE)) == ["Kill"]


def test_a_leader_that_lost_its_role_inside_a_script_is_ended_for_a_full_resync() -> None:
    """In the handover, after it, and in a vacancy; whoever led without such a script goes on."""
    stage = standing()
    for torn, expected in ((True, ["Kill"]), (False, ["HandoverDone"])):
        assert kinds(stage.steps("s1", follower(stage, link_up=True, torn=torn))) == expected
    stage.submit(HandoverDone(start_id=stage.process(1).start_id, epoch=105, history="b" * 40, **stage.quote()))
    for torn, expected in ((True, ["Kill"]), (False, ["LeaderSteppedDown"])):
        steps = stage.steps("s1", follower(stage, link_up=True, torn=torn))
        assert kinds(steps)[:1] == expected
        assert all(step.cause is Cause.TORN for step in steps if isinstance(step, Kill))
    stage.ends(1)
    assert stage.group.leader is None
    assert kinds(stage.steps("s1", follower(stage, torn=True))) == ["Kill"]


# A target that cannot take over ----------------------------------------------------------------------------------------


def test_a_target_that_does_not_answer_gives_the_handover_back_if_it_was_not_asked() -> None:
    stage = standing()
    silent = {"answering": False, "silent_ms": 2_500}
    assert stage.steps("s2", stage.engine(1, **silent), lasting=WITHDRAWN - 1) == []
    assert steps_of(stage.state, me("s2"), handing_over(stage, **silent)) == [], "it may take over however late it is"
    (step,) = stage.steps("s2", stage.engine(1, **silent), lasting=WITHDRAWN)
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, HandoverWithdrawn)
    stage.submit(step.fact)
    assert isinstance(stage.group.phase, Open)
    assert (stage.group.leader, stage.group.term) == (0, 1)


def test_a_target_without_the_marker_gives_it_back_when_there_is_no_time_left() -> None:
    stage = begun_at(1)
    behind = stage.engine(1, marker=Position(1, 1, "n", 500))
    assert stage.steps("s2", behind, lasting=IN_TIME - 1) == []
    assert kinds(stage.steps("s2", behind, lasting=IN_TIME)) == ["HandoverWithdrawn"]


def test_an_old_leader_whose_clients_wait_for_its_successor_is_not_fenced() -> None:
    """They would be refused what they only have to ask of the other; one that is not outbid is fenced at once."""
    stage = standing()
    stage.submit(HandoverDone(start_id=stage.process(1).start_id, epoch=105, history="b" * 40, **stage.quote()))
    yielding = {"role": "leader", "follows": None, "epoch": 101, "fenced": False}
    assert stage.steps("s1", stage.engine(0, yields=True, **yielding)) == []
    assert kinds(stage.steps("s1", stage.engine(0, yields=True, **yielding), lasting=STEP_DOWN + 1)) == ["Fence"]
    assert kinds(stage.steps("s1", stage.engine(0, **yielding))) == ["Fence"]
    assert kinds(stage.steps("s1", stage.engine(0, yields=True, **yielding | {"epoch": 105}))) == ["Fence"]


def test_a_target_that_does_not_hear_a_leader_whose_machine_is_lost_says_so() -> None:
    stage = standing().server_is_lost("s1")
    deaf = stage.engine(1, link_up=False, link_silent_ms=SILENT)
    assert kinds(steps_of(stage.state, me("s2"), handing_over(stage, link_up=False, link_silent_ms=SILENT))) == ["ProbePeer"]
    assert kinds(stage.steps("s2", deaf, lasting=DEADLINE)) == ["HandoverWithdrawn", "ProbePeer"], "one that was never asked"
    stage.submit(LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    assert stage.group.leader is None
    assert stage.group.contested == (0, 1)


def first_glance(stage: Stage, server: str, *engines: EngineSeen) -> list[Step]:
    """What a manager does that has just been started."""
    survey = stage.see(server, *engines).survey
    memory = update_history(ConditionHistory(), stage.state, me(server), survey, 50_000)
    again = update_history(memory, stage.state, me(server), survey, 50_020)
    return steps_of(stage.state, me(server), Observation(survey, 3.0, memory)) + steps_of(
        stage.state, me(server), Observation(survey, 3.0, again)
    )


def test_a_restarted_manager_sends_no_failover_into_a_handover_of_unknown_age() -> None:
    stage = standing()
    assert first_glance(stage, "s2", stage.engine(1)) == []
    assert "HandoverDone" in kinds(first_glance(stage, "s2", stage.engine(1, role="leader")))


def test_a_restarted_manager_of_the_leader_gives_the_handover_all_of_its_time() -> None:
    stage = standing()
    assert first_glance(stage, "s1", stage.engine(0)) == []


def test_a_manager_that_was_frozen_takes_the_handover_for_as_old_as_its_last_glance() -> None:
    stage = Stage().settled()
    before = stage.see("s2", stage.engine(1)).conditions
    stage.hand_over(1)
    survey = stage.see("s2", stage.engine(1)).survey
    memory = update_history(before, stage.state, me("s2"), survey, before.now + 7_000)
    assert kinds(steps_of(stage.state, me("s2"), Observation(survey, 3.0, memory))) == ["HandoverWithdrawn"]


def test_a_target_that_leads_unheard_is_fenced_by_its_managers_clock() -> None:
    """Isolated just after it was elected: at the deadline the old leader leads on, and what clients wrote here would be lost."""
    stage = standing()
    alone = stage.engine(1, role="leader", fenced=False, replicas=())
    assert kinds(stage.steps("s2", alone, lease=1.0)) == ["Fence", "HandoverDone"]
    assert kinds(stage.steps("s2", alone)) == ["HandoverDone"], "nobody else may lead while its lease is renewed"
    heard = stage.engine(1, role="leader", fenced=False, replicas=(stage.replica(0),))
    assert kinds(stage.steps("s2", heard, lease=1.0)) == ["HandoverDone"], "the old leader follows it"


def test_whoever_sees_the_target_lead_says_so() -> None:
    stage = standing()
    (step,) = stage.steps("s2", stage.engine(1, role="leader", epoch=105, history="b" * 40))
    assert isinstance(step, SubmitFact)
    fact = step.fact
    assert isinstance(fact, HandoverDone)
    assert (fact.epoch, fact.history) == (105, "b" * 40)
    stage.submit(fact)
    assert stage.group.leader == 1


# The old leader ------------------------------------------------------------------------------------------------------


def test_the_old_leaders_manager_says_it_too() -> None:
    """The target's manager may be dead; the target serves all the same."""
    stage = standing()
    (step,) = stage.steps("s1", follower(stage, link_up=True, epoch=105, history="b" * 40))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, HandoverDone)
    stage.submit(step.fact)
    assert (stage.group.leader, stage.group.epoch, stage.group.history) == (1, 105, "b" * 40)


def follower(stage: Stage, **changes: Any) -> EngineSeen:
    """The old leader's engine, following the target."""
    target = stage.engine(1).node_id
    return stage.engine(0, role="follower", follows=target, **changes)


def test_a_history_it_cannot_know_is_left_open() -> None:
    stage = standing()
    loose = follower(stage, link_up=False, epoch=105, history=HISTORY)
    assert stage.steps("s1", loose) == []
    (step,) = stage.steps("s1", loose, lasting=DEADLINE)
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, HandoverDone)
    assert step.fact.history == ""


def test_an_old_leader_whose_target_is_gone_says_that_it_stepped_down() -> None:
    """Both disks are asked then; nobody else would ever say who has the newest data."""
    stage = standing()
    loose = follower(stage, link_up=False)
    stage.ends(1)
    (step,) = [s for s in stage.steps("s1", loose) if isinstance(s, SubmitFact)]
    assert isinstance(step.fact, LeaderSteppedDown)
    stage.submit(step.fact)
    assert stage.group.leader is None and set(stage.group.contested) == {0, 1}


def test_at_the_deadline_the_handover_has_failed_if_the_old_engine_still_leads() -> None:
    stage = standing()
    assert stage.steps("s1", stage.engine(0), lasting=DEADLINE - 1) == []
    assert kinds(stage.steps("s1", stage.engine(0), lasting=DEADLINE)) == ["HandoverFailed"]


def test_a_handover_whose_target_ended_has_failed_at_once_if_the_old_engine_still_leads() -> None:
    """What the target said last on the cluster bus has a second to be here."""
    stage = standing()
    stage.ends(1)
    assert "HandoverFailed" not in kinds(stage.steps("s1", stage.engine(0), lasting=TARGET_GONE - 1))
    (failed,) = [s for s in stage.steps("s1", stage.engine(0), lasting=TARGET_GONE) if isinstance(s, SubmitFact)]
    assert isinstance(failed.fact, HandoverFailed)
    assert "HandoverFailed" not in kinds(stage.steps("s1", stage.engine(0, busy=True), lasting=TARGET_GONE))
    stage.submit(failed.fact)
    assert isinstance(stage.group.phase, Open) and stage.group.leader == 0


def test_a_target_that_was_given_up_without_proof_may_still_lead_until_the_deadline() -> None:
    stage = standing()
    stage.ends(1, cause="server away", exit_code=255)
    assert "HandoverFailed" not in kinds(stage.steps("s1", stage.engine(0), lasting=DEADLINE - 1))
    assert "HandoverFailed" in kinds(stage.steps("s1", stage.engine(0), lasting=DEADLINE))


def test_what_a_frozen_leader_was_when_last_seen_does_not_count() -> None:
    """It may have voted for the target in the meantime."""
    stage = standing().stop(0)
    frozen = stage.engine(0, answering=False, silent_ms=5_000)
    assert kinds(stage.steps("s1", frozen, lasting=DEADLINE)) == ["EngineSilent"], "people hear of it, and no more"


def test_neither_engine_is_killed_while_a_handover_stands() -> None:
    stage = standing()
    for lasting in (0, DEADLINE, 10 * DEADLINE):
        assert "Kill" not in kinds(stage.steps("s1", stage.engine(0), lasting=lasting))
        assert "Kill" not in kinds(stage.steps("s1", follower(stage), lasting=lasting))
        assert "Kill" not in kinds(stage.steps("s2", stage.engine(1, role="leader"), lasting=lasting))


def test_no_second_handover_and_no_takeover_while_one_stands() -> None:
    stage = Stage(3).settled().hand_over(1).stop(0)
    for lasting in (0, 5_000, DEADLINE):
        assert not {"HandoverBegun", "Lead"} & set(kinds(stage.steps("s1", stage.engine(0), lasting=lasting)))


def test_a_hasty_handover_gives_way_to_the_kill_after_two_seconds() -> None:
    stage = Stage().settled().stop(0, kill=True)
    (begin,) = stage.steps("s1", stage.engine(0))
    assert isinstance(begin, SubmitFact)
    assert isinstance(begin.fact, HandoverBegun)
    assert begin.fact.immediate
    stage.submit(begin.fact)
    assert kinds(stage.steps("s1", stage.engine(0), lasting=KILL_PATIENCE - 1)) == ["HandOver"]
    (step,) = stage.steps("s1", stage.engine(0), lasting=KILL_PATIENCE)
    assert isinstance(step, Kill)
    assert step.cause is Cause.OPERATOR_KILL
    assert KILL_PATIENCE == 2_000


def test_the_new_leader_marks_its_term() -> None:
    stage = standing()
    stage.submit(HandoverDone(start_id=stage.process(1).start_id, epoch=105, history="b", **stage.quote()))
    assert kinds(stage.steps("s2", stage.engine(1, marker=Position(1, 1, "n")))) == ["Mark"]
