"""CLI: a domain as it lives, drawn by rich to a terminal's width: what `dkv watch` and the playground show."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dkv.printable import printable

if TYPE_CHECKING:
    from dkv.wire import schemas

COLUMNS = (("instance", 0), ("endpoint", 100), ("server", 64), ("state", 0), ("role", 0), ("in sync", 0), ("pid", 110))
"""Of the table of a store: their names, and from which width of a terminal on they are shown."""
REMARKS = 64  # the width from which on there is a column for remarks although there are none


def shown(text: object) -> Text:
    """A text of the domain as it is: nothing in it moves the terminal or is markup of rich."""
    return Text(printable(str(text)))


def lines(drawing: RenderableType, width: int) -> list[str]:
    """A drawing as lines without colour."""
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(drawing)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def state_table(store: schemas.Store, width: int = 120) -> Table:
    """Every instance of a store, and what its groups are; columns that do not fit are left out."""
    title = f"{store['name']}: {store['status']}{_losing(store)}"
    table = Table(box=box.SIMPLE_HEAD, title=shown(title), title_justify="left", title_style="bold", show_edge=False)
    names = [name for name, least in COLUMNS if width >= least]
    for name in names:
        table.add_column(name, no_wrap=True)
    remarks = any(instance["reason"] for instance in store["instances"])
    if remarks or width >= REMARKS:
        table.add_column("remark", ratio=1)
        remarks = True
    for instance in store["instances"]:
        cells = _cells(instance)
        table.add_row(*(shown(cells[name]) for name in names), *([shown(instance["reason"] or "")] if remarks else []))
    return table


def _losing(store: schemas.Store) -> str:
    groups = store["groups"]
    terms = "".join(f", {group['name']} term {group['term']}" for group in groups[:2])
    shut = [group["name"] for group in groups if not group["serving"]]
    if shut or not groups:
        return f"{terms}, {len(shut)} of {len(groups)} groups do not serve"
    losable = min(int(group["canLoseForConfirmed"]) for group in groups)
    return f"{terms}, {losable or 'no'} more server{'' if losable == 1 else 's'} may be lost"


def _cells(instance: schemas.Instance) -> dict[str, str]:
    process = instance["process"]
    loading = process is not None and process["engineState"] != "RUNNING" and process["loadingPercent"] < 100
    return {
        "instance": instance["instanceName"],
        "endpoint": f"{instance['host']}:{instance['clientPort']}",
        "server": instance["server"],
        "state": f"{instance['state']} {process['loadingPercent']} %" if process and loading else instance["state"],
        "role": instance["role"] or "-",
        "in sync": "yes" if instance["inSync"] else "no",
        "pid": str(process["pid"] or "-") if process else "-",
    }


def picture(
    answer: str, stores: Sequence[schemas.Store], notes: Sequence[str], events: Sequence[str], width: int
) -> RenderableType:
    """The whole screen: the answer, every store, what waits, and what happened last."""
    parts: list[RenderableType] = [Text(printable(answer), style="bold"), Text()]
    for store in stores:
        parts += [state_table(store, width), Text()]
    parts += [shown(note) for note in notes]
    parts += [Text()] if notes else []
    parts += [Text(printable(event), no_wrap=True, overflow="ellipsis") for event in events]
    return Group(*parts)


class Drawn:
    """A terminal that shows one picture after the other."""

    def __init__(self, live: Live) -> None:
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return self._live.console.width, self._live.console.height

    def put(self, drawing: RenderableType) -> None:
        """Show it now."""
        self._live.update(drawing, refresh=True)


@contextmanager
def drawn() -> Iterator[Drawn]:
    """The terminal on standard output, whole; what it showed before comes back at the end."""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        yield Drawn(live)
