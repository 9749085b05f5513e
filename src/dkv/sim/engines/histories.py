"""Simulation: equal offset under an equal history id means equal bytes, on all engines that ever were.

That is what a partial resync believes, and what feeding a dead leader's tail must keep true (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Callable

from dkv.sim.engines.disk import Entry


def _raise(sentence: str) -> None:
    raise AssertionError(sentence)


class Histories:
    """What stands before each offset of each history, as every engine found it when it got there."""

    def __init__(self) -> None:
        self.complain: Callable[[str], None] = _raise
        self._known: dict[tuple[str, int], int] = {}

    def reached(self, who: int, history: str, offset: int, content: int) -> None:
        """An engine is here; one that was here before must have written the same."""
        if self._known.setdefault((history, offset), content) != content:
            self.complain(f"process {who} has other bytes than another engine at offset {offset} of history {history}")

    def content(self, history: str, offset: int) -> int:
        """What an engine found there."""
        return self._known[(history, offset)]


def grown(content: int, entry: Entry) -> int:
    """What stands before the end of an entry, if files keep it."""
    return hash((content, entry.key, entry.value, entry.marker)) if entry.durable else content
