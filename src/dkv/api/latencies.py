"""API: how long commands took of late: percentiles of the last seconds, from histograms that engines keep since they started.

Engines count calls by bounds that double, so that a percentile is interpolated between two of them, as Prometheus does with its
histograms.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dkv.api.context import Histogram, ManagerContext

WINDOW = 10.0  # s that percentiles are of
LEAST = 0.5  # s between two readings: who asks sooner is answered from the one before

OF_MANAGERS = frozenset(
    "acl auth client cluster command commandlog config debug echo exec hello info latency multi ping psync quit readonly "
    "replconf script select slowlog sync wait waitaof watch".split()
)
"""Commands that managers and engines send each other, or that touch no data."""


@dataclass(frozen=True)
class Latency:
    """The data command that was called most within the window, and how long it took, in microseconds; "" and None without any."""

    command: str = ""
    p50: float | None = None
    p99: float | None = None


def added(first: Histogram, second: Histogram, sign: int = 1) -> dict[int, int]:
    """The calls of both histograms; with `sign` -1 those of the first that the second has not."""
    one, other, calls = 0, 0, {}
    for bound in sorted({*first, *second}):
        one, other = first.get(bound, one), second.get(bound, other)
        calls[bound] = one + sign * other
    return calls


def within(before: Histogram, after: Histogram) -> dict[int, int]:
    """The calls that `after` has and `before` has not. All of `after` where it has fewer: it was begun anew."""
    begun_anew = max(before.values(), default=0) > max(after.values(), default=0)
    return dict(after) if begun_anew else added(after, before, sign=-1)


def quantile(calls: Histogram, part: float) -> float | None:
    """The time in microseconds that this part of the calls took at most; None without calls."""
    total = max(calls.values(), default=0)
    before = 0
    for bound, count in sorted(calls.items()):
        if count > before and count >= part * total:
            lower = 0.0 if bound <= 1 else bound / 2
            return round(lower + (bound - lower) * (part * total - before) / (count - before), 1)
        before = max(before, count)
    return None


def latency_of(before: Mapping[str, Histogram], after: Mapping[str, Histogram]) -> Latency:
    """Of one process, from what its engines said at two moments."""
    data = {name: within(before.get(name, {}), after[name]) for name in after if name.partition("|")[0] not in OF_MANAGERS}
    calls = {name: max(counts.values(), default=0) for name, counts in data.items()}
    busiest = max(calls, key=lambda name: calls[name], default="")
    if not calls.get(busiest):
        return Latency()
    return Latency(busiest, quantile(data[busiest], 0.5), quantile(data[busiest], 0.99))


class Latencies:
    """What the engines of this machine said within the window; read when it is asked for, and by no one else."""

    def __init__(self, manager: ManagerContext) -> None:
        self._manager = manager
        self.readings: deque[tuple[float, Mapping[int, Mapping[str, Histogram]]]] = deque()
        self._reading = asyncio.Lock()

    async def read(self) -> Mapping[int, Latency]:
        """By start id. Nothing is known of an engine's calls before it was read first."""
        return await self.read_at(asyncio.get_running_loop().time())

    async def read_at(self, now: float) -> Mapping[int, Latency]:
        """The same at a moment, in seconds."""
        async with self._reading:
            while self.readings and self.readings[0][0] < now - WINDOW - LEAST:
                self.readings.popleft()
            if not self.readings or self.readings[-1][0] <= now - LEAST:
                self.readings.append((now, _by_process(await self._manager.machine.numbers.latencies())))
            newest = self.readings[-1][1]
            oldest = {start: next(past[start] for _, past in self.readings if start in past) for start in newest}
        return {start: latency_of(oldest[start], commands) for start, commands in newest.items()}


def _by_process(engines: Sequence[tuple[int, Mapping[str, Histogram]]]) -> Mapping[int, Mapping[str, Histogram]]:
    processes: dict[int, dict[str, Histogram]] = {}
    for start_id, commands in engines:
        process = processes.setdefault(start_id, {})
        for name, calls in commands.items():
            process[name] = added(process[name], calls) if name in process else calls
    return processes
