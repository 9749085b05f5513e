"""Markers between markers, rewrites of append-only files, and node tables that say what the domain says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain import facts, orders
from dkv.domain.model import ProcessState
from dkv.engine.contract import NodeSeen, Position
from dkv.machine.conditions import update_history
from dkv.machine.engine_upkeep import FOLLOWERS_FROM, OTHERS_FIRST, REWRITE_FROM, REWRITE_LEASE
from dkv.machine.handover import UNMARKED
from dkv.machine.leader_steps import MARK_EVERY
from dkv.machine.observation import Observation
from dkv.machine.plan import plan
from dkv.machine.steps import Forget, HandOver, Mark, Meet, RenewRewriteLease, Rewrite, Step
from tests.machine.stage import LONG, Stage, kinds, me, steps_of

BIG = FOLLOWERS_FROM * 2


# Markers -------------------------------------------------------------------------------------------------------------


def written(since_marker: int) -> list[Step]:
    """What the leader's manager does after so many bytes."""
    stage = Stage().settled()
    survey = stage.see("s1", stage.engine(0, incremental_bytes=1_000)).survey
    begun = update_history(stage.see("s1", stage.engine(0)).conditions, stage.state, me("s1"), survey, 9_000)
    later = stage.see("s1", stage.engine(0, incremental_bytes=1_000 + since_marker, base_bytes=1 << 40)).survey
    memory = update_history(replace(begun, notes=begun.notes), stage.state, me("s1"), later, 9_020)
    return steps_of(stage.state, me("s1"), Observation(later, 3.0, memory))


def test_a_marker_is_written_after_each_quarter_of_a_megabyte() -> None:
    assert written(MARK_EVERY - 2_000) == []
    (step,) = written(MARK_EVERY)
    assert isinstance(step, Mark)
    assert step.sequence == 2
    assert MARK_EVERY * 4 == REWRITE_FROM, "a copy that rewrote waits for a position no longer than that"


@pytest.mark.parametrize("marker", [None, Position(0, 9, "n")])
def test_a_leader_without_a_marker_of_its_term_writes_one(marker: Position | None) -> None:
    stage = Stage().settled()
    (step,) = stage.steps("s1", stage.engine(0, marker=marker))
    assert isinstance(step, Mark)
    assert (step.term, step.sequence) == (1, 1)


# Rewrites ------------------------------------------------------------------------------------------------------------


def grown(stage: Stage, archive_id: int, **changes: Any) -> list[Step]:
    given: dict[str, Any] = {"incremental_bytes": BIG, "base_bytes": 0, "free_bytes": 1 << 50}
    engine = stage.engine(archive_id, **(given | changes))
    return [s for s in stage.steps(f"s{archive_id + 1}", engine) if isinstance(s, Rewrite | RenewRewriteLease)]


@pytest.mark.parametrize(("archive_id", "least", "bases"), [(0, REWRITE_FROM, 2), (1, FOLLOWERS_FROM, 1)])
def test_a_rewrite_when_the_incremental_file_outgrew_what_it_may_have(archive_id: int, least: int, bases: int) -> None:
    """A leader's is small, because it is loaded when the leader was killed; a follower's need not be."""
    stage = Stage().settled()
    assert grown(stage, archive_id, incremental_bytes=least) == []
    assert grown(stage, archive_id, incremental_bytes=least + 1)
    assert grown(stage, archive_id, base_bytes=bases * BIG) == []
    assert grown(stage, archive_id, base_bytes=bases * BIG - bases)


def test_a_handover_that_does_not_begin_at_once_brings_its_target_a_marker() -> None:
    """A copy that rewrote lacks one until the next, and takes over from nobody without it."""
    stage = Stage().settled()
    stage.submit(facts.HandoverBegun(to_archive=1, **stage.quote()))
    assert stage.steps("s1", stage.engine(0), lasting=UNMARKED - 1) == []
    (step,) = stage.steps("s1", stage.engine(0), lasting=UNMARKED)
    assert isinstance(step, HandOver)
    assert step.sequence == 2


def test_never_with_less_than_twice_the_size_free() -> None:
    stage = Stage().settled()
    assert grown(stage, 1, base_bytes=100, free_bytes=2 * (BIG + 100) - 1) == []
    assert grown(stage, 1, base_bytes=100, free_bytes=2 * (BIG + 100))


def test_one_rewrite_per_group_at_a_time() -> None:
    """All copies ask for the same lease."""
    stage = Stage().settled()
    leases = {step.lease for archive_id in (0, 1) for step in grown(stage, archive_id) if isinstance(step, Rewrite)}
    assert leases == {"rewrite/orders/UNPARTITIONED"}


def test_a_copy_that_just_had_its_turn_lets_the_others_go_first() -> None:
    stage = Stage().settled()
    big = stage.engine(1, incremental_bytes=BIG, base_bytes=0, free_bytes=1 << 50)
    seen = stage.see("s2", big)

    def rewrites(ago: float) -> list[Step]:
        later = replace(seen, rewrite_leases={stage.process(1).start_id: seen.conditions.now - ago})
        return [step for step in steps_of(stage.state, me("s2"), later) if isinstance(step, Rewrite)]

    patience = (REWRITE_LEASE + OTHERS_FIRST) * 1000
    assert rewrites(0) == rewrites(patience - 1) == []
    assert rewrites(patience)


def test_a_turn_at_rewriting_is_over_by_time_alone_so_that_its_end_is_looked_for() -> None:
    stage = Stage().settled()
    seen = stage.see("s2", stage.engine(1))
    assert plan(stage.state, me("s2"), seen).lasts
    assert not plan(stage.state, me("s2"), replace(seen, rewrite_leases={stage.process(1).start_id: seen.conditions.now})).lasts
    waiting = replace(seen.conditions, since={("gone", 1, 0): 0.0})
    assert not plan(stage.state, me("s2"), replace(seen, conditions=waiting)).lasts


def test_a_leaders_rewrite_brings_its_marker_and_a_followers_none() -> None:
    stage = Stage().settled()
    (leads,), (follows,) = grown(stage, 0), grown(stage, 1)
    assert isinstance(leads, Rewrite)
    assert isinstance(follows, Rewrite)
    assert (leads.marker, follows.marker) == ((1, 2), None)
    assert leads.guarded
    assert follows.guarded


@pytest.mark.parametrize("trouble", [{"rewriting": True}, {"resyncing": True}])
def test_no_rewrite_while_a_child_runs(trouble: dict[str, Any]) -> None:
    stage = Stage().settled()
    for archive_id in (0, 1):
        assert not [step for step in grown(stage, archive_id, **trouble) if isinstance(step, Rewrite)]


def test_a_rewrite_that_goes_on_keeps_its_turn() -> None:
    stage = Stage().settled()
    (leads,), (follows,) = grown(stage, 0, rewriting=True), grown(stage, 1, rewriting=True)
    assert isinstance(leads, RenewRewriteLease)
    assert isinstance(follows, RenewRewriteLease)
    assert leads.lease == follows.lease == "rewrite/orders/UNPARTITIONED"


def test_no_rewrite_in_a_handover_or_while_somebody_joins() -> None:
    stage = Stage(3).settled().hand_over(1)
    assert [grown(stage, a) for a in (0, 1, 2)] == [[], [], []]
    stage = Stage(3).led().join(1).announce(2)
    assert [grown(stage, a) for a in (0, 1, 2)] == [[], [], []]


def test_no_rewrite_by_a_copy_that_is_not_in_sync() -> None:
    assert grown(Stage().led().announce(1), 1) == []


# The node table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive_id", [0, 1])
def test_a_node_the_domain_does_not_know_is_forgotten(archive_id: int) -> None:
    stage = Stage().settled()
    ghost = NodeSeen("f" * 40, "", 0, "follower", None, False, True, 0)
    engine = stage.engine(archive_id, nodes=(*stage.nodes(), ghost))
    (step,) = stage.steps(f"s{archive_id + 1}", engine)
    assert isinstance(step, Forget)
    assert step.node_id == "f" * 40


def test_a_handshake_is_left_alone() -> None:
    stage = Stage().settled()
    stranger = NodeSeen("f" * 40, "", 0, "follower", None, True, False, 0)
    assert stage.steps("s1", stage.engine(0, nodes=(*stage.nodes(), stranger)), lasting=LONG) == []


def test_a_missing_node_is_met_once_its_engine_answers() -> None:
    stage = Stage().settled()
    (step,) = stage.steps("s1", stage.engine(0, nodes=stage.nodes()[:1]))
    assert isinstance(step, Meet)
    stage.ends(1).rise(1, ProcessState.CONFIGURED)
    assert "Meet" not in kinds(stage.steps("s1", stage.engine(0, nodes=stage.nodes()[:1])))


def test_a_deleted_archive_is_forgotten() -> None:
    stage = Stage().settled().stop(1).ends(1, planned=True)
    nodes = stage.nodes()
    stage.submit(facts.InSyncShrunk(archive_id=1, reason="it stopped", **stage.quote()), orders.DeleteArchive(archive_id=1))
    assert kinds(stage.steps("s1", stage.engine(0, nodes=nodes))) == ["Forget"]
