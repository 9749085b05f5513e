"""Simulation: clients that write, and a record of what each was answered.

A plain writer believes in +OK, and follows where MOVED sends it. A confirmed writer follows
docs/reference/safety.md#confirmation: write, ROLE, WAIT, ROLE on one connection to the engine that its view names as
leader; every required address at or past the leader's first offset; enough members in S; and a view that was fetched
less than half a second before the answer is read. A read is confirmed in the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

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
REGISTER = "register"
REGISTER_PAUSE = (0.1, 0.7)  # seconds between two operations on a register

Command: TypeAlias = tuple[Callable[..., None], tuple[str, ...]]  # of an engine, and its arguments


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
    value: str = ""  # what was read
    replicas: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sure:
    """A confirmed operation on a register. Times are virtual seconds."""

    value: int
    term: int  # of the view it was confirmed by
    sent_at: float
    waited: bool  # its database waited for its disks
    reads: bool


class RegisterHistory:
    """What clients of registers did; who wants to know sets `watch`."""

    def __init__(self) -> None:
        self.highest: dict[tuple[str, str], int] = {}  # group -> largest value that was ever sent
        self.watch: Callable[[tuple[str, str], Sure], None] = lambda group, sure: None

    def begun(self, group: tuple[str, str], value: int) -> None:
        """A value is sent."""
        self.highest[group] = value

    def sure(self, group: tuple[str, str], sure: Sure) -> None:
        """An operation was confirmed."""
        self.watch(group, sure)


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


class Client:
    """One client of one group: what it knows of the domain, and how it asks the group's leader."""

    def __init__(self, world: World, group: tuple[str, str], name: str) -> None:
        self._world = world
        self._group = group
        self._random = random.Random(f"writer {world.seed} {name}")
        self._view: tuple[View, float] | None = None  # what it goes by, and when it asked for that

    async def _leading(self, age: float) -> tuple[View, float, Group, SimEngine] | None:
        """A view that is no older, when it was asked for, the group in it and the engine of its leader; None, a moment later, if
        there is none."""
        look = await self._look(age)
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
        return view, fetched, group, engine

    async def _confirming(
        self, reply: Reply, engine: SimEngine, term: int, view: View, fetched: float
    ) -> tuple[View, float] | None:
        """The view that confirms a reply, and when it was asked for: the one the client went by, or, if that has grown old, one
        fresh read. None if nothing confirms it."""
        if self._world.now() - fetched >= FRESH or self._random.random() < 0.2:
            look = await self._look(0.0)
            if look is None:
                return None
            view, fetched = look
        group = view.state.groups.get(self._group)
        if group is None or group.term != term or self._world.now() - fetched >= FRESH:
            return None
        named = group.open and group.leader_process == engine.start_id and reply.leads
        return (view, fetched) if named and _all_have_it(view.state, group, reply) else None

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

    async def _send(self, engine: SimEngine, command: Command, required: int | None) -> Reply:
        """A command, and, if `required` copies are waited for, ROLE, WAIT, ROLE in the same pipeline; what was answered within
        the client's patience."""
        net = self._world.net
        reply, done = Reply(), asyncio.Event()

        def answered() -> None:
            net.later(net.hop(), done.set)

        def waited(again: bool) -> None:
            reply.leads, reply.replicas = engine.role == "leader", engine.acknowledged()
            behind = [offset for offset in reply.replicas.values() if offset < reply.offset]
            if again and behind and len(reply.replicas) > (required or 0):  # a TE may have answered for a member of S
                engine.wait(len(reply.replicas), WAIT, partial(waited, False))
            else:
                answered()

        def executed(answer: str, value: str = "") -> None:
            reply.answer, reply.executed_at, reply.offset = answer, net.now(), engine.replication.offset
            reply.value, reply.awake_for = value, net.now() - engine.went_on_at
            if answer == "OK" and required is not None:
                engine.wait(required, WAIT, partial(waited, True))
            else:
                answered()

        act, arguments = command
        net.post(CLIENTS, engine, partial(act, engine), *arguments, executed)
        deadline, late = net.now() + PATIENCE, net.later(PATIENCE, done.set)
        await done.wait()
        late.cancel()
        return reply if net.now() < deadline else Reply()


class Writer(Client):
    """Writes keys that were never there before."""

    def __init__(self, world: World, ledger: Ledger, group: tuple[str, str], name: str, *, confirms: bool) -> None:
        super().__init__(world, group, name)
        self._ledger = ledger
        self._name = name
        self._confirms = confirms
        self._count = 0
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
        leading = await self._leading(self._kept)
        if leading is None:
            return None
        view, fetched, group, engine = leading
        self._count += 1
        write = Write(f"{self._name}-{self._count}", f"{self._count}", self._group, self._world.now())
        write.term = group.term
        self._ledger.writes.append(write)
        command: Command = (SimEngine.write, (write.key, write.value))
        reply = await self._send(engine, command, len(group.required) if self._confirms else None)
        if reply.answer == "MOVED" and not self._confirms:
            engine, reply = await self._redirected(engine, command)
        if reply.answer != "OK":
            self._view = None
            await self._world.net.sleep(0.05)
            return write
        write.executed_at, write.awake_for = reply.executed_at, reply.awake_for
        write.acked_at, write.acked_by = self._world.now(), engine.spec.identity.archive_id
        write.waited = _waits(self._world.state, self._group[0])
        self._ledger.acknowledged(write)
        if self._confirms:
            confirming = await self._confirming(reply, engine, write.term, view, fetched)
            if confirming is not None:
                view, fetched = confirming
                write.waited, write.view = _waits(view.state, self._group[0]), view.revision
                self._ledger.confirm(write, self._world.now(), self._world.now() - fetched)
        return write

    async def _redirected(self, engine: SimEngine, command: Command) -> tuple[SimEngine, Reply]:
        """As every client library does it: the engine that refuses names the one it follows, whatever managers know by then."""
        named = self._world.net.engines.get(engine.follows or "")
        self._view = None
        if named is None or not named.takes_clients:
            return engine, Reply()
        self._world.net.seen["write redirected"] += 1
        return named, await self._send(named, command, None)


class RegisterClient(Client):
    """Raises or reads the one register of a group; only what is confirmed says anything."""

    def __init__(self, world: World, history: RegisterHistory, group: tuple[str, str], *, reads: bool) -> None:
        super().__init__(world, group, f"register {'reads' if reads else 'raises'} {group}")
        self._history, self._reads = history, reads
        self._count = 0
        self._kept = self._random.choice((KEPT, LATEST))

    async def run(self) -> None:
        """One operation after the other, until cancelled."""
        while True:
            await self.operate()
            await self._world.net.sleep(self._random.uniform(*REGISTER_PAUSE))

    async def operate(self) -> None:
        """One operation."""
        leading = await self._leading(self._kept)
        if leading is None:
            return
        view, fetched, group, engine = leading
        sent_at, command = self._world.now(), self._command()
        reply = await self._send(engine, command, len(group.required))
        if reply.answer != "OK":
            self._view = None
            return
        confirming = await self._confirming(reply, engine, group.term, view, fetched)
        if confirming is not None:
            value = int(reply.value or "0") if self._reads else self._count
            sure = Sure(value, group.term, sent_at, _waits(confirming[0].state, self._group[0]), self._reads)
            self._history.sure(self._group, sure)

    def _command(self) -> Command:
        if self._reads:
            return SimEngine.get, (REGISTER,)
        self._count += 1
        self._history.begun(self._group, self._count)
        return SimEngine.raise_to, (REGISTER, f"{self._count}")


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
