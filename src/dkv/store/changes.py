"""Store: which records the newest commits changed: the holder of one view decodes only what changed until another. Pure."""

from __future__ import annotations

from collections.abc import Iterable

KEPT = 64  # steps; the holder of an older view decodes the whole of the new one


class ChangeLog:
    """The steps from one snapshot of a handle to its next, oldest first. Read and written by different threads."""

    def __init__(self) -> None:
        self._steps: tuple[tuple[int, int, frozenset[str]], ...] = ()  # revision before, revision after, keys of records

    def add(self, before: int, after: int, keys: Iterable[str]) -> None:
        """A new snapshot differs from the newest one in no other records."""
        self._steps = (*self._steps[1 - KEPT :], (before, after, frozenset(keys)))

    def between(self, known: int, wanted: int) -> frozenset[str] | None:
        """The keys of the records that may differ between the snapshots of two revisions; None: that is not known any more."""
        keys: set[str] = set()
        reached = wanted
        for before, after, changed in reversed(self._steps):
            if reached <= known:
                break
            if after == reached:
                keys |= changed
                reached = before
        return frozenset(keys) if reached == known else None
