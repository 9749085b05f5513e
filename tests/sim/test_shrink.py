"""A failing run is told without the strikes it does not need, and runs worth playing again are kept."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from dkv.sim.corpus import UNKNOWN_AFTER, Corpus, parsed, written
from dkv.sim.faults.story import Story
from dkv.sim.loop import SimLoop
from dkv.sim.scenario import Outcome, play
from dkv.sim.shrink import shrink
from dkv.sim.world import DriftingClock

STRIKES = [f"f{number}" for number in range(1, 20)] + ["m3", "m8", "tails"]


def outcome(strikes: frozenset[str], *needed: str) -> Outcome:
    """A run of those strikes, which fails if all that are needed are among them."""
    failures = (f"k-{len(strikes)} is lost",) if strikes.issuperset(needed) else ()
    story = {name: "a fault" for name in STRIKES if name in strikes}
    return Outcome(7, failures, (), Counter(), 1, 1, 1, Counter(), 1, 1.0, story)


@pytest.mark.parametrize("needed", [(), ("f2",), ("f2", "m8"), ("f1", "f19", "tails")])
def test_only_what_a_failure_needs_is_left(needed: tuple[str, ...]) -> None:
    whole = outcome(frozenset(STRIKES), *needed)
    assert set(shrink(whole, lambda only: outcome(only, *needed)).story) == set(needed)


def test_another_failure_is_not_taken_for_the_same() -> None:
    whole = outcome(frozenset(STRIKES))
    other = Outcome(7, ("two archives led g1 in term 3",), (), Counter(), 1, 1, 1, Counter(), 1, 1.0, {})
    assert shrink(whole, lambda only: other) is whole


def test_a_run_without_its_strikes_has_none_and_with_all_of_them_is_the_same() -> None:
    whole = play(7)
    assert whole.story
    assert play(7, list(whole.story)).trace == whole.trace
    assert not [line for line in play(7, []).trace if "  fault  " in line and "this run draws" not in line]
    assert play(7, variant=1).trace != whole.trace
    assert play(7, variant=1).name == "7.1"


def test_a_story_has_what_is_named() -> None:
    story = Story(frozenset({"f1"}))
    assert (story.has("f1", "kill"), story.has("f2", "kill")) == (True, False)
    assert story.told == {"f1": "kill"}


def test_the_corpus_keeps_what_failed_and_what_was_rare(tmp_path: Path) -> None:
    corpus = Corpus(str(tmp_path / "corpus.txt"))
    assert corpus.note((1, 0), Counter({"fault kill": 1}), "") == "", "at first everything is rare"
    for seed in range(2, UNKNOWN_AFTER + 2):
        corpus.note((seed, 0), Counter({"fault kill": 1}), "")
    assert corpus.note((500, 0), Counter({"fault kill": 1, "row group HANDOVER -> VACANT": 1}), "").startswith(
        "reached: row group"
    )
    assert corpus.note((501, 2), Counter({"fault kill": 1}), "k is lost").startswith("failed: k is lost")
    again = Corpus(str(tmp_path / "corpus.txt"))
    assert again.known == [(500, 0), (501, 2)]
    runs = list(islice(again.runs(1, random.Random(1)), 40))
    assert runs[:2] == again.known
    assert (1, 0) in runs and any(variant for _, variant in runs[2:]), "new seeds, and variants of what is known"


def test_a_run_is_named_as_the_command_line_takes_it() -> None:
    assert [parsed(written(run)) for run in ((5, 0), (5, 31))] == [(5, 0), (5, 31)]


def test_a_clock_that_drifts_never_goes_back() -> None:
    clock = DriftingClock()
    clock.drift(10.0, 0.95)
    assert clock.read(10.0) == 10.0
    assert clock.read(20.0) == pytest.approx(19.5)
    clock.drift(20.0, 1.05)
    assert clock.read(20.0) == pytest.approx(19.5)
    assert clock.read(30.0) == pytest.approx(30.0)


def test_a_timer_with_next_to_nothing_left_still_takes_time() -> None:
    loop = SimLoop(1)  # type: ignore[abstract]
    rang: list[float] = []
    loop._now = 1e6

    async def wait() -> None:
        loop.call_later(1e-18, lambda: rang.append(loop.time()))
        await loop.sleep(1.0)

    try:
        loop.run_until_complete(wait())
    finally:
        loop.close()
    assert rang[0] > 1e6
