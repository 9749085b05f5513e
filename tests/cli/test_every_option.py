"""Every command and each of its options meets bad input: the tables are walked, so that a new one is here by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest

from dkv.cli import nouns
from dkv.cli.binding import GREEDY, Cmdlet, Param, bind, from_argv, written
from dkv.cli.cmdlets import CMDLETS
from dkv.cli.errors import Usage
from dkv.cli.main import main
from dkv.cli.verbs import root
from tests.cli.test_rehearse import LOOKS

ALL = [*CMDLETS, *nouns.everything()]
GOOD: dict[str, list[str]] = {
    "text": ["test"],
    "name": ["test"],
    "number": ["1"],
    "switch": [],
    "list": ["127.0.0.1"],
    "any": ["test"],
    "words": ["a"],
    "pairs": ["k", "v"],
    "nodes": ["@{InstanceName='x';ClustronPort=1;ClientPort=2}"],
    "word": ["?"],
}
BAD: dict[str, list[str]] = {
    "text": [""],
    "name": ["no name"],
    "number": ["many"],
    "list": [","],
    "any": [],
    "words": [],
    "pairs": ["k"],
    "nodes": ["@{InstanceName='x'}"],
    "word": ["xyzzy"],
    "switch": [],
}
"""A value that each kind of option refuses; nothing where a value is missing, since any text will do."""


def good(one: Param) -> list[str]:
    return [written(one), *([one.choices[0]] if one.choices else GOOD[one.kind])]


def line(command: Cmdlet, *, without: Param | None = None) -> list[str]:
    return [word for one in command.params if one.required and one is not without for word in good(one)]


def refused(command: Cmdlet, words: list[str], *named: str) -> None:
    """Nothing is sent: the words do not even become values."""
    with pytest.raises(Usage) as wrong:
        bind(command, from_argv(words), {})
    assert "\n" not in wrong.value.message
    assert wrong.value.message.endswith(".")
    assert wrong.value.hint
    assert all(one in wrong.value.message for one in named), wrong.value.message


@pytest.mark.parametrize("command", ALL, ids=lambda one: one.name)
def test_each_option_of_each_command_has_its_bad_input(command: Cmdlet) -> None:
    refused(command, [*line(command), "--no-such-option", "x"], command.name, "no-such-option")
    for one in command.params:
        name = written(one)
        others = line(command, without=one)
        if one.required:
            refused(command, others, f"{command.name} needs {name}: {one.help}")
        refused(command, [*others, *good(one), *good(one)], f"{name} is given twice")
        if one.kind == "switch":
            refused(command, [*others, f"{name}:perhaps"], f"{name} cannot be 'perhaps'")
        elif one.kind != "pairs":
            refused(command, [*others, name], f"{name} needs a value")
        if BAD[one.kind]:
            refused(command, [*others, name, *BAD[one.kind]])


def test_no_table_has_a_kind_of_value_that_is_not_tried() -> None:
    assert {one.kind for command in ALL for one in command.params} <= set(BAD) == set(GOOD)
    assert set(GREEDY) <= set(BAD)


# Commands that click reads -------------------------------------------------------------------------------------------

OWN_WORDS = {"playground"}  # reads its words itself; tests/playground looks at them
OWN_WAY_TO_ASK_FIRST = {
    "manager run": "becomes the manager",
    "manager stop": "ends a program, which is no command of the domain",
    "shell": "its lines have -Plan of their own",
    "backup state": "writes a file and changes no domain",
    "restore state": "says what it found and asks, before anything is written",
    "rebuild state": "says what it found and asks, before anything is written",
}


def leaves(group: click.Group, *above: str) -> Iterator[tuple[str, click.Command]]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from leaves(one, *above, name)
        elif name not in OWN_WORDS:
            yield " ".join((*above, name)), one


LEAVES = dict(leaves(root))


def said_no(words: list[str], told: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2, words
    printed = told.readouterr()
    assert printed.out == ""
    assert "hint: " in printed.err
    assert "Traceback" not in printed.err
    return printed.err


def values(one: click.Parameter) -> list[str]:
    return [str(one.type.choices[0])] if isinstance(one.type, click.Choice) else ["1"]


def start(command: click.Command, without: click.Parameter | None = None) -> list[str]:
    words = []
    for one in command.params:
        if one.required and one is not without:
            words += [*([one.opts[0]] if isinstance(one, click.Option) else []), *values(one)]
    return words


@pytest.mark.parametrize("name", LEAVES)
def test_each_option_that_click_reads_has_its_bad_input(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, verb = LEAVES[name], name.split()
    assert "no-such-option" in said_no([*verb, *start(command), "--no-such-option"], capsys)
    for one in command.params:
        if one.required:
            said_no([*verb, *start(command, one)], capsys)
        if isinstance(one, click.Option) and not one.is_flag:
            said_no([*verb, *start(command, one), one.opts[0]], capsys)
        if isinstance(one.type, click.Choice | click.IntRange):
            said_no([*verb, *start(command, one), one.opts[0], "xyzzy"], capsys)


@pytest.mark.parametrize("name", LEAVES)
def test_every_changing_command_that_click_reads_can_be_planned(name: str) -> None:
    plannable = any(one.name == "plan" for one in LEAVES[name].params)
    assert plannable != (name.startswith(LOOKS) or name in OWN_WAY_TO_ASK_FIRST)


def test_whoever_asks_first_in_another_way_is_there() -> None:
    known: dict[str, Any] = dict(LEAVES)
    assert set(OWN_WAY_TO_ASK_FIRST) <= set(known)
