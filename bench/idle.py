"""Idle: what a manager costs while nothing happens, and what a look at it costs.

One manager with 20 engines (20 groups of one copy). Measured: `dkv Get-DkvStore` in a process of its own, from fork to
exit; processor time and memory of the manager while nobody asks it anything; and 10,000 rounds of its reconcile loop
on the view and the engines as they are, with a stand-in for the engine room that counts every order it is given.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from kit import plot
from kit.reconciles import reconcile
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import DKV, Stage, arguments, staged
from kit.stats import interval, verdict

STORE = "bench"
LOOK, CORE, MEMORY = 150.0, 1.0, 90.0  # ms, percent of a core, MB
WINDOWS = 3


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        engines=(20, 4, "engines of the one manager"),
        looks=(30, 4, "calls of dkv Get-DkvStore"),
        seconds=(30, 2, "length of each of three windows"),
        reconciles=(10_000, 200, "rounds of the loop"),
    )
    recorder = Recorder("idle", wish.quick, vars(wish))
    with staged(1, wish.engines) as stage:
        stage.make(STORE, "-InstanceCount", str(wish.engines), "-ReplicationFactor", "1")
        time.sleep(20.0 if wish.seconds >= 10 else wish.seconds)  # 380 made-up nodes of the start are forgotten one by one
        watch_manager(stage, recorder, wish.seconds)
        look(stage, recorder, wish.looks)
        place = stage.domain.site.places[0]
        reconciled = asyncio.run(reconcile(stage.directory / "domain.sqlite", place, wish.reconciles))
        recorder.add("reconcile", engines=wish.engines, **reconciled)
    draw(recorder)
    recorder.finish(tables)


def watch_manager(stage: Stage, recorder: Recorder, seconds: int) -> None:
    """Processor time over windows, and memory after each."""
    (pid, _), *_ = stage.domain.record.processes
    for number in range(WINDOWS):
        began, before = time.monotonic(), cpu_seconds(pid)
        time.sleep(seconds)
        spent, took = cpu_seconds(pid) - before, time.monotonic() - began
        recorder.add("idle", number=number, percent=100 * spent / took, memory_mb=resident_mb(pid), seconds=took)
        progress(f"idle window {number + 1} of {WINDOWS}")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far: its own, not its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


def look(stage: Stage, recorder: Recorder, count: int) -> None:
    """`dkv Get-DkvStore`, beside the bare start of the same Python."""
    commands = {"dkv Get-DkvStore": [DKV, "Get-DkvStore"], "python -c pass": [sys.executable, "-c", "pass"]}
    for number in range(count):
        for name, command in commands.items():
            began = time.monotonic()
            subprocess.run(command, env=stage.environ, capture_output=True, check=True)
            recorder.add("look", command=name, number=number, ms=1000 * (time.monotonic() - began))


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """A look, an idle manager, reconciles."""
    return [table for table in (_looks(raw), _idle(raw), _reconciles(raw)) if table.rows]


def _looks(raw: Sequence[Raw]) -> Table:
    rows = []
    for name in ("dkv Get-DkvStore", "python -c pass"):
        times = [r["ms"] for r in of(raw, "look", command=name)]
        if times:
            low, high = interval(times)
            judged = f"{LOOK:.0f} ms {verdict(median(times), LOOK)}" if name.startswith("dkv") else ""
            rows.append((name, str(len(times)), f"{min(times):.0f}", f"{median(times):.0f} [{low:.0f}, {high:.0f}]", judged))
    return Table("A look, as a process from fork to exit", ("command", "runs", "min ms", "median ms [95 %]", "target"), rows)


def _idle(raw: Sequence[Raw]) -> Table:
    windows = of(raw, "idle")
    if not windows:
        return Table("", (), [])
    engines = of(raw, "run")[0]["wish"]["engines"]
    percents, memory = [w["percent"] for w in windows], max(w["memory_mb"] for w in windows)
    shown = ", ".join(f"{p:.2f}" for p in percents)
    rows = [
        (str(engines), "processor, % of a core", shown, f"{CORE:g} {verdict(median(percents), CORE)}"),
        (str(engines), "resident memory, MB", f"{memory:.0f}", f"{MEMORY:g} {verdict(memory, MEMORY)}"),
    ]
    return Table("An idle manager", ("engines", "what", "in each window", "target"), rows)


def _reconciles(raw: Sequence[Raw]) -> Table:
    rows = [
        (
            str(r["engines"]),
            str(r["rounds"]),
            f"{1000 * r['seconds'] / r['rounds']:.3f}",
            str(r["orders"]),
            f"0 {verdict(r['orders'], 0)}",
        )
        for r in of(raw, "reconcile")
    ]
    return Table("Reconciles of an unchanged view", ("engines", "rounds", "ms a round", "engine commands", "target"), rows)


def draw(recorder: Recorder) -> None:
    """Looks."""
    raw = recorder.raw()
    series = {name: [r["ms"] for r in of(raw, "look", command=name)] for name in ("dkv Get-DkvStore", "python -c pass")}
    plot.distributions(recorder.path.with_suffix(".svg"), "A look, from fork to exit", series, LOOK)


if __name__ == "__main__":
    main()
