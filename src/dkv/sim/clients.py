"""Simulation: clients that write, and a record of what each was answered.

A plain writer believes in +OK. A confirmed writer follows docs/reference/safety.md#confirmation: write, ROLE, WAIT, ROLE on
one connection to the engine that its view names as leader; every required address at or past the leader's first
offset; enough members in S; and a view that was fetched less than half a second before the answer is read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dkv.control.submit import View
from dkv.domain.model import Group, State
from dkv.domain.options import fsync_in_force
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.net import CLIENTS
from dkv.sim.world import World
from dkv.store.contract import StoreError

FRESH = 0.5  # seconds a view may be used to confirm with (docs/reference/safety.md#confirmation)
KEPT = FRESH / 2  # seconds a view is written by, unless it turned out to be wrong
LATEST = FRESH - 0.02  # seconds, of clients that use it for as long as they may
FOREVER = 1e9
PATIENCE = 1.0  # seconds a client waits for an engine
WAIT = 0.3  # seconds given to WAIT


@dataclass
class Write:
    """One write. Times are virtual seconds; None: it got no such answer."""

    key: str
    value: str
    group: tuple[str, str]  # database, name
    sent_at: float
    acked_at: float | None = None
    acked_by: int | None = None  # archive id
    confirmed_at: float | None = None
    executed_at: float = 0.0  # when the engine carried it out; the client never learns it
    awake_for: float = 0.0  # seconds the engine had gone on then, after it last stood still
    term: int = 0  # of the view it was sent by
    view: int = 0  # revision of the view it was confirmed by
    waited: bool = True  # its database waited for its disks, by all that was known when it was answered


@dataclass
class Reply:
    """What an engine answered on one connection: its offset after the write, and who acknowledged what."""

    answer: str = ""
    executed_at: float = 0.0
    awake_for: float = 0.0
    leads: bool = False
    offset: int = 0
    replicas: dict[tuple[str, int], int] = field(default_factory=dict)


class Ledger:
    """Every write of a run; each entry is there before its write is sent."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.confirmed: dict[tuple[str, str], list[Write]] = {}
        self.watch: Callable[[Write, float], None] = lambda write, age: None
        self.acknowledged: Callable[[Write], None] = lambda write: None

    def confirm(self, write: Write, at: float, age: float) -> None:
        """The client got "confirmed", by a view that was read so many seconds ago."""
        write.confirmed_at = at
        self.confirmed.setdefault(write.group, []).append(write)
        self.watch(write, age)


class Writer:
    """One client of one group."""

    def __init__(self, world: World, ledger: Ledger, group: tuple[str, str], name: str, *, confirms: bool) -> None:
        self._world = world
        self._ledger = ledger
        self._group = group
        self._name = name
        self._confirms = confirms
        self._random = random.Random(f"writer {world.seed} {name}")
        self._count = 0
        self._view: tuple[View, float] | None = None  # what it goes by, and when it asked for that
        self.pause = self._random.choice((0.08, 0.2, 0.5))
        plainly = FOREVER if self._random.random() < 0.5 else KEPT  # clients of no other kind look again only if they must
        self._kept = self._random.choice((KEPT, LATEST)) if confirms else plainly

    async def run(self) -> None:
        """Write until cancelled, now and then in a burst."""
        while True:
            burst = self._random.choice((1, 1, 1, 1, 6))
            for _ in range(burst):
                await self.write()
            await self._world.net.sleep(self._random.uniform(0.5, 1.5) * self.pause)

    async def write(self) -> Write | None:
        """One write; None if there was no leader to send it to."""
        look = await self._look(self._kept)
        if look is None:
            await self._world.net.sleep(0.2)
            return None
        view, fetched = look
        group = view.state.groups.get(self._group)
        engine = self._leader(view.state, group)
        if group is None or engine is None:
            self._view = None
            await self._world.net.sleep(0.1)
            return None
        self._count += 1
        write = Write(f"{self._name}-{self._count}", f"{self._count}", self._group, self._world.now())
        write.term = group.term
        self._ledger.writes.append(write)
        reply = await self._send(engine, write, len(group.required) if self._confirms else 0)
        if reply.answer != "OK":
            self._view = None
            await self._world.net.sleep(0.05)
            return write
        write.executed_at, write.awake_for = reply.executed_at, reply.awake_for
        write.acked_at, write.acked_by = self._world.now(), engine.spec.identity.archive_id
        write.waited = _waits(self._world.state, self._group[0])
        self._ledger.acknowledged(write)
        if self._confirms:
            await self._judge(write, reply, engine, view, fetched)
        return write

    async def _judge(self, write: Write, reply: Reply, engine: SimEngine, view: View, fetched: float) -> None:
        """By the view it was sent with, or, if that has grown old, by one fresh read."""
        if self._world.now() - fetched >= FRESH or self._random.random() < 0.2:
            look = await self._look(0.0)
            if look is None:
                return
            view, fetched = look
        group = view.state.groups.get(self._group)
        if group is None or group.term != write.term or self._world.now() - fetched >= FRESH:
            return
        if group.open and group.leader_process == engine.start_id and reply.leads and _all_have_it(view.state, group, reply):
            write.waited, write.view = _waits(view.state, self._group[0]), view.revision
            self._ledger.confirm(write, self._world.now(), self._world.now() - fetched)

    async def _look(self, age: float) -> tuple[View, float] | None:
        """A view asked for no longer ago than that many seconds, and when; None if no manager answers."""
        if self._view is None or self._world.now() - self._view[1] >= age:
            self._view, asked_at = None, self._world.now()
            try:
                async with asyncio.timeout(PATIENCE):
                    self._view = await self._world.view(), asked_at
            except (StoreError, TimeoutError):
                return None
        return self._view

    def _leader(self, state: State, group: Group | None) -> SimEngine | None:
        """The engine at the leader's address, if it is the very one the view names."""
        if group is None or group.leader is None or group.leader_process is None:
            return None
        archive = state.archives[group.leader]
        engine = self._world.net.addresses.get((state.servers[archive.server_id].host, archive.client_port))
        there = engine is not None and engine.takes_clients and engine.start_id == group.leader_process
        return engine if there else None

    async def _send(self, engine: SimEngine, write: Write, required: int) -> Reply:
        """SET, ROLE, WAIT, ROLE in one pipeline; what was answered within the client's patience."""
        net = self._world.net
        reply, done = Reply(), asyncio.Event()

        def answered() -> None:
            net.later(net.hop(), done.set)

        def waited(again: bool) -> None:
            reply.leads, reply.replicas = engine.role == "leader", engine.acknowledged()
            behind = [offset for offset in reply.replicas.values() if offset < reply.offset]
            if again and behind and len(reply.replicas) > required:  # a TE may have answered for a member of S
                engine.wait(len(reply.replicas), WAIT, partial(waited, False))
            else:
                answered()

        def written(answer: str) -> None:
            reply.answer, reply.executed_at, reply.offset = answer, net.now(), engine.replication.offset
            reply.awake_for = net.now() - engine.went_on_at
            if answer == "OK" and self._confirms:
                engine.wait(required, WAIT, partial(waited, True))
            else:
                answered()

        net.post(CLIENTS, engine, engine.write, write.key, write.value, written)
        deadline, late = net.now() + PATIENCE, net.later(PATIENCE, done.set)
        await done.wait()
        late.cancel()
        return reply if net.now() < deadline else Reply()


def _waits(state: State, database: str) -> bool:
    return state.memoized(_waits_for_disks, database)


def _waits_for_disks(state: State, database: str) -> bool:
    """Whether every engine of a database waits for its disk before it answers; else writes are replicated, never durable."""
    return database in state.databases and fsync_in_force(state, state.databases[database]) == "always"


def _all_have_it(state: State, group: Group, reply: Reply) -> bool:
    """Every required archive's address acknowledged the leader's offset, and S is large enough."""
    for archive_id in group.required:
        archive = state.archives[archive_id]
        address = (state.servers[archive.server_id].host, archive.client_port)
        if reply.replicas.get(address, -1) < reply.offset:
            return False
    return len(group.in_sync) >= state.databases[group.database].options.min_in_sync
