"""Simulation: a manager that listens where a dead leader listened and continues its stream from its disk.

It lives and stands still with its manager. What it had sent is delivered, as by a kernel; a follower whose connection
ends there keeps what it got.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, TailFollower, TailPlan
from dkv.sim.engines.disk import Disk, Entry, Marker
from dkv.sim.engines.net import SimNet
from dkv.sim.engines.replication import ReplicatedEngine

VALID = 1.5  # seconds after the last `serve` in which anything is sent


def digest(directory: str, disk: Disk, marker: Marker, upto: int | None) -> tuple[int, str]:
    """Bytes after a marker and what stands for their digest. Raises ArchiveRefused when they are not there."""
    entries, size = disk.after(marker, 0), 0
    if not any(entry.marker == marker for entry in disk.entries()):
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory} has no marker {marker}")
    contents: list[Any] = []
    for entry in entries:
        if size == upto:
            break
        size += entry.size
        contents.append((entry.size, entry.key, entry.value, entry.marker))
    if upto is not None and size != upto:
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory} does not have {upto} bytes after {marker}")
    return size, str(contents)


class SimFeeder:
    """One plan being carried out by one run of a manager."""

    def __init__(self, net: SimNet[Any], machine: str, plan: TailPlan, disk: Disk, handled: Counter[str]) -> None:
        self.handled = handled
        self.net, self.machine, self.node_id, self.plan, self.disk = net, machine, plan.node_id, plan, disk
        self.followers = {follower.node_id: follower for follower in plan.followers}
        self.until = 0.0
        self.trouble = ""
        self.open = False
        self.inbox: list[tuple[ReplicatedEngine, int, str, int]] = []
        self.linked: dict[str, tuple[ReplicatedEngine, int]] = {}
        self._arrives: dict[str, float] = {}

    def listen(self) -> None:
        """Begin, unless an engine listens there or the disk does not hold what was measured."""
        present = digest(self.plan.directory, self.disk, self.plan.marker, self.plan.stretch.size)
        if present != (self.plan.stretch.size, self.plan.stretch.digest):
            raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{self.plan.directory} does not hold what was measured")
        if self.node_id in self.net.engines or self.node_id in self.net.feeders:
            raise EngineRefused("address already in use")
        self.net.feeders[self.node_id] = self
        self.open = True
        asyncio.get_running_loop().create_task(self._live())

    def renew(self) -> None:
        """Go on for a while. Raises EngineRefused when a follower asked for something else than the plan has for it."""
        self.until = self.net.now() + VALID
        if self.trouble:
            raise EngineRefused(self.trouble)

    def close(self) -> None:
        """Close the connections of all followers."""
        if self.open:
            self.open = False
            del self.net.feeders[self.node_id]
            for engine, token in self.linked.values():
                self._send(engine, engine.replication.refused, token)

    async def _live(self) -> None:
        while self.open:
            await asyncio.sleep(self.net.random.uniform(0.001, 0.01))
            while self.inbox and self.open:
                engine, token, history, offset = self.inbox.pop(0)
                self.linked[engine.node_id] = (engine, token)
                await self._answer(engine, token, history, offset)

    async def _answer(self, engine: ReplicatedEngine, token: int, history: str, offset: int) -> None:
        plan, follower = self.plan, self.followers.get(engine.node_id)
        if follower is None or self.net.now() > self.until:
            self._send(engine, engine.replication.refused, token)
            return
        place = offset - plan.shift
        resumed = history == plan.history and plan.lowest <= place <= plan.stretch.size
        if resumed or (history == plan.filling_history(follower) and place == follower.place):
            await self._feed(engine, token, place)
        elif history == plan.former and offset == follower.offset:
            self._fill(engine, token, follower)
        else:
            self.trouble = f"{engine.node_id} asks for {history} {offset}"

    def _fill(self, engine: ReplicatedEngine, token: int, follower: TailFollower) -> None:
        gap = self.plan.filled(follower) - follower.offset
        self._send(engine, engine.replication.filled, token, self.plan.filling_history(follower), gap)

    async def _feed(self, engine: ReplicatedEngine, token: int, place: int) -> None:
        """Piece by piece, so that it can end in the middle."""
        self._send(engine, engine.replication.continued, token, self.plan.history)
        tail, begins = self.disk.after(self.plan.marker, place), place + self.plan.shift
        while tail and self.open and self.net.now() <= self.until:
            count = self.net.random.randint(1, 8)
            piece: list[Entry] = tail[:count]
            tail = tail[count:]
            self._send(engine, engine.replication.take, token, begins, piece)
            size = sum(entry.size for entry in piece)
            self.handled[self.plan.directory] += size
            begins += size
            await asyncio.sleep(self.net.random.uniform(0, 0.004))

    def _send(self, engine: ReplicatedEngine, act: Any, *args: Any) -> None:
        """A connection keeps its order."""
        arrives = max(self._arrives.get(engine.node_id, 0.0) + 1e-6, self.net.now() + self.net.hop())
        self._arrives[engine.node_id] = arrives
        self.net.post(self.machine, engine, act, *args, delay=arrives - self.net.now())


class SimFeeds:
    """All that one run of a manager feeds, by archive directory."""

    def __init__(self, net: SimNet[Any], machine: str) -> None:
        self._net, self._machine = net, machine
        self._feeders: dict[str, SimFeeder] = {}
        self.handled: Counter[str] = Counter()

    def serve(self, plan: TailPlan, disk: Disk) -> None:
        """Listen, or go on for a while. Raises ArchiveRefused, EngineRefused."""
        feeder = self._feeders.get(plan.directory)
        if feeder is None or feeder.plan != plan:
            self.stop(plan.directory)
            feeder = self._feeders[plan.directory] = SimFeeder(self._net, self._machine, plan, disk, self.handled)
            feeder.listen()
        feeder.renew()

    def stop(self, directory: str) -> None:
        """Close the connections of all followers that are fed from there."""
        feeder = self._feeders.pop(directory, None)
        if feeder is not None:
            feeder.close()

    def close(self) -> None:
        """Close the connections of all followers."""
        for directory in list(self._feeders):
            self.stop(directory)
