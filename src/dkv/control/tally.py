"""tally: what a manager did since it began, counted for metrics. Nothing goes by it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

from dkv.domain.command import Command
from dkv.domain.facts import ProcessExited
from dkv.domain.model import State

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: durations up to each of these are counted apart."""


class Durations:
    """How many of something took how long: `counts` by BOUNDS, the last one of those that took longer; `total` in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def note(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Tally:
    """The counts of one manager. `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.now = monotonic
        self.decisions: Counter[tuple[str, str]] = Counter()  # by the command, and accepted or refused
        self.ends: Counter[tuple[str, str]] = Counter()  # of this server's processes, by database and cause
        self.commits = Durations()
        self.conflicts = 0  # commits that came too late, because another manager's was first

    def decided(self, state: State, command: Command, accepted: bool) -> None:
        """A command was decided in that state, and committed if it was accepted."""
        self.decisions[type(command).__name__, "accepted" if accepted else "refused"] += 1
        if accepted and isinstance(command, ProcessExited) and (process := state.processes.get(command.start_id)):
            self.ends[process.database, command.cause] += 1
