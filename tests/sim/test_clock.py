"""Who keeps the leases and moves the domain clock: often enough, and no more often than somebody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from dkv.control.liveness import LONGEST_STEP, RENEW_EVERY, SERVER_TTL, TICK_EVERY, Liveness
from dkv.control.submit import RequestKey, Submitter
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import ServerJoined, Tick
from dkv.domain.model import Process, ProcessRole, ProcessState, State
from dkv.sim.loop import SimLoop
from dkv.store.contract import Unavailable
from dkv.store.memory import MemoryDomain, MemoryStore

HERE = ServerJoined(server_id="s1", uid="u1", host="10.0.0.1", port=7801, nuodb_port=8888, boot_id="b1")


class Ticks(Submitter):
    """A submitter that also writes down when the clock was moved, in virtual seconds, and by how many ms."""

    def __init__(self, store: MemoryStore, loop: SimLoop) -> None:
        super().__init__(store, lambda: int(loop.time() * 1000), lambda: str(loop.time()))
        self.ticks: list[tuple[float, int]] = []
        self._loop, self._moved = loop, 0

    async def submit(self, command: Command, key: RequestKey | None = None) -> Accepted | Refused:
        if isinstance(command, Tick):
            self.ticks.append((self._loop.time(), command.clock - self._moved))
            self._moved = command.clock
        return await super().submit(command, key)


class Watched(MemoryStore):
    """Knows when leases were asked for; `away` is a backend that does not answer."""

    def __init__(self, loop: SimLoop) -> None:
        super().__init__(MemoryDomain(clock=loop.time))
        self._loop = loop
        self.asked: list[float] = []
        self.away = False

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        self.asked.append(self._loop.time())
        if self.away:
            raise Unavailable("away")
        return await super().acquire(name, holder, ttl, value)


@dataclass
class Stage:
    """One manager's liveness, and the newest state it was shown."""

    loop: SimLoop
    store: Watched
    ticks: Ticks
    liveness: Liveness
    known: State = field(default_factory=State)

    def show(self, waits: bool) -> None:
        """A newer view, in which somebody waits for time or nobody does."""
        process = Process(start_id=1, database="orders", group="g", role=ProcessRole.SM, server_id="s1", archive_id=0)
        there = {1: replace(process, state=ProcessState.TRACKED)} if waits else {}
        self.known = replace(self.known, processes=there)
        self.liveness.look()


def play(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Play a scenario of a manager that leads and has kept its leases for a while; nothing waits for time."""
    loop = SimLoop(1)  # type: ignore[abstract]

    async def main() -> None:
        store = Watched(loop)
        ticks = Ticks(store, loop)
        stage = Stage(loop, store, ticks, Liveness(store, ticks, HERE, loop.time))
        await ticks.submit(HERE)
        stage.known = (await ticks.view()).state
        running = loop.create_task(stage.liveness.run(lambda: stage.known))
        await asyncio.sleep(10.1)
        assert not running.done(), running.result()
        assert stage.liveness.leads
        ticks.ticks.clear()
        store.asked.clear()
        await scenario(stage)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_while_nobody_waits_for_time_the_leases_are_renewed_and_nothing_else_happens() -> None:
    async def scenario(stage: Stage) -> None:
        await asyncio.sleep(60)
        renewals = sorted(set(stage.store.asked))
        assert abs(len(renewals) - 60 / RENEW_EVERY) <= 1
        assert stage.liveness.lease_left() > SERVER_TTL - RENEW_EVERY - 0.01
        assert stage.ticks.ticks == []

    play(scenario)


def test_the_clock_goes_as_soon_as_somebody_waits_and_counts_nothing_of_the_rest_before() -> None:
    async def scenario(stage: Stage) -> None:
        stage.show(waits=True)
        began = stage.loop.time()
        await asyncio.sleep(10)
        (first, armed), *later = stage.ticks.ticks
        assert first - began < 0.01, "the first tick arms what waits; it must not come later than the news"
        assert armed == 1
        assert sum(step for _, step in later) <= 10_000
        assert len(later) >= 10 / TICK_EVERY - 1
        stage.show(waits=False)
        await asyncio.sleep(TICK_EVERY + 0.01)
        stage.ticks.ticks.clear()
        await asyncio.sleep(60)
        assert stage.ticks.ticks == []

    play(scenario)


def test_a_clock_that_rested_jumps_nobodys_timer() -> None:
    async def scenario(stage: Stage) -> None:
        for _ in range(20):
            stage.show(waits=True)
            await asyncio.sleep(0.01)
            stage.show(waits=False)
            await asyncio.sleep(5)
        assert sum(step for _, step in stage.ticks.ticks) <= 20 * (1 + LONGEST_STEP / 2)

    play(scenario)


def test_while_the_backend_is_away_nobody_moves_the_clock_and_the_lease_is_asked_for_as_often_as_ever() -> None:
    async def scenario(stage: Stage) -> None:
        stage.show(waits=True)
        await asyncio.sleep(1)
        stage.store.away = True
        await asyncio.sleep(RENEW_EVERY + 0.01)
        stage.ticks.ticks.clear()
        stage.store.asked.clear()
        await asyncio.sleep(15)
        assert stage.ticks.ticks == []
        assert abs(len(stage.store.asked) - 15 / RENEW_EVERY) <= 1
        stage.store.away = False
        await asyncio.sleep(RENEW_EVERY + TICK_EVERY)
        assert stage.ticks.ticks, "the clock goes again"

    play(scenario)
