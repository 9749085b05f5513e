"""Store: one thread that runs blocking functions one after the other for an asyncio loop.

The thread never keeps the program alive: a disk that does not answer must not stop a manager from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from dkv.store.contract import Unavailable

T = TypeVar("T")
Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]

DEADLINE = 5.0


class Worker:
    """A thread with a queue, of the loop that made it. A caller waits `deadline` seconds, then gets Unavailable."""

    def __init__(self, name: str, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[], T], deadline: float = 0.0) -> T:
        """Run `function` on the thread. A job whose caller has gone before it began is not begun. `deadline` instead of the
        worker's, in s; 0: that one.
        """
        within = deadline or self._deadline
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((function, future))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            raise Unavailable(f"the disk of the state did not answer within {within} s") from None

    async def stop(self) -> None:
        """End the thread after the jobs already given, or leave it behind if it hangs."""
        self._jobs.put(None)
        try:
            async with asyncio.timeout(self._deadline):
                await self._ended.wait()
        except TimeoutError:
            return
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            if future.cancelled():
                continue
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001  whatever it is belongs to the caller, not to the thread
                self._post(partial(settle, future, error=error))
            else:
                self._post(partial(settle, future, result=result))
        self._post(self._ended.set)

    def _post(self, news: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(news)
        except RuntimeError:
            pass  # the loop has ended and nothing waits any more


def settle(future: asyncio.Future[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Give the caller its outcome, unless it has gone."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
