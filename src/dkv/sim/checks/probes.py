"""Simulation: what a run, or a fleet of runs, has seen. Says whether the rare paths were reached at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dkv.domain.decision import Event
from dkv.domain.lifecycle import ANY, TABLES
from dkv.domain.model import State
from dkv.sim.checks.metadata import cycle_of
from dkv.sim.world import Watcher

KINDS = (
    "kill engine",
    "kill leader",
    "kill te",
    "kill all engines",
    "kill manager",
    "kill engine and manager",
    "kill everything",
    "restart machine",
    "pause engine",
    "pause manager",
    "pause machine",
    "pause manager before a command",
    "kill manager before a command",
    "long script",
    "slow loading",
    "slow disk",
    "full disk",
    "failing disk",
    "lost commit answer",
    "lost answer",
    "lost engine reply",
    "backend away",
    "slow backend",
    "lease lost",
    "lagging followers",
    "cut machines",
    "isolate machine",
    "isolate leader",
    "clock jump",
    "order: start instance",
    "order: stop instance",
    "order: stop leader",
    "order: switchover",
    "order: restart store",
    "order: change options",
    "order: start te",
    "order: stop te",
    "order: hot copy",
    "order: kill instance",
    "order: stop store",
    "order: force stop",
    "order: enforce leader",
    "order: create archive",
    "order: delete archive",
    "order: rotate authority",
    "order: evict process",
    "order: change users",
    "cut one way",
    "slow network",
    "backend changes leader",
    "done while the backend changed its leader",
    "lagging watch",
    "clock drift",
    "at: vacant",
    "at: assigned",
    "at: opened",
    "at: takeover",
    "at: serving",
    "at: joiner marked",
    "at: joiner required",
    "at: in-sync set grown",
    "at: in-sync set shrunk",
    "at: handing over",
    "at: failing over",
    "at: handed over",
)
"""Every kind of fault, as counted when it really struck."""
FLEET = 200  # seeds from which on a fleet has to have seen each kind
LEAST = 20  # times


class Probes(Watcher):
    """Counts by name. Names are "fault ...", "event ..." and "row <table> FROM -> TO"."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def order(self, kind: str) -> None:
        """An operator's order was accepted."""
        self.counts[f"fault order: {kind}"] += 1

    def fault(self, kind: str) -> None:
        """A fault struck."""
        self.counts[f"fault {kind}"] += 1

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """What became true."""
        for event in events:
            self.counts[f"event {event.kind}"] += 1
            if event.change:
                self.counts[f"row {cycle_of(event)} {event.change}"] += 1


def table(counts: Counter[str], *beginnings: str) -> str:
    """The counts whose names begin so, by name; the kinds of faults and the life-cycle rows also where they are 0."""
    names = {*counts, *(f"fault {kind}" for kind in KINDS), *_rows()}
    shown = sorted(name for name in names if name.startswith(beginnings))
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"  {name:<{width}}  {counts[name]:>8}" for name in shown)


def _rows() -> list[str]:
    """Every row of the life cycles, as events name them; rows from anywhere are left out."""
    return [f"row {name} {r.source} -> {r.target}" for name, rows in TABLES.items() for r in rows if r.source != ANY]


def rare(counts: Counter[str], least: int = LEAST) -> list[str]:
    """The kinds of faults that struck less often."""
    return [f"{kind} ({counts[f'fault {kind}']})" for kind in KINDS if counts[f"fault {kind}"] < least]
