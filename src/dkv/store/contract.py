"""What every state backend must do: one guarded revision, whole-view watch, leases outside the revision.

Three implementations stand under one contract suite (tests/contract/test_store.py): memory (the model),
SQLite (one machine), etcd (several machines). Facts: docs/reference/state-backends.md.

A *record* is a key and a JSON text. A *revision* counts commits, from 0 for an empty store. Every commit is
guarded: it succeeds only if the revision is still the one the writer read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dkv import hints
from dkv.hints import Hint
from dkv.store.changes import ChangeLog


class StoreError(Exception):
    """The backend failed: `detail` is a clause that says what happened, `hint` what helps.

    Root of everything that this package raises. As text, for a log, it is both.
    """

    def __init__(self, detail: str = "", hint: str | Hint = "") -> None:
        super().__init__(f"{detail}; hint: {hint}" if hint else detail)
        self.detail = detail
        self.hint = hint if isinstance(hint, Hint) else hints.hint(hint)


class Conflict(StoreError):
    """Another manager committed first; read again and decide again. Nothing was written."""


class Unavailable(StoreError):
    """The backend did not answer in time. For a commit: whether it was written is unknown unless `written` says."""

    def __init__(self, detail: str = "", hint: str | Hint = "", *, written: bool | None = None) -> None:
        super().__init__(detail, hint)
        self.written = written


class Unusable(StoreError):
    """The state is damaged, of a newer version, or not ours. Said once, with a hint; never repaired by guessing."""


class Moved(Unusable):
    """The state is not here any more: the domain moved to another backend. `place` is what was written when it moved."""

    def __init__(self, where: str, place: str) -> None:
        super().__init__(f"the domain state {where} moved to the etcd members of the managers", "Leave --state out.")
        self.place = place


@dataclass(frozen=True)
class Snapshot:
    """One whole view of the domain's records at one revision. `changes` holds what lies between it and others of its log."""

    revision: int
    records: Mapping[str, str]
    changes: ChangeLog = field(default_factory=ChangeLog, compare=False, repr=False)


@dataclass(frozen=True)
class StoredEvent:
    """One line of the event log. `sequence` counts from 1 without gaps until the oldest are trimmed."""

    sequence: int
    revision: int
    text: str


@dataclass(frozen=True)
class Lease:
    """A claim that ends by itself. `expires_in` is in seconds at the moment of reading; negative means expired."""

    name: str
    holder: str
    expires_in: float
    value: str = ""


class Store(Protocol):
    """A state backend."""

    async def read(self) -> Snapshot:
        """A linearizable read: sees every commit acknowledged before the call. Raises Unavailable, Unusable."""
        ...

    def known(self) -> Snapshot | None:
        """The newest snapshot at hand, which may be old: good for a commit, which its revision guards, and for nothing else. None
        where there is none, where the backend does not answer, or where a read costs no more.
        """
        ...

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        """Write all or nothing if the revision is still `base`; None deletes a key. Returns the new revision.

        `token` is unique to this attempt chain: repeating a commit with the same base and token after Unavailable
        returns the revision it got, if it was written after all. Raises Conflict, Unavailable, Unusable.
        """
        ...

    async def probe(self) -> None:
        """Do all that a commit does, and change nothing. Raises Unavailable, Unusable where a commit would."""
        ...

    async def obstacle(self) -> str:
        """The process that keeps commits waiting now, in words; "" when none is seen to. Keeps nothing else waiting."""
        ...

    def watch(self) -> AsyncIterator[Snapshot]:
        """Whole views, newest wins: the present one first, then one after every change, never an older one.

        Intermediate revisions may be skipped. Ends only when the caller stops iterating.
        """
        ...

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events with a sequence above `after`, oldest first."""
        ...

    async def newest(self) -> int:
        """The sequence of the newest event, 0 if there was none yet. Raises Unavailable, Unusable."""
        ...

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        """Take a lease that is free, expired or already ours, which prolongs it: `ttl` seconds from now. False if another
        holds it.
        """
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give a lease up; nothing happens if it is not ours."""
        ...

    async def leases(self) -> Sequence[Lease]:
        """All leases, expired ones too until they are taken or swept after an hour."""
        ...

    async def close(self) -> None:
        """Let go of files and tasks."""
        ...
