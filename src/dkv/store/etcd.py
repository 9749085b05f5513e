"""Store: the state backend of several machines, keys below one prefix of an etcd cluster.

A handle keeps a mirror of the records that a watch feeds; a read asks etcd for the head alone, and waits for the watch or reads
anew when the mirror is behind. How a commit is written: etcd_state.py. Facts and numbers: docs/reference/state-backends.md#etcd.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from dkv.kernel import boottime
from dkv.store.contract import Conflict, Lease, Snapshot, StoredEvent, StoreError, Unavailable, Unusable
from dkv.store.etcd_address import EtcdAddress
from dkv.store.etcd_client import ATTEMPT, Compacted, EtcdClient, WatchBroken
from dkv.store.etcd_leases import EtcdLeases
from dkv.store.etcd_members import EtcdMembers
from dkv.store.etcd_messages import has_value, look, message, put, txn
from dkv.store.etcd_state import (
    KEEP_EVENTS,
    Commit,
    Head,
    Layout,
    Mirror,
    after,
    applied,
    chunks,
    direct,
    finished,
    operations,
    read_head,
    staging,
    stored_events,
)
from dkv.store.etcd_version import refuse_version

PAGE = 2_000  # keys read at once
BEHIND = 0.5  # s a read waits for the watch before it reads the records itself
BACKOFF = 0.004  # s at most that a writer pauses that came second, so that not all try again at once
LOOK_AGAIN = 1.0  # s until a watcher that has not seen anything yet tries again
AWAY = 3.0  # s after a read that no majority answered in which the next ones are told so at once, while the watch is cut off too
RETRY_WATCH = (0.05, 0.3)  # s between two watches


class EtcdStore:
    """One manager's handle on a domain in etcd. Implements `dkv.store.contract.Store`. Made by `open`."""

    def __init__(self, client: EtcdClient, keep_events: int, clock: Callable[[], float]) -> None:
        prefix = client.address.prefix
        self._client = client
        self._layout = Layout(prefix.encode())
        self._mirror = Mirror(self._layout, f"etcd {client.address.named}, prefix {prefix}")
        self._leases = EtcdLeases(client, self._layout, clock, self._ask)
        self._keep_events = keep_events
        self._closed = False
        self._changed = asyncio.Event()
        self._loading = asyncio.Lock()
        self._obstacle = ""
        self._away: Unavailable | None = None  # why the last read had no answer
        self._away_at = 0.0  # monotonic, s
        self._unusable: Unusable | None = None
        self._feed: asyncio.Task[None] | None = None
        self._helping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._helping.set_result(None)

    @classmethod
    async def open(
        cls, address: EtcdAddress, *, keep_events: int = KEEP_EVENTS, clock: Callable[[], float] = boottime
    ) -> EtcdStore:
        """Open the domain at an address; there may be none yet. `keep_events` bounds the event log, `clock` is for tests.

        Raises Unusable, Unavailable.
        """
        store = cls(EtcdClient(address), keep_events, clock)
        try:
            answer = await store._client.call("status", message("StatusRequest"))
            refuse_version(answer.version, address.named)
            await store.read()
        except BaseException:
            await store.close()
            raise
        store._feed = asyncio.create_task(store._follow(), name="etcd watch")
        return store

    # -- reading ----------------------------------------------------------------------------------------------------

    async def read(self) -> Snapshot:
        while True:
            known = self._mirror.at
            kvs = (await self._ask("range", message("RangeRequest", key=self._layout.head))).kvs
            at = kvs[0].mod_revision if kvs else 0
            if at < known:
                raise went_back(self._mirror.where, self._mirror.head.revision)
            if self._mirror.at < at and not await self._reaches(at):
                await self._load()
            if self._mirror.whole:
                return self._mirror.snapshot
            await self._finish(self._mirror.head)

    async def _reaches(self, at: int) -> bool:
        """Whether the mirror is no older than an etcd revision, after a moment for the watch to tell."""
        if self._feed is None or self._obstacle:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(BEHIND):
                while self._mirror.at < at:
                    await self._changed.wait()
        return self._mirror.at >= at

    async def _load(self) -> None:
        """Read all records, as they are at one etcd revision."""
        async with self._loading:
            while True:
                try:
                    kvs, revision = await self._pages()
                    break
                except Compacted:
                    continue  # while it was read
            self._mirror.load(kvs, revision)  # nothing, if this handle or its watch was faster
        self._wake()

    async def _pages(self) -> tuple[list[Any], int]:
        start, revision, records = self._layout.state, 0, list[Any]()
        while True:
            request = message("RangeRequest", key=start, range_end=after(self._layout.state), limit=PAGE, revision=revision)
            answer = await self._ask("range", request)
            records += answer.kvs
            revision = revision or answer.header.revision
            if not answer.more:
                return records, revision
            start = answer.kvs[-1].key + b"\0"

    async def watch(self) -> AsyncIterator[Snapshot]:
        seen = -1
        while True:
            changed = self._changed  # taken before looking, so that no change is missed
            if self._closed:
                raise Unavailable("this handle on the state is closed", written=False)
            if self._unusable is not None:
                raise self._unusable
            if seen < 0:
                with suppress(Unavailable):
                    snapshot = await self.read()
                    seen = snapshot.revision
                    yield snapshot
                    continue
            elif self._mirror.snapshot.revision > seen:
                seen = self._mirror.snapshot.revision
                yield self._mirror.snapshot
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN if seen < 0 else None):
                    await changed.wait()

    async def events(self, after_: int, limit: int) -> Sequence[StoredEvent]:
        collected: list[StoredEvent] = []
        while len(collected) < limit:
            most = min(limit - len(collected), PAGE)
            start = self._layout.event(max(0, after_) + 1)
            head, kvs = await self._head_and(look(start, after(self._layout.events), most))
            oldest = head.sequence - self._keep_events
            events = [event for event in stored_events(kvs, self._layout) if event.sequence > max(after_, oldest)]
            collected += events
            if len(kvs) < most:
                break
            after_ = max([after_, oldest, *(event.sequence for event in events)])
        return tuple(collected[: max(0, limit)])

    async def newest(self) -> int:
        head, _ = await self._head_and(look(self._layout.head))
        return head.sequence

    async def _head_and(self, wanted: Any) -> tuple[Head, list[Any]]:
        """The head and what else is wanted, read at one revision with all chunks applied."""
        while True:
            answer = await self._ask("txn", txn([], [look(self._layout.head), wanted]))
            kvs = answer.responses[0].range.kvs
            head = read_head(kvs[0].value if kvs else b"", self._mirror.where)
            if not head.staged:
                return head, list(answer.responses[1].range.kvs)
            await self._finish(head)

    def known(self) -> Snapshot | None:
        usable = self._feed is not None and not self._obstacle and self._unusable is None and self._mirror.whole
        return self._mirror.snapshot if usable and self._mirror.at else None

    # -- writing ----------------------------------------------------------------------------------------------------

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        if self._mirror.head.revision < base or not self._mirror.whole:
            await self.read()
        if self._mirror.head.revision != base:
            kvs = (await self._call("range", message("RangeRequest", key=self._layout.attempt(base + 1)))).kvs
            return await self._lost(base, token, kvs, self._mirror.head.revision)
        commit = Commit(self._mirror.head, dict(writes), events, token)
        parts = chunks(operations(commit, self._layout, self._keep_events))
        if len(parts) > 1:
            return await self._commit_in_parts(commit, parts)
        answer = await self._call("txn", direct(commit, self._layout, parts[0]))
        if not answer.succeeded:
            return await self._failed(commit, answer)
        self._mirror.committed(commit, answer.header.revision)
        self._wake()
        return commit.head.revision

    async def _commit_in_parts(self, commit: Commit, parts: Sequence[Any]) -> int:
        stored, made_true = staging(commit, self._layout, parts)
        for request in stored:
            await self._call("put", request)
        answer = await self._call("txn", made_true)
        if not answer.succeeded:
            return await self._failed(commit, answer)
        with suppress(Unavailable):  # it is true by now; whoever reads applies the rest
            await self.read()
        return commit.head.revision

    async def _failed(self, commit: Commit, answer: Any) -> int:
        """A condition did not hold: another commit came first, or this one did, in an attempt that got no answer."""
        head = answer.responses[0].range.kvs
        present = read_head(head[0].value if head else b"", self._mirror.where).revision
        return await self._lost(commit.base.revision, commit.token, answer.responses[1].range.kvs, present)

    async def _lost(self, base: int, token: str, attempt: Sequence[Any], present: int) -> int:
        if attempt and attempt[0].value == token.encode():
            return base + 1
        await asyncio.sleep(random.uniform(0, BACKOFF))
        raise Conflict(f"the state is at revision {present}, not {base}")

    async def _finish(self, head: Head) -> None:
        """Apply the chunks that a head names. Others may do the same at the same time: each write repeats itself."""
        stage = self._layout.stage(head.base, head.token)[:-6]
        for number in range(head.staged):
            key = stage + b"%06d" % number
            kvs = (await self._call("range", message("RangeRequest", key=key))).kvs
            if not kvs or not (await self._call("txn", applied(head, self._layout, kvs[0].value))).succeeded:
                break  # another one was faster
        else:
            await self._call("txn", finished(head, self._layout)[1])
        await self._load()

    async def take_over(
        self, records: Mapping[str, str], revision: int, sequence: int, events: Sequence[str], token: str
    ) -> None:
        """Take a whole state over from another backend, at its revision, with its newest events of which the last has that
        sequence. Nothing happens where this domain is at that revision, or beyond; repeating an attempt that broke off ends it.
        Raises Unavailable, Unusable, Conflict.
        """
        present = (await self.read()).revision
        if present >= revision:
            return
        if present == 0 and revision > 1:
            before = Head(revision - 1, token, sequence - len(events))
            await self._call("txn", txn([has_value(self._layout.head, b"")], [put(self._layout.head, before.text)]))
            await self.read()
        await self.commit(revision - 1, records, events, token)

    async def probe(self) -> None:
        await self._call("txn", txn([], [put(self._layout.probe, b"")]))

    async def obstacle(self) -> str:
        return self._obstacle

    @property
    def members(self) -> EtcdMembers:
        """The cluster's members, as this handle reaches them."""
        return EtcdMembers(self._client)

    # -- leases -----------------------------------------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        return await self._leases.acquire(name, holder, ttl, value)

    async def release(self, name: str, holder: str) -> None:
        await self._leases.release(name, holder)

    async def leases(self) -> Sequence[Lease]:
        return await self._leases.all()

    # -- the watch that feeds the mirror -----------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Feed the mirror until the handle is closed."""
        while not self._closed:
            try:
                await self._follow_once()
            except Unusable as trouble:
                self._unusable = trouble
                self._wake()
                return
            except (WatchBroken, StoreError) as trouble:
                await self._retry(trouble.detail if isinstance(trouble, StoreError) else str(trouble))
            except asyncio.CancelledError:
                if self._closed:
                    raise
                await self._retry("the watch was cut off")  # a channel that is closed under a call cancels who waits for it
            except Exception as trouble:  # noqa: BLE001 - whatever it is: without this task nobody is told of changes any more
                await self._retry(f"the watch ended: {trouble!r}")

    async def _retry(self, why: str) -> None:
        self._obstacle = f"etcd: {why}"
        await asyncio.sleep(random.uniform(*RETRY_WATCH))

    async def _follow_once(self) -> None:
        """Follow until the watch ends. Raises WatchBroken, StoreError."""
        try:
            await self._watch_once()
        except Compacted:
            await self._load()

    async def _watch_once(self) -> None:
        key, end = self._layout.state, after(self._layout.state)
        start = max(self._mirror.at, self._mirror.read_at) + 1
        async with aclosing(self._client.watch(key, end, start)) as answers:
            async for events, newest in answers:
                self._obstacle = ""
                if not events:
                    continue
                self._mirror.apply(events, newest)
                self._wake()
                if not self._mirror.whole and self._helping.done():
                    self._helping = asyncio.ensure_future(self._help())

    async def _help(self) -> None:
        """Apply the chunks of a large commit, if who made it does not within a moment."""
        await asyncio.sleep(random.uniform(0.2, 0.5))
        with suppress(StoreError):
            await self.read()

    # -- the handle ---------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake()
        for task in (self._feed, self._helping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._client.close()

    async def _call(self, name: str, request: Any, patience: float | None = None) -> Any:
        self._refuse_unusable()
        return await self._client.call(name, request, patience)

    async def _ask(self, name: str, request: Any) -> Any:
        """The answer to a call that changes nothing. Who asks has something older meanwhile, so it fails soon while the watch is
        cut off, and at once where the last one failed a moment ago.
        """
        if not self._obstacle:
            return await self._call(name, request)
        self._refuse_unusable()
        if self._away and time.monotonic() - self._away_at < AWAY:
            raise self._away
        try:
            return await self._call(name, request, ATTEMPT)
        except Unavailable as trouble:
            self._away, self._away_at = trouble, time.monotonic()
            raise

    def _refuse_unusable(self) -> None:
        """Raises Unusable once the watch found the state to be so, whatever else is in the way."""
        if self._unusable is not None:
            raise self._unusable

    def _wake(self) -> None:
        past, self._changed = self._changed, asyncio.Event()
        past.set()


def went_back(where: str, revision: int) -> Unusable:
    """The refusal of a cluster that no longer has a commit that it had confirmed."""
    return Unusable(
        f"the domain state at {where} went back behind revision {revision}",
        "Stop all managers before putting an old copy of etcd's data back.",
    )
