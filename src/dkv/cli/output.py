"""Everything the command line prints, and nothing else prints: data on stdout, words on stderr (design section 8).

Tables keep the columns of the documented pages as least widths (cmdlets.md section 1.2). Colours and progress appear
on a terminal only; `-o json` puts the same facts on stdout as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO

SUCCESS, FAILED, SKIPPED, OK = "SUCCESS", "FAILED", "SKIPPED", "OK"
COLOURS = {SUCCESS: "32", OK: "32", FAILED: "31", SKIPPED: "33"}
ERASE_LINE = "\r\x1b[K"
HOME_AND_CLEAR = "\x1b[H\x1b[J"


class Row(NamedTuple):
    """One line of a cmdlet's table. `subject` is the action, or the store for Get-DkvStore."""

    manager: str
    subject: str
    result: str
    message: str


class Screen:
    """Where a command's output goes. `as_json` switches the data on stdout; words stay words."""

    verbs = False
    """Whether who is read to types verbs; else cmdlets."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, colour: bool | None = None) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.as_json = False
        self.terminal = self.out.isatty()
        self.colour = self.terminal if colour is None else colour
        self._progress_shown = False

    # -- data ---------------------------------------------------------------------------------------------------

    def rows(self, rows: Sequence[Row], subject: str = "Action", widths: tuple[int, int, int] = (22, 28, 9)) -> None:
        """The result table of a cmdlet; as JSON a list of objects with the same words."""
        if self.as_json:
            key = subject.lower()
            self.data([{"manager": r.manager, key: r.subject, "result": r.result, "message": r.message} for r in rows])
            return
        cells = [("Manager", subject, "Result", "Message")]
        cells += [(r.manager, r.subject, r.result, r.message) for r in rows]
        lines = table(cells, widths)
        rule = max(len(lines[0]), min(max(len(line) for line in lines), sum(widths) + 7))
        self.line(lines[0])
        self.line("-" * rule)
        for row, line in zip(rows, lines[1:], strict=True):
            self.line(self._painted(line, row.result))

    def data(self, value: object) -> None:
        """A JSON document."""
        self.line(json.dumps(value, indent=2))

    def line(self, text: str = "") -> None:
        """One line of data."""
        self.clear_progress()
        print(text, file=self.out, flush=True)

    def frame(self, lines: Sequence[str]) -> None:
        """A picture that replaces the one before on a terminal, and follows it elsewhere."""
        start = HOME_AND_CLEAR if self.terminal else ""
        print(start + "\n".join(lines), file=self.out, flush=True)

    # -- words --------------------------------------------------------------------------------------------------

    def error(self, message: str, hint: str = "") -> None:
        """Why a command failed: one sentence, then a hint."""
        self.clear_progress()
        hint = self.spoken(hint)
        print(f"{message}\n\nhint: {hint}" if hint else message, file=self.err, flush=True)

    def spoken(self, hint: str) -> str:
        """A hint in the words of who asked. A word that was misspelt is corrected as it was meant."""
        if not self.verbs or "-Dkv" not in hint or hint.startswith("Did you mean"):
            return hint
        from dkv.cli.spoken import in_verbs

        return in_verbs(hint)

    def note(self, text: str) -> None:
        """A word beside the data, such as a warning."""
        self.clear_progress()
        print(text, file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """What is being waited for, on one line that is overwritten; silent when not on a terminal."""
        if self.err.isatty():
            print(f"{ERASE_LINE}{text[:100]}", end="", file=self.err, flush=True)
            self._progress_shown = True

    def clear_progress(self) -> None:
        """Wipe the progress line."""
        if self._progress_shown:
            print(ERASE_LINE, end="", file=self.err, flush=True)
            self._progress_shown = False

    def _painted(self, line: str, result: str) -> str:
        if not self.colour or result not in COLOURS:
            return line
        return line.replace(result, f"\x1b[{COLOURS[result]}m{result}\x1b[0m", 1)


def table(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """Lines with columns as wide as their longest cell plus two, and at least `least`."""
    columns = max(len(row) for row in rows)
    wide = [max(len(row[i]) + 2 for row in rows) for i in range(columns)]
    wide = [max(w, least[i] if i < len(least) else 0) for i, w in enumerate(wide)]
    return ["".join(cell.ljust(wide[i]) for i, cell in enumerate(row)).rstrip() for row in rows]


def moment(value: object) -> str:
    """A wall-clock time in milliseconds as people read it, in UTC; other values as they are."""
    if isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(value / 1000))
    return "-" if value is None else str(value)


def metrics_frame(store: str, updated: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The picture of Watch-DkvStoreMetrics: one column a node, `rate/s (total)` cells (cmdlets.md section 1.9)."""
    nodes = sorted({str(row["node"]) for row in rows})
    names = list(dict.fromkeys((str(row["category"]), str(row["metric"])) for row in rows))
    found = {(str(r["category"]), str(r["metric"]), str(r["node"])): metric_cell(r) for r in rows}
    cells = [["Category", "Metric", *nodes]]
    cells += [[c, m, *(found.get((c, m, node), "-") for node in nodes)] for c, m in names]
    lines = table(cells, (20, 28, *(23 for _ in nodes)))
    head = f"Store: {store}    Updated: {updated}"
    return [head, "", lines[0], "-" * max(len(line) for line in lines), *lines[1:]]


def metric_cell(row: Mapping[str, Any]) -> str:
    """`2,341/s (134,223)`, and `- (total)` where there is no rate."""
    rate, total = row.get("rate"), row.get("total") or 0
    return f"{'-' if rate is None else f'{float(rate):,.0f}/s'} ({float(total):,.0f})"
