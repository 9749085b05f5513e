"""Model: the command. `python -m dkv.sim.model` explores; `--mutants [NAME ...]` takes a clause away. 1 if something is wrong."""

from __future__ import annotations

import argparse
import sys

from dkv.sim.model.explore import explore
from dkv.sim.model.mutants import EXPLORED, MOST, NOT_SHOWN, WHERE, mutants
from dkv.sim.model.rules import Clauses


def main(arguments: list[str] | None = None) -> int:
    """Explore what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dkv.sim.model", description="the rules of dkv, explored state by state")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="take these clauses away, one at a time (all of them)")
    parser.add_argument("--states", type=int, default=10_000_000, metavar="N", help="give up after so many states (10,000,000)")
    chosen = parser.parse_args(arguments)
    if chosen.mutants is not None:
        names = chosen.mutants or [name for name in mutants() if name not in NOT_SHOWN]
        return _mutants(names, min(chosen.states, MOST))
    return max(_explored(name, chosen.states) for name in EXPLORED)


def _explored(name: str, most: int) -> int:
    found = explore(Clauses(), EXPLORED[name], most)
    extent = "all states" if found.complete else "NOT all states"
    print(f"{name}: {found.states:,} states, {extent}, {found.deepest} steps deep, {found.seconds:.0f} s", flush=True)
    if found.violation:
        _tell(found.violation, found.story)
    return 1 if found.violation else 0


def _mutants(names: list[str], most: int) -> int:
    survived = 0
    for name in names:
        found = explore(mutants()[name], WHERE.get(name, next(iter(EXPLORED.values()))), most)
        survived += not found.violation
        verdict = f"{len(found.story)} steps: {found.violation}" if found.violation else "NOT FOUND"
        print(f"without {name}: {found.states:,} states, {found.seconds:.0f} s, {verdict}", flush=True)
    return 1 if survived else 0


def _tell(violation: str, story: tuple[str, ...]) -> None:
    print(f"  {violation}:")
    for step, words in enumerate(story, start=1):
        print(f"  {step:3}  {words}")


if __name__ == "__main__":
    sys.exit(main())
