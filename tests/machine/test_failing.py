"""Steps that fail again and again: how soon they are tried, and how often people hear of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from dkv.domain.facts import LackEnded
from dkv.machine.failing import LATEST, LOG_EVERY, MANY, OVER, SHARE, Failures
from dkv.machine.steps import Admit, Failover, Fence, SubmitFact

FULL = OSError("no space is left")


def tries(failures: Failures, step: Admit, seconds: float, every: float = 0.07) -> Iterator[float]:
    """When a step that always fails is tried, with a look each 70 ms."""
    now = 0.0
    while now < seconds:
        if not failures.waits(step, now):
            failures.failed(step, FULL, now)
            yield now
        now += every


def test_no_try_comes_later_than_an_eighth_of_the_trouble_nor_than_two_seconds() -> None:
    at = list(tries(Failures(), Admit("admit 1", 1), 600))
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert all(gap <= min(LATEST, before * SHARE) + 0.08 for gap, before in zip(gaps, at, strict=False))
    assert len(at) < 600 / LATEST + 100


def test_a_changed_step_another_trouble_and_one_after_a_while_are_not_waited_with() -> None:
    failures = Failures()
    step = Admit("admit 1", 1)
    last = list(tries(failures, step, 100))[-1]
    assert failures.waits(step, last + 1)
    assert not failures.waits(Admit("admit 1", 2), last + 1)
    assert not failures.waits(Admit("admit 2", 1), last + 1)
    failures.failed(step, OSError("another one"), last + 2)
    assert not failures.waits(step, last + 2)
    list(tries(failures, step, 100))
    failures.failed(step, FULL, 100 + OVER + 1)
    assert not failures.waits(step, 100 + OVER + 1)


@pytest.mark.parametrize("step", [Fence("fence 1", 1), Failover("failover 1", 1, "/d", 1)])
def test_what_hurries_is_never_waited_with(step: Fence | Failover) -> None:
    failures = Failures()
    for now in range(100):
        failures.failed(step, FULL, now)
        assert not failures.waits(step, now)


def test_two_troubles_in_turns_are_reported_once_each_however_their_numbers_change() -> None:
    failures = Failures()
    step = Admit("admit 1", 1)
    texts = ["no answer within %d ms", "refused, try %d"]
    reports = [failures.failed(step, OSError(texts[n % 2] % n), n / 100) for n in range(1000)]
    assert [n for n in reports if n] == [1, 1]
    assert failures.failed(step, OSError(texts[0] % 7), LOG_EVERY + 1) == 500


def test_each_process_is_logged_and_each_try_of_one_is_not() -> None:
    failures = Failures()

    def report(start_id: int, count: int) -> SubmitFact:
        return SubmitFact(f"progress {start_id} {count}", LackEnded(server_id="s1", start_id=start_id))

    reports = [failures.failed(report(start_id, count), FULL, count) for count in range(10) for start_id in (1, 2)]
    assert sum(reports) == 2


def test_what_is_over_is_not_kept() -> None:
    failures = Failures()
    for number in range(10 * MANY):
        failures.failed(Admit(f"admit {number}", number), FULL, number)
    assert len(failures._failing) + len(failures._lines) <= MANY + 2
