"""Store: the state backend in memory, the model the other backends are measured against.

A `MemoryDomain` is the shared state; each manager of a test or of the simulation holds its own `MemoryStore` on it.
There are no threads and no timers: every call finishes in one go and waiting is done on asyncio events alone, so a
simulation that owns the event loop and the clock replays a run exactly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType

from dkv.store.contract import Conflict, Lease, Snapshot, StoredEvent, Unavailable

KEEP_EVENTS = 100_000
KEEP_TOKENS = 10_000
SWEEP_LEASES_AFTER = 3600.0


class MemoryDomain:
    """The state several `MemoryStore` handles share. `clock` gives seconds that only ever grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, keep_events: int = KEEP_EVENTS) -> None:
        self.clock = clock
        self._records: dict[str, str] = {}
        self.snapshot = Snapshot(0, MappingProxyType(self._records))
        self.log: list[StoredEvent] = []
        self.last_sequence = 0
        self.leases: dict[str, tuple[str, float, str]] = {}  # name -> holder, expires (on `clock`), value
        self._keep_events = keep_events
        self._tokens: dict[int, str] = {}  # the revision a token got
        self._changed = asyncio.Event()

    def changed(self) -> asyncio.Event:
        """An event that fires at the next change. Take it before reading, so that no change is missed."""
        return self._changed

    def wake(self) -> None:
        """Wake all that wait on `changed()`."""
        past, self._changed = self._changed, asyncio.Event()
        past.set()

    def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        """The guarded write of the contract, in one step. Raises Conflict."""
        revision = base + 1
        if self._tokens.get(revision) == token:
            return revision
        if self.snapshot.revision != base:
            raise Conflict(f"the state is at revision {self.snapshot.revision}, not {base}")
        records = self._records.copy()
        for key, text in writes.items():
            if text is None:
                records.pop(key, None)
            else:
                records[key] = text
        self._records = records
        self.snapshot.changes.add(base, revision, writes)
        self.snapshot = Snapshot(revision, MappingProxyType(records), self.snapshot.changes)
        self._remember(revision, token, events)
        self.wake()
        return revision

    def _remember(self, revision: int, token: str, events: Sequence[str]) -> None:
        self._tokens[revision] = token
        self._tokens.pop(revision - KEEP_TOKENS, None)
        for text in events:
            self.last_sequence += 1
            self.log.append(StoredEvent(self.last_sequence, revision, text))
        del self.log[: max(0, len(self.log) - self._keep_events)]


class MemoryStore:
    """One manager's handle on a `MemoryDomain`. Implements `dkv.store.contract.Store`."""

    def __init__(self, domain: MemoryDomain | None = None) -> None:
        self._domain = domain if domain is not None else MemoryDomain()
        self._closed = False

    async def read(self) -> Snapshot:
        return self._open().snapshot

    def known(self) -> Snapshot | None:
        return None  # a read costs no round trip

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        return self._open().commit(base, writes, events, token)

    async def probe(self) -> None:
        self._open()

    async def obstacle(self) -> str:
        return ""

    async def watch(self) -> AsyncIterator[Snapshot]:
        seen = -1
        while True:
            changed = self._open().changed()
            snapshot = self._domain.snapshot
            if snapshot.revision > seen:
                seen = snapshot.revision
                yield snapshot
            else:
                await changed.wait()

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        log = self._open().log
        first = log[0].sequence if log else 1
        start = max(0, after + 1 - first)
        return tuple(log[start : start + max(0, limit)])

    async def newest(self) -> int:
        return self._open().last_sequence

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        domain = self._open()
        self._sweep_leases()
        held = domain.leases.get(name)
        if held is not None and held[0] != holder and held[1] > domain.clock():
            return False
        domain.leases[name] = (holder, domain.clock() + ttl, value)
        return True

    async def release(self, name: str, holder: str) -> None:
        leases = self._open().leases
        if name in leases and leases[name][0] == holder:
            del leases[name]

    async def leases(self) -> Sequence[Lease]:
        domain = self._open()
        self._sweep_leases()
        now = domain.clock()
        return tuple(
            Lease(name, holder, expires - now, value) for name, (holder, expires, value) in sorted(domain.leases.items())
        )

    async def close(self) -> None:
        self._closed = True
        self._domain.wake()

    def _open(self) -> MemoryDomain:
        if self._closed:
            raise Unavailable("this handle on the state is closed")
        return self._domain

    def _sweep_leases(self) -> None:
        limit = self._domain.clock() - SWEEP_LEASES_AFTER
        for name in [name for name, (_, expires, _) in self._domain.leases.items() if expires < limit]:
            del self._domain.leases[name]
