"""Domain: what people are shown while a manager cannot write down what it sees. Pure.

The newest committed state is old by then. What is shown is that state with what this manager knows of its own
machine laid over it, for people only: no rule ever judges by it, and neither the in-sync set nor who leads is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from dkv.domain.model import Archive, ArchiveState, State, Tombstone
from dkv.hints import Hint


@dataclass(frozen=True)
class Ended:
    """The end of an engine that could not be committed: its cause, one sentence, exit code, and last lines of its log."""

    start_id: int
    cause: str
    reason: str
    exit_code: int
    last_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unwritten:
    """Commits have failed since `at` (wall clock, ms), for `age` seconds: `why` and `hint` as the state backend said them.
    `ended` and `refusing` (start id, reason of writes_refused.py) are what this manager saw of its own engines.
    """

    server_id: str
    at: int
    age: int
    why: str
    hint: Hint
    ended: tuple[Ended, ...] = ()
    refusing: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class AsOf(State):
    """A state that is only shown, never judged by or written: as it was when commits began to fail, and what is known beside."""

    unwritten: Unwritten | None = None


def as_of(state: State, unwritten: Unwritten) -> AsOf:
    """The state with what its manager could not write down."""
    known = [ended for ended in unwritten.ended if ended.start_id in state.processes]
    gone = {ended.start_id for ended in known}
    processes = {start_id: process for start_id, process in state.processes.items() if start_id not in gone}
    for start_id, why in unwritten.refusing:
        if start_id in processes:
            health = replace(processes[start_id].health, refuses=why, refuses_at=unwritten.at)
            processes[start_id] = replace(processes[start_id], health=health)
    tombstones = {ended.start_id: _tombstone(state, ended, unwritten.at, order) for order, ended in enumerate(known, 1)}
    shown = {field.name: getattr(state, field.name) for field in fields(State)}
    return AsOf(
        **shown | {"processes": processes, "tombstones": {**state.tombstones, **tombstones}, "archives": _archives(state, known)},
        unwritten=unwritten,
    )


def _tombstone(state: State, ended: Ended, at: int, order: int) -> Tombstone:
    process = state.processes[ended.start_id]
    database = state.databases[process.database]
    reason = f"{ended.reason} (seen by its manager, which cannot commit it)"
    return Tombstone(
        process, database.major, database.minor + order, reason, ended.cause, ended.exit_code, None, at, ended.last_words
    )


def _archives(state: State, ends: Sequence[Ended]) -> dict[int, Archive]:
    archives = dict(state.archives)
    for end in ends:
        archive = state.archive_of(state.processes[end.start_id])
        if archive is not None:
            archives[archive.archive_id] = replace(archive, state=ArchiveState.NOT_RUNNING)
    return archives
