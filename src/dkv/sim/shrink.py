"""Simulation: a failing run without the strikes that its failure does not need."""

from __future__ import annotations

import re
from collections.abc import Callable

from dkv.sim.scenario import Outcome

TRIES = 120  # runs at most

Play = Callable[[frozenset[str]], Outcome]


def shrink(outcome: Outcome, play: Play, tries: int = TRIES) -> Outcome:
    """The same failure with as few strikes as could be found: halves are left out first, then single ones. `play` runs the seed
    with some strikes only.
    """
    needed, size = outcome, max(1, len(outcome.story) // 2)
    while tries > 0:
        names, begun = list(needed.story), len(needed.story)
        for place in range(0, len(names), size):
            left_out = set(names[place : place + size])
            if tries <= 0 or not left_out <= set(needed.story):
                continue
            tries -= 1
            candidate = play(frozenset(needed.story) - left_out)
            if alike(candidate, outcome):
                needed = candidate
        if size == 1 and len(needed.story) == begun:
            break
        size = max(1, size // 2)
    return needed


def alike(outcome: Outcome, other: Outcome) -> bool:
    """Whether two runs fail in the same way: by the same words, whatever the numbers and names in them."""
    return _words(outcome) == _words(other)


def _words(outcome: Outcome) -> str:
    return re.sub(r"\S*\d\S*", "#", outcome.failures[0]) if outcome.failures else ""
