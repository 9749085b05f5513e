"""Simulation: the command. `python -m dkv.sim SEED` prints the trace of one run; `--seeds N [--from S]` runs a fleet.

Exit 0 if everything held, 1 if not, 2 for bad usage. A failing fleet prints one command that replays its first
failure; one of 200 seeds or more also fails if a kind of fault hardly ever struck.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter

from dkv.sim.checks.probes import FLEET, rare, table
from dkv.sim.scenario import Outcome, play

RUNS = 100  # of one process: each leaves about 4 MB behind, and a new process takes half a second


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dkv.sim", description="the deterministic simulation of dkv")
    parser.add_argument("seed", nargs="?", type=int, help="print the trace of this seed")
    parser.add_argument("--seeds", type=int, metavar="N", help="run a fleet of N seeds")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="S", help="the fleet's first seed (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes to use")
    parser.add_argument("--probes", action="store_true", help="also print every kind of event, counted")
    chosen = parser.parse_args(arguments)
    if (chosen.seed is None) == (chosen.seeds is None):
        parser.error("give one SEED, or --seeds N")
    if chosen.seed is not None:
        return _replay(chosen.seed, chosen.probes)
    return _fleet(range(chosen.first, chosen.first + chosen.seeds), chosen.jobs, chosen.probes)


def _replay(seed: int, probes: bool) -> int:
    outcome = play(seed)
    print("\n".join(outcome.trace))
    _print_counts(Counter({name: count for name, count in outcome.counts.items() if count}), probes)
    print(outcome.summary())
    return 1 if outcome.failures else 0


def _fleet(seeds: range, jobs: int, probes: bool) -> int:
    begun = time.monotonic()
    seen: Counter[str] = Counter()
    failed: list[Outcome] = []
    total = 0
    with multiprocessing.Pool(max(1, jobs), _untidy, maxtasksperchild=RUNS) as pool:
        for outcome in pool.imap_unordered(_short, seeds):
            seen.update(outcome.counts)
            seen.update({f"lost {why}": count for why, count in outcome.lost.items()})
            total += outcome.writes
            if outcome.failures:
                failed.append(outcome)
                print(f"{outcome.summary()}\n    {outcome.failures[0]}", flush=True)
    _print_counts(seen, probes)
    print(f"{len(seeds)} seeds, {len(failed)} failed, {total} writes, {time.monotonic() - begun:.0f} s")
    if failed:
        first = min(failed, key=lambda outcome: outcome.seed)
        print(f"replay: {os.path.basename(sys.executable)} -m dkv.sim {first.seed}    (or ./dev sim {first.seed})")
    seldom = rare(seen) if len(seeds) >= FLEET else []
    if seldom:
        print(f"these faults hardly ever struck: {', '.join(seldom)}")
    return 1 if failed or seldom else 0


def _untidy() -> None:
    """No garbage is collected in a process that ends soon."""
    gc.freeze()
    gc.disable()


def _short(seed: int) -> Outcome:
    """A run without its trace, which would be long to send."""
    outcome = play(seed)
    return Outcome(**{**vars(outcome), "trace": ()})


def _print_counts(counts: Counter[str], events: bool) -> None:
    print(table(counts, "fault", "row", "lost", "tail", *(["event"] if events else [])))


if __name__ == "__main__":
    sys.exit(main())
