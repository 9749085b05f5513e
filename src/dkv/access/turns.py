"""Access: whose password is verified now: two at once, of each address one, and only so many that wait for it.

A verification takes a core and 19 MiB for 40 ms, and the connection of a request that waits makes room for no other. So guesses
from one address keep another's password waiting for one verification at most, and guesses from many leave connections to those
who show a token or a certificate.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 2
WAITING = 256  # a quarter of the connections of a manager
WAITING_EACH = 32  # of one address


class Crowded(Exception):
    """As many wait already as may."""


class Turns:
    """The turns of one manager."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def of(self, address: str) -> AsyncIterator[None]:
        """Wait for a turn of that address, and have it. Raises Crowded."""
        if self._waiting[address] >= WAITING_EACH or self._waiting.total() >= WAITING:
            raise Crowded
        lock = self._locks.setdefault(address, asyncio.Lock())
        self._waiting[address] += 1
        try:
            async with lock, self._free:
                yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._locks[address]
