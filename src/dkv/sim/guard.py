"""Simulation: the guard of a dead manager, with the real judgement of when its machine is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dkv.engine.contract import EngineError
from dkv.guard import judge
from dkv.guard.program import AGAIN, TICK
from dkv.sim.engines.engines import SimEngines


@dataclass
class SimGuard:
    """One guard. `answers` is whether any other machine answers now, `needed` whether no manager has taken over and there are
    engines to guard, `stands_still` whether its machine does.
    """

    now: Callable[[], float]
    engines: SimEngines
    left: set[int]  # start ids of engines that are not fenced yet
    answers: Callable[[], bool]
    needed: Callable[[], bool]
    stands_still: Callable[[], bool]

    async def run(self) -> None:
        """Until it is not needed any more."""
        contact, next_attempt, told_at = judge.Contact(), self.now(), float("-inf")
        while self.needed():
            while self.stands_still():
                await asyncio.sleep(TICK)
            now = self.now()
            if now >= next_attempt:
                contact, next_attempt = judge.tried(contact, now), now + judge.HURRY
            if contact.tried_since is not None and self.answers():
                contact, next_attempt = judge.heard(now), now + judge.EVERY
            if judge.is_cut_off(contact, now) and now - told_at >= AGAIN:
                told_at = now
                await self._fence()
            await asyncio.sleep(TICK)

    async def _fence(self) -> None:
        for start_id in sorted(self.left & self.engines.machine.engines.keys()):
            try:
                await self.engines.fence(start_id)
                self.engines.net.seen["event guard fenced"] += 1
                self.left.discard(start_id)
            except EngineError:
                continue
