"""Bench kit: the manager's own reconcile loop on a domain as it is, with every engine order counted and none given."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dkv.control.submit import Submitter
from dkv.engine.contract import Survey
from dkv.engine.engines import ValkeyEngines
from dkv.machine.observation import LocalServer
from dkv.machine.reconcile import Reconciler
from dkv.playground.addresses import Place
from dkv.store.contract import Snapshot
from dkv.store.sqlite import SqliteStore

MEMORY = 8 << 30  # bytes; what the manager would say of its machine


class Frozen:
    """An engine room in which nothing changes that means anything; it counts what it is told to do.

    Offsets differ from look to look, as they do wherever there are copies: else the loop would not judge what it sees at all.
    """

    def __init__(self, survey: Survey) -> None:
        further = tuple(
            replace(engine, replication=replace(engine.replication, offset=engine.replication.offset + 1))
            for engine in survey.engines
        )
        self._surveys = itertools.cycle((survey, replace(survey, engines=further)))
        self.orders = 0

    async def survey(self, thorough: bool = True) -> Survey:
        """Always as good as the same."""
        return next(self._surveys)

    def handled(self) -> dict[str, int]:
        """No tail is on its way."""
        return {}

    def __getattr__(self, name: str) -> Any:
        async def order(*_: object, **__: object) -> None:
            self.orders += 1

        return order


class Still:
    """A state backend that has one view and takes no change; counts what somebody wants to write."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.commits = 0

    async def read(self) -> Snapshot:
        """Always the same."""
        return self._snapshot

    async def watch(self) -> AsyncIterator[Snapshot]:
        """The one view."""
        yield self._snapshot

    async def commit(self, base: int, *_: object) -> int:
        """Counted, not written."""
        self.commits += 1
        return base


async def reconcile(state: Path, place: Place, rounds: int) -> dict[str, Any]:
    """Rounds of the loop on what is there now: seconds, engine commands given, commits wanted."""
    store = await SqliteStore.open(state)
    engines = ValkeyEngines(place.directory)
    try:
        snapshot, survey = await store.read(), await engines.survey()
    finally:
        engines.close()
        await store.close()
    frozen, still = Frozen(survey), Still(snapshot)
    submitter = Submitter(still, lambda: 0, lambda: "token")  # type: ignore[arg-type]

    async def probe(host: str, port: int) -> bool:
        return True

    loop = Reconciler(
        LocalServer(place.server_id, "uid", place.host, 7801, 8888, "boot", str(place.directory), MEMORY),
        store=still,
        submitter=submitter,  # type: ignore[arg-type]
        engines=frozen,
        lease_left=lambda: 3.0,
        monotonic=time.monotonic,
        token=lambda: "token",
        probe=probe,
        on_error=lambda step, error, times: print(f"reconcile: {step} {error} ({times})"),
    )
    began = time.perf_counter()
    for _ in range(rounds):
        await loop.look()  # its run() would sleep between two of them
        await asyncio.sleep(0)  # steps it began have their turn
    took = time.perf_counter() - began
    await loop.close()
    return {
        "rounds": rounds,
        "seconds": took,
        "orders": frozen.orders,
        "commits": still.commits,
        "answering": sum(e.answering for e in survey.engines),
    }
