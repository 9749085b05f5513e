"""How arguments find their parameters, from a line and from another shell's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli.binding import Bound, bind, from_argv
from dkv.cli.cmdlets import CMDLETS, find_cmdlet
from dkv.cli.errors import CliError
from dkv.cli.powershell import Command, parse


def line(text: str) -> Bound:
    (command,) = parse(text)
    assert isinstance(command, Command)
    return bind(find_cmdlet(command.name), command.arguments, {})


def argv(*words: str) -> Bound:
    return bind(find_cmdlet(words[0]), from_argv(words[1:]), {})


@pytest.mark.parametrize(
    "words",
    [
        ["New-DkvStore", "-Name", "A", "-InstancePrefix", "a", "-Managers", "x,y", "-Parallel"],
        ["new-dkvstore", "A", "a", "-MANAGERS", "x,", "y", "-par"],
        ["New-DkvStore", "--name=A", "--instance-prefix=a", "--managers=x,y", "--parallel"],
        ["New-DkvStore", "-StoreName:A", "-instancep:a", "-Servers", "x", ",y", "-Parallel:$true"],
    ],
)
def test_one_meaning_in_many_spellings(words: list[str]) -> None:
    bound = argv(*words)
    assert (bound["Name"], bound["InstancePrefix"], bound["Managers"], bound["Parallel"]) == ("A", "a", ["x", "y"], True)
    assert bound["InstanceCount"] == 1
    assert line("New-DkvStore -Name A -InstancePrefix a -Managers x,y -Parallel") == bound


def test_positions_are_left_to_what_was_not_named() -> None:
    assert line("Start-DkvStore -InstanceName b A")["Name"] == "A"
    assert line("Start-DkvStore A b")["InstanceName"] == "b"
    assert line("Get-DkvStore")["Name"] is None


def test_an_exact_name_beats_longer_ones() -> None:
    assert line("Add-DkvInstance A -Server s2 -Servers m1")["Server"] == "s2"


words = st.sampled_from([p for c in CMDLETS for p in ("-" + c.params[0].name, "-Na", "-x", "A", "1", ",", "@{", "-", "")])


@given(st.sampled_from([c.name for c in CMDLETS]), st.lists(words, max_size=6))
def test_any_words_are_bound_or_refused(name: str, given_words: list[str]) -> None:
    refused: CliError | None = None
    try:
        argv(name, *given_words)
    except CliError as trouble:
        refused = trouble
    assert refused is None or (refused.message.endswith(".") and refused.hint)
