"""Compare: a benchmark of this tree beside an earlier commit, the same load in turns, so that both meet the same machine.

`./dev bench compare NAME --before REV [--rounds N] [--own-programs] [-- COUNTS...]` checks REV out below `.dkv/`, sets
it up there, and runs `bench/NAME.py` of this tree alternately with this tree's package and with REV's. The program that
measures is the same on both sides: only the managers, the command line and the engines they start differ. COUNTS go to
NAME. A REV whose package lacks names that this tree's programs import is measured with --own-programs: each side runs
the benchmark of its own tree, and what both record under the same names is compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kit.record import RESULTS, ROOT, Raw, Recorder, Table, of, read, say
from kit.stats import interval, percentile

NOW, BEFORE = "now", "before"
Values = Callable[[Sequence[Raw]], list[float]]


def values(kind: str, field: str, **wanted: str | int) -> Values:
    """The values of a field of all raw lines of a kind; lines without it are left out."""
    return lambda raw: [line[field] for line in of(raw, kind, **wanted) if line.get(field) is not None]


def ratios_to_bare(raw: Sequence[Raw]) -> list[float]:
    """Operations a second of dkv to those of bare Valkey, of each shape, load and round."""
    rates = {(r["round"], r["shape"], r["load"], r["number"], r["side"]): r["per_second"] for r in of(raw, "rate")}
    bare = {key[:-1]: rate for key, rate in rates.items() if key[-1] == "bare"}
    return [rate / bare[key[:-1]] for key, rate in rates.items() if key[-1] == "dkv" and key[:-1] in bare]


# What each benchmark that can be compared measures, in the words and the unit of its own tables.
MEASURES: Mapping[str, Mapping[str, Values]] = {
    "failover": {
        "outage of the plain writer, ms": values("kill", "plain_ms", side="dkv"),
        "outage of the confirmed writer, ms": values("kill", "confirmed_ms", side="dkv"),
        "group whole again, ms": values("kill", "whole_ms", side="dkv"),
        "acknowledged writes lost": values("proof", "lost_acknowledged", side="dkv"),
        "confirmed writes lost": values("proof", "lost_confirmed", side="dkv"),
    },
    "switchover": {
        "gap of the plain writer, ms": values("switchover", "plain_ms", side="dkv"),
        "gap of the library's client, ms": values("switchover", "library_ms", side="dkv"),
        "errors told to clients": values("proof", "errors", side="dkv"),
        "acknowledged writes lost": values("proof", "lost_acknowledged", side="dkv"),
    },
    "create": {
        "first write in every group, ms": values("round", "first_ms", side="dkv"),
        "all copies in sync, ms": values("round", "whole_ms", side="dkv"),
    },
    "data": {"throughput to bare Valkey, ratio": ratios_to_bare},
    "scale": {
        f"{name} with {size:,} processes, ms": values("time", "ms", what=name, size=size)
        for name in ("decide StartProcess", "decide LoadingProgressed", "tick", "plan", "encode a commit", "decode a watch")
        for size in (1_000, 10_000)
    },
    "domain": {
        "start of a database, ms": values("start", "ms"),
        "dkv show domain, 20 processes, ms": values("look", "ms", program="dkv", processes=20),
        "dkv show domain, 1,000 processes, ms": values("look", "ms", program="dkv", processes=1_000),
    },
    "idle": {
        "processor time of an idle manager, % of a core": values("idle", "percent"),
        "memory of a manager, MB": values("idle", "memory_mb"),
    },
}
TOTALS = ("lost", "errors")  # measures that are counted, not distributed


def main() -> None:
    """Set the earlier commit up, measure in turns, print."""
    wish = arguments()
    recorder = Recorder(f"compare-{wish.name}", False, vars(wish))
    before = checkout(wish.before)
    trees = {NOW: ROOT, BEFORE: before}
    for number in range(wish.rounds):
        for side in (NOW, BEFORE) if number % 2 else (BEFORE, NOW):
            say(f"round {number + 1} of {wish.rounds}: {side}")
            for line in measured(trees[side], trees[side] if wish.own_programs else ROOT, wish.name, wish.counts):
                recorder.add(str(line["kind"]), compared=side, round=number, **{k: v for k, v in line.items() if k != "kind"})
    recorder.finish(tables)


def arguments() -> argparse.Namespace:
    """The words of the command line; `counts` is what stands behind `--`, for the benchmark itself."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", choices=sorted(MEASURES))
    parser.add_argument("--before", required=True, metavar="REV", help="the commit to stand beside")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each side [4]")
    parser.add_argument("--own-programs", action="store_true", help="each side runs its own tree's benchmark")
    words, counts = split_at_dashes(sys.argv[1:])
    return parser.parse_args(words, argparse.Namespace(counts=counts))


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and behind the first `--`; argparse takes words behind it for its own."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def checkout(revision: str) -> Path:
    """A working tree of that commit, set up. Raises CalledProcessError."""
    sha = run("git", "-C", str(ROOT), "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    tree = ROOT / ".dkv" / f"before-{sha[:10]}"
    if not tree.exists():
        run("git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), sha)
    run(str(tree / "dev"), "setup")
    return tree


def measured(tree: Path, measuring: Path, name: str, counts: Sequence[str]) -> list[Raw]:
    """The raw lines of one run of the benchmark of `measuring` with the package of `tree`. Raises CalledProcessError."""
    results = measuring / RESULTS.relative_to(ROOT)
    known = set(results.glob(f"{name}-*.jsonl"))
    run(str(tree / ".venv/bin/python"), str(measuring / "bench" / f"{name}.py"), *counts)
    (path,) = set(results.glob(f"{name}-*.jsonl")) - known
    lines = read(path)
    for left in (path, path.with_suffix(".svg")):
        left.unlink(missing_ok=True)  # its lines are in this comparison's own raw file
    return lines


def run(*command: str) -> str:
    """What a command printed; its errors stay visible. Raises CalledProcessError."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Both commits beside each other."""
    (head,) = of(raw[:1], "run")
    name = head["wish"]["name"]
    sides = {side: [line for line in raw if line.get("compared") == side] for side in (BEFORE, NOW)}
    header = ("measure", "side", "values", "p50 [95 %]", "p99", "ratio of p50 to before")
    rows = [row for measure, take in MEASURES[name].items() for row in _rows(measure, {s: take(sides[s]) for s in sides})]
    return [Table(f"{name}: this tree ({head['commit']}) beside {head['wish']['before']}", header, rows)]


def _rows(measure: str, values: Mapping[str, list[float]]) -> Iterator[tuple[str, ...]]:
    for side, numbers in values.items():
        if not numbers:
            yield measure, side, "0", "-", "-", "-"
        elif any(word in measure for word in TOTALS):
            yield measure, side, str(len(numbers)), f"{sum(numbers):g} in all", "-", "-"
        else:
            low, high = interval(numbers)
            p50, p99 = percentile(numbers, 0.5), percentile(numbers, 0.99)
            base = percentile(values[BEFORE], 0.5) if values[BEFORE] else 0.0
            ratio = f"{p50 / base:.2f}" if base else "-"
            yield measure, side, str(len(numbers)), f"{p50:.3g} [{low:.3g}, {high:.3g}]", f"{p99:.3g}", ratio


if __name__ == "__main__":
    sys.exit(main())
