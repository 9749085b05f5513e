"""The command line of the chaos run: `./dev chaos`: real stores on three hosts, faults from a seed, and what held."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dkv.cli.errors import CliError
from dkv.playground.hosts import why_none
from tests.chaos import picture, schedule
from tests.chaos.domain import STORES, stopped_by_signals, why_no_etcd
from tests.chaos.planted import PLANTS
from tests.chaos.run import Findings, run, say

MOST_SHOWN = 40
RESULTS = Path(__file__).parents[2] / ".dkv" / "chaos"


def field(hosts: int = 3) -> schedule.Field:
    """What a run on so many hosts strikes."""
    groups = tuple(schedule.Group(name, number, copies) for name, (count, copies, _) in STORES.items() for number in range(count))
    return schedule.Field(tuple(f"server-{number}" for number in range(1, hosts + 1)), groups)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="./dev chaos", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults strike [10]")
    parser.add_argument("--seed", type=int, help="the same seed and length: the same schedule [random]")
    parser.add_argument("--hosts", type=int, default=3, choices=(3, 4, 5), help="how many hosts there are [3]")
    parser.add_argument("--schedule", type=Path, help="a file of strokes, one a line, instead of a seed: to play a failure again")
    parser.add_argument("--from", type=float, default=0.0, dest="begin", help="leave out what strikes before this time (s)")
    parser.add_argument(
        "--only", type=lambda text: [int(n) for n in text.split(",")], default=[], help="only the strokes of these numbers"
    )
    parser.add_argument("--print", action="store_true", dest="shown", help="print the schedule, with numbers, and run nothing")
    parser.add_argument("--results", type=Path, help="the directory of what the run leaves [.dkv/chaos/SEED-TIME]")
    parser.add_argument(
        "--plant",
        default="",
        choices=["", *PLANTS],
        help="a bug of tests/chaos/planted.py that every manager has, to see it found",
    )
    return parser.parse_args(words)


def strokes_of(wish: argparse.Namespace) -> list[schedule.Stroke]:
    """The schedule that is asked for. Raises CliError."""
    if wish.schedule is None:
        return schedule.narrowed(schedule.draw(wish.seed, wish.minutes * 60, field(wish.hosts)), wish.begin, wish.only)
    try:
        return schedule.narrowed(schedule.from_text(wish.schedule.read_text(encoding="utf-8")), wish.begin, wish.only)
    except (OSError, ValueError) as error:
        raise CliError(f"The schedule {wish.schedule} cannot be played: {error}.") from error


def main(words: Sequence[str]) -> int:
    """Run; the exit code is 0 only if everything held."""
    wish = parse(words)
    wish.seed = random.randrange(100_000) if wish.seed is None else wish.seed
    try:
        strokes = strokes_of(wish)
        if wish.shown:
            for number, stroke in enumerate(strokes, 1):
                say(
                    f"{number:4d}  {stroke.at:7.2f} s  {stroke.kind} {stroke.target}"
                    + (f" for {stroke.lasts:g} s" if stroke.lasts else "")
                )
            return 0
        if why := why_none() or why_no_etcd():
            raise CliError(f"Chaos needs hosts of a network: {why}.")
        return _play(wish, strokes)
    except (CliError, OSError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2


def _play(wish: argparse.Namespace, strokes: Sequence[schedule.Stroke]) -> int:
    results = wish.results or RESULTS / f"{wish.seed}-{time.strftime('%H%M%S')}"
    results.mkdir(parents=True, exist_ok=True)
    (results / "schedule.jsonl").write_text(schedule.to_text(strokes), encoding="utf-8")
    length = wish.minutes * 60
    with stopped_by_signals():
        findings = run(strokes, length, results, servers=wish.hosts, plant=wish.plant)
    (results / "findings.json").write_text(json.dumps({"failures": findings.failures, "figures": findings.figures}, indent=1))
    report(findings)
    again = f"./dev chaos --minutes {wish.minutes:g} --hosts {wish.hosts} --schedule {results / 'schedule.jsonl'}"
    notes = [f"{name}: {value}" for name, value in findings.figures.items()] + [
        f"FAILED {f}" for f in findings.failures[:MOST_SHOWN]
    ]
    title = f"chaos, seed {wish.seed}: {len(findings.failures)} failures"
    text = picture.page(title, again, notes, findings.rows, findings.length)
    (results / "timeline.html").write_text(text, encoding="utf-8")
    say(f"timeline: {results / 'timeline.html'}")
    say(f"again: {again}   (seed {wish.seed})")
    return 1 if findings.failures else 0


def report(findings: Findings) -> None:
    """Figures, then what failed."""
    for name, value in findings.figures.items():
        say(f"{name}: {value}")
    for failure in findings.failures[:MOST_SHOWN]:
        say(f"FAILED {failure}")
    say(f"{len(findings.failures)} failures" if findings.failures else "all of it held")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
