"""Domain: how long a look at a domain takes, beside the real nuocmd, and how long a database takes to start.

Two managers, one database of one group. Measured: `dkv start database` from fork until the database is RUNNING and its
two SMs and two TEs are MONITORED:RUNNING, again and again; `dkv show domain` in a process of its own, from fork to exit,
with 20 running processes and beside the unmodified nuocmd on the same domain, taking turns; and `dkv show domain` once
1,000 processes are in the state (those beyond the first 20 are TEs requested on a server that is away).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from dkv.client import Json
from dkv.control.submit import Submitter
from dkv.domain.command import Command
from dkv.domain.decision import Refused
from dkv.domain.facts import ServerJoined
from dkv.domain.model import ProcessRole
from dkv.domain.orders import StartProcess
from dkv.store.sqlite import SqliteStore
from kit import plot
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import DKV, PATIENT, Stage, arguments, staged, until
from kit.stats import interval, percentile, verdict

DATABASE, GHOST = "bench", "away"
RUNNING = 20  # processes that really run while a look is measured
START, LOOK, MANY = 1500.0, 150.0, 250.0  # ms
NUOCMD = [sys.executable, "-m", "pynuoadmin.nuocmd"]


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        starts=(20, 3, "starts of the database"),
        looks=(30, 4, "looks of each program"),
        processes=(1000, 40, "processes in the state for the last look"),
    )
    recorder = Recorder("domain", wish.quick, vars(wish))
    with staged(2, RUNNING) as stage:
        servers = [place.server_id for place in stage.domain.site.places]
        create(stage, servers)
        for number in range(wish.starts):
            start(stage, recorder, servers, number)
        crowd(stage, servers)
        programs = {"dkv": [DKV, "show", "domain"], "nuocmd": [*NUOCMD, "show", "domain"]}
        look(stage, recorder, programs, wish.looks, RUNNING)
        asyncio.run(fill(stage.directory / "domain.sqlite", wish.processes - RUNNING))
        look(stage, recorder, programs, wish.looks, wish.processes)
    draw(recorder)
    recorder.finish(tables)


def create(stage: Stage, servers: Sequence[str]) -> None:
    """Two archives and their database, nothing started."""
    for server in servers:
        path = str(stage.directory / f"archive-{server}")
        stage.cmdlet("create", "archive", "--db-name", DATABASE, "--server-id", server, "--archive-path", path)
    words = ["--dba-user", "dba", "--dba-password", secrets.token_hex(4), "--no-autostart"]
    stage.cmdlet("create", "database", "--db-name", DATABASE, *words)


def start(stage: Stage, recorder: Recorder, servers: Sequence[str], number: int) -> None:
    """One whole start, and the stop after it."""
    began = time.monotonic()
    stage.cmdlet("start", "database", "--db-name", DATABASE, "--te-server-ids", *servers)
    begun = time.monotonic()
    until(lambda: settled(stage, 4) or None, PATIENT, "the database to run", 0.02)
    recorder.add("start", number=number, ms=1000 * (time.monotonic() - began), asked_ms=1000 * (begun - began))
    stage.cmdlet("shutdown", "database", "--db-name", DATABASE)
    until(lambda: settled(stage, 0) or None, PATIENT, "the database to stop", 0.02)
    progress(f"start {number + 1}")


def settled(stage: Stage, count: int) -> bool:
    """Whether exactly `count` processes are there, all of them running; none means that the database does not run."""
    state = ask(stage, f"/api/1/databases/{DATABASE}")["state"]
    processes = ask(stage, f"/api/1/processes?limit=100&filterBy=dbName&dbName={DATABASE}")["data"]
    running = all((p["durableState"], p["state"]) == ("MONITORED", "RUNNING") for p in processes)
    return bool(state == ("RUNNING" if count else "NOT_RUNNING") and len(processes) == count and running)


def ask(stage: Stage, path: str) -> Json:
    """One question to a manager."""
    answer: Json = json.loads(stage.domain.ask(lambda client: client.request("GET", path)).body)
    return answer


def crowd(stage: Stage, servers: Sequence[str]) -> None:
    """Start the database again, with TEs until RUNNING processes run."""
    extra = [servers[number % len(servers)] for number in range(RUNNING - 2)]
    stage.cmdlet("start", "database", "--db-name", DATABASE)
    for server in extra:
        stage.cmdlet("start", "process", "--db-name", DATABASE, "--engine-type", "TE", "--server-id", server)
    until(lambda: settled(stage, RUNNING) or None, PATIENT, f"{RUNNING} processes to run", 0.1)


async def fill(state: Path, count: int) -> None:
    """Request TEs on a server whose manager never was: they stay REQUESTED. Raises RuntimeError."""
    store = await SqliteStore.open(state)
    submitter = Submitter(store, lambda: int(time.time() * 1000), lambda: secrets.token_hex(16))

    async def submit(command: Command) -> None:
        done = await submitter.submit(command)
        if isinstance(done, Refused):
            raise RuntimeError(f"{done.message} {done.hint}")

    try:
        here = ServerJoined(server_id=GHOST, uid=GHOST, host="127.0.0.99", port=1, nuodb_port=2, boot_id="none")
        await submit(here)
        for number in range(count):
            await submit(StartProcess(database=DATABASE, role=ProcessRole.TE, server_id=GHOST))
            progress(f"process {number + 1} of {count}")
    finally:
        await store.close()


def look(stage: Stage, recorder: Recorder, programs: dict[str, list[str]], count: int, processes: int) -> None:
    """`show domain` of both programs in turns."""
    manager = stage.domain.managers[0]
    environ = {**stage.nuocmd_environ, "NUOCMD_API_SERVER": manager}
    for number in range(count):
        for name, command in programs.items():
            began = time.monotonic()
            done = subprocess.run(command, env=environ, capture_output=True, text=True)
            took = 1000 * (time.monotonic() - began)
            if done.returncode != 0 or done.stdout.count("start_id") != processes:
                raise RuntimeError(f"{name} failed or does not show {processes} processes: {done.stdout}{done.stderr}")
            recorder.add("look", program=name, processes=processes, number=number, ms=took)


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Looks, and starts."""
    return [table for table in (_looks(raw), _starts(raw)) if table.rows]


def _looks(raw: Sequence[Raw]) -> Table:
    rows = []
    for processes in sorted({r["processes"] for r in of(raw, "look")}):
        times = {name: [r["ms"] for r in of(raw, "look", processes=processes, program=name)] for name in ("dkv", "nuocmd")}
        target = LOOK if processes == RUNNING else MANY
        for name, values in times.items():
            low, high = interval(values)
            judged = f"{target:.0f} ms {verdict(median(values), target)}" if name == "dkv" else ""
            ratio = f"{median(values) / median(times['dkv']):.2f}"
            rows.append((str(processes), name, str(len(values)), f"{median(values):.0f} [{low:.0f}, {high:.0f}]", ratio, judged))
    header = ("processes", "program", "looks", "median ms [95 %]", "ratio", "target")
    return Table("show domain, as a process from fork to exit", header, rows)


def _starts(raw: Sequence[Raw]) -> Table:
    times = [r["ms"] for r in of(raw, "start")]
    if not times:
        return Table("", (), [])
    low, high = interval(times)
    p95 = percentile(times, 0.95)
    row = (str(len(times)), f"{median(times):.0f} [{low:.0f}, {high:.0f}]", f"{p95:.0f}", f"{START:.0f} ms {verdict(p95, START)}")
    header = ("starts", "median ms [95 %]", "p95 ms", "target p95")
    return Table("Start of a database, 2 SMs and 2 TEs, until all run", header, [row])


def draw(recorder: Recorder) -> None:
    """Looks and starts."""
    raw = recorder.raw()
    series = {
        f"{name}, {count} processes": [r["ms"] for r in of(raw, "look", program=name, processes=count)]
        for name in ("dkv", "nuocmd")
        for count in sorted({r["processes"] for r in of(raw, "look")})
    }
    plot.distributions(recorder.path.with_suffix(".svg"), "show domain, from fork to exit", series, LOOK)


if __name__ == "__main__":
    main()
