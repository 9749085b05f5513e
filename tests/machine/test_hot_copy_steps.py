"""What a manager does for a hot copy: levels compared, never replayed."""

from __future__ import annotations

from typing import Any

from dkv.domain import facts, orders
from dkv.domain.hotcopy import CopyStage, HotCopy
from dkv.machine.steps import ClaimTarget, DropCut, LiftPause, Mark, NoteCut, PauseWrites, ResumeWrites, Step, WriteCopy
from tests.machine.stage import DATABASE, HISTORY, Stage, kinds, me, next_look_of

KINDS = (ClaimTarget, PauseWrites, NoteCut, ResumeWrites, LiftPause, WriteCopy, DropCut)


def requested_stage() -> Stage:
    """Two copies in sync, and a hot copy of both asked for."""
    stage = Stage(2).settled()
    targets = tuple(orders.CopyTarget(archive_id=n, path=f"/b/{n}") for n in (0, 1))
    return stage.submit(orders.RequestHotCopy(database=DATABASE, targets=targets, max_rate=7))


def copy_of(stage: Stage) -> HotCopy:
    return stage.state.copies[1]


def steps(stage: Stage, archive_id: int, **seen: Any) -> list[Step]:
    return [s for s in stage.steps(f"s{archive_id + 1}", stage.engine(archive_id, **seen)) if isinstance(s, KINDS)]


def part(archive_id: int) -> dict[str, Any]:
    return {"server_id": f"s{archive_id + 1}", "copy_id": 1, "archive_id": archive_id}


def cut(stage: Stage) -> dict[str, Any]:
    return stage.quote() | {"copy_id": 1, "attempt": copy_of(stage).attempt, "start_id": 0}


def prepared() -> Stage:
    return requested_stage().submit(facts.CopyPrepared(**part(0)), facts.CopyPrepared(**part(1)))


def paused() -> Stage:
    stage = prepared()
    return stage.submit(facts.WritesPaused(offset=9, history=HISTORY, file="f", size=7, **cut(stage)))


def noted() -> Stage:
    stage = paused()
    return stage.submit(*(facts.CutNoted(attempt=1, file="f", length=7, size=70, **part(n)) for n in (0, 1)))


def copying() -> Stage:
    stage = noted()
    return stage.submit(facts.WritesResumed(held=True, **cut(stage)))


def test_each_archives_manager_claims_the_place_of_its_own_copy() -> None:
    stage = requested_stage()
    for archive_id in (0, 1):
        [step] = steps(stage, archive_id)
        assert isinstance(step, ClaimTarget)
        assert (step.archive_id, step.target) == (archive_id, f"/b/{archive_id}")
        assert step.label.cut == "d0/1"


def test_only_the_leaders_manager_pauses_and_only_a_leader_that_takes_writes() -> None:
    stage = prepared()
    [step] = steps(stage, 0)
    assert isinstance(step, PauseWrites)
    assert 0 < step.ms <= 1_000
    assert not steps(stage, 1)
    assert not steps(stage, 0, fenced=True)
    assert not steps(stage, 0, role="follower")
    assert not steps(stage, 0, answering=False)
    assert next_look_of(stage.state, me("s1")) < 0.1


def test_nothing_is_paused_while_the_group_changes_its_leader() -> None:
    stage = prepared()
    stage.submit(facts.HandoverBegun(to_archive=1, **stage.quote()))
    assert not steps(stage, 0)


def test_once_writes_wait_every_archive_notes_its_end_with_what_its_leader_held() -> None:
    stage = paused()
    for archive_id in (0, 1):
        [step] = steps(stage, archive_id, paused=archive_id == 0)
        assert isinstance(step, NoteCut)
        assert (step.name, step.reached.offset, step.reached.history) == ("1-1", 9, HISTORY)


def test_writes_go_on_only_after_the_last_archive_noted_its_end() -> None:
    stage = paused().submit(facts.CutNoted(attempt=1, file="f", length=7, size=70, **part(0)))
    assert not steps(stage, 0, paused=True)
    stage.submit(facts.CutNoted(attempt=1, file="f", length=7, size=70, **part(1)))
    [step] = steps(stage, 0, paused=True)
    assert isinstance(step, ResumeWrites)
    assert (step.noted.file, step.noted.size) == ("f", 7)


def test_a_pause_that_no_hot_copy_wants_is_lifted() -> None:
    stage = paused().submit(orders.CancelHotCopy(copy_id=1))
    assert any(isinstance(s, LiftPause) for s in steps(stage, 0, paused=True))
    assert not any(isinstance(s, LiftPause) for s in steps(stage, 0))


def test_no_marker_is_written_while_a_cut_is_near() -> None:
    stage = prepared()
    steps_then = stage.steps("s1", stage.engine(0, marker=None))
    assert not any(isinstance(s, Mark) for s in steps_then)
    stage.submit(orders.CancelHotCopy(copy_id=1))
    assert any(isinstance(s, Mark) for s in stage.steps("s1", stage.engine(0, marker=None)))


def test_a_joiner_waits_for_the_cut_unless_its_leader_refuses_writes_for_the_want_of_it() -> None:
    """A fenced leader has no writes to pause: the copy and the cut would wait for each other."""
    stage = Stage(2).led().announce(1)
    stage.submit(orders.RequestHotCopy(database=DATABASE, targets=(orders.CopyTarget(archive_id=0, path="/b/0"),)))
    stage.submit(facts.CopyPrepared(**part(0)))
    assert copy_of(stage).stage is CopyStage.PAUSING
    assert "MarkJoiner" not in kinds(stage.steps("s1", stage.engine(0)))
    assert "MarkJoiner" in kinds(stage.steps("s1", stage.engine(0, fenced=True)))


def test_files_are_copied_with_the_rate_asked_for_even_without_an_engine_and_tidied_up_afterwards() -> None:
    stage = copying()
    assert copy_of(stage).stage is CopyStage.COPYING
    [step] = [s for s in stage.steps("s1") if isinstance(s, KINDS)]
    assert isinstance(step, WriteCopy)
    assert (step.name, step.rate) == ("1-1", 7)
    stage.submit(facts.CopyWritten(**part(0)))
    [step] = steps(stage, 0)
    assert isinstance(step, DropCut)
    stage.submit(facts.CutDropped(**part(0)))
    assert not steps(stage, 0)


def test_what_a_cancelled_copy_left_is_tidied_up_once() -> None:
    stage = copying().submit(orders.CancelHotCopy(copy_id=1))
    for archive_id in (0, 1):
        [step] = steps(stage, archive_id)
        assert isinstance(step, DropCut)
        stage.submit(facts.CutDropped(**part(archive_id)))
        assert not steps(stage, archive_id)


def test_a_new_attempt_pauses_again_and_notes_under_a_name_of_its_own() -> None:
    stage = noted()
    stage.submit(facts.WritesResumed(held=False, **cut(stage)))
    [step] = steps(stage, 0)
    assert isinstance(step, PauseWrites)
    stage.submit(facts.WritesPaused(offset=9, history=HISTORY, file="f", size=8, **cut(stage)))
    [step] = steps(stage, 1)
    assert isinstance(step, NoteCut)
    assert step.name == "1-2"
