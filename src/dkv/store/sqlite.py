"""Store: the state backend of one machine, a SQLite file that several managers share.

Three threads with a connection each: commits, reads, leases. So a commit that waits for a frozen neighbour delays
neither a read nor a renewal. Every transaction is one function on its thread; nothing is awaited while a lock is held.
Facts and numbers: docs/reference/state-backends.md#sqlite.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dkv.kernel import boottime
from dkv.store.contract import Lease, Snapshot, StoredEvent, Unavailable
from dkv.store.holders import writer_of
from dkv.store.notify import Notifier
from dkv.store.sqlite_file import PATIENCE, SqliteFile
from dkv.store.sqlite_leases import LEASE_FILE, Leases
from dkv.store.sqlite_state import KEEP_EVENTS, STATE_FILE, StateReader, StateWriter
from dkv.store.worker import Worker

T = TypeVar("T")

OPENED_WITHIN = 30.0  # s: a state that is made is synced many times, and a manager that cannot open it ends
POLL = 1.0
"""Seconds between looks at the file when no notification comes."""


class SqliteStore:
    """One manager's handle on a state file. Implements `dkv.store.contract.Store`. Made by `open`."""

    def __init__(self, path: str | os.PathLike[str], poll: float = POLL) -> None:
        self._path = Path(path).absolute()
        self._poll = poll
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._notifier = Notifier(Path(f"{self._path}-notify"), self._wake)
        self._writing, self._reading, self._leasing = Worker("state-commit"), Worker("state-read"), Worker("leases")
        self._files: list[tuple[Worker, SqliteFile]] = []
        self._writer: StateWriter
        self._reader: StateReader
        self._leases: Leases

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        keep_events: int = KEEP_EVENTS,
        patience: float = PATIENCE,
        clock: Callable[[], float] = boottime,
        boot: str | None = None,
    ) -> SqliteStore:
        """Open or make the state file at `path`; its directory must exist.

        `keep_events` bounds the event log, `patience` is how many seconds a call waits for another process's lock;
        `clock` and `boot` are for tests. Raises Unusable, Unavailable.
        """
        store = cls(path)
        main, beside = store._path, Path(f"{store._path}-leases")
        try:
            writer = await store._file(store._writing, lambda: SqliteFile(main, STATE_FILE, patience, thorough=True))
            reader = await store._file(store._reading, lambda: SqliteFile(main, STATE_FILE, patience))
            claims = await store._file(store._leasing, lambda: SqliteFile(beside, LEASE_FILE, patience))
            store._writer, store._reader = StateWriter(writer, keep_events), StateReader(reader)
            store._leases = await store._leasing.run(lambda: Leases(claims, clock, boot), OPENED_WITHIN)
            await store._reading.run(store._reader.snapshot, OPENED_WITHIN)
        except BaseException:
            await store.close()
            raise
        return store

    async def read(self) -> Snapshot:
        return await self._run(self._reading, lambda: self._reader.snapshot())

    def known(self) -> Snapshot | None:
        return None  # a read costs no round trip

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        asked_at = time.monotonic()  # so that who waits behind others in this process waits no longer than they

        def work() -> int:
            revision = self._writer.commit(base, writes, events, token, asked_at)
            self._announce()
            return revision

        return await self._run(self._writing, work)

    async def probe(self) -> None:
        asked_at = time.monotonic()
        await self._run(self._writing, lambda: self._writer.probe(asked_at))

    async def obstacle(self) -> str:
        holder = await asyncio.to_thread(writer_of, self._path)  # the kernel makes who reads its table of locks wait for 10 ms
        return str(holder or "")

    async def watch(self) -> AsyncIterator[Snapshot]:
        seen = -1
        while True:
            changed = self._changed  # taken before reading, so that no change is missed
            try:
                snapshot = await self.read()
            except Unavailable:
                if self._closed:
                    raise
                snapshot = None
            if snapshot is not None and snapshot.revision > seen:
                seen = snapshot.revision
                yield snapshot
            else:
                await self._wait(changed)

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        return await self._run(self._reading, lambda: self._reader.events(after, limit))

    async def newest(self) -> int:
        return await self._run(self._reading, lambda: self._reader.newest())

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        return await self._run(self._leasing, lambda: self._leases.acquire(name, holder, ttl, value))

    async def release(self, name: str, holder: str) -> None:
        await self._run(self._leasing, lambda: self._leases.release(name, holder))

    async def leases(self) -> Sequence[Lease]:
        return await self._run(self._leasing, lambda: self._leases.all())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for worker, file in self._files:
            try:
                await worker.run(file.close)
            except Unavailable:
                pass  # a disk that hangs; the thread is left behind
        for worker in (self._writing, self._reading, self._leasing):
            await worker.stop()
        self._notifier.close()
        self._wake()

    async def _file(self, worker: Worker, make: Callable[[], SqliteFile]) -> SqliteFile:
        file = await worker.run(make, OPENED_WITHIN)
        self._files.append((worker, file))
        return file

    async def _run(self, worker: Worker, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("this handle on the state is closed", written=False)
        return await worker.run(work)

    async def _wait(self, changed: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._poll):
                await changed.wait()
        except TimeoutError:
            pass

    def _announce(self) -> None:
        """Wake the watchers of this process and of the others. Runs on the commit thread."""
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # the loop has ended; the other waiters still need it
        self._notifier.send()

    def _wake(self) -> None:
        past, self._changed = self._changed, asyncio.Event()
        past.set()
