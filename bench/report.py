"""Report: writes the results section of docs/benchmarks.md anew from the raw files under bench/results.

The newest full run of each benchmark counts; quick runs never do. The numbers in the document are worked out here from
the raw lines, by the same functions that printed them at the end of the run, so nobody types them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import coldstart
import create
import data
import domain
import failover
import https
import idle
import large
import live
import scale
import scrape
import several
import switchover
from kit.record import RESULTS, ROOT, Raw, Tables, markdown, of, read, say

DOCUMENT = ROOT / "docs" / "benchmarks.md"
BENCHES: dict[str, Tables] = {
    "failover": failover.tables,
    "switchover": switchover.tables,
    "create": create.tables,
    "data": data.tables,
    "coldstart": coldstart.tables,
    "idle": idle.tables,
    "domain": domain.tables,
    "large": large.tables,
    "https": https.tables,
    "scale": scale.tables,
    "scrape": scrape.tables,
    "live": live.tables,
    "several": several.tables,
}


def main() -> None:
    """Write the document, or with --check say whether it is what the raw files say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the document is stale")
    wish = parser.parse_args()
    text = DOCUMENT.read_text(encoding="utf-8")
    fresh = filled(text)
    if wish.check and fresh != text:
        raise SystemExit("docs/benchmarks.md is stale: run ./dev bench report")
    if not wish.check:
        DOCUMENT.write_text(fresh, encoding="utf-8")
        say(f"{DOCUMENT.relative_to(ROOT)} is up to date")


def filled(text: str) -> str:
    """The document with every results section as the raw files have it."""
    for name in BENCHES:
        pattern = re.compile(rf"(<!-- results: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda match, name=name: match[1] + "\n".join(section(name)) + "\n" + match[2], text)
    return text


def newest(name: str) -> Path | None:
    """The newest whole run of a benchmark that was not a quick one."""
    paths = sorted(path for path in RESULTS.glob(f"{name}-*.jsonl") if not path.stem.endswith("-quick"))
    whole = [path for path in paths if of(read(path), "end")]
    return whole[-1] if whole else None


def section(name: str) -> Iterator[str]:
    """The Markdown lines of one benchmark's results."""
    path = newest(name)
    if path is None:
        yield f"Not measured yet: `./dev bench {name}`."
        return
    raw = read(path)
    yield from _where(raw, path)
    for table in BENCHES[name](raw):
        yield ""
        yield from markdown(table)
    picture = path.with_suffix(".svg")
    if picture.exists():
        yield ""
        yield f"![{name}](../{picture.relative_to(ROOT)})"


def _where(raw: list[Raw], path: Path) -> Iterator[str]:
    run, end = of(raw, "run")[0], of(raw, "end")[0]
    yield (
        f"{run['at']}, commit {run['commit']}, {run['cores']} cores ({run['cpu']}), {run['memory_gb']} GB, "
        f"Linux {run['kernel']}, Python {run['python']}; load before {run['load']:.1f}, after {end['load']:.1f}. Raw: "
        f"[{path.name}](../{path.relative_to(ROOT)})."
    )


if __name__ == "__main__":
    main()
