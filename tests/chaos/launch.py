"""Starts the product's own command line with a wall clock that can be moved, or with a bug planted: `-m tests.chaos.launch`.

libfaketime, which would move the clock of any program, breaks `time.sleep` of Python 3.11 and newer, so the clock is replaced
here before anything of dkv is imported. CHAOS_CLOCK names a file that holds the jump in seconds, CHAOS_PLANT a planted bug.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLOCK, PLANT = "CHAOS_CLOCK", "CHAOS_PLANT"
_true_ns: Callable[[], int] = time.time_ns


def jump_of(path: Path) -> int:
    """The jump (s) that a file holds; 0 for none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def move_clock(path: Path) -> None:
    """Have the wall clock of this process go by the file, which is read at each look."""
    time.time_ns = lambda: _true_ns() + jump_of(path) * 1_000_000_000
    time.time = lambda: time.time_ns() / 1e9


def main() -> int:
    """Run `dkv` with the words of this command line."""
    if path := os.environ.get(CLOCK):
        move_clock(Path(path))
    from dkv.cli.main import main as dkv

    if name := os.environ.get(PLANT):
        from tests.chaos.planted import PLANTS

        PLANTS[name]()
    return dkv()


if __name__ == "__main__":
    sys.exit(main())
