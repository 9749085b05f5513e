"""API: regular expressions of list filters, matched without backtracking, so that no pattern can hold a manager up.

The usual syntax: literals, `.`, `[a-z]`, `[^a]`, `\\d \\w \\s` and escapes, groups, `|`, `* + ? {2,5}`. What a whole value
has to fit, so `^` and `$` say nothing new and are passed over. Python's own matcher takes exponential time for `(a|a)*b`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

LONGEST = 200  # characters of a pattern
DEEPEST = 3  # repetitions inside each other
MOST = 100  # of a counted repetition
CLASSES = {"d": "[0-9]", "w": "[A-Za-z0-9_]", "s": "[ \\t\\n]", "D": "[^0-9]", "W": "[^A-Za-z0-9_]", "S": "[^ \\t\\n]"}


class BadPattern(Exception):
    """It is no pattern, or one that is too big; the text says why."""


@dataclass(frozen=True)
class One:
    """One character that fits."""

    fits: Callable[[str], bool]


@dataclass(frozen=True)
class Row:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """Any one of them."""

    ways: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """So many times; `most` None: without end."""

    inner: Node
    least: int
    most: int | None


Node = One | Row | Either | Repeat


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern. Raises BadPattern."""
    return len(text) in _ends(_parsed(pattern), text, frozenset({0}))


@lru_cache(maxsize=256)
def _parsed(pattern: str) -> Node:
    if len(pattern) > LONGEST:
        raise BadPattern(f"it is longer than {LONGEST} characters")
    parser = _Parser(pattern)
    node = parser.either(0)
    if parser.rest():
        raise BadPattern("a parenthesis is closed that was not opened")
    return node


def _ends(node: Node, text: str, starts: frozenset[int]) -> frozenset[int]:
    """Where a match can end that began at one of the starts."""
    if isinstance(node, One):
        return frozenset(i + 1 for i in starts if i < len(text) and node.fits(text[i]))
    if isinstance(node, Row):
        for part in node.parts:
            starts = _ends(part, text, starts) if starts else starts
        return starts
    if isinstance(node, Either):
        return frozenset().union(*(_ends(way, text, starts) for way in node.ways))
    return _repeated(node, text, starts)


def _repeated(node: Repeat, text: str, starts: frozenset[int]) -> frozenset[int]:
    for _ in range(node.least):
        starts = _ends(node.inner, text, starts) if starts else starts
    ends, fresh, count = starts, starts, node.least
    while fresh and (node.most is None or count < node.most):
        fresh = _ends(node.inner, text, fresh) - ends
        ends, count = ends | fresh, count + 1
    return ends


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def rest(self) -> str:
        return self._pattern[self._at :]

    def _next(self, *wanted: str) -> str:
        """The word that comes now, if it is one of those."""
        word = next((word for word in wanted if self.rest().startswith(word)), "")
        self._at += len(word)
        return word

    def either(self, depth: int) -> Node:
        ways = [self._row(depth)]
        while self._next("|"):
            ways.append(self._row(depth))
        return ways[0] if len(ways) == 1 else Either(tuple(ways))

    def _row(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.rest() and self.rest()[0] not in "|)":
            if not self._next("^", "$"):
                parts.append(self._times(depth))
        return Row(tuple(parts))

    def _times(self, depth: int) -> Node:
        node = self._atom(depth)
        while count := re.match(r"[*+?]|\{(\d{1,3})(,(\d{0,3}))?\}", self.rest()):
            self._at += len(count[0])
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(count[0]) or _counted(count)
            node = Repeat(node, least, most)
            if _depth(node) > DEEPEST:
                raise BadPattern(f"more than {DEEPEST} repetitions are inside each other")
        return node

    def _atom(self, depth: int) -> Node:
        if self._next("(?:", "("):
            node = self.either(depth + 1)
            if not self._next(")"):
                raise BadPattern("a parenthesis is not closed")
            return node
        if self._next("\\"):
            if not self.rest():
                raise BadPattern("it ends with a backslash")
            letter = self._take(1)
            return _one_of(CLASSES[letter]) if letter in CLASSES else One(letter.__eq__)
        if self._next("."):
            return One(lambda character: True)
        if self.rest().startswith("["):
            return self._set()
        if self.rest()[0] in "*+?{":
            raise BadPattern(f"there is nothing before {self.rest()[0]} to repeat")
        return One(self._take(1).__eq__)

    def _take(self, count: int) -> str:
        taken = self.rest()[:count]
        self._at += count
        return taken

    def _set(self) -> Node:
        written = re.match(r"\[\^?\]?(\\.|[^\]\\])*\]", self.rest())
        if written is None:
            raise BadPattern("a bracket is not closed")
        return _one_of(self._take(len(written[0])))


def _one_of(written: str) -> One:
    try:
        with warnings.catch_warnings():  # of what may mean more in a later Python
            warnings.simplefilter("ignore")
            known = re.compile(written, re.DOTALL)
    except re.error as error:
        raise BadPattern(str(error)) from None
    return One(lambda character: known.match(character) is not None)


def _counted(count: re.Match[str]) -> tuple[int, int | None]:
    least = int(count[1])
    most = least if count[2] is None else int(count[3]) if count[3] else None
    if max(least, most or 0) > MOST or (most is not None and most < least):
        raise BadPattern(f"the count {count[0]} is not one from 0 to {MOST}")
    return least, most


def _depth(node: Node) -> int:
    """How many repetitions are inside each other; a counted one counts twice, since it multiplies work."""
    if isinstance(node, Repeat):
        return _depth(node.inner) + (2 if max(node.least, node.most or 0) > 1 else 1)
    inner = node.parts if isinstance(node, Row) else node.ways if isinstance(node, Either) else ()
    return max((_depth(part) for part in inner), default=0)
