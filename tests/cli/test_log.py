"""What a manager says on the terminal of the person who started it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from dkv import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    shown = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", shown)
        log.set_up()
        yield shown
    log.set_up()


def test_whoever_starts_a_manager_reads_where_it_is_and_how_it_ends(terminal: Terminal) -> None:
    where = {"address": "[::1]:7801", "console": "http://[::1]:7801/", "documentation": "http://[::1]:7801/docs"}
    log.logger("manager").info(log.GREETING, server="s1", domain="d0", ended_by="Ctrl-C ends it.", **where)
    assert terminal.getvalue().splitlines() == [
        "The manager of server s1 runs at [::1]:7801, in domain d0.",
        "  console        http://[::1]:7801/",
        "  documentation  http://[::1]:7801/docs",
        "  Ctrl-C ends it.",
        "",
    ]


def test_a_line_has_no_fields_without_a_text_and_moves_no_terminal(terminal: Terminal) -> None:
    log.logger("manager").info("server.joined", subject="server \x1b[2Js1", change="", database="")
    (line,) = terminal.getvalue().splitlines()
    assert "server.joined" in line and "change" not in line and "database" not in line and "\x1b[2J" not in line
