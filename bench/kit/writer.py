"""Bench kit: a writer process at a steady rate that logs every write with the moments it was sent and answered.

`python writer.py KIND LOG RATE KEYS TAG ENDPOINTS [STORE MANAGERS]` runs until SIGTERM. Keys are used again after
KEYS writes, so that the data set stays small however long a run is; whoever proves that nothing was lost reads each
key before it is used again. A line is: mark, number of the write, sent, answered (monotonic seconds).
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit.resp import Line, Refused

PLAIN, HASTY, CONFIRMED, LIBRARY = "plain", "hasty", "confirmed", "library"
HASTY_WITHIN, PLAIN_WITHIN = 0.5, 2.0  # s an endpoint has to connect or to answer
ACKNOWLEDGED, SURE, DOUBT = "a", "c", "d"  # +OK; confirmed by every required copy; sent, and no answer came
PAUSE = 0.002  # s between two tries while nobody serves
BEHIND = 0.05  # s after which lost time is not caught up


def key_of(tag: str, kind: str, n: int, keys: int) -> str:
    """The key of the n-th write."""
    return f"{tag}:{kind}:{n % keys}"


class Pace:
    """A steady schedule: `next` waits for the moment of the next write."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._at = time.monotonic()

    def next(self) -> None:
        """Wait; what an outage cost is not made up for by a burst."""
        self._at += self._step
        left = self._at - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif left < -BEHIND:
            self._at = time.monotonic()


class Plain:
    """SET over one socket to whoever takes it: follows MOVED, tries the next endpoint when a line breaks.

    No library is in its way, so that it measures the store alone; what a user of one sees is measured by `library`.
    """

    def __init__(self, endpoints: Sequence[str], within: float = PLAIN_WITHIN) -> None:
        self._endpoints = list(endpoints)
        self._within = within
        self._line: Line | None = None

    def set(self, key: str, value: str) -> str | None:
        """ACKNOWLEDGED, DOUBT when the answer was lost, None when it was certainly not done."""
        try:
            line = self._line or self._connect()
        except OSError:
            return self._next()
        try:
            line.ask("SET", key, value)
        except Refused as refused:
            return self._moved(str(refused))
        except OSError:
            self._next()
            return DOUBT
        return ACKNOWLEDGED

    def _connect(self) -> Line:
        self._line = Line(self._endpoints[0], self._within)
        return self._line

    def _next(self) -> None:
        self._drop()
        self._endpoints.append(self._endpoints.pop(0))
        time.sleep(PAUSE)

    def _moved(self, why: str) -> None:
        words = why.split()
        if words[0] == "MOVED" and words[2] in self._endpoints:
            self._drop()
            self._endpoints.remove(words[2])
            self._endpoints.insert(0, words[2])
        time.sleep(PAUSE)

    def _drop(self) -> None:
        if self._line:
            self._line.close()
        self._line = None


def confirming(store: str, managers: Sequence[str]) -> Callable[[str, str], str | None]:
    """SET through the product's confirming client."""
    from dkv.confirm import ConfirmingClient, Kind

    client = ConfirmingClient(managers, store)
    marks = {Kind.CONFIRMED: SURE, Kind.ACKNOWLEDGED: ACKNOWLEDGED, Kind.FAILED: DOUBT}
    return lambda key, value: marks[client.set(key, value, timeout=10.0).kind]


def library(endpoints: Sequence[str]) -> Callable[[str, str], str | None]:
    """SET as an ordinary application does it: the library's cluster client by its defaults, made once and kept."""
    from valkey.cluster import ClusterNode, ValkeyCluster
    from valkey.exceptions import ValkeyClusterException, ValkeyError

    places = [endpoint.rpartition(":") for endpoint in endpoints]
    client = ValkeyCluster(startup_nodes=[ClusterNode(host, int(port)) for host, _, port in places])

    def put(key: str, value: str) -> str:
        try:
            client.set(key, value)
        except (ValkeyError, ValkeyClusterException, OSError):
            time.sleep(PAUSE)
            return DOUBT
        return ACKNOWLEDGED

    return put


def write(
    out: TextIO, ask: Callable[[str, str], str | None], pace: Pace, name: Callable[[int], str], stopped: Callable[[], bool]
) -> None:
    """Write until stopped; a write that was certainly not done keeps its number."""
    for n in itertools.count():
        mark = None
        while mark is None:
            if stopped():
                return
            pace.next()
            sent = time.monotonic()
            mark = ask(name(n), str(n))
        out.write(f"{mark} {n} {sent:.6f} {time.monotonic():.6f}\n")
        out.flush()


def main(words: Sequence[str]) -> int:
    """Write until SIGTERM."""
    kind, file, rate, keys, tag, endpoints, *more = words
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if kind == CONFIRMED:
        ask = confirming(more[0], more[1].split(","))
    elif kind == LIBRARY:
        ask = library(endpoints.split(","))
    else:
        ask = Plain(endpoints.split(","), HASTY_WITHIN if kind == HASTY else PLAIN_WITHIN).set
    with open(file, "w", encoding="utf-8") as out:
        write(out, ask, Pace(float(rate)), lambda n: key_of(tag, kind, n, int(keys)), lambda: bool(ended))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
