"""Simulation: the command. `python -m dkv.sim SEED` prints the trace of one run; `--seeds N [--from S]` runs a fleet; `--hours H`
runs seeds for that long: those of the corpus first, then new ones and variants of what is in it.

Exit 0 if everything held, 1 if not, 2 for bad usage. A failing fleet prints the story of its first failure, without the strikes
that it does not need, and one command that replays it; one of 200 seeds or more also fails if a kind of fault hardly ever struck.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

from dkv.sim.checks.probes import FLEET, rare, table
from dkv.sim.corpus import Corpus, Run, parsed
from dkv.sim.scenario import Outcome, play
from dkv.sim.shrink import shrink

CORPUS = "tests/sim/corpus.txt"
BATCH = 8  # runs given to each process at once, of those that go on for hours
RUNS = 100  # of one process: each leaves about 4 MB behind, and a new process takes half a second


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dkv.sim", description="the deterministic simulation of dkv")
    parser.add_argument("seed", nargs="?", type=parsed, help="print the trace of this seed, or of SEED.VARIANT")
    parser.add_argument("--only", metavar="NAMES", help="with these strikes only, by their names in the story of a failure")
    parser.add_argument("--seeds", type=int, metavar="N", help="run a fleet of N seeds")
    parser.add_argument("--hours", type=float, metavar="H", help="run seeds for H hours")
    parser.add_argument("--corpus", metavar="FILE", default=CORPUS, help=f"seeds worth playing again ({CORPUS})")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="S", help="the fleet's first seed (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes to use")
    parser.add_argument("--probes", action="store_true", help="also print every kind of event, counted")
    chosen = parser.parse_args(arguments)
    if [chosen.seed, chosen.seeds, chosen.hours].count(None) != 2:
        parser.error("give one SEED, or --seeds N, or --hours H")
    if chosen.seed is not None:
        return _replay(chosen.seed, None if chosen.only is None else chosen.only.split(","), chosen.probes)
    fleet = Fleet(chosen.jobs, chosen.probes)
    if chosen.hours is not None:
        return fleet.play_for(chosen.hours * 3600, Corpus(chosen.corpus), chosen.first)
    return fleet.play(range(chosen.first, chosen.first + chosen.seeds))


def _replay(run: Run, only: Sequence[str] | None, probes: bool) -> int:
    outcome = play(run[0], only, run[1])
    print("\n".join(outcome.trace))
    _print_counts(Counter({name: count for name, count in outcome.counts.items() if count}), probes)
    print(outcome.summary())
    return 1 if outcome.failures else 0


class Fleet:
    """Many runs in several processes, and what they came to."""

    def __init__(self, jobs: int, probes: bool) -> None:
        self._jobs, self._probes = max(1, jobs), probes
        self._begun = time.monotonic()
        self._seen: Counter[str] = Counter()
        self._failed: list[Outcome] = []
        self._runs = self._writes = 0

    def play(self, seeds: range) -> int:
        """These seeds; the exit code."""
        with multiprocessing.Pool(self._jobs, _untidy, maxtasksperchild=RUNS) as pool:
            for outcome in pool.imap_unordered(_short, ((seed, 0) for seed in seeds)):
                self._note(outcome)
        seldom = rare(self._seen) if len(seeds) >= FLEET else []
        self._end(seldom)
        return 1 if self._failed or seldom else 0

    def play_for(self, seconds: float, corpus: Corpus, first: int) -> int:
        """For so long; the exit code. What failed or was rare is added to the corpus."""
        runs = corpus.runs(first, random.Random(first))
        with multiprocessing.Pool(self._jobs, _untidy, maxtasksperchild=RUNS) as pool:
            while time.monotonic() - self._begun < seconds:
                for outcome in pool.imap_unordered(_short, list(itertools.islice(runs, BATCH * self._jobs))):
                    self._note(outcome)
                    corpus.note((outcome.seed, outcome.variant), outcome.counts, next(iter(outcome.failures), ""))
        self._end([])
        return 1 if self._failed else 0

    def _note(self, outcome: Outcome) -> None:
        self._seen.update(outcome.counts)
        self._seen.update({f"lost {why}": count for why, count in outcome.lost.items()})
        self._runs, self._writes = self._runs + 1, self._writes + outcome.writes
        if outcome.failures:
            self._failed.append(outcome)
            print(f"{outcome.summary()}\n    {outcome.failures[0]}", flush=True)

    def _end(self, seldom: Sequence[str]) -> None:
        _print_counts(self._seen, self._probes)
        seconds = time.monotonic() - self._begun
        print(f"{self._runs} seeds, {len(self._failed)} failed, {self._writes} writes, {seconds:.0f} s")
        if self._failed:
            _tell(min(self._failed, key=lambda outcome: (outcome.seed, outcome.variant)))
        if seldom:
            print(f"these faults hardly ever struck: {', '.join(seldom)}")


def _tell(failure: Outcome) -> None:
    """The story of a failure without what it does not need, and how to see it again."""
    needed = shrink(failure, lambda only: play(failure.seed, only, failure.variant))
    print(f"seed {failure.name} needs {len(needed.story)} of {len(failure.story)} strikes:")
    print("\n".join(f"  {name}  {what}" for name, what in needed.story.items()))
    words = f"{failure.name} --only {','.join(needed.story)}" if len(needed.story) < len(failure.story) else failure.name
    print(f"replay: {os.path.basename(sys.executable)} -m dkv.sim {words}    (or ./dev sim {words})")


def _untidy() -> None:
    """No garbage is collected in a process that ends soon."""
    gc.freeze()
    gc.disable()


def _short(run: Run) -> Outcome:
    """A run without its trace, which would be long to send."""
    outcome = play(run[0], None, run[1])
    return Outcome(**{**vars(outcome), "trace": ()})


def _print_counts(counts: Counter[str], events: bool) -> None:
    print(table(counts, "fault", "row", "lost", "tail", *(["event"] if events else [])))


if __name__ == "__main__":
    sys.exit(main())
