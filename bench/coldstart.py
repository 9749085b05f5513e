"""Cold start: all engines of a store are killed at once while their managers stay up; when does it take writes again?

A store of one group with 100,000 keys, first with one copy, then with two on two servers. SIGKILL of all its engines
within a millisecond or two; the clock stops at the first write that is taken. Then every key is read back, and the
writes taken in earlier rounds too. The peer is one bare server with the same data, started again at once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence

from create import accepts
from dkv.client import Json
from dkv.playground.addresses import engines, is_alive
from kit import plot
from kit.peer import DURABLE, Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, Line, tag_in
from kit.stage import PATIENT, Stage, arguments, staged, until
from kit.stats import interval, percentile, verdict
from kit.written import read_back

TARGET = 1000.0  # ms
BATCH = 2000
LENGTH = 100  # bytes of a value


def main() -> None:
    """Measure, record, print."""
    wish = arguments(__doc__, keys=(100_000, 5000, "keys in the store"), rounds=(10, 2, "rounds of each shape"))
    recorder = Recorder("coldstart", wish.quick, vars(wish))
    for copies in (1, 2):
        with staged(copies, 1) as stage:
            measure_store(stage, recorder, wish.keys, wish.rounds)
            if copies == 1:
                measure_peer(stage, recorder, wish.keys, wish.rounds)
    draw(recorder)
    recorder.finish(tables)


def measure_store(stage: Stage, recorder: Recorder, keys: int, rounds: int) -> None:
    """Kill everything, again and again."""
    copies = len(stage.domain.managers)
    store = stage.make("bench", "-ReplicationFactor", str(copies))
    endpoints = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
    tag = tag_in(0, SLOTS - 1)
    fill(store["groups"][0]["leaderEndpoint"], keys)
    for number in range(rounds):
        settled(stage, store)
        killed = kill_all(stage)
        first = first_write(endpoints, tag)
        lost = missing(endpoints, keys)
        recorder.add("round", side=f"dkv 1x{copies}", number=number, first_ms=1000 * (first - killed), lost=lost, keys=keys)
        stage.whole("bench")
        progress(f"1x{copies}: round {number + 1} of {rounds}")


def settled(stage: Stage, store: Json) -> None:
    """All copies in sync for a random while: a kill may come at any moment, but of a store that works."""
    stage.whole(str(store["name"]))
    time.sleep(random.uniform(0.5, 2.0))


def kill_all(stage: Stage) -> float:
    """SIGKILL every engine; the moment of the first."""
    living = [pid for pid, start in engines(stage.directory) if is_alive(pid, start)]
    at = time.monotonic()
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return at


def first_write(endpoints: Sequence[str], tag: str) -> float:
    """The moment of the first write that is taken."""
    until(lambda: any(accepts(endpoint, tag) for endpoint in endpoints) or None, PATIENT, "a write", 0.002)
    return time.monotonic()


def value_of(n: int) -> str:
    """What the n-th key must hold."""
    return f"{n}:".ljust(LENGTH, "x")


def fill(endpoint: str, keys: int) -> None:
    """Write all keys; each write is acknowledged when this returns."""
    with Line(endpoint, 30) as line:
        for start in range(0, keys, BATCH):
            answers = line.ask_all([("SET", f"cold:{n}", value_of(n)) for n in range(start, min(keys, start + BATCH))])
            if any(answer != "OK" for answer in answers):
                raise RuntimeError(f"the keys could not be written: {next(a for a in answers if a != 'OK')}")


def missing(endpoints: Sequence[str], keys: int) -> int:
    """How many keys do not hold what was written."""
    lost = 0
    for start in range(0, keys, BATCH):
        numbers = range(start, min(keys, start + BATCH))
        names = [f"cold:{n}" for n in numbers]
        values = until(lambda wanted=names: read_back(endpoints, wanted), PATIENT, "the keys to be readable", 0.02)
        lost += sum(value != value_of(n).encode() for n, value in zip(numbers, values, strict=True))
    return lost


def measure_peer(stage: Stage, recorder: Recorder, keys: int, rounds: int) -> None:
    """A bare server in cluster mode, killed and started again at once."""
    with Peer(stage, "peer", 1, DURABLE) as peer:
        peer.form_one_group()
        fill(peer.endpoints[0], keys)
        for number in range(rounds):
            time.sleep(random.uniform(0.5, 2.0))
            killed = peer.nodes[0].kill()
            peer.nodes[0].start()
            first = first_write(peer.endpoints, "{peer}")
            lost = missing(peer.endpoints, keys)
            recorder.add("round", side="bare valkey", number=number, first_ms=1000 * (first - killed), lost=lost, keys=keys)
            progress(f"bare: round {number + 1} of {rounds}")


# Results -----------------------------------------------------------------------------------------------------------


def sides(raw: Sequence[Raw]) -> dict[str, list[Raw]]:
    """The rounds of each side."""
    by_side = {side: of(raw, "round", side=side) for side in ("dkv 1x1", "dkv 1x2", "bare valkey")}
    return {side: rounds for side, rounds in by_side.items() if rounds}


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Times and losses."""
    rows = []
    measured = sides(raw)
    base = percentile([r["first_ms"] for r in next(iter(measured.values()))], 0.5) if measured else 0.0
    for side, rounds in measured.items():
        times = [r["first_ms"] for r in rounds]
        p50, (low, high) = percentile(times, 0.5), interval(times)
        judged = f"{TARGET:.0f} ms {verdict(max(times), TARGET)}" if side.startswith("dkv") else ""
        rows.append(
            (
                side,
                str(len(times)),
                str(rounds[0]["keys"]),
                f"{p50:.0f} [{low:.0f}, {high:.0f}]",
                f"{max(times):.0f}",
                f"{p50 / base:.2f}",
                str(sum(r["lost"] for r in rounds)),
                judged,
            )
        )
    header = ("side", "rounds", "keys", "p50 ms [95 %]", "max ms", "ratio of p50", "keys lost", "target max")
    return [Table("From SIGKILL of all engines to the first write", header, rows)]


def draw(recorder: Recorder) -> None:
    """The distributions."""
    series = {side: [r["first_ms"] for r in rounds] for side, rounds in sides(recorder.raw()).items()}
    plot.distributions(recorder.path.with_suffix(".svg"), "From SIGKILL of all engines to the first write", series, TARGET)


if __name__ == "__main__":
    main()
