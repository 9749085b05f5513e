"""What a manager does with one process and its engine, from the request to the record of its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dkv.domain.facts import EngineSilent, InSyncShrunk, WritesRefused
from dkv.domain.model import ProcessState
from dkv.domain.orders import DeleteArchive, ShutdownDatabase
from dkv.engine.contract import Cause, EngineRefused, ExitSeen, Survey
from dkv.machine.conditions import update_history
from dkv.machine.observation import ConditionHistory, Observation
from dkv.machine.perform import Performer
from dkv.machine.plan import HANG_TIMEOUT, REAP_PATIENCE, VANISHED
from dkv.machine.steps import EndScript, Kill, Launch, PrepareArchive, Release, ReportExit, Retire, Step, SubmitFact
from tests.machine.stage import DATABASE, LONG, Stage, changed, facts, kinds, me, next_look_of, steps_of


def ended(stage: Stage, archive_id: int, reaped: bool = True) -> ExitSeen:
    process = stage.process(archive_id)
    return ExitSeen(process.start_id, "/d", Cause.EXITED, "ended", 1, None, (), reaped)


def test_a_settled_machine_is_left_alone() -> None:
    stage = Stage(3).settled()
    for archive_id, server in enumerate(("s1", "s2", "s3")):
        engine = stage.engine(archive_id)
        assert stage.steps(server, engine, lasting=LONG) == []
        assert next_look_of(stage.state, me(server)) >= 0.5


# Starting ----------------------------------------------------------------------------------------------------------


def test_a_requested_process_is_taken_and_a_new_archive_made() -> None:
    (step,) = Stage().request(0).steps("s1")
    assert isinstance(step, PrepareArchive)
    assert step.fresh
    assert step.identity.archive_id == 0


def test_an_archive_that_held_data_is_never_made_anew() -> None:
    stage = Stage().settled().ends(1)
    (step,) = stage.steps("s2")
    assert isinstance(step, PrepareArchive)
    assert not step.fresh


def test_only_its_own_manager_takes_a_process() -> None:
    assert Stage().request(0).steps("s2") == []


def test_an_engine_is_launched_only_when_its_group_has_a_leader() -> None:
    stage = Stage().settled()
    stage.ends(0).ends(1)
    stage.rise(1, ProcessState.STARTED)
    assert stage.group.leader is None
    assert stage.steps("s2", lasting=LONG) == []
    stage.rise(0, ProcessState.STARTED)  # it led last, so it is assigned
    assert stage.group.leader == 0
    assert kinds(stage.steps("s2")) == ["Launch"]


def test_an_engine_starts_as_replica_of_a_leader_that_serves_and_of_nobody_else() -> None:
    stage = Stage().request(0, 1)
    stage.rise(0, ProcessState.STARTED).rise(1, ProcessState.STARTED)
    (launch,) = stage.steps("s2")
    assert isinstance(launch, Launch)
    assert not any(peer.leads for peer in launch.spec.peers)
    stage.rise(0).open()
    (launch,) = stage.steps("s2")
    assert isinstance(launch, Launch)
    assert not any(peer.leads for peer in launch.spec.peers)
    stage.serve()
    (launch,) = stage.steps("s2")
    assert isinstance(launch, Launch)
    assert [(p.leads, p.epoch) for p in launch.spec.peers] == [(True, 101)]


def test_the_present_epoch_is_above_everything_seen() -> None:
    stage = Stage(3).settled().ends(2)
    stage.rise(2, ProcessState.STARTED)
    (launch,) = stage.steps("s3")
    assert isinstance(launch, Launch)
    assert launch.spec.current_epoch >= 101


def test_an_engine_found_running_is_reported_once_more() -> None:
    stage = Stage().request(0).rise(0, ProcessState.STARTED)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["ProcessConfigured"]


def test_a_load_that_is_soon_over_is_not_worth_a_commit() -> None:
    stage = Stage().request(0).rise(0, ProcessState.CONFIGURED)
    assert stage.steps("s1", stage.engine(0, loading=True, loading_percent=50), lasting=400) == []


def test_who_loads_for_long_is_looked_at_less_often() -> None:
    stage = Stage().request(0).rise(0, ProcessState.CONFIGURED)
    survey = Survey((stage.engine(0, loading=True),))

    def after(ms: int) -> float:
        first = update_history(ConditionHistory(), stage.state, me("s1"), survey, 1)
        return next_look_of(stage.state, me("s1"), update_history(first, stage.state, me("s1"), survey, 1 + ms))

    assert after(10) == after(400) == 0.02
    assert after(2_000) == pytest.approx(0.1)
    assert after(60_000) == 0.25


def test_slow_loading_is_reported_before_it_looks_like_none() -> None:
    stage = Stage().request(0).rise(0, ProcessState.CONFIGURED)
    slow = stage.engine(0, loading=True, loading_percent=1)
    assert kinds(stage.steps("s1", slow, lasting=600)) == ["LoadingProgressed"]
    stuck = stage.engine(0, loading=True, loading_percent=0)
    assert stage.steps("s1", stuck, lasting=LONG) == []


def test_a_loaded_engine_is_tracked_when_its_cluster_is_ok_or_never_becomes_so() -> None:
    stage = Stage().request(0).rise(0, ProcessState.CONFIGURED)
    assert kinds(stage.steps("s1", stage.engine(0))) == ["ProcessTracked"]
    assert stage.steps("s1", stage.engine(0, state_ok=False)) == []
    assert kinds(stage.steps("s1", stage.engine(0, state_ok=False), lasting=4_000)) == ["ProcessTracked"]


# Engines that do not say anything ----------------------------------------------------------------------------------


@pytest.mark.parametrize("archive_id", [0, 1])
def test_an_engine_that_never_answers_is_killed_after_half_a_minute(archive_id: int) -> None:
    stage = Stage().settled()
    server = f"s{archive_id + 1}"
    dead = stage.engine(archive_id, answering=False, silent_ms=HANG_TIMEOUT - 1, idle_ms=LONG)
    assert kinds(stage.steps(server, dead, lasting=LONG)) == ["EngineSilent"]
    (step,) = stage.steps(server, replace(dead, silent_ms=HANG_TIMEOUT, idle_ms=HANG_TIMEOUT))
    assert isinstance(step, Kill)
    assert step.cause is Cause.NEVER_ANSWERED


@pytest.mark.parametrize("archive_id", [0, 1])
def test_an_engine_too_busy_to_say_what_it_is_is_not_judged(archive_id: int) -> None:
    """After a restart of its manager, an engine in a long script answers BUSY: it may well lead."""
    stage = Stage().settled()
    assert stage.steps(f"s{archive_id + 1}", stage.engine(archive_id, role=""), lasting=LONG) == []


# Ends --------------------------------------------------------------------------------------------------------------


def test_an_end_is_reported_before_anything_else() -> None:
    stage = Stage().settled()
    (step,) = stage.steps("s1", exits=[ended(stage, 0)])
    assert isinstance(step, ReportExit)


def test_an_end_is_not_reported_while_something_of_the_engine_may_still_run() -> None:
    stage = Stage().settled()
    unproven = ended(stage, 0, reaped=False)
    assert stage.steps("s1", exits=[unproven], lasting=REAP_PATIENCE - 1) == []
    assert kinds(stage.steps("s1", exits=[unproven], lasting=REAP_PATIENCE + 1)) == ["ReportExit"]


def test_the_end_of_an_engine_that_was_never_reported_configured_is_reported_too() -> None:
    stage = Stage().request(0).rise(0, ProcessState.STARTED)
    assert kinds(stage.steps("s1", exits=[ended(stage, 0)])) == ["ReportExit"]
    assert kinds(stage.steps("s1", exits=[ended(stage, 0, reaped=False)], lasting=LONG)) == ["ReportExit"]


def test_an_end_the_domain_knows_is_forgotten() -> None:
    stage = Stage().settled()
    record = ended(stage, 1)
    stage.ends(1)
    assert "ForgetExit" in kinds(stage.steps("s2", exits=[record]))


def test_an_engine_that_vanished_without_a_record_did_not_stop_gracefully() -> None:
    stage = Stage().settled()
    assert stage.steps("s1", lasting=VANISHED - 1) == []
    assert kinds(stage.steps("s1", lasting=VANISHED + 1)) == ["ReportVanished"]


def test_an_engine_that_was_just_launched_is_not_missing_however_long_the_process_waited() -> None:
    stage = Stage().request(0).rise(0, ProcessState.STARTED)
    waited = stage.see("s1", lasting=LONG).conditions
    stage.rise(0, ProcessState.CONFIGURED)
    nothing = Survey()
    memory = update_history(waited, stage.state, me("s1"), nothing, waited.now + 20)
    assert steps_of(stage.state, me("s1"), Observation(nothing, 3.0, memory)) == []


def test_an_end_is_waited_for_when_an_engine_was_asked_to_leave() -> None:
    """Its exit code may come a moment after it is gone: the tombstone must report that, not a guess."""
    stage = Stage().settled().stop(1)
    assert stage.steps("s2") == []
    assert kinds(stage.steps("s2", lasting=VANISHED + 1)) == ["ReportVanished"]


@pytest.mark.parametrize("state", [ProcessState.REQUESTED, ProcessState.STARTED])
@pytest.mark.parametrize("kill", [True, False])
def test_a_process_without_an_engine_leaves_at_once(state: ProcessState, kill: bool) -> None:
    stage = Stage().request(0).rise(0, state).stop(0, kill=kill)
    assert kinds(stage.steps("s1")) == ["CancelProcess"]


# Strangers and archives --------------------------------------------------------------------------------------------


def test_an_engine_of_no_process_is_killed() -> None:
    stage = Stage().settled()
    stranger = stage.engine(0, start_id=77)
    steps = stage.steps("s1", stage.engine(0), stranger)
    assert [(type(s), getattr(s, "start_id", None)) for s in steps] == [(Kill, 77)]


def test_an_engine_that_still_holds_an_archive_is_killed_before_the_archives_new_process_takes_its_lock() -> None:
    stage = Stage().settled()
    old = stage.engine(0)
    stage.server_is_lost("s1")
    stage.submit(ShutdownDatabase(name=DATABASE, force=True))
    stage.server_joins("s1").ends(1)
    stage.request(0)
    steps = stage.steps("s1", old)
    assert [type(step) for step in steps] == [Kill, PrepareArchive]
    assert len({step.key for step in steps}) == 1, "one at a time: what comes second waits"


def test_the_lock_of_an_archive_that_nobody_wants_is_dropped() -> None:
    stage = Stage().request(0).rise(0, ProcessState.STARTED)
    seen = stage.see("s1")
    held = replace(seen, prepared=frozenset({"/data/s1/somewhere"}))
    assert Release("/data/s1/somewhere", "/data/s1/somewhere") in steps_of(stage.state, me("s1"), held)
    wanted = replace(seen, prepared=frozenset({stage.engine(0).directory}))
    assert not any(isinstance(step, Release) for step in steps_of(stage.state, me("s1"), wanted))


def test_a_deleted_archive_is_retired_by_its_own_manager_once_its_process_is_gone() -> None:
    stage = Stage().settled().stop(1).ends(1, planned=True)
    stage.submit(InSyncShrunk(archive_id=1, reason="it stopped", **stage.quote()), DeleteArchive(archive_id=1))
    assert stage.steps("s1", stage.engine(0)) == []
    (step,) = stage.steps("s2")
    assert isinstance(step, Retire)


def test_an_engine_that_answers_nothing_is_news_after_three_seconds_and_again_when_it_answers() -> None:
    stage = Stage().settled()
    assert facts(stage.steps("s1", stage.engine(0, answering=False, silent_ms=2_999))) == []
    (step,) = stage.steps("s1", stage.engine(0, answering=False, silent_ms=3_000))
    assert isinstance(step, SubmitFact)
    stage.submit(step.fact)
    assert stage.process(0).health.silent_at
    assert stage.steps("s1", stage.engine(0, answering=False, silent_ms=9_000)) == []
    (back,) = stage.steps("s1", stage.engine(0))
    assert isinstance(back, SubmitFact)
    stage.submit(back.fact)
    assert not stage.process(0).health.silent_at
    assert stage.steps("s1", stage.engine(0)) == []


# -- writes that are refused ---------------------------------------------------------------------------------------------


def reasons(steps: Iterable[Step]) -> list[str]:
    return [step.fact.why for step in steps if isinstance(step, SubmitFact) and isinstance(step.fact, WritesRefused)]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"refuses": "OOM"}, "OOM"),
        ({"refuses": "MISCONF"}, "MISCONF"),
        ({"refuses": "MAXCLIENTS"}, "MAXCLIENTS"),
        ({"refuses": "CLUSTERDOWN"}, "CLUSTERDOWN"),
        ({"paused": True}, "PAUSED"),
        ({"takes_clients": False}, "CLOSED"),
    ],
)
def test_a_leader_that_refuses_writes_is_news_once_that_has_lasted_and_again_when_it_takes_them(
    seen: dict[str, Any], why: str
) -> None:
    stage = Stage().settled()
    engine = stage.engine(0, **seen)
    assert reasons(stage.steps("s1", engine, lasting=1_900)) == []
    steps = stage.steps("s1", engine, lasting=2_000)
    assert reasons(steps) == [why]
    stage.submit(*(step.fact for step in steps if isinstance(step, SubmitFact)))
    assert stage.process(0).health.refuses == why
    assert reasons(stage.steps("s1", engine)) == []
    steps = stage.steps("s1", stage.engine(0), lasting=0)
    assert reasons(steps) == [""]
    stage.submit(*(step.fact for step in steps if isinstance(step, SubmitFact)))
    assert not stage.process(0).health.refuses


def test_an_endless_script_is_news_as_soon_as_the_engine_says_busy_so_that_there_is_no_gap_after_its_silence() -> None:
    stage = Stage().settled()
    silent = stage.steps("s1", stage.engine(0, answering=False, silent_ms=9_000))
    stage.submit(*(step.fact for step in silent if isinstance(step, SubmitFact)))
    busy = stage.engine(0, busy=True, refuses="BUSY")
    facts_due = [step.fact for step in stage.steps("s1", busy, lasting=0) if isinstance(step, SubmitFact)]
    assert [type(fact) for fact in facts_due] == [WritesRefused, EngineSilent]
    stage.submit(*facts_due)
    assert reasons(stage.steps("s1", stage.engine(0, answering=False, refuses="BUSY", silent_ms=600), lasting=0)) == []


def test_a_script_is_ended_once_it_ran_longer_than_its_database_allows() -> None:
    for limit, lasting, expected in ((0, LONG, 0), (15_000, 14_999, 0), (15_000, 15_000, 1)):
        stage = Stage(script_limit=limit).settled()
        for archive_id, server in enumerate(("s1", "s2")):
            busy = stage.engine(archive_id, busy=True, refuses="BUSY")
            assert kinds(stage.steps(server, busy, lasting=lasting)).count("EndScript") == expected
            full = changed(busy, refuses="MAXCLIENTS")
            assert "EndScript" not in kinds(stage.steps(server, full, lasting=lasting)), "nobody gets in: that is no script"


def test_a_script_that_wrote_is_ended_with_its_engine() -> None:
    async def orders(refuses: bool) -> list[str]:
        done: list[str] = []

        class Engines:
            async def end_script(self, start_id: int) -> None:
                done.append("end")
                if refuses:
                    raise EngineRefused("UNKILLABLE")

            async def kill(self, start_id: int, cause: Cause) -> None:
                done.append(cause)

        await Performer._end_script(SimpleNamespace(_engines=Engines()), EndScript("k", 1))  # type: ignore[arg-type]
        return done

    assert asyncio.run(orders(False)) == ["end"]
    assert asyncio.run(orders(True)) == ["end", Cause.SCRIPT_TOO_LONG]


def test_a_follower_refuses_writes_by_nature_and_a_whole_stop_fences_its_leader_on_purpose() -> None:
    stage = Stage().settled()
    assert reasons(stage.steps("s2", stage.engine(1, refuses="READONLY"))) == []
    stage.submit(ShutdownDatabase(name="orders"))
    assert reasons(stage.steps("s1", stage.engine(0, refuses="NOREPLICAS", fenced=True))) == []
