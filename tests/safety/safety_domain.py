"""Tests of the safety rules: a small domain in the simulated world, and clients who write by the README's recipe.

Managers, rules and the judgement of a confirmed write are the real ones; engines, disks, wires and time are simulated.
Archive 0 is on s1 and leads at first, archive 1 is on s2, archive 2 on s3; the model calls them A, B and C.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dkv import confirm
from dkv.address import endpoint_text
from dkv.domain.model import Group
from dkv.domain.phases import Vacant
from dkv.engine.contract import Position
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.net import CLIENTS
from dkv.sim.world import DATABASE, Shape, World
from dkv.wire import views

T = TypeVar("T")

A, B, C = "s1", "s2", "s3"
SOON = 0.0005  # s between two looks of somebody who must not miss a moment
WAIT = 0.2  # s given to WAIT
PATIENCE = 2.0  # s a client waits for an answer


@dataclass(frozen=True)
class KnownView:
    """What a client knows of a group, and when it asked."""

    group: confirm.GroupView
    asked_at: float


@dataclass(frozen=True)
class Answer:
    """What one connection said: the reply to the write, and both ROLEs."""

    reply: str = ""
    first: confirm.Role | None = None
    second: confirm.Role | None = None

    @property
    def acknowledged(self) -> bool:
        return self.reply == "OK"


@dataclass(frozen=True)
class LeaderConnection:
    """A connection to the engine that a view named as leader."""

    domain: SafetyDomain
    named: confirm.Engine
    engine: SimEngine

    async def write(self, key: str, count: int = 1) -> Answer:
        """SET, ROLE, WAIT count, ROLE in one pipeline."""
        net, engine = self.domain.world.net, self.engine
        replies: list[str] = []
        roles: list[confirm.Role] = []
        done = asyncio.Event()

        def waited() -> None:
            roles.append(_role(engine))
            done.set()

        def written(reply: str) -> None:
            replies.append(reply)
            roles.append(_role(engine))
            if reply == "OK":
                engine.wait(count, WAIT, waited)
            else:
                waited()

        net.post(CLIENTS, engine, engine.write, key, key, written)
        try:
            async with asyncio.timeout(PATIENCE):
                await done.wait()
        except TimeoutError:
            return Answer()
        return Answer(replies[0], *roles)


def _role(engine: SimEngine) -> confirm.Role:
    acknowledged = {endpoint_text(*where): offset for where, offset in engine.acknowledged().items()}
    return confirm.Role(engine.role == "leader", engine.replication.offset, acknowledged)


@dataclass(frozen=True)
class WriteOutcome:
    """What became of one write: whether its client knows, and whether the leader has it in the end."""

    acknowledged: bool
    confirmed: bool
    survived: bool


class SafetyDomain:
    """Two or three servers with one group."""

    def __init__(self, servers: int, seed: int) -> None:
        self.world = World(seed, Shape(servers=servers))
        self.world.net.base_lag, self.world.net.write_size, self.world.net.backlog = 0.0, 60, 400

    @classmethod
    def play(
        cls,
        servers: int,
        scenario: Callable[[SafetyDomain], Awaitable[T]],
        where: Callable[[SafetyDomain], bool] = lambda domain: True,
        first: int = 1,
    ) -> T:
        """Play a scenario with a domain whose copies are all in sync and whose leader is A, and `where` this holds: the first
        such world from seed `first` on.
        """
        domains = (cls(servers, seed) for seed in range(first, first + 100))
        return next(domain for domain in domains if domain.begins(where)).goes(scenario)

    def begins(self, where: Callable[[SafetyDomain], bool]) -> bool:
        """Whether A came to lead here: the archive that starts first does. A world that begins otherwise is left."""
        self.world.loop.run_until_complete(self._whole())
        fits = self.leader == A and where(self)
        if not fits:
            self._close()
        return fits

    async def _whole(self) -> None:
        await self.world.create_domain()
        await self.until(lambda: len(self.group.in_sync) == self.world.shape.servers and self.group.serving)

    def goes(self, scenario: Callable[[SafetyDomain], Awaitable[T]]) -> T:
        """Play the scenario; nothing of ours may go wrong meanwhile."""

        async def play() -> T:
            return await scenario(self)

        try:
            outcome: T = self.world.loop.run_until_complete(play())
            assert not self.world.failures
            assert not self.world.loop.troubles
            return outcome
        finally:
            self._close()

    def _close(self) -> None:
        for server in self.world.machines:
            self.world.kill_manager(server)
        self.world.loop.close()

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def group(self) -> Group:
        return self.world.state.groups[(DATABASE, "g1")]

    @property
    def leader(self) -> str:
        """The server of the serving leader; empty while there is none."""
        group = self.group
        return self.world.state.archives[group.leader].server_id if group.leader is not None and group.serving else ""

    @property
    def vacant(self) -> bool:
        return isinstance(self.group.phase, Vacant)

    def engine(self, server: str) -> SimEngine:
        (engine,) = self.world.machines[server].hardware.engines.values()
        return engine

    def runs(self, server: str) -> bool:
        return bool(self.world.machines[server].hardware.engines)

    def disk(self, server: str) -> Disk:
        (disk,) = self.world.machines[server].hardware.disks.values()
        return disk

    def holds(self, server: str, key: str) -> bool:
        """Whether a key is on the disk of that server's archive."""
        return key in self.disk(server).load()

    def position(self, server: str) -> Position:
        return self.disk(server).position()

    def led_with(self, key: str) -> bool:
        """Whether the leader has that key."""
        return key in self.engine(self.leader).data

    async def until(self, true: Callable[[], bool], within: float = 60.0, every: float = 0.02) -> None:
        assert await self.comes_true(true, within, every), "\n".join(self.world.trace_lines[-40:])

    async def comes_true(self, true: Callable[[], bool], within: float, every: float = 0.02) -> bool:
        deadline = self.world.now() + within
        while not true() and self.world.now() < deadline:
            await asyncio.sleep(every)
        return true()

    # -- clients -----------------------------------------------------------------------------------------------------

    async def look(self) -> KnownView:
        """A linearizable read of the store, as the managers' API shows it."""
        asked_at = self.world.now()
        state = (await self.world.view()).state
        (group,) = confirm.read_groups(views.store_view(state, state.databases[DATABASE], 0))
        return KnownView(group, asked_at)

    async def connect(self) -> LeaderConnection:
        """A connection to the leader."""
        leader = (await self.look()).group.leader
        assert leader is not None
        host, _, port = leader.endpoint.rpartition(":")
        return LeaderConnection(self, leader, self.world.net.addresses[(host, int(port))])

    def plainly(self, server: str) -> LeaderConnection:
        """A plain client's connection to an engine, whoever leads."""
        return LeaderConnection(self, confirm.Engine("", 0, 0), self.engine(server))

    def confirmed(self, answer: Answer, view: KnownView, line: LeaderConnection) -> bool:
        """Whether the client may call it confirmed, by that view, now."""
        if not answer.acknowledged or answer.first is None or answer.second is None:
            return False
        age = self.world.now() - view.asked_at
        return confirm.judge(answer.first, answer.second, view.group, age, line.named).confirmed

    # -- what happens ------------------------------------------------------------------------------------------------

    def cut(self, server: str, other: str) -> None:
        """Nothing of one reaches the other; connections stand."""
        self.world.net.cut(server, other)

    def mend(self, server: str, other: str, *, lost: bool = True) -> None:
        """They hear each other again. What was under way is `lost`, or arrives now."""
        self.world.net.heal((server, other), lost=lost)

    async def break_link(self, follower: str, leader: str) -> None:
        """The replication link ends, and both machines do not hear each other any more."""
        self.engine(follower).replication.drop_link()
        await self.until(lambda: self.engine(follower).node_id not in self.engine(leader).replication.replicas, 1.0, SOON)
        self.cut(follower, leader)

    def kill_engine(self, server: str) -> None:
        self.world.machines[server].hardware.end(self.engine(server).start_id)

    def lose(self, server: str) -> None:
        """The machine loses its power."""
        machine = self.world.machines[server]
        machine.down = True
        self.world.kill_manager(server)
        machine.hardware.restart()

    def switch_on(self, server: str) -> None:
        self.world.machines[server].down = False
        self.world.start_manager(server)

    def backend_away(self, seconds: float) -> None:
        self.world.link.away_until = self.world.now() + seconds
