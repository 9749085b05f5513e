"""Bench kit: raw output as JSON lines, the machine it was made on, and tables for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """One table of results; cells are ready to print."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


Tables = Callable[[Sequence[Raw]], list[Table]]


class Recorder:
    """Writes the raw lines of one run as they come, so that an interrupted run keeps what it measured."""

    def __init__(self, name: str, quick: bool, wish: Mapping[str, Any]) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = RESULTS / f"{name}-{stamp}{'-quick' if quick else ''}.jsonl"
        self._file = self.path.open("w", encoding="utf-8")
        self.add("run", bench=name, quick=quick, wish=dict(wish), **machine())

    def add(self, kind: str, **values: Any) -> None:
        """One line; it is with the operating system when this returns."""
        self._file.write(json.dumps({"kind": kind, **values}) + "\n")
        self._file.flush()

    def raw(self) -> list[Raw]:
        """Everything recorded so far."""
        return read(self.path)

    def finish(self, tables: Tables) -> None:
        """End the run and print its tables."""
        self.add("end", at=time.strftime("%Y-%m-%d %H:%M:%S"), load=os.getloadavg()[0])
        self._file.close()
        for table in tables(self.raw()):
            show(table)
        say(f"raw output: {self.path.relative_to(ROOT)}")


def read(path: Path) -> list[Raw]:
    """The lines of one raw file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of(raw: Sequence[Raw], kind: str, **wanted: Any) -> list[Raw]:
    """The lines of a kind, with these values."""
    return [line for line in raw if line["kind"] == kind and all(line.get(k) == v for k, v in wanted.items())]


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the product."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    answer = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def say(text: str) -> None:
    """One line for whoever watches."""
    print(text, flush=True)


def progress(text: str) -> None:
    """What is being done, on the terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def show(table: Table) -> None:
    """Print a table with columns in line."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    lines = [list(table.header), *(list(row) for row in table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    print(f"\n{table.title}")
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def markdown(table: Table) -> Iterator[str]:
    """The table as Markdown lines."""
    yield f"**{table.title}**"
    yield ""
    yield "| " + " | ".join(table.header) + " |"
    yield "|" + "---|" * len(table.header)
    for row in table.rows:
        yield "| " + " | ".join(row) + " |"
