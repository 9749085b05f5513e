"""When a machine counts as cut off, as a guard judges it by what it tried and what was answered."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.guard import judge
from dkv.guard.judge import Contact

times = st.floats(0, 100, allow_nan=False)


def test_it_fences_when_nobody_answered_for_a_second_and_a_half() -> None:
    contact = judge.tried(judge.heard(10.0), 10.5)
    assert not judge.is_cut_off(contact, 11.499)
    assert judge.is_cut_off(contact, 11.5)
    assert judge.is_cut_off(judge.tried(contact, 11.25), 11.5), "one attempt more does not begin it anew"


def test_from_the_end_of_the_manager_on_it_tries_for_a_second() -> None:
    contact = judge.tried(Contact(), 10.0)
    assert not judge.is_cut_off(contact, 10.999)
    assert judge.is_cut_off(contact, 11.0)


def test_who_stood_still_has_heard_nothing_and_tries_first() -> None:
    contact = judge.heard(10.0)
    assert not judge.is_cut_off(contact, 1_000.0), "nothing was tried since"
    assert not judge.is_cut_off(judge.tried(contact, 1_000.0), 1_000.9)
    assert judge.is_cut_off(judge.tried(contact, 1_000.0), 1_001.0)


def test_whoever_is_heard_again_is_not_cut_off_any_more() -> None:
    contact = judge.tried(Contact(), 10.0)
    assert judge.is_cut_off(contact, 20.0)
    assert not judge.is_cut_off(judge.heard(20.0), 20.0)


@given(st.lists(st.tuples(st.sampled_from(["try", "hear", "look"]), st.floats(0, 0.9)), max_size=60), times)
def test_a_machine_that_hears_one_other_at_least_once_a_second_never_fences(acts: list[tuple[str, float]], now: float) -> None:
    """Whatever is tried and looked at in between."""
    contact, heard_at = judge.heard(now), now
    for act, later in acts:
        if now + later - heard_at >= 1.0:
            now, contact, heard_at = heard_at + 1.0, judge.heard(heard_at + 1.0), heard_at + 1.0
        now += min(later, heard_at + 0.999 - now) if later > 0 else 0
        assert not judge.is_cut_off(contact, now)
        if act == "try":
            contact = judge.tried(contact, now)
        elif act == "hear":
            contact, heard_at = judge.heard(now), now
        assert not judge.is_cut_off(contact, now)


@given(times, st.floats(0, 0.5), st.floats(0.01, judge.HURRY))
def test_a_machine_that_is_cut_off_has_fenced_before_the_others_may_choose(cut: float, before: float, late: float) -> None:
    """It was answered up to half a second before the cut, and tries as it does; the others wait for 2 s at least."""
    contact, now = judge.heard(cut - before), cut - before + judge.EVERY
    while now < cut + 2.0:
        contact = judge.tried(contact, now)
        if judge.is_cut_off(contact, now):
            break
        now += late
    assert judge.is_cut_off(contact, now)
    assert now < cut + judge.SILENT + judge.HURRY + 0.001


@pytest.mark.parametrize("error", [0, errno.ECONNREFUSED])
def test_a_refusal_is_an_answer_because_who_refuses_is_reached(error: int) -> None:
    assert judge.is_answer(error)


@pytest.mark.parametrize("error", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EACCES, errno.EADDRNOTAVAIL])
def test_what_this_machine_or_a_router_says_is_no_answer(error: int) -> None:
    assert not judge.is_answer(error)
