"""Everything the command line prints, and nothing else prints: data on stdout, words on stderr.

Tables keep the columns of the documented pages as least widths (docs/reference/cmdlets.md#rows). Colours and progress appear
on a terminal only; `-o json` puts the same facts on stdout as JSON. What comes from elsewhere cannot move the terminal:
each line is escaped here. Standard output that takes no more is an error of the command, standard error is not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO, cast

from dkv.cli.errors import NotPrinted, ReaderLeft
from dkv.cli.hints import rendered
from dkv.errors import HintedError
from dkv.hints import Hint, from_json
from dkv.printable import cut, printable, width
from dkv.spelling import natural

SUCCESS, FAILED, SKIPPED, OK = "SUCCESS", "FAILED", "SKIPPED", "OK"
WIDE, NARROW = (22, 28, 9), (22, 14, 9)
"""Least widths of a row's first three columns: where the action names a node, and where it does not."""
COLOURS = {SUCCESS: "32", OK: "32", FAILED: "31", SKIPPED: "33"}
ERASE_LINE = "\r\x1b[K"
HOME_AND_CLEAR = "\x1b[H\x1b[J"


class Row(NamedTuple):
    """One line of a cmdlet's table. `subject` is the action, or the store for Get-DkvStore."""

    manager: str
    subject: str
    result: str
    message: str


class _Stream:
    """A standard stream, None when it was closed before the program began."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()


class StandardOutput(_Stream):
    """Standard output for us and for every library that writes to it. Raises NotPrinted when it takes no more, also
    when it was closed before the program began, and ReaderLeft when its reader has gone."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character the terminal's encoding lacks

    def write(self, text: str) -> int:
        """Take a text."""
        with _failing(self._stream):
            return self._open().write(text)

    def flush(self) -> None:
        """Pass on what was taken."""
        if self._stream is not None:
            with _failing(self._stream):
                self._stream.flush()

    def _open(self) -> TextIO:
        if self._stream is None:
            raise NotPrinted("Standard output is closed, so there is nowhere to print to.", "Send it to /dev/null instead.")
        return self._stream


@contextmanager
def _failing(stream: TextIO | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if stream is not None:
            _give_up(stream)
        if isinstance(error, BrokenPipeError):
            raise ReaderLeft from error
        raise NotPrinted(f"Standard output cannot be written: {error.strerror}.", "Make room there, then ask again.") from error


class StandardError(_Stream):
    """Standard error. Messages that it does not take are lost; the command does not fail because of that."""

    def write(self, text: str) -> int:
        """Take a text, or lose it."""
        try:
            return self._stream.write(text) if self._stream is not None else 0
        except OSError:
            return 0

    def flush(self) -> None:
        """Pass on what was taken, or keep it for when there is room again."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError:
            pass

    def end(self) -> None:
        """Lose what could not be passed on; the program ends."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError:
            _give_up(self._stream)


def _give_up(stream: TextIO) -> None:
    """Discard what a stream still holds: else Python would report it, and fail because of it, when the program ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def standard_streams() -> Iterator[None]:
    """While a command runs, sys.stdout and sys.stderr are these two, so that no library goes round them."""
    before = sys.stdout, sys.stderr
    err = StandardError(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, StandardOutput(sys.stdout)), cast(TextIO, err)
    try:
        yield
    finally:
        err.end()
        sys.stdout, sys.stderr = before


class Screen:
    """Where a command's output goes. `as_json` switches the data on stdout; words stay words."""

    verbs = False
    """Whether who is read to types verbs; else cmdlets."""
    silent = True
    """Whether nothing was printed since the command began."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, colour: bool | None = None) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.as_json = False
        self.terminal = self.out.isatty()
        self._drawn_on = os.environ.get("TERM") != "dumb"  # a dumb terminal prints the codes it is sent
        self.colour = self.terminal and self._drawn_on if colour is None else colour
        self._progress_shown = False

    # -- data ---------------------------------------------------------------------------------------------------

    def rows(self, rows: Sequence[Row], subject: str = "Action", widths: tuple[int, int, int] = WIDE) -> None:
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
            self._put(self._painted(line, row.result))

    def data(self, value: object, indent: int | None = 2) -> None:
        """A JSON document; on one line without `indent`."""
        self._put(in_json(value, indent))

    def line(self, text: str = "") -> None:
        """One line of data."""
        self._put(printable(text))

    def lines(self, texts: Iterable[str]) -> None:
        """Lines of data, written together."""
        if lines := [printable(text) for text in texts]:
            self._put("\n".join(lines))

    def value(self, text: str) -> None:
        """A stored value: unchanged for a program, escaped like every other line on a terminal."""
        self._put(printable(text) if self.terminal else text)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Lines of a table; on a terminal that is too narrow their ends are cut off."""
        lines = table(rows)
        self.lines([cut(line, columns_of(self.out)) for line in lines] if self.terminal else lines)

    def block(self, text: str) -> None:
        """Lines of data."""
        self.lines(text.splitlines())

    def frame(self, lines: Sequence[str]) -> None:
        """A picture that replaces the one before on a terminal, and follows it elsewhere."""
        start = HOME_AND_CLEAR if self.terminal and self._drawn_on else ""
        self._put(start + "\n".join(map(printable, lines)))

    def _put(self, text: str) -> None:
        """What can move nothing but what we want to move."""
        self.clear_progress()
        self.silent = False
        print(text, file=self.out, flush=True)

    # -- words --------------------------------------------------------------------------------------------------

    def error(self, message: str, hint: str | Hint = "") -> None:
        """Why a command failed: one sentence, then a hint."""
        self.clear_progress()
        message, hint = printable(message), printable(self.hint(hint))
        print(f"{message}\n\nhint: {hint}" if hint else message, file=self.err, flush=True)

    def hint(self, hint: str | Hint) -> str:
        """A hint with its actions as the command lines that are typed here: verbs, or cmdlets."""
        return hint if isinstance(hint, str) else rendered(hint, self.verbs)

    def hint_of(self, answer: Mapping[str, Any]) -> str:
        """The hint of an answer, or of an item of one; "" without one."""
        return self.hint(from_json(answer.get("hint"), answer.get("hintParts")))

    def failure(self, error: HintedError) -> int:
        """Why a command failed, and the exit code it ends with."""
        self.error(error.message, error.hint)
        return error.exit_code

    def ask(self, question: str) -> None:
        """A question whose answer is typed on the same line."""
        self.clear_progress()
        print(printable(question), end="", file=self.err, flush=True)

    def note(self, text: str) -> None:
        """A word beside the data, such as a warning."""
        self.clear_progress()
        self.silent = False
        print(printable(text), file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """What is being waited for, on one line that is overwritten; silent when not on a terminal."""
        if self.err.isatty() and self._drawn_on:
            line = cut(printable(text), columns_of(self.err) - 1)  # in the last column some terminals begin a new line
            print(f"{ERASE_LINE}{line}", end="", file=self.err, flush=True)
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


def transport_line(transport: Mapping[str, Any]) -> str:
    """How the engines of a store speak."""
    if transport["tls"]:
        return "engines speak TLS"
    return "engines speak without TLS" + (", although other machines reach them" if transport["insecure"] else "")


def effect_line(screen: Screen, effect: Mapping[str, Any]) -> str:
    """`max-memory: in effect at once`: an option that was changed and what comes of it, with a hint where there is one."""
    hint = screen.hint_of(effect)
    return f"{effect['option']}: {effect['effect']}" + (f"; hint: {hint}" if hint else "")


def waiting_lines(screen: Screen, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """`process 3 (orders-2) waits for server s2 since T: why; hint: what helps`. What the same step helps stands indented below
    the first of it, without that step.
    """
    groups: dict[str, list[str]] = {}
    for number, item in enumerate(items):
        since = f" since {moment(item['since'])}" if item["since"] is not None else ""
        target = f" for {item['for']}" if item["for"] else ""
        text = f"{item['subject']} waits{target}{since}: {item['reason']}"
        hint = screen.hint_of(item) if item["hint"] else ""
        step, _, rest = hint.removesuffix(".").partition("; ")
        group = groups.setdefault(step or f"{number}", [])
        if not group:
            group.append(f"{text}; hint: {hint}" if hint else text)
        else:
            group.append(f"  {text}; hint: {rest}." if rest else f"  {text}")
    return [line for group in groups.values() for line in group]


def table(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """Lines with columns as wide as their longest cell plus two, and at least `least`; escaped, so that widths are true."""
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = max(len(row) for row in rows)
    wide = [max(width(row[i]) + 2 for row in rows) for i in range(columns)]
    wide = [max(w, least[i] if i < len(least) else 0) for i, w in enumerate(wide)]
    return ["".join(cell + " " * (wide[i] - width(cell)) for i, cell in enumerate(row)).rstrip() for row in rows]


def in_json(value: object, indent: int | None = 2, sort_keys: bool = False) -> str:
    """JSON in ASCII, without the one control character that JSON allows in a text."""
    return json.dumps(value, indent=indent, sort_keys=sort_keys).replace("\x7f", "\\u007f")


def columns_of(stream: TextIO) -> int:
    """The width of the terminal, at most COLUMNS; 80 where neither is known."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or a stream that was closed before the program began
        width = 0
    limit_text = os.environ.get("COLUMNS", "")
    limit = int(limit_text) if limit_text.isascii() and limit_text.isdigit() else 0
    return min(width or limit or 80, limit or width or 80)


def moment(value: object) -> str:
    """A wall-clock time in milliseconds as people read it, in UTC; other values as they are."""
    if isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(value / 1000))
    return "-" if value is None else str(value)


def metrics_frame(store: str, updated: str, rows: Sequence[Mapping[str, Any]], columns: int = 0) -> list[str]:
    """The picture of Watch-DkvStoreMetrics: one column a node, `rate/s (total)` cells (docs/reference/cmdlets.md#metrics). Where
    that is wider than a terminal of so many columns, one line a node.
    """
    head = f"Store: {store}    Updated: {updated}"
    frame = _metrics_by_node(rows)
    if columns and max(map(width, frame)) > columns:
        frame = _metrics_by_line(rows)
    return [head, "", *frame]


def _metrics_by_line(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(str(row["metric"]) for row in rows))
    cell_of = {(str(row["metric"]), str(row["node"])): metric_cell(row) for row in rows}
    instances = {str(row["node"]): str(row.get("instanceName") or row["node"]) for row in rows}
    known = sorted(instances.items(), key=lambda item: natural(item[1]))
    lines = [[instance, *(cell_of.get((name, node), "-") for name in names)] for node, instance in known]
    return table([["Node", *names], *lines])


def _metrics_by_node(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    nodes = sorted({str(row["node"]) for row in rows})
    names = list(dict.fromkeys((str(row["category"]), str(row["metric"])) for row in rows))
    cell_of = {(str(r["category"]), str(r["metric"]), str(r["node"])): metric_cell(r) for r in rows}
    cells = [["Category", "Metric", *nodes]]
    cells += [[c, m, *(cell_of.get((c, m, node), "-") for node in nodes)] for c, m in names]
    lines = table(cells, (20, 28, *(23 for _ in nodes)))
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]


def metric_cell(row: Mapping[str, Any]) -> str:
    """`2,341/s (134,223)`, and `- (total)` where there is no rate."""
    rate, total = row.get("rate"), row.get("total") or 0
    return f"{'-' if rate is None else f'{float(rate):,.0f}/s'} ({float(total):,.0f})"
