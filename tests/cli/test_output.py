"""What is printed: nothing in it moves a terminal, and what could not be printed is an error of the command."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli import nouns
from dkv.cli.cmdlets import CMDLETS, run_cmdlet
from dkv.cli.errors import ReaderLeft
from dkv.cli.main import main
from dkv.cli.output import NotPrinted, Row, Screen, StandardError, StandardOutput, columns_of, table
from dkv.cli.powershell import Parameter
from dkv.cli.session import Session
from dkv.playground.render import _lines, state_table, tombstones
from dkv.printable import cut, printable, width
from tests.cli.conftest import Person
from tests.cli.dialect import Dialect, archive

NASTY = {
    "ESC": "\x1b]0;owned\x07",
    "BEL": "\x07",
    "CR": "\rOK",
    "newline": "a\nSUCCESS",
    "C1": "\x9b31m",
    "NEL": "\x85",
    "DEL": "\x7f",
    "right to left": "\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "zero width": "a\u200bb",
    "line": "\u2028",
    "half": "\udcff",
}
NAMES = pytest.mark.parametrize("nasty", NASTY.values(), ids=list(NASTY))


def shown(screen: Screen) -> str:
    assert isinstance(screen.out, io.StringIO)
    assert isinstance(screen.err, io.StringIO)
    return screen.out.getvalue() + screen.err.getvalue()


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def screen_of() -> Screen:
    return Screen(io.StringIO(), io.StringIO())


# Nothing moves a terminal ----------------------------------------------------------------------------------------------


@given(st.text(max_size=30))
def test_any_text_becomes_one_that_can_be_shown_and_twice_is_once(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert printable(text) == text or not text.isprintable()


@NAMES
def test_whatever_is_printed_cannot_move_a_terminal(nasty: str) -> None:
    screen = screen_of()
    screen.rows([Row("m", nasty, "FAILED", nasty)])
    screen.line(nasty)
    screen.frame([nasty, nasty])
    screen.note(nasty)
    screen.error(nasty, nasty)
    assert harmless(shown(screen))
    assert shown(screen).count("\n") == 10, "a line stays one line"


@NAMES
def test_json_stays_json_and_gives_back_what_was_there(nasty: str) -> None:
    screen = screen_of()
    screen.data({nasty: [nasty]})
    assert harmless(shown(screen))
    assert json.loads(shown(screen)) == {nasty: [nasty]}


@NAMES
def test_a_table_keeps_its_columns(nasty: str) -> None:
    rows = [("name", "path", "state"), (f"a{nasty}", nasty, "RUNNING"), ("b", "漢字", "RUNNING"), ("c", "e\u0301", "RUNNING")]
    lines = table(rows)
    assert {width(line.removesuffix("RUNNING")) for line in lines[1:]} == {width(lines[0].removesuffix("state"))}


@NAMES
def test_a_path_of_an_archive_is_shown_as_what_it_is(nasty: str, tmp_path: Path) -> None:
    archives = [archive(0) | {"path": f"/a/{nasty}"}]
    manager = Dialect({"GET /archives": archives, "GET /processes": [], "GET /processes/exited": []})
    output = manager.runs(tmp_path, "show archives")
    assert output.code == 0
    assert harmless(output.out), repr(output.out)
    assert printable(f"/a/{nasty}") in output.out


@NAMES
def test_a_kept_value_reaches_a_program_as_it_is_and_a_terminal_shown(nasty: str, tmp_path: Path) -> None:
    manager = Dialect({"GET /kvstore/k": {"key": "k", "value": nasty}})
    assert manager.runs(tmp_path, "get value --key k").out == f"{nasty}\n"
    screen = screen_of()
    screen.terminal = True
    screen.value(nasty)
    assert harmless(shown(screen))


@NAMES
def test_what_a_person_types_wrong_is_repeated_as_what_it_is(nasty: str, person: Person) -> None:
    output = person.runs(f"Get-{nasty}")
    assert output.code == 2
    assert harmless(output.err)
    assert harmless(person.runs("Get-DkvStore", nasty).err)


@NAMES
def test_the_playground_draws_what_the_domain_says_as_text(nasty: str) -> None:
    instance = {
        "instanceName": nasty,
        "host": "h",
        "clientPort": 1,
        "server": nasty,
        "state": "Failed",
        "role": None,
        "inSync": False,
        "process": None,
        "reason": f"[b]{nasty}[/x]",
    }
    drawn = _lines(state_table({"name": nasty, "status": "Partial", "groups": [], "instances": [instance]}))
    assert all(line.isprintable() for line in drawn)
    assert "[b]" in "".join(drawn), "no markup of rich"
    assert all(line.isprintable() for line in tombstones([{"instanceName": nasty, "cause": "x", "reason": "[/x]"}]))


# Terminals -------------------------------------------------------------------------------------------------------------


@contextmanager
def terminal(columns: int) -> Iterator[tuple[TextIO, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            yield stream, ours
    finally:
        os.close(ours)


WIDTHS = [(80, "", 79), (46, "", 45), (200, "80", 79), (80, "200", 79), (0, "", 79)]


@pytest.mark.parametrize(("columns", "limit", "most"), WIDTHS)
def test_a_progress_line_never_needs_a_second_line(columns: int, limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", limit)
    with terminal(columns) as (stream, ours):
        Screen(io.StringIO(), stream).progress("Waiting for " + "orders-1 \x1b[2J Starting, " * 20)
        drawn = os.read(ours, 4096).decode()
    text = drawn.removeprefix("\r\x1b[K")
    assert text.isprintable()
    assert (width(text), text[-3:]) == (most, "...")


def test_wide_characters_count_twice_when_a_line_is_cut() -> None:
    assert cut("漢字漢字漢字", 8) == "漢字..."
    assert cut("orders", 6) == "orders"
    assert cut("orders-1", 6) == "ord..."


def test_a_dumb_terminal_is_sent_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal(80) as (stream, ours):
        screen = Screen(stream, stream)
        screen.progress("Waiting")
        screen.frame(["a"])
        screen.rows([Row("m", "a", "FAILED", "x")])
        assert "\x1b" not in os.read(ours, 4096).decode()


def test_no_terminal_has_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns_of(io.StringIO()) == 80


LOGGING = """
import logging, pathlib, sys
from dkv import log
nasty = "red \\x1b[97m \\x9b2J\\r\\u202e\\nnext"
log.set_up()
log.keep_in(pathlib.Path(sys.argv[1]))
log.logger("manager").info("manager " + nasty, because=nasty)
logging.getLogger("uvicorn").warning(nasty)
try:
    raise ValueError(nasty)
except ValueError:
    logging.getLogger("x").exception(nasty)
    log.logger("manager").exception(nasty)
"""


def test_a_log_line_on_a_terminal_is_one_line_and_moves_nothing(tmp_path: Path) -> None:
    with terminal(200) as (stream, ours):
        subprocess.run([sys.executable, "-c", LOGGING, str(tmp_path)], stderr=stream, timeout=60, check=True)
        drawn = os.read(ours, 65536).decode()
    assert len(drawn.strip().splitlines()) == 4 + 2 * 4, "and two tracebacks"
    assert "red \\x1b[97m \\x9b2J\\r\\u202e\\nnext" in drawn
    assert "\x1b[97m" not in drawn
    assert not {"\x9b", "\u202e"} & set(drawn)
    assert json.loads((tmp_path / "manager.log").read_text().splitlines()[0])["because"].startswith("red \x1b[97m")


# What cannot be printed ------------------------------------------------------------------------------------------------


@pytest.fixture
def full() -> Iterator[TextIO]:
    with suppress(OSError), open("/dev/full", "w") as stream:  # closing it may fail once more
        yield stream


def onto(out: TextIO | None, err: TextIO | None = None) -> Screen:
    return Screen(cast(TextIO, StandardOutput(out)), err or io.StringIO())


def words_of(screen: Screen) -> str:
    assert isinstance(screen.err, io.StringIO)
    return screen.err.getvalue()


@pytest.mark.parametrize("name", [command.name for command in (*CMDLETS, *nouns.everything())])
def test_every_command_fails_when_standard_output_is_full_or_closed(name: str, full: TextIO) -> None:
    for out, sentence in ((full, "Standard output cannot be written: No space left on device."), (None, "is closed")):
        screen = onto(out)
        assert run_cmdlet(Session(screen, {}), name, [Parameter("?")]) == 1
        assert sentence in words_of(screen)
        assert "hint: " in words_of(screen)


def test_a_change_that_was_sent_is_named_when_its_answer_cannot_be_printed(connected: Person, full: TextIO) -> None:
    session = connected.session()
    session.screen = onto(full)
    words = [Parameter("Name", "Carts"), Parameter("InstancePrefix", "c"), Parameter("Managers", "127.0.0.11")]
    assert run_cmdlet(session, "New-DkvStore", words) == 1
    assert "hint: Already sent and not taken back: CreateStore to 127.0.0.11:7801." in words_of(session.screen)
    assert list(connected.domain.stores) == ["carts"]


def test_who_reads_no_more_is_no_failure() -> None:
    there, here = os.pipe()
    os.close(there)
    with os.fdopen(here, "w") as stream, pytest.raises(ReaderLeft):
        StandardOutput(stream).write("x" * 10_000_000)


def test_a_character_that_the_terminal_lacks_is_escaped() -> None:
    raw = io.BytesIO()
    stream = StandardOutput(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("ä")
    stream.flush()
    assert raw.getvalue() == b"\\xe4"


def test_words_that_nobody_takes_fail_nothing(full: TextIO) -> None:
    for err in (StandardError(None), StandardError(full)):
        screen = Screen(io.StringIO(), cast(TextIO, err))
        screen.note("warning")
        screen.error("no", "hint")
        screen.progress("waiting")


def test_standard_error_is_written_again_when_there_is_room() -> None:
    class Filling(io.StringIO):
        broken = True

        def write(self, text: str) -> int:
            if self.broken:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Filling()
    err = StandardError(stream)
    assert err.write("lost") == 0
    stream.broken = False
    err.write("kept")
    assert stream.getvalue() == "kept"


def test_json_lines_of_a_stream_end_when_nobody_can_take_them(full: TextIO) -> None:
    with pytest.raises(NotPrinted):
        onto(full).data({"sequence": 1}, indent=None)
    with pytest.raises(NotPrinted):
        onto(None).frame(["x"])


HOW = {
    "full": (">/dev/full", 1),
    "closed": (">&-", 1),
    "all closed": ("<&- >&- 2>&-", 1),
    "no reader": ("| true", 141),
    "errors closed": ("2>&-", 0),
    "errors full": ("2>/dev/full", 0),
}
WORDS = (
    "",
    "--help",
    "--version",
    "manager run --help",
    "backup state --help",
    "playground --help",
    "shell -c help",
    "help show events",
)


@pytest.mark.parametrize("words", WORDS)
def test_help_of_every_kind_fails_when_it_cannot_be_printed(
    words: str, full: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (full, None):
        monkeypatch.setattr(sys, "stdout", out)
        assert main(words.split()) == 1
        assert capsys.readouterr().err.startswith("Standard output ")


@pytest.mark.parametrize("how", HOW)
def test_the_program_says_by_its_exit_code_whether_it_printed(how: str, tmp_path: Path) -> None:
    end, code = HOW[how]
    line = f"{sys.executable} -m dkv.cli.main playground --help {end}; exit ${{PIPESTATUS[0]}}"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DKV_")} | {"XDG_CONFIG_HOME": str(tmp_path)}
    output = subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert output.returncode == code, output
    assert "Traceback" not in output.stderr
    assert "Exception ignored" not in output.stderr
