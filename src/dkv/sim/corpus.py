"""Simulation: the seeds that once failed or reached something rare, one a line: `SEED[.VARIANT]  # why`."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

Run = tuple[int, int]  # seed, variant

SELDOM = 2  # runs in which something may have been seen and still is rare
UNKNOWN_AFTER = 200  # runs of which nothing is called rare: everything is, at first


class Corpus:
    """What was read from a file, and what this session adds to it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.known = _read(path)
        self._seen: Counter[str] = Counter()  # in how many runs each probe was seen
        self._runs = 0

    def note(self, run: Run, counts: Counter[str], failure: str) -> str:
        """Look at what a run reached; why it was added, or nothing."""
        reached = [name for name, count in counts.items() if count]
        rare = [name for name in reached if self._seen[name] < SELDOM] if self._runs >= UNKNOWN_AFTER else []
        self._seen.update(reached)
        self._runs += 1
        why = f"failed: {failure}" if failure else f"reached: {', '.join(sorted(rare)[:3])}" if rare else ""
        if why and run not in self.known:
            self._add(run, why)
        return why

    def _add(self, run: Run, why: str) -> None:
        self.known.append(run)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{written(run)}  # {why}\n")

    def runs(self, first: int, chance: random.Random) -> Iterator[Run]:
        """For ever: what is known, then new seeds; every third is a variant of something known."""
        yield from list(self.known)
        seed = first
        while True:
            if self.known and chance.random() < 1 / 3:
                yield chance.choice(self.known)[0], chance.randrange(1, 1_000_000)
            else:
                yield seed, 0
                seed += 1


def written(run: Run) -> str:
    """A run as the command line takes it."""
    return f"{run[0]}.{run[1]}" if run[1] else f"{run[0]}"


def parsed(text: str) -> Run:
    """A run as the command line names it. Raises ValueError."""
    seed, _, variant = text.partition(".")
    return int(seed), int(variant or 0)


def _read(path: str) -> list[Run]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [line.partition("#")[0].strip() for line in file]
    return [parsed(line) for line in lines if line]
