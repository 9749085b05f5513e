"""What an enforced leader may cost: who is away, how far behind it is known to be, and one sentence about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain import losses
from dkv.domain.model import Enforcement, PositionReport
from dkv.domain.phases import Vacant
from tests.domain.test_describe import VACANT, A, B, C, StateBuilder


def bound_of(builder: StateBuilder, archive: int) -> losses.Bound:
    state = builder.state()
    return losses.bound(state, builder.group, state.archives[archive])


def outside(report: PositionReport | None) -> StateBuilder:
    """S = {A, B}; C is outside and reported this. B knows marker 3-7 and 50 bytes after it."""
    builder = StateBuilder(**VACANT).lose(A).now(B, report=PositionReport(3, 7, "n", 50))
    return builder.without(C, cause="killed by signal") if report is None else builder.now(C, report=report)


def test_a_member_of_the_in_sync_set_lacks_nothing_confirmed() -> None:
    bound = bound_of(StateBuilder(**VACANT).lose(A), B)
    assert bound.in_sync
    assert bound.verdict.startswith("No confirmed write can be lost, because o-2 is in the in-sync set")


def test_who_is_in_sync_and_away_is_named_with_the_reason_and_the_time() -> None:
    builder = StateBuilder(**VACANT).lose(A).without(B, cause="disk full", reason="no space left")
    assert bound_of(builder, C).away == (
        losses.Away("o-1", "its server s1 is away", None),
        losses.Away("o-2", "no space left", 5),
    )


@pytest.mark.parametrize(
    ("report", "behind"),
    [
        (PositionReport(3, 7, "n", 20), (0, 0, 30)),
        (PositionReport(3, 7, "n", 46, dataless_bytes=26), (0, 0, 30)),
        (PositionReport(3, 5, "n", 900), (0, 2, None)),
        (PositionReport(1, 9, "n", 900), (2, 0, None)),
        (PositionReport(3, 8, "n", 1), (0, 0, 0)),
        (None, None),
    ],
)
def test_it_is_so_far_behind_the_newest_known(report: PositionReport | None, behind: losses.Distance | None) -> None:
    assert bound_of(outside(report), C).behind == behind


def test_confirmed_writes_after_its_position_may_be_lost() -> None:
    verdict = bound_of(outside(PositionReport(3, 5, "n", 900)), C).verdict
    assert verdict == (
        "Confirmed writes made after its last marker 3-5 and the 900 bytes after it may be lost, because o-3 is not in "
        "the in-sync set."
    )


def test_nothing_is_guessed_of_an_archive_that_did_not_report_or_has_no_marker() -> None:
    assert "it has not reported" in bound_of(outside(None), C).verdict
    assert "no marker" in bound_of(outside(PositionReport()), C).verdict


def test_what_the_last_leader_held_when_it_opened_counts_as_known() -> None:
    builder = outside(PositionReport(3, 5, "n", 900))
    builder.group = replace(builder.group, opened_at=PositionReport(4, 1, "n", 0))
    assert bound_of(builder, C).newest == PositionReport(4, 1, "n", 0)


def test_being_taken_into_the_set_by_force_makes_nobody_in_sync() -> None:
    builder = outside(PositionReport(3, 5, "n", 900))
    record = Enforcement(C, 3, in_sync=False, bound="", reason="ticket 7", actor="operator", at=1)
    builder.group = replace(builder.group, phase=Vacant(enforced=C), in_sync=(A, B, C), enforcements=(record,))
    assert not bound_of(builder, C).in_sync
