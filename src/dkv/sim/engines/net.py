"""Simulation: the wires between machines, engines and clients. One seeded source of chance for all delays."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from dkv.engine.contract import EngineError, EngineUnreachable
from dkv.sim.engines.histories import Histories
from dkv.sim.loop import SimLoop

T = TypeVar("T")

CLIENTS = "clients"  # where clients live: a machine that never fails


class Endpoint(Protocol):
    """What messages are sent to: an engine, as the net sees it."""

    machine: str
    start_id: int
    alive: bool
    pending: list[asyncio.Future[Any]]  # of commands that it has not answered yet

    def receive(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Execute `act(*args)`, now or later, or never."""


class Feeder(Protocol):
    """A manager that stands for a dead leader, as the net sees it (tail.py)."""

    machine: str
    inbox: list[Any]  # followers that want to attach: (engine, token, history, offset)


E = TypeVar("E", bound=Endpoint)


class SimNet(Generic[E]):
    """Every living engine by node id and by address, and what is under way between them.

    What was sent is executed in the world's own time, whether or not its sender is still alive or moving.
    """

    def __init__(self, loop: SimLoop, seed: int | str) -> None:
        self.loop = loop
        self.now, self.later, self.sleep = loop.time, loop.later, loop.sleep
        self.random = random.Random(f"net {seed}")
        self.engines: dict[str, E] = {}
        self.addresses: dict[tuple[str, int], E] = {}
        self.histories = Histories()
        self.feeders: dict[str, Feeder] = {}  # by the node id of the dead leader each stands for
        self.base_lag = self.random.choice((0.0, 0.01, 0.1))  # seconds the stream may trail in this world
        self.write_size = self.random.choice((60, 60, 150_000))  # bytes of one write in this world: large ones need rewrites
        self.backlog = self.random.choice((20, 400))  # records a leader keeps for followers that were away
        self.seen: Counter[str] = Counter()  # incidents that only show where they happen
        self.loses: dict[str, float] = {}  # machine -> share of its engines' replies that are lost
        self.lag: dict[str, float] = {}  # machine -> seconds its replication stream may trail
        self.cuts: set[tuple[str, str]] = set()  # (source, destination) between which nothing arrives
        self.slow: dict[str, float] = {}  # machine -> seconds that a message from or to it takes longer, at most
        self._held: list[tuple[str, Endpoint, Callable[..., None], tuple[Any, ...]]] = []

    def hop(self) -> float:
        """How long one message takes, in seconds: usually well under a millisecond, sometimes a bit."""
        chance = self.random.random()
        return 0.0002 + chance * (0.0008 / 0.95) if chance < 0.95 else 0.001 + (chance - 0.95) * (0.019 / 0.05)

    def trail(self, machine: str) -> float:
        """How long a piece of the replication stream takes to a follower's machine."""
        lag = max(self.base_lag, self.lag.get(machine, 0.0))
        return self.hop() + (self.random.uniform(0, lag) if lag else 0.0)

    def post(self, source: str, engine: Endpoint, act: Callable[..., None], *args: Any, delay: float | None = None) -> None:
        """Send something to an engine; it is executed when the engine gets to it, or never."""
        if delay is None:
            delay = self.hop()
            if self.slow and source != engine.machine:  # streams keep their order, all else may be overtaken
                delay += self.random.uniform(0, max(self.slow.get(source, 0.0), self.slow.get(engine.machine, 0.0)))
        self.later(delay, self._deliver, source, engine, act, args)

    def _deliver(self, source: str, engine: Endpoint, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if (source, engine.machine) in self.cuts:
            self._held.append((source, engine, act, args))
        else:
            engine.receive(act, args)

    def cut(self, machine: str, other: str) -> None:
        """Hold all messages between two machines back."""
        self.cuts |= {(machine, other), (other, machine)}

    def cut_one_way(self, source: str, destination: str) -> None:
        """Hold back what one machine sends to another; the other way stays open."""
        self.cuts.add((source, destination))

    def apart(self, machine: str, other: str) -> bool:
        """Whether a question from one of two machines to the other gets no answer."""
        return (machine, other) in self.cuts or (other, machine) in self.cuts

    def heal(self, between: tuple[str, str] | None = None, *, lost: bool = False) -> None:
        """End all cuts, or that between two machines. What was held back is delivered in its order, or lost."""
        ended = set(self.cuts) if between is None else {between, between[::-1]}
        self.cuts -= ended
        held, self._held = self._held, []
        for source, engine, act, args in held:
            if (source, engine.machine) not in ended:
                self._held.append((source, engine, act, args))
            elif not lost:
                engine.receive(act, args)

    async def ask(self, source: str, engine: Endpoint, answer: Callable[[], T], timeout: float = 2.0) -> T:
        """One command to an engine and its answer. Raises EngineUnreachable, and what `answer` raises."""
        future: asyncio.Future[T] = self.loop.create_future()

        def execute() -> None:
            try:
                result = answer()
            except EngineError as trouble:
                self.later(self.hop(), _fail, future, trouble)
            else:
                if self.random.random() < self.loses.get(source, 0.0):
                    self.seen["fault lost engine reply"] += 1
                else:
                    self.later(self.hop(), _resolve, future, result)

        engine.pending.append(future)
        self.post(source, engine, execute)
        if not engine.alive:
            self.later(self.hop(), _fail, future, EngineUnreachable("connection refused"))
        silence = EngineUnreachable(f"engine {engine.start_id} did not answer within {timeout} s")
        late = self.later(timeout, _fail, future, silence)
        try:
            return await future
        finally:
            late.cancel()
            if future in engine.pending:
                engine.pending.remove(future)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], trouble: Exception) -> None:
    if not future.done():
        future.set_exception(trouble)
        future.exception()  # looked at here: an asker that was killed never will
