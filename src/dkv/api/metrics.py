"""API: rates and totals of the engines' commands. Sampled while they are read, kept in a small ring, never stored.

Each manager samples the engines of its own machine; the one that is asked fetches the rest from the others.
Counting restarts with each engine, so samples are kept by start id (docs/reference/cmdlets.md#metrics).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request

from dkv.api.context import Context, ManagerContext
from dkv.api.routing import Router
from dkv.domain.model import Process, Server, State
from dkv.wire import schemas

log = logging.getLogger("dkv.api")
router = Router(tags=["looking"])

PERIOD = 1.0  # s between two samples
ASLEEP_AFTER = 60.0  # s without a question, after which sampling stops
LONGEST_WINDOW = 60  # s
RATED = {"Get": "gets", "Put": "puts", "Remove": "removes"}

Counts = Mapping[str, Any]
Sample = dict[int, Counts]
"""The counters of each engine of this machine at one moment, by start id."""


class Sampler:
    """The ring of this machine's samples and the task that fills it."""

    def __init__(self, manager: ManagerContext) -> None:
        self._manager = manager
        self._ring: deque[Sample] = deque(maxlen=LONGEST_WINDOW + 1)
        self._read_at = 0.0
        self._beginning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def keep_sampling(self) -> None:
        """The metrics are read: sample now unless samples are being taken, and go on for a minute."""
        self._read_at = asyncio.get_running_loop().time()
        async with self._beginning:  # who comes while the first sample is taken would find none
            if self._task is None or self._task.done():
                self._ring.clear()
                await self.sample()
                self._task = asyncio.create_task(self._run())
                self._task.add_done_callback(_say_why)

    async def sample(self) -> None:
        """Take one sample of all engines."""
        self._ring.append({int(counters["start_id"]): counters for counters in await self._manager.machine.counters()})

    async def close(self) -> None:
        """Stop sampling."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while asyncio.get_running_loop().time() - self._read_at < ASLEEP_AFTER:
            await asyncio.sleep(PERIOD)
            await self.sample()

    def counted(self, start_id: int, window: int) -> tuple[Counts, dict[str, float | None]] | None:
        """An engine's newest counters and its rates a second over the last `window` s; None if it is not sampled."""
        samples = [sample[start_id] for sample in self._ring if start_id in sample]
        if not samples:
            return None
        newest = samples[-1]
        since = newest["at_ms"] - window * 1000 - 500  # half a period of leniency, so that a window is not cut short
        oldest = next(sample for sample in samples if sample["at_ms"] >= since)
        return newest, {name: _rate(oldest, newest, key) for name, key in RATED.items()}


def _rate(oldest: Counts, newest: Counts, key: str) -> float | None:
    took = (newest["at_ms"] - oldest["at_ms"]) / 1000
    gone = newest[key] - oldest[key]
    return round(gone / took, 1) if took > 0 and gone >= 0 else None


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.warning("sampling of the engines ended: %s", task.exception())


@router.get("/admin/v1/metrics")
async def metrics(
    request: Request,
    context: Context,
    window_sec: Annotated[int, Query(alias="windowSec", ge=1, le=LONGEST_WINDOW)] = 5,
    local: bool = False,
) -> schemas.Metrics:
    """Rates over the last `windowSec` and totals, a row per node and metric; `local` leaves other servers out."""
    sampler: Sampler = request.app.state.api.sampler
    state = context.state
    rows, silent = ([], []) if local else await _from_peers(context.manager, state, window_sec)
    await sampler.keep_sampling()
    rows += own_rows(context.manager, sampler, state, window_sec)
    rows.sort(key=lambda row: (row["store"], row["instanceName"] or ""))
    control = request.app.state.api.control
    refused = dict(control.attempts.counted) if control else {}
    return {"metrics": rows, "updated": context.manager.clock(), "silentServers": silent, "refusedRequests": refused}


def own_rows(manager: ManagerContext, sampler: Sampler, state: State, window: int) -> list[schemas.Metric]:
    """The rows of this machine's engines."""
    rows: list[schemas.Metric] = []
    for _, process in sorted(state.processes.items()):
        counted = sampler.counted(process.start_id, window) if process.server_id == manager.server_id else None
        if counted is None:
            continue
        newest, rates = counted
        rated = [(metric, rates[metric], newest[key]) for metric, key in RATED.items()]
        node = _node_of(manager, state, process)
        rows += [_row(state, process, node, metric) for metric in (*rated, ("Count", None, newest["keys"]))]
    return rows


def _node_of(manager: ManagerContext, state: State, process: Process) -> str:
    server = state.servers.get(process.server_id)
    return f"{server.host if server else manager.address}/{manager.node_id(state, process)[:8]}"


def _row(state: State, process: Process, node: str, counted: tuple[str, float | None, int]) -> schemas.Metric:
    archive, (metric, rate, total) = state.archive_of(process), counted
    return {
        "store": process.database,
        "instanceName": archive.name if archive else None,
        "node": node,
        "category": "DKV",
        "metric": metric,
        "rate": rate,
        "total": total,
    }


async def _from_peers(manager: ManagerContext, state: State, window: int) -> tuple[list[schemas.Metric], list[str]]:
    """The rows of the other servers that run something, and the ids of those that did not answer."""
    busy = {process.server_id for process in state.processes.values()} - {manager.server_id}
    peers = [server for name, server in sorted(state.servers.items()) if name in busy]
    answers = await asyncio.gather(*(_from_peer(manager, peer, window) for peer in peers))
    rows = [row for metrics in answers if metrics is not None for row in metrics]
    return rows, [peer.server_id for peer, metrics in zip(peers, answers, strict=True) if metrics is None]


async def _from_peer(manager: ManagerContext, peer: Server, window: int) -> list[schemas.Metric] | None:
    target = f"/admin/v1/metrics?windowSec={window}&local=true"
    try:
        async with asyncio.timeout(manager.peers.patience):
            answer = await manager.peers.fetch(peer, target, manager.peers.patience)
        rows: list[schemas.Metric] = answer["metrics"]
        return rows
    except (OSError, ValueError, KeyError) as error:
        log.info("no metrics from %s: %r", peer.server_id, error)
        return None
