"""Tests of the machine: engines of one server that carry out orders at once, and a manager's loop on them.

`FakeEngines` knows no replication: a follower that attached is level with its leader, and everybody's marker is the
leader's.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from dkv.control.submit import Submitter
from dkv.domain.model import State
from dkv.engine.contract import (
    ArchiveRefused,
    Cause,
    ClusterSeen,
    CopyLabel,
    EngineRefused,
    EngineSeen,
    EngineSpec,
    ExitSeen,
    FilesSeen,
    NodeSeen,
    PeerNode,
    Position,
    ReplicaSeen,
    ReplicationSeen,
    Survey,
    TeSeen,
    TeSpec,
    WritesSeen,
)
from dkv.machine.reconcile import Reconciler
from dkv.machine.steps import Step
from dkv.store.memory import MemoryDomain, MemoryStore
from tests.machine.stage import FRESH, HISTORY, me


class Killed(BaseException):
    """The manager died here."""


class FaultPlan:
    """Lets a manager die at its n-th await, counted before and after each call of its engines and its store."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.count, self.dead = at, 0, False

    def strike(self) -> None:
        self.count += 1
        self.dead = self.dead or self.count == self.at
        if self.dead:
            raise Killed


class Crashing:
    """Engines or a store in the hands of a manager that may die before and after each call."""

    def __init__(self, thing: Any, faults: FaultPlan) -> None:
        self._thing, self._fate = thing, faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._thing, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def struck(*words: Any, **more: Any) -> Any:
            self._fate.strike()
            answer = await method(*words, **more)
            self._fate.strike()
            return answer

        return struck


@dataclass
class Fake:
    """One engine."""

    spec: EngineSpec
    leads: bool = False
    follows: str | None = None
    fenced: bool = True
    admits: bool = False
    takes_clients: bool = False
    met: dict[str, PeerNode] = field(default_factory=dict)


@dataclass
class FakeTe:
    """One memory-only process and its engines."""

    spec: TeSpec
    engines: list[Fake]


@dataclass
class FakeWorld:
    """All engines of all servers, and what outlives every manager."""

    engines: dict[int, Fake] = field(default_factory=dict)
    memory: dict[int, FakeTe] = field(default_factory=dict)
    exits: dict[str, dict[int, ExitSeen]] = field(default_factory=dict)
    disks: dict[str, Position] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)
    copies: dict[str, CopyLabel] = field(default_factory=dict)
    marker: Position = Position()
    epoch: int = 100
    obstacle: str = ""  # what is missing of what ended an engine
    written: int = 0  # bytes in each incremental file

    def end(self, start_id: int, cause: Cause, code: int) -> None:
        process = self.memory.pop(start_id, None)
        fake = process.engines[0] if process else self.engines.pop(start_id)
        directory = process.spec.directory if process else fake.spec.directory
        ended = ExitSeen(start_id, directory, cause, str(cause), code, None, (), reaped=True)
        self.exits.setdefault(fake.spec.address, {})[start_id] = ended

    def has(self, start_id: int) -> bool:
        return start_id in self.engines or start_id in self.memory

    def of(self, node_id: str) -> Fake | None:
        return next((f for f in self.engines.values() if f.spec.node_id == node_id), None)


class FakeEngines:
    """One manager's access to the engines of its server. What `refuses` names fails; `before` runs first."""

    def __init__(self, world: FakeWorld, server: str) -> None:
        self.world, self.address = world, me(server).host
        self.calls: list[str] = []
        self.locks: set[str] = set()
        self.thorough: list[bool] = []  # of each look
        self.refuses: dict[str, Exception] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}

    async def call(self, name: str) -> None:
        """What every call has in common: it is written down, takes a turn of the loop, and may fail."""
        self.calls.append(name)
        await asyncio.sleep(0)
        if name in self.before:
            await self.before[name]()
        if name in self.refuses:
            raise self.refuses[name]

    def mine(self) -> list[Fake]:
        return [f for f in self.world.engines.values() if f.spec.address == self.address]

    async def survey(self, thorough: bool = True) -> Survey:
        self.thorough.append(thorough)
        await self.call("survey")
        exits = self.world.exits.get(self.address, {})
        memory = (m for m in self.world.memory.values() if m.engines[0].spec.address == self.address)
        processes = (TeSeen(m.spec.start_id, m.spec.directory, 1, tuple(self.seen(f) for f in m.engines)) for m in memory)
        return Survey(tuple(self.seen(f) for f in self.mine()), tuple(exits.values()), tuple(processes))

    def seen(self, fake: Fake) -> EngineSeen:
        spec, world = fake.spec, self.world
        leader = world.of(fake.follows) if fake.follows else None
        linked = leader is not None and leader.leads and leader.admits
        return EngineSeen(
            start_id=spec.start_id,
            directory=spec.directory,
            node_id=spec.node_id,
            pid=1,
            answering=True,
            role="leader" if fake.leads else "follower",
            follows=fake.follows,
            cluster=ClusterSeen(state_ok=True, epoch=world.epoch, nodes=tuple(self.nodes(fake))),
            writes=WritesSeen(fenced=fake.fenced),
            admits_replicas=fake.admits,
            takes_clients=fake.takes_clients,
            replication=ReplicationSeen(link_up=linked, offset=10, history=HISTORY, replicas=tuple(self.attached(fake))),
            files=FilesSeen(
                free_bytes=1 << 40,
                incremental_bytes=world.written,
                marker=world.marker if (fake.leads or linked) and not spec.memory_only else None,
            ),
            group=spec.group,
        )

    def attached(self, leader: Fake) -> list[ReplicaSeen]:
        every = [*self.world.engines.values(), *(f for m in self.world.memory.values() for f in m.engines)]
        followers = [f for f in every if leader.leads and f.follows == leader.spec.node_id]
        return [ReplicaSeen(f.spec.address, f.spec.client_port, 10, online=leader.admits, silent_ms=0) for f in followers]

    def nodes(self, fake: Fake) -> list[NodeSeen]:
        spec = fake.spec
        known = {p.node_id: p for p in spec.peers} | fake.met
        peers = [(p.node_id, p.address, p.client_port) for p in known.values()]
        every = [*peers, (spec.node_id, spec.address, spec.client_port)]
        follows = {other.spec.node_id: other.follows for other in self.world.engines.values()}
        return [NodeSeen(node, at, port, "follower", follows.get(node), False, False, 0) for node, at, port in every]

    def handled(self) -> dict[str, int]:
        return {}

    async def wait_for_change(self, timeout: float) -> None:
        await asyncio.sleep(timeout)

    async def prepare(self, directory: str, identity: Any, fresh: bool, restored: Any = None) -> Position:
        await self.call("prepare")
        if not fresh and directory not in self.world.identities:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"nothing in {directory}")
        self.world.identities.add(directory)
        self.locks.add(directory)
        return self.world.disks.get(directory, Position())

    async def recognise(self, directory: str) -> CopyLabel | None:
        await self.call("recognise")
        return self.world.copies.get(directory)

    async def release(self, directory: str) -> None:
        await self.call("release")
        self.locks.discard(directory)

    async def read_position(self, directory: str) -> Position:
        await self.call("read_position")
        return next((self.world.marker for f in self.mine() if f.spec.directory == directory), Position())

    async def launch(self, spec: EngineSpec) -> int:
        await self.call("launch")
        if spec.start_id in self.world.exits.get(self.address, {}):
            raise EngineRefused("it ended already")
        self.world.engines.setdefault(spec.start_id, Fake(spec))
        self.locks.discard(spec.directory)
        await asyncio.sleep(0)
        return 1

    async def launch_memory(self, spec: TeSpec) -> int:
        await self.call("launch_memory")
        if spec.start_id in self.world.exits.get(self.address, {}):
            raise EngineRefused("it ended already")
        self.world.memory.setdefault(spec.start_id, FakeTe(spec, [Fake(engine) for engine in spec.engines]))
        await asyncio.sleep(0)
        return 1

    async def take_over(self, start_id: int) -> None:
        await self.call("take_over")
        fake = self.world.engines[start_id]
        fake.fenced, fake.admits = True, False
        self.lead(fake)

    def lead(self, fake: Fake) -> None:
        for other in self.world.engines.values():
            if other.leads and other is not fake:
                other.leads, other.admits, other.follows = False, False, fake.spec.node_id
        fake.leads, fake.follows = True, None
        self.world.epoch += 1

    async def admit(self, start_id: int) -> None:
        await self.call("admit")
        self.world.engines[start_id].admits = True

    async def take_clients(self, start_id: int, group: str = "") -> None:
        await self.call("take_clients")
        engines = self.engines_of(start_id)
        next((f for f in engines if f.spec.group == group), engines[0]).takes_clients = True

    async def shun_clients(self, start_id: int) -> None:
        await self.call("shun_clients")
        self.world.engines[start_id].takes_clients = False

    async def replicate(self, start_id: int, leader: Any) -> None:
        await self.call("replicate")
        engines = self.engines_of(start_id)
        next((f for f in engines if f.spec.group == leader.group), engines[0]).follows = leader.node_id

    def engines_of(self, start_id: int) -> list[Fake]:
        process = self.world.memory.get(start_id)
        return process.engines if process else [self.world.engines[start_id]]

    async def failover(self, start_id: int) -> None:
        await self.call("failover")
        self.lead(self.world.engines[start_id])

    async def hand_over(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        await self.call("hand_over")
        await self.mark(start_id, term, sequence, nonce)

    async def fence(self, start_id: int) -> None:
        await self.call("fence")
        self.world.engines[start_id].fenced = True

    async def unfence(self, start_id: int) -> None:
        await self.call("unfence")
        self.world.engines[start_id].fenced = False

    async def mark(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        await self.call("mark")
        self.world.marker = Position(term, sequence, nonce, initialised=True)

    async def rewrite(self, start_id: int, marker: tuple[int, int, str] | None) -> None:
        await self.call("rewrite")

    async def obstacle(self, directory: str, cause: Cause, address: str, ports: Any) -> str:
        await self.call("obstacle")
        return self.world.obstacle

    async def ask_followers(self, start_id: int) -> None:
        await self.call("ask_followers")

    async def meet(self, start_id: int, peer: Any) -> None:
        await self.call("meet")
        for fake in self.engines_of(start_id):
            fake.met[peer.node_id] = peer

    async def forget(self, start_id: int, node_id: str) -> None:
        await self.call("forget")

    async def set_aside(self, start_id: int, keep: Position) -> str | None:
        await self.call("set_aside")
        return f"/tail-{start_id}"

    async def shut_down(self, start_id: int) -> None:
        await self.call("shut_down")
        if self.world.has(start_id):
            self.world.end(start_id, Cause.GRACEFUL_STOP, 0)

    async def kill(self, start_id: int, cause: Cause) -> None:
        await self.call("kill")
        if self.world.has(start_id):
            self.world.end(start_id, cause, 137)

    async def forget_exit(self, start_id: int) -> None:
        await self.call("forget_exit")
        self.world.exits.get(self.address, {}).pop(start_id, None)

    async def confirm_initialised(self, directory: str) -> None:
        await self.call("confirm_initialised")

    async def retire(self, directory: str, identity: Any) -> str | None:
        await self.call("retire")
        return f"{directory}.deleted-1"

    async def count(self) -> list[Any]:
        return []

    async def statistics(self, start_id: int | None = None) -> list[Any]:
        return []

    async def latencies(self) -> list[Any]:
        return []


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeManager:
    """The loop of one server's manager, glance by glance."""

    numbers = itertools.count(1)

    def __init__(
        self, domain: MemoryDomain, engines: FakeEngines, server: str, clock: Clock, faults: FaultPlan | None = None
    ) -> None:
        self.engines, self.faults, self.lease = engines, faults or FaultPlan(), FRESH
        self.errors: list[tuple[Step | None, Exception, int]] = []
        self.announced: list[State | None] = []  # what the loop knew each time that it announced a newer view
        store: Any = Crashing(MemoryStore(domain), self.faults)
        crashing: Any = Crashing(engines, self.faults)
        self.submitter = Submitter(store, lambda: int(clock() * 1000), lambda: f"{next(self.numbers):032x}")
        self.reconciler = Reconciler(
            me(server),
            store=store,
            submitter=self.submitter,
            engines=crashing,
            lease_left=lambda: self.lease,
            monotonic=clock,
            token=lambda: f"{next(self.numbers):032x}",
            probe=self._probe,
            on_error=lambda step, error, times: self.errors.append((step, error, times)),
            on_view=lambda: self.announced.append(self.reconciler.known()),
        )

    async def _probe(self, host: str, port: int) -> bool:
        return True

    async def glance(self, settle: bool = True) -> None:
        """One glance on the newest view; all its steps are carried out, unless `settle` is False."""
        self.reconciler.learn(await self.submitter.view())
        await self.reconciler.look()
        if settle:
            await self.finish()

    async def finish(self) -> None:
        """Let the running steps end. Raises Killed if the manager died in one."""
        await self.reconciler.settle()
        if self.faults.dead:
            raise Killed

    @property
    def commands(self) -> list[str]:
        """What the engines were asked, besides being looked at."""
        return [name for name in self.engines.calls if name != "survey"]
