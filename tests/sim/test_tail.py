"""A dead leader's tail in the simulation: in large groups it is given often, dropped at each step, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dkv.sim import scenario

EVERY_TIME = 24
FULL = 300


@pytest.fixture(autouse=True)
def every_group_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    shape_of = scenario.shape_of
    monkeypatch.setattr(scenario, "shape_of", lambda seed: replace(shape_of(seed), tail_above=0))


def played(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome = scenario.play(seed)
        assert outcome.failures == (), f"{outcome.summary()}: {outcome.failures[0]}"
        counts.update(outcome.counts)
    return counts


def test_tails_are_given_and_dropped_and_nothing_is_lost() -> None:
    counts = played(range(700, 700 + EVERY_TIME))
    assert counts["tail given to the end"] >= 10, counts
    assert counts["tail dropped"] >= 1, counts


@pytest.mark.full
def test_a_fleet_whose_groups_are_all_large_holds_and_drops_tails_at_each_step() -> None:
    counts = played(range(2001, 2001 + FULL))
    assert counts["tail given to the end"] >= 20, counts
    for step in ("before it was measured", "while it was being fed", "when the heir had everything"):
        assert counts[f"tail dropped {step}"] >= 20, counts
