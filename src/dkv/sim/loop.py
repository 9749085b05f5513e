"""Simulation: an asyncio event loop in virtual time, the same for the same seed.

Nothing waits: when no callback is ready the clock jumps to the next timer. Every callback belongs to an *owner*, a
name carried by the context of the task that scheduled it ("" is the world itself). An owner can be frozen: none of
its callbacks runs while the rest goes on; or killed: none ever runs again, not even its clean-up. Callbacks of one
owner keep their order; which owner goes next is chosen by the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WORLD = ""
LEAST = 1e-6  # seconds until a timer rings: one of a clock that drifts may else be left with less than a float can add
TOO_MANY = 200_000  # callbacks at one instant: a coroutine spins without letting time pass

_owner: contextvars.ContextVar[str] = contextvars.ContextVar("dkv_sim_owner", default=WORLD)


class Livelock(AssertionError):
    """Virtual time stands still although callbacks run: a loop without a sleep in it."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address in memory."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Act(functools.partial[object]):
    """What is to be called, as the loop and asyncio keep it: none of our own lines runs when one is made or called."""

    cancelled = False

    def cancel(self) -> None:
        """It is not called any more; a timer is dropped when its time comes."""
        self.cancelled = True


class SimLoop(asyncio.AbstractEventLoop):
    """The loop. `seed` orders owners that are ready at the same instant."""

    def __init__(self, seed: int | str = 0) -> None:
        self._now = 0.0
        self._random = random.Random(f"loop {seed}")
        self._ready: dict[str, deque[Act]] = {}
        self._timers: list[tuple[float, int, str, Act]] = []
        self._counter = 0
        self._left = TOO_MANY  # callbacks that may still run at this instant
        self._frozen: dict[str, deque[Act]] = {}  # what they are to do once they go on
        self._dead: set[str] = set()
        self._strikes: dict[str, tuple[int, Callable[[], None]]] = {}
        self._tasks: dict[str, list[SimTask]] = {}
        self._running = False
        self._stopping = False
        self._closed = False
        self.troubles: list[dict[str, Any]] = []  # what asyncio would have logged: exceptions that were not awaited
        self.steps = 0

    # -- owners ----------------------------------------------------------------------------------------------------

    def start(self, owner: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine, and all it starts, as `owner`. A killed owner's name is never used again."""
        if owner in self._dead:
            raise ValueError(f"owner {owner!r} was killed")
        context = contextvars.copy_context()
        context.run(_owner.set, owner)
        return context.run(self.create_task, work)

    def freeze(self, owner: str) -> None:
        """None of the owner's callbacks runs until `thaw`; its timers ring late."""
        if owner not in self._frozen:
            self._frozen[owner] = self._ready.pop(owner, deque())

    def thaw(self, owner: str) -> None:
        """Let a frozen owner go on."""
        frozen = self._frozen.pop(owner, None)
        if frozen:
            self._ready[owner] = frozen

    def kill(self, owner: str) -> None:
        """None of the owner's callbacks ever runs again; its coroutines stop where they are, without clean-up."""
        self._dead.add(owner)
        self._ready.pop(owner, None)
        self._frozen.pop(owner, None)
        for task in self._tasks.get(owner, ()):
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def inject(self, owner: str, callbacks: int, act: Callable[[], None]) -> None:
        """Do something as the world after so many more callbacks of the owner, wherever it is then."""
        self._strikes[owner] = (callbacks, act)

    def cancel_injection(self, owner: str) -> None:
        """Forget a strike that did not come to pass."""
        self._strikes.pop(owner, None)

    def _count(self, owner: str) -> None:
        left, act = self._strikes[owner]
        self._strikes[owner] = (left - 1, act)
        if left <= 0:
            del self._strikes[owner]
            act()

    # -- what asyncio asks of a loop -------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else contextvars.copy_context()
        act = Act(context.run, callback, *args)
        self._enqueue(context.get(_owner, WORLD), act)
        return act  # type: ignore[return-value]

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + (max(delay, LEAST) if delay > 0.0 else 0.0), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else contextvars.copy_context()
        act = Act(context.run, callback, *args)
        self._counter += 1
        heappush(self._timers, (when if when > self._now else self._now, self._counter, context.get(_owner, WORLD), act))
        return act  # type: ignore[return-value]

    def later(self, delay: float, callback: Callable[..., object], *args: Any) -> Act:
        """Do something as the world, whichever owner asks for it; what is returned can be cancelled."""
        self._counter += 1
        when, act = self._now + delay if delay > 0.0 else self._now, Act(callback, *args)
        heappush(self._timers, (when, self._counter, WORLD, act))
        return act

    async def sleep(self, delay: float) -> None:
        """Let virtual seconds pass. What asyncio.sleep does, with less ado."""
        future = self.create_future()
        self._counter += 1
        act = Act(_wake, future)
        when = self._now + (max(delay, LEAST) if delay > 0.0 else 0.0)
        heappush(self._timers, (when, self._counter, _owner.get(), act))
        try:
            await future
        except BaseException:
            act.cancel()
            raise

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        owner = (context or contextvars.copy_context()).get(_owner, WORLD)
        self._counter += 1
        SimTask.number = self._counter
        task = SimTask(coro, loop=self, name=name or f"{owner}#{self._counter}", context=context)
        task.number = self._counter
        tasks = self._tasks.setdefault(owner, [])
        tasks.append(task)
        if len(tasks) > 500:
            self._tasks[owner] = [task for task in tasks if not task.done()]
        return task

    get_debug = staticmethod(bool)  # False; asked for every future there is

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.troubles.append(context)

    def run_until_complete(self, future: Any) -> Any:
        """Run the world until a coroutine of it is done."""
        main = asyncio.ensure_future(future, loop=self)
        main.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if not main.done():
            raise Livelock("nothing is left to do, and what was waited for did not happen")
        return main.result()

    def run_forever(self) -> None:
        self._running, self._stopping = True, False
        asyncio._set_running_loop(self)
        try:
            self._advance()
        finally:
            asyncio._set_running_loop(None)
            self._running = False

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """End all that still waits, quietly: the world it belonged to is gone."""
        self._closed = True
        self._ready.clear()
        self._frozen.clear()
        self._timers.clear()
        asyncio._set_running_loop(self)  # or their clean-up would open a real one
        try:
            for tasks in list(self._tasks.values()):
                for task in list(tasks):
                    _close_task(task)
        finally:
            asyncio._set_running_loop(None)
        self._ready.clear()
        if gc.isenabled():
            gc.collect()  # what is left of the dead is finalised here, not in the middle of another owner's work

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators end with their owners."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there are no threads here."""

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        raise RuntimeError("no threads in a simulation: a thread's timing cannot be replayed")

    # -- the engine room -------------------------------------------------------------------------------------------

    def _enqueue(self, owner: str, act: Act) -> None:
        if owner in self._dead or self._closed:
            return
        queue = self._ready.get(owner) if owner not in self._frozen else self._frozen[owner]
        if queue is None:
            self._ready[owner] = queue = deque()
        queue.append(act)

    def _advance(self) -> None:
        """Run one callback after the other until there is nothing left, or a stop is asked for: what is ready now, else
        what the next timer brings, to which the clock moves."""
        ready, timers, strikes, dead = self._ready, self._timers, self._strikes, self._dead
        while not self._stopping:
            if ready:
                owner, act = self._next()
            elif timers:
                when, _, owner, act = heappop(timers)
                if act.cancelled:
                    continue
                if when > self._now:
                    self._now, self._left = when, TOO_MANY
                if owner in self._frozen or (timers and timers[0][0] <= when):  # whose turn it is, chance decides
                    self._enqueue(owner, act)
                    self._ring()
                    continue
            else:
                return
            if (owner in strikes or owner in dead) and not self._may_run(owner, act):
                continue
            if not act.cancelled:
                self._run(act)

    def _run(self, act: Act) -> None:
        self.steps += 1
        self._left -= 1
        if self._left < 0:
            raise Livelock(f"{TOO_MANY} callbacks ran at {self._now:.3f} s and time does not move: {act!r}")
        try:
            act()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as trouble:  # noqa: BLE001 - as asyncio does with a callback: reported, not raised
            self.call_exception_handler({"message": f"{act}", "exception": trouble})

    def _next(self) -> tuple[str, Act]:
        """What is next of what is ready, and whose it is."""
        ready = self._ready
        owner = next(iter(ready)) if len(ready) == 1 else list(ready)[int(self._random.random() * len(ready))]
        queue = ready[owner]
        act = queue.popleft()
        if not queue:
            del ready[owner]
        return owner, act

    def _may_run(self, owner: str, act: Act) -> bool:
        """Whether an owner whose callback is next is neither dead nor struck by it; a frozen one keeps it for later."""
        if owner not in self._dead:
            self._count(owner)
        if owner in self._frozen:
            self._frozen[owner].appendleft(act)
        return owner not in self._dead and owner not in self._frozen

    def _ring(self) -> None:
        """Make the rest of what is due now ready."""
        timers, now = self._timers, self._now
        while timers and timers[0][0] <= now:
            _, _, owner, act = heappop(timers)
            if not act.cancelled:
                self._enqueue(owner, act)


def _wake(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def _close_task(task: SimTask) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    if task.done():
        return
    coroutine = task.get_coro()
    with contextlib.suppress(BaseException):  # whatever a dying coroutine still says is of no use any more
        if coroutine is not None:
            coroutine.close()
