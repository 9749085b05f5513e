"""Simulation room: what a run, or a fleet of runs, has seen. Says whether the rare paths were reached at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dkv.domain.decision import Event
from dkv.domain.lifecycle import TABLES
from dkv.domain.model import State
from dkv.sim.world import Watcher


class Probes(Watcher):
    """Counts by name. Names are "fault ...", "event ..." and "row <table> FROM -> TO"."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def fault(self, kind: str) -> None:
        """A fault struck."""
        self.counts[f"fault {kind}"] += 1

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """What became true."""
        for event in events:
            self.counts[f"event {event.kind}"] += 1
            if event.change:
                self.counts[f"row {event.subject.split()[0]} {event.change}"] += 1

    def add(self, other: Counter[str]) -> None:
        """Another run's counts."""
        self.counts.update(other)

    def table(self) -> str:
        """All counts, by name."""
        width = max((len(name) for name in self.counts), default=0)
        return "\n".join(f"  {name:<{width}}  {count:>8}" for name, count in sorted(self.counts.items()))

    def unseen_rows(self) -> list[str]:
        """Rows of the life cycles that no run went through; rows from anywhere are left out."""
        rows = [(t, f"{r.source} -> {r.target}") for t, table in TABLES.items() for r in table if r.source != "*"]
        return sorted({f"{t} {row}" for t, row in rows if not self.counts[f"row {t} {row}"]})
