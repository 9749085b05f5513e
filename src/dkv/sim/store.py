"""Simulation: a state backend that is slow, goes away, and loses answers; the memory model stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from dkv.sim.engines.net import SimNet
from dkv.store.contract import Lease, Snapshot, StoredEvent, StoreError, Unavailable
from dkv.store.memory import MemoryDomain, MemoryStore

T = TypeVar("T")

PATIENCE = 2.0  # seconds a backend that is away is waited for


@dataclass
class LinkConditions:
    """What one path to the backend is like. Times are virtual seconds."""

    away_until: float = 0.0
    delay: float = 0.0  # added to each call
    lose: float = 0.0  # share of answers that are lost after the work was done
    watch_lag: float = 0.0  # by how much news may be late, at most
    unsure: bool = False  # away because its leader changes: what is under way is done or not, and nothing says which


class WatchedDomain(MemoryDomain):
    """The shared state; `committed` is called with each commit: revision, event texts."""

    def __init__(self, clock: Callable[[], float], committed: Callable[[Snapshot, Sequence[str]], None]) -> None:
        super().__init__(clock)
        self._committed = committed

    def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        """The guarded write, and then the news of it."""
        before = self.snapshot
        revision = super().commit(base, writes, events, token)
        if self.snapshot is not before:
            self._committed(self.snapshot, events)
        return revision


class SimStore:
    """One manager's handle. Implements `dkv.store.contract.Store`."""

    def __init__(self, net: SimNet[Any], domain: WatchedDomain, weather: LinkConditions, everywhere: LinkConditions) -> None:
        self._net = net
        self._domain = domain
        self._inner = MemoryStore(domain)
        self._links = (weather, everywhere)
        self._known: Snapshot | None = None
        self.revoked = False
        self.read_at = self.troubled_at = float("-inf")  # when a read was answered; when a call had trouble of any kind

    def revoke(self) -> None:
        """The manager is dead: this handle refuses everything."""
        self.revoked = True

    def _away_until(self) -> float:
        own, other = self._links
        return own.away_until if own.away_until > other.away_until else other.away_until

    async def _call(self, work: Callable[[], Any], lost_as: str = "") -> Any:
        """There, done, and back; what is under way is done even if the caller has died meanwhile."""
        if self.revoked:
            raise Unavailable("this manager is dead", written=False)
        away = self._away_until() - self._net.now()
        if away > 0 and not any(link.unsure for link in self._links):
            self.troubled_at = self._net.now()
            await self._net.sleep(min(PATIENCE, away))
            if self._away_until() > self._net.now():
                raise Unavailable("the backend is away", written=False)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        own, other = self._links
        delay, lost = own.delay + other.delay, self._net.random.random() < max(own.lose, other.lose)
        if delay or lost:
            self.troubled_at = self._net.now() + delay
        self._net.later(
            self._net.hop() + self._net.random.uniform(0, delay), self._execute, work, future, lost_as if lost else "", delay
        )
        return await future

    def _execute(self, work: Callable[[], Any], future: asyncio.Future[Any], lost: str, delay: float) -> None:
        if self._away_until() > self._net.now():
            self.troubled_at = self._net.now()
            if any(link.unsure for link in self._links) and self._net.random.random() < 0.5:
                with suppress(StoreError):
                    work()
                    self._net.seen["fault done while the backend changed its leader"] += 1
            self._net.later(0.5, _fail, future, Unavailable("the backend went away"))
            return
        try:
            result = work()
        except StoreError as trouble:
            self._net.later(self._net.hop(), _fail, future, trouble)
            return
        if lost:
            self._net.seen[f"fault {lost}"] += 1
            self._net.later(0.5, _fail, future, Unavailable("the answer was lost"))
        else:
            self._net.later(self._net.hop() + self._net.random.uniform(0, delay), _resolve, future, result)

    # -- the contract ----------------------------------------------------------------------------------------------

    async def read(self) -> Snapshot:
        """See the contract."""
        snapshot: Snapshot = await self._call(lambda: self._domain.snapshot, "lost answer")
        self.read_at = self._net.now()
        self._known = snapshot
        return snapshot

    def known(self) -> Snapshot | None:
        """See the contract."""
        return self._known

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        """See the contract."""
        revision: int = await self._call(lambda: self._domain.commit(base, writes, events, token), "lost commit answer")
        return revision

    async def probe(self) -> None:
        """See the contract."""
        await self._call(lambda: None, "lost answer")

    async def obstacle(self) -> str:
        """See the contract."""
        return ""

    async def watch(self) -> AsyncIterator[Snapshot]:
        """See the contract."""
        seen = -1
        while True:
            changed = self._domain.changed()
            snapshot = await self.read()
            if snapshot.revision > seen:
                seen = snapshot.revision
                lag = max(link.watch_lag for link in self._links)
                if lag:
                    await self._net.sleep(self._net.random.uniform(0, lag))
                yield snapshot
            else:
                await changed.wait()

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """See the contract."""
        return await self._inner.events(after, limit)

    async def newest(self) -> int:
        """See the contract."""
        return await self._inner.newest()

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        """See the contract."""
        held: bool = await self._call(lambda: _now(self._inner.acquire(name, holder, ttl, value)), "lost answer")
        return held

    async def release(self, name: str, holder: str) -> None:
        """See the contract."""
        await self._call(lambda: _now(self._inner.release(name, holder)), "lost answer")

    async def leases(self) -> Sequence[Lease]:
        """See the contract."""
        leases: Sequence[Lease] = await self._call(lambda: _now(self._inner.leases()), "lost answer")
        return leases

    async def close(self) -> None:
        """See the contract."""
        await self._inner.close()


def _now(call: Any) -> Any:
    """The result of a coroutine that never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the memory backend waited")


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], trouble: Exception) -> None:
    if not future.done():
        future.set_exception(trouble)
        future.exception()  # looked at here: an asker that was killed never will
