"""Playground: tables and bars, drawn by rich into lines of text, and the live table on a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rich import box
from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from dkv.cli.live_table import lines, shown, state_table
from dkv.playground.verify import Proved

if TYPE_CHECKING:
    from dkv.wire import schemas

WIDTH = 100
REFRESH = 1.0  # s between two live tables


def _lines(drawing: RenderableType) -> list[str]:
    return lines(drawing, WIDTH)


def outages(kills: Sequence[tuple[str, float]]) -> list[str]:
    """One bar for each kill: (who was killed, ms without an answer)."""
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for name, justify in (("kill", "right"), ("leader", "left"), ("ms", "right"), ("without an answer", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    longest = max((ms for _, ms in kills), default=1.0)
    for n, (leader, ms) in enumerate(kills, 1):
        table.add_row(str(n), shown(leader), f"{ms:.0f}", Bar(longest, 0, ms, width=60))
    return _lines(table)


def proofs(results: Sequence[Proved]) -> list[str]:
    """Per writer: what it was promised, how many keys it wrote, and how many of them were read back."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("promise", "written by"):
        table.add_column(name)
    for name in ("keys", "read back", "lost"):
        table.add_column(name, justify="right")
    for proof in results:
        table.add_row(proof.promise, proof.author, str(proof.keys), str(proof.keys - len(proof.lost)), str(len(proof.lost)))
    return _lines(table)


def tombstones(ended: Sequence[schemas.Tombstone]) -> list[str]:
    """How many processes ended, and of what."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("processes", justify="right")
    table.add_column("instance")
    table.add_column("cause of the end")
    causes = Counter((str(t["instanceName"]), _cause(t)) for t in ended)
    for (instance, cause), count in sorted(causes.items()):
        table.add_row(str(count), shown(instance), shown(cause))
    return _lines(table)


def _cause(tombstone: schemas.Tombstone) -> str:
    cause, reason = str(tombstone.get("cause") or ""), str(tombstone.get("reason") or "")
    return reason if reason.startswith(cause) else f"{cause}: {reason}"


def watch(look: Callable[[], schemas.Store]) -> None:
    """Show the live table until interrupted; without a terminal only stay."""
    console = Console(stderr=True)
    if not console.is_terminal:
        while True:
            time.sleep(3600)
    with Live(state_table(look(), console.width), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH)
            with suppress(Exception):  # managers are killed here on purpose
                live.update(state_table(look(), console.width), refresh=True)
