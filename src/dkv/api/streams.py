"""API: the event streams of one manager: how many there may be, and one look at the log for all of them.

A stream has no end, and its connection is never idle enough to make room for another (listening.py); so there are few. Those with
nothing to send cost nothing: one task watches the state for all of them, and reads the log when something was committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dkv.api.access import STILL_ALLOWED
from dkv.api.context import ManagerContext
from dkv.api.problems import refuse
from dkv.store.contract import StoreError

log = logging.getLogger("dkv.api")

PAGE = 500  # events read at once
POLL = 0.25  # s between two looks whether the manager ends, and until a state that failed is asked again


async def always() -> bool:
    """Without access control every stream goes on."""
    return True


@dataclass(frozen=True)
class Judging:
    """Whether a stream may go on, and every how many seconds that is asked."""

    is_allowed: Callable[[], Awaitable[bool]] = always
    every: float = 10.0


def judging_of(request: Request) -> Judging:
    """How the stream that answers a request is judged again: what was revoked ends."""
    control = request.app.state.api.control
    still = request.scope.get(STILL_ALLOWED)  # none where the state could not be read: that is the local administrator
    return Judging(still, control.judged_every) if control and still else Judging()


class Streams:
    """The streams of one manager, and what wakes them."""

    def __init__(self, manager: ManagerContext) -> None:
        self._manager = manager
        self._open: Counter[str] = Counter()  # by the address they go to
        self._newest = 0  # the sequence of an event that is in the log, the newest as far as is known
        self._changed = asyncio.Event()  # set, and replaced, when `_newest` grew or the manager ends
        self._tasks: list[asyncio.Task[None]] = []

    def answer(self, peer: str, content: AsyncIterator[str]) -> StreamingResponse:
        """A stream to that address, counted until it ends. Raises Refusal where there are too many."""
        if self._open[peer] >= self._manager.streams.each or self._open.total() >= self._manager.streams.most:
            open_streams = f"{self._open[peer]} event streams go to {peer}, {self._open.total()} in all."
            raise refuse(
                "too_many_streams",
                f"This manager sends no more event streams: {open_streams}",
                "End one of them, ask another manager, or ask for application/json from time to time.",
            )
        self._open[peer] += 1
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._until_closing())]
            for task in self._tasks:
                task.add_done_callback(_say_why)
        return _Counted(content, lambda: self._left(peer))

    def _left(self, peer: str) -> None:
        self._open -= Counter({peer: 1})  # an address without any is not kept
        if not self._open:
            self._stop()

    def _stop(self) -> list[asyncio.Task[None]]:
        ended, self._tasks = self._tasks, []
        for task in ended:
            task.cancel()
        return ended

    async def close(self) -> None:
        """Watch no more."""
        await asyncio.gather(*self._stop(), return_exceptions=True)

    async def beyond(self, after: int, seconds: float) -> None:
        """Wait until an event above `after` is in the log, the manager ends, or the seconds are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._newest <= after and not self._manager.closing():
                    await self._changed.wait()

    async def _watch(self) -> None:
        while True:
            with suppress(StoreError):
                self._grown(await self._manager.event_log.newest())
                async for _ in self._manager.event_log.watch():
                    while batch := await self._manager.event_log.events(self._newest, PAGE):
                        self._grown(batch[-1].sequence)
            await asyncio.sleep(POLL)

    async def _until_closing(self) -> None:
        while not self._manager.closing():
            await asyncio.sleep(POLL)
        self._wake()

    def _grown(self, newest: int) -> None:
        if newest > self._newest:
            self._newest = newest
            self._wake()

    def _wake(self) -> None:
        past, self._changed = self._changed, asyncio.Event()
        past.set()


def _say_why(task: asyncio.Task[None]) -> None:
    """Streams go on without the task, and look for themselves when they have been silent for long."""
    if not task.cancelled() and task.exception():
        log.error("watching the event log failed", exc_info=task.exception())


class _Counted(StreamingResponse):
    """A stream that says when it has ended, also if its first word was never sent."""

    def __init__(self, content: AsyncIterator[str], ended: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
