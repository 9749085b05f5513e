"""Spelling: which known words a misspelt one is likely to mean; where none is likely, none is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

LISTED = 12  # known words that a hint names when there is no guess


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint: what was probably meant, else `otherwise`."""
    guesses = meant(word, known)
    return f"Did you mean {' or '.join(guesses)}?" if guesses else otherwise


def meant(word: str, known: Iterable[str]) -> list[str]:
    """The known words, at most two, that `word` is a misspelling of: one letter in three may be wrong. A word that stands at
    the beginning of one known word means that. Names that differ in a number are different names, and none is guessed."""
    written, numbers = word.lower(), _numbers(word)
    names = [name for name in dict.fromkeys(known) if _numbers(name) == numbers]
    bound = min(4, len(written) // 3)
    near = [(distance(written, name.lower(), bound), name) for name in names]
    least = min((far for far, _ in near), default=bound + 1)
    if least <= bound:
        closest = [name for far, name in near if far == least]
        return closest if len(closest) <= 2 else []
    completions = [name for name in names if len(written) >= 3 and name.lower().startswith(written)]
    return completions if len(completions) == 1 else []


def listed(known: Iterable[str]) -> str:
    """`orders-1, orders-2 and 9 more`, numbers in their order."""
    names = sorted(known, key=natural)
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def distance(word: str, other: str, bound: int) -> int:
    """How many letters were left out, added, changed, or written in the wrong order; more than `bound` is `bound` + 1."""
    if abs(len(word) - len(other)) > bound:
        return bound + 1
    before: Sequence[int] = ()
    row: Sequence[int] = range(len(other) + 1)
    for i, a in enumerate(word, 1):
        now = [i]
        for j, b in enumerate(other, 1):
            best = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and word[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            now.append(best)
        before, row = row, now
    return min(row[-1], bound + 1)


def _numbers(word: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]{1,18}", word)]


def natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by, numbers in them by their size: orders-2 before orders-10."""
    return [(int(part), "") if part.isdigit() and part.isascii() else (0, part) for part in re.split("([0-9]{1,18})", name)]
