"""Simulation: what must hold for the domain's books, read from the state before and after each commit.

Start ids and incarnations only ever grow; terms too, and a process leads in one term only; every move has its row
in domain/lifecycle.py, and the moves of one commit lead from what was to what is. Nothing of this asks decide().
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dkv.domain.decision import Event, InvariantError
from dkv.domain.lifecycle import GONE, NEW, row_to
from dkv.domain.model import State
from dkv.sim.world import Watcher, World

OF_AUTHORITY = "authority."
"""How events of a change of authority begin, whose phases are no life cycle; that it ends is demanded in certificates.py."""


class MetadataChecks(Watcher):
    """Watches commits; failures go to the world, which keeps the trace."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._given_start_ids = 0
        self._leaders: dict[tuple[str, str, str, int], int | None] = {}  # group, shard and term -> who led in it

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        self._start_ids(before, after)
        self._incarnations(before, after)
        self._terms(after)
        self._moves(before.memoized(_phases), after.memoized(_phases), events)

    def _start_ids(self, before: State, after: State) -> None:
        for start_id in sorted(set(after.processes) - set(before.processes)):
            if start_id < self._given_start_ids:
                self._world.fail(f"start id {start_id} was given out twice")
            self._given_start_ids = start_id + 1

    def _incarnations(self, before: State, after: State) -> None:
        for name, database in after.databases.items():
            old = before.databases.get(name)
            same = old is not None and old.uid == database.uid
            if old is not None and same and (database.major, database.minor) < (old.major, old.minor):
                self._world.fail(f"{name} went back from incarnation {(old.major, old.minor)}")

    def _terms(self, after: State) -> None:
        for group in after.groups.values():
            if group.open:
                key = (*group.key, after.databases[group.database].uid, group.term)
                if self._leaders.setdefault(key, group.leader) != group.leader:
                    self._world.fail(f"two archives led {group.name} in term {group.term}")

    def _moves(self, before: Mapping[str, str], after: Mapping[str, str], events: Sequence[Event]) -> None:
        """Each life cycle went its ways by rows that exist, one after the other."""
        now: dict[str, str] = {}
        for event in events:
            if not event.change or event.kind.startswith(OF_AUTHORITY):
                continue
            source, target = event.change.split(" -> ")
            self._row(event, source, target)
            was = now.get(event.subject, before.get(event.subject, NEW))
            if source != was and {source, was} != {NEW, "TOMBSTONE"}:
                self._world.fail(f"{event.subject} was {was} and is said to have moved {event.change}")
            now[event.subject] = target
        for subject in sorted({*before, *after}):
            is_now, expected = after.get(subject, GONE), now.get(subject, before.get(subject, NEW))
            if is_now != expected and not (subject.startswith(("group ", "hot copy ")) and is_now == GONE):
                self._world.fail(f"{subject} is {is_now}, and the events of its commit leave it at {expected}")

    def _row(self, event: Event, source: str, target: str) -> None:
        try:
            row_to(cycle_of(event), source, target)
        except InvariantError as broken:
            self._world.fail(f"{event.subject}: {broken}")


def _phases(state: State) -> dict[str, str]:
    """Where each life cycle stands, by the words events use."""
    return {
        **{f"process {p.start_id}": str(p.state) for p in state.processes.values()},
        **{f"archive {a.archive_id}": str(a.state) for a in state.archives.values()},
        **{f"group {g.database}/{g.name}": g.phase.name for g in state.groups.values()},
        **{f"database {d.name}": str(d.state) for d in state.databases.values()},
        **{f"hot copy {c.copy_id}": str(c.stage) for c in state.copies.values()},
    }


def cycle_of(event: Event) -> str:
    """The life cycle that an event's subject goes through, by the name of its table."""
    first, second, *_ = event.subject.split()
    return second if first == "hot" else first
