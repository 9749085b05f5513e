"""A planned change of leader, seen by the managers of both ends."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain import commands as c
from dkv.engine.contract import Cause, EngineSeen, Position
from dkv.machine.handover import DEADLINE, HASTY, IN_TIME
from dkv.machine.plan import plan
from dkv.machine.seen import SILENT, Memory, Seen, remember
from dkv.machine.steps import Failover, Kill, Step, Tell
from tests.machine.stage import HISTORY, Stage, kinds, me


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


def test_no_failover_in_the_last_six_seconds() -> None:
    stage = standing()
    assert kinds(stage.steps("s2", stage.engine(1), lasting=IN_TIME - 1)) == ["Failover"]
    assert stage.steps("s2", stage.engine(1), lasting=IN_TIME) == []
    assert DEADLINE - IN_TIME >= 6_000


def test_a_target_that_does_not_hear_a_leader_whose_machine_is_lost_says_so() -> None:
    stage = standing().server_is_lost("s1")
    deaf = stage.engine(1, link_up=False, link_silent_ms=SILENT)
    assert kinds(stage.steps("s2", deaf, lasting=DEADLINE)) == ["Knock"]
    stage.tell(c.LeaderSilence(term=1, silent=True, machine_answers=False, **stage.of(1)))
    assert stage.group.leader is None
    assert stage.group.contested == (0, 1)


def first_glance(stage: Stage, server: str, *engines: EngineSeen) -> list[Step]:
    """What a manager does that has just been started."""
    survey = stage.see(server, *engines).survey
    memory = remember(Memory(), stage.state, me(server), survey, 50_000)
    again = remember(memory, stage.state, me(server), survey, 50_020)
    return plan(stage.state, me(server), Seen(survey, 3.0, memory)) + plan(stage.state, me(server), Seen(survey, 3.0, again))


def test_a_restarted_manager_sends_no_failover_into_a_handover_of_unknown_age() -> None:
    stage = standing()
    assert first_glance(stage, "s2", stage.engine(1)) == []
    assert "HandoverDone" in kinds(first_glance(stage, "s2", stage.engine(1, role="leader")))


def test_a_restarted_manager_of_the_leader_gives_the_handover_all_of_its_time() -> None:
    stage = standing()
    assert first_glance(stage, "s1", stage.engine(0)) == []


def test_a_manager_that_was_frozen_takes_the_handover_for_as_old_as_its_last_glance() -> None:
    stage = Stage().settled()
    before = stage.see("s2", stage.engine(1)).memory
    stage.hand_over(1)
    survey = stage.see("s2", stage.engine(1)).survey
    memory = remember(before, stage.state, me("s2"), survey, before.now + 7_000)
    assert plan(stage.state, me("s2"), Seen(survey, 3.0, memory)) == []


def test_whoever_sees_the_target_lead_says_so() -> None:
    stage = standing()
    (step,) = stage.steps("s2", stage.engine(1, role="leader", epoch=105, history="b" * 40))
    assert isinstance(step, Tell)
    fact = step.fact
    assert isinstance(fact, c.HandoverDone)
    assert (fact.epoch, fact.history) == (105, "b" * 40)
    stage.tell(fact)
    assert stage.group.leader == 1


# The old leader ------------------------------------------------------------------------------------------------------


def test_the_old_leaders_manager_says_it_too() -> None:
    """The target's manager may be dead; the target serves all the same."""
    stage = standing()
    (step,) = stage.steps("s1", follower(stage, link_up=True, epoch=105, history="b" * 40))
    assert isinstance(step, Tell)
    assert isinstance(step.fact, c.HandoverDone)
    stage.tell(step.fact)
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
    assert isinstance(step, Tell)
    assert isinstance(step.fact, c.HandoverDone)
    assert step.fact.history == ""


def test_an_old_leader_whose_target_is_gone_says_that_it_stepped_down() -> None:
    """Both disks are asked then; nobody else would ever say who has the newest data."""
    stage = standing()
    loose = follower(stage, link_up=False)
    stage.ends(1)
    (step,) = [s for s in stage.steps("s1", loose) if isinstance(s, Tell)]
    assert isinstance(step.fact, c.LeaderSteppedDown)
    stage.tell(step.fact)
    assert stage.group.leader is None and set(stage.group.contested) == {0, 1}


def test_at_the_deadline_the_handover_has_failed_if_the_old_engine_still_leads() -> None:
    stage = standing()
    assert stage.steps("s1", stage.engine(0), lasting=DEADLINE - 1) == []
    assert kinds(stage.steps("s1", stage.engine(0), lasting=DEADLINE)) == ["HandoverFailed"]


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
    assert isinstance(begin, Tell)
    assert isinstance(begin.fact, c.HandoverBegun)
    assert begin.fact.hasty
    stage.tell(begin.fact)
    assert stage.steps("s1", stage.engine(0), lasting=HASTY - 1) == []
    (step,) = stage.steps("s1", stage.engine(0), lasting=HASTY)
    assert isinstance(step, Kill)
    assert step.cause is Cause.OPERATOR_KILL
    assert HASTY == 2_000


def test_the_new_leader_marks_its_term() -> None:
    stage = standing()
    stage.tell(c.HandoverDone(start_id=stage.process(1).start_id, epoch=105, history="b", **stage.quote()))
    assert kinds(stage.steps("s2", stage.engine(1, marker=Position(1, 1, "n")))) == ["Mark"]
