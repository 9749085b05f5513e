"""liveness: one lease per server, outside the guarded revision; only a change of liveness becomes a command.

A server's own lease says "my manager works". The *leader lease* is held by one manager of the domain: it ticks
the domain clock and judges the others. No lease is judged before the judge had one full TTL of uninterrupted
access to the backend (docs/reference/safety.md#backend-away).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from dkv.control.submit import Submitter
from dkv.domain.constants import SERVER_TTL
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import LevelsRead, ServerJoined, ServerLost, Tick
from dkv.domain.model import Server, State
from dkv.domain.rules.timing import waits
from dkv.store.contract import Lease, Store, StoreError

RENEW_EVERY = 0.75  # s
TICK_EVERY = 0.2  # s
LOOK_EVERY = 0.25  # s between two looks at leases while one of them may soon end
SOON = 0.01  # s, the least between two looks
LONGEST_STEP = 500  # ms the domain clock may move at once, so that a frozen holder makes no timer jump
LEADER = "leader"


def server_lease(server_id: str) -> str:
    """The name of a server's lease."""
    return f"server/{server_id}"


def _says(state: State, joining: ServerJoined) -> bool:
    """Whether a state says already what joining would."""
    decision = decide(state, joining)
    return isinstance(decision, Accepted) and decision.state is state


def _lost(state: State, leases: Mapping[str, Lease]) -> list[Server]:
    """Servers the domain takes for alive although their lease has ended."""

    def ended(server: Server) -> bool:
        lease = leases.get(server_lease(server.server_id))
        return lease is None or lease.expires_in <= 0

    return [server for server in state.servers.values() if server.alive and ended(server)]


def _look_in(leases: Iterable[Lease]) -> float:
    """Seconds until leases have to be read again, as one of them will have ended; infinity while all are renewed in time.

    One that was not renewed in half of its time is looked at often, and at the moment when it ends: time that is lost here is
    time without a leader after a machine is lost.
    """
    least = min((lease.expires_in for lease in leases if lease.expires_in > 0), default=math.inf)
    return math.inf if least > SERVER_TTL / 2 else max(SOON, min(least, LOOK_EVERY))


def _level(lease: Lease | None) -> int:
    """The level that a living manager writes in its lease; 0: none, or no lease."""
    return int(lease.value) if lease and lease.expires_in > 0 and lease.value.isdecimal() else 0


def _levels(state: State, leases: Mapping[str, Lease]) -> tuple[tuple[str, int], ...]:
    """The level that each server's manager writes in its lease, of a domain whose state cannot say it; empty unless all do."""
    if state.level:
        return ()
    levels = {server_id: _level(leases.get(server_lease(server_id))) for server_id in state.servers}
    return tuple(levels.items()) if all(levels.values()) else ()


class Liveness:
    """Keeps this server's lease, and the leader lease when it can get it. `monotonic` is in seconds."""

    def __init__(self, store: Store, submitter: Submitter, here: ServerJoined, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._submitter = submitter
        self._here = here
        self._server_id = here.server_id
        self._holder = (
            f"{here.uid} at {here.host}:{here.port}"  # so that a copy of the data directory at another address is another
        )
        self._now = monotonic
        self.renewed_at = -1e9  # when the last successful renewal was SENT
        self.access_since: float | None = None
        self.trouble = ""  # why the newest renewal failed, if it did
        self.leads = False
        self.is_taken = False  # another manager holds this server's lease, as of the newest answer
        self._leader = ""  # server id of the holder of the leader lease, as last read
        self.levels: dict[str, int] = {}  # server id -> the level that its manager writes in its lease, 0 unknown
        self._renewals: dict[str, float] = {}  # server id -> when its lease was renewed, by this manager's clock
        self._ticked_at: float | None = None
        self._look_at = math.inf  # when leases are read again, if before the next renewal
        self._clock = 0  # ms, domain clock as this holder moved it
        self._news = asyncio.Event()  # a newer view is at hand

    def lease_left(self) -> float:
        """Seconds left of this server's lease by its own clock; negative when it may have ended."""
        return self.renewed_at + SERVER_TTL - self._now()

    async def lease_ends(self) -> float:
        """When this server's lease ends, whoever holds it, by this manager's clock. Raises StoreError."""
        lease = (await self._read_leases()).get(server_lease(self._server_id))
        return self._now() + (lease.expires_in if lease else 0.0)

    async def lease_ages(self) -> dict[str, int]:
        """ms since each server renewed its lease, read now, or as last read where the backend does not answer.

        A server joins once its lease holds, so a caller that read a view before this finds each living server of it here.
        """
        with suppress(StoreError):
            await self._read_leases()
        return {server_id: max(0, int((self._now() - at) * 1000)) for server_id, at in self._renewals.items()}

    async def leader(self) -> str:
        """The server whose manager moves the domain clock, read now or as last read, as with `lease_ages`; "" if none does."""
        with suppress(StoreError):
            await self._read_leases()
        return self._leader

    async def _read_leases(self) -> Mapping[str, Lease]:
        """All leases; who renewed when, and who leads, is noted. Raises StoreError."""
        leases = {lease.name: lease for lease in await self._store.leases()}
        servers = {name.partition("/")[2]: lease for name, lease in leases.items() if name.startswith(server_lease(""))}
        self._renewals = {key: self._now() - (SERVER_TTL - lease.expires_in) for key, lease in servers.items()}
        self.levels = {key: _level(lease) for key, lease in servers.items()}
        leader = leases.get(LEADER)
        self._leader = leader.value if leader and leader.expires_in > 0 else ""
        return leases

    async def renew(self) -> None:
        """Renew this server's lease once. It counts once it is answered: a slow backend may leave no time for the other."""
        sent = self._now()
        try:
            async with asyncio.timeout(SERVER_TTL / 2):
                level = str(self._here.level or "")
                self.is_taken = not await self._store.acquire(server_lease(self._server_id), self._holder, SERVER_TTL, level)
                if not self.is_taken:
                    self.renewed_at = sent
                self.leads = (
                    not self.is_taken
                    and self._leader in ("", self._server_id)  # else it is read to be free first, which ends in a renewal at once
                    and await self._store.acquire(LEADER, self._holder, SERVER_TTL, self._server_id)
                )
        except (StoreError, TimeoutError) as trouble:
            self.is_taken = False
            self.trouble = trouble.detail if isinstance(trouble, StoreError) else str(trouble)
            self.access_since = None
            self.leads = False
            return
        self.trouble = "another manager holds the lease of this server" if self.is_taken else ""
        if self.access_since is None:
            self.access_since = sent

    async def judge(self, known: State | None = None) -> None:
        """As the leader: turn ended leases into ServerLost. As any manager: learn whether the backend answers.

        Where the newest view at hand shows no server to be lost, the backend is not read again.
        """
        self._look_at = math.inf
        try:
            leases = await self._read_leases()
        except StoreError:
            self.access_since = None
            return
        if known is not None:
            self._look_at = self._now() + _look_in(self._watched(known, leases))
        if not self.leads or self.access_since is None:
            return
        if self._now() - self.access_since < SERVER_TTL:
            if known is not None and _lost(known, leases):
                self._look_at = min(self._look_at, self.access_since + SERVER_TTL)
            return
        if known is not None and (levels := _levels(known, leases)):
            await self._submitter.submit(LevelsRead(server_id=self._server_id, levels=levels, actor="liveness"))
        if known is not None and not _lost(known, leases):
            return
        state = (await self._submitter.view()).state
        for server in _lost(state, await self._read_leases()):  # read after the view: else who has just joined had none
            await self._submitter.submit(ServerLost(server_id=server.server_id, uid=server.uid, actor="liveness"))

    def _watched(self, known: State, leases: Mapping[str, Lease]) -> list[Lease]:
        """Leases of others whose end is for this manager to see at once: those of living servers, and that of who leads."""
        others = {server_lease(server.server_id) for server in known.servers.values() if server.alive} - {
            server_lease(self._server_id)
        }
        return [lease for name, lease in leases.items() if name in others or (name == LEADER and not self.leads)]

    async def join(self) -> Accepted | Refused:
        """Report that this server is here, unless the state says so; once its lease holds."""
        return await self._submitter.submit(self._here)

    def relabel(self, labels: tuple[tuple[str, str], ...]) -> None:
        """This server has other labels from now on; the domain is told at the next renewal."""
        self._here = replace(self._here, labels=labels)

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of this server, by name."""
        return self._here.labels

    def _is_known(self, known: State | None) -> bool:
        """Whether the newest view at hand has this server as it is."""
        return known is not None and known.memoized(_says, self._here)

    def look(self) -> None:
        """A newer view is at hand, in which something may wait for time."""
        self._news.set()

    def _moves(self, known: State | None) -> bool:
        """Whether it is for this manager to move the domain clock. While nothing waits for time, going by the newest view at
        hand, none need pass.
        """
        return self.leads and self.lease_left() > 0 and (known is None or known.memoized(waits))

    async def tick(self, known: State | None = None) -> None:
        """Move the domain clock by what passed, in bounded steps. The first after a rest counts nothing of it: it only shows
        that the clock goes, which arms the timers of who waits.
        """
        if not self._moves(known):
            self._ticked_at = None
            return
        now = self._now()
        step = 1 if self._ticked_at is None else min(LONGEST_STEP, int((now - self._ticked_at) * 1000))
        self._ticked_at = now
        if step:
            view = await self._submitter.view()
            self._clock = max(self._clock + step, view.state.clock + step)
            await self._submitter.submit(Tick(clock=self._clock, actor="clock"))

    async def run(self, known: Callable[[], State | None]) -> None:
        """Renew, judge and tick until cancelled; the backend's troubles are waited out. `known` is the newest state this
        manager has read; whoever reads a newer one says so with `look`.
        """
        next_renewal = 0.0
        while True:
            try:
                if self._now() >= self._look_at:
                    await self.judge(known())
                    if not self._leader:
                        next_renewal = 0.0  # it may be for this manager to lead now
                if self._now() >= next_renewal:
                    next_renewal = self._now() + RENEW_EVERY
                    await self.renew()
                    if self.lease_left() > SERVER_TTL / 2 and not self._is_known(known()):
                        await self.join()  # before it looks at others: that may take what is left of the lease
                    await self.judge(known())
                await self.tick(known())
            except StoreError:
                self.access_since = None
            await self._rest(min(next_renewal, self._look_at), known)

    async def _rest(self, until: float, known: Callable[[], State | None]) -> None:
        """Until the next renewal or look; or the next tick, while the clock moves; or the news that it has to."""
        left = max(0.0, until - self._now())
        if self._moves(known()):
            await asyncio.sleep(min(TICK_EVERY, left))
            return
        timer = asyncio.get_running_loop().call_later(left, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()
        self._news.clear()

    async def leave(self) -> None:
        """Give the leader lease up at a planned stop, so that another manager need not wait for its end."""
        try:
            await self._store.release(LEADER, self._holder)
        except StoreError:
            return
