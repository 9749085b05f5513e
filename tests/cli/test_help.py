"""Help: the daily commands first, lines that fit, and examples that can be typed."""

from __future__ import annotations

import shlex

import pytest

from dkv.cli import nouns
from dkv.cli.binding import Cmdlet, bind, from_argv
from dkv.cli.cmdlets import CMDLETS, find_cmdlet
from dkv.cli.help import DAILY, EXAMPLES, help_lines
from dkv.cli.main import main

ALL = [*CMDLETS, *nouns.everything()]


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
@pytest.mark.parametrize("width", [80, 52])
def test_help_fits_and_leaves_nothing_out(command: Cmdlet, width: int) -> None:
    lines = list(help_lines(command, width))
    long = [line for line in lines if len(line) > width and not line.startswith("Example: ") and len(line.split()) > 1]
    assert not long
    words = " ".join(lines).split()
    assert all(any(param.name in word for word in words) for param in command.params)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_typed_and_is_of_its_command(name: str) -> None:
    for example in EXAMPLES[name]:
        program, *words = shlex.split(example)
        used = len(name.split())
        assert (program, " ".join(words[:used])) == ("dkv", name)
        bind(find_cmdlet(name), from_argv(words[used:]), {})


def test_daily_commands_come_first_and_each_has_an_example_or_needs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines[lines.index("Every day:") + 1]
    assert first.startswith("status ")
    assert max(len(line) for line in lines) <= 80
    assert set(DAILY) <= set(EXAMPLES)


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_the_version_can_be_asked_for_either_way(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("dkv, version ")


def test_what_is_missing_is_shown_in_the_shortest_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["New-DkvStore", "orders"]) == 2
    hint = capsys.readouterr().err.partition("hint: ")[2]
    assert hint == "Usage: New-DkvStore -Name <string> -InstancePrefix <string>; dkv help New-DkvStore has the rest.\n"
