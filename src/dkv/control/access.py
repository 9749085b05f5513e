"""access: whether what this manager decides can be written down, and since when and why not.

A manager that cannot commit goes on looking after its machine, and its engines serve; but nothing it sees becomes true for
anybody else. So people are told by what this manager knows itself: it is the only thing that needs no commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dkv.hints import Hint
from dkv.store.contract import Store, StoreError

LOOK_EVERY = 0.75  # s
PROVED_AFTER = 3.0  # s without a commit that failed before a probe counts: on a full disk a small one may still find room


@dataclass(frozen=True)
class Failing:
    """Commits fail. `at` is the wall clock in ms, `since` seconds of the manager's own clock; `why` one clause, `hint` what
    helps.
    """

    at: int
    since: float
    why: str
    hint: Hint


class Access:
    """What became of this manager's newest attempt to write. `wall` in ms, `monotonic` in s; `warn` is called when commits
    begin to fail, of each new reason once, and when they work again.
    """

    def __init__(self, wall: Callable[[], int], monotonic: Callable[[], float], warn: Callable[[str], None]) -> None:
        self._wall = wall
        self._now = monotonic
        self._warn = warn
        self._suspected = ""
        self._failed_at = float("-inf")  # s, a commit that was needed
        self._reasons: set[str] = set()  # that were warned of since commits fail: two may come in turns for hours
        self.failing: Failing | None = None

    def worked(self) -> None:
        """A commit was made, or was only too late."""
        if self.failing is not None:
            self.failing = None
            self._reasons.clear()
            self._warn("the domain can be changed again")

    def failed(self, trouble: StoreError) -> None:
        """A commit was not made, or it is unknown whether it was."""
        self._failed_at = self._now()
        self._note(trouble)

    def _note(self, trouble: StoreError) -> None:
        before = self.failing
        at, since = (before.at, before.since) if before else (self._wall(), self._now())
        self.failing = Failing(at, since, trouble.detail or type(trouble).__name__, trouble.hint)
        if self.failing.why not in self._reasons:
            self._reasons.add(self.failing.why)
            self._warn(f"the domain cannot be changed: {trouble}")

    async def look(self, store: Store) -> None:
        """Once commits fail, or another process has held them up at two looks, find out whether one could be made now."""
        obstacle = await store.obstacle()
        suspected, self._suspected = self._suspected, obstacle
        if self.failing is None and (not obstacle or obstacle != suspected):
            return
        try:
            await store.probe()
        except StoreError as trouble:
            self._note(trouble)
        else:
            if self._now() - self._failed_at >= PROVED_AFTER:
                self.worked()

    async def run(self, store: Store) -> None:
        """Look until cancelled."""
        while True:
            await self.look(store)
            await asyncio.sleep(LOOK_EVERY)
