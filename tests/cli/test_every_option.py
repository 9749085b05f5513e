"""Every command and each of its options meets bad input: the tables are walked, so that a new one is here by itself."""

from __future__ import annotations

import pytest

from dkv.cli import nouns
from dkv.cli.binding import GREEDY, Cmdlet, Param, bind, from_argv, written
from dkv.cli.cmdlets import CMDLETS
from dkv.cli.errors import Usage

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
    "each": ["/a"],
    "setting": ["test"],
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
    "each": [""],
    "setting": [""],
    "switch": [],
}
"""A value that each kind of option refuses; nothing where a value is missing, since any text will do."""


def good(param: Param) -> list[str]:
    return [written(param), *([param.choices[0]] if param.choices else GOOD[param.kind])]


def line(command: Cmdlet, *, without: Param | None = None) -> list[str]:
    return [word for param in command.params if param.required and param is not without for word in good(param)]


def refused(command: Cmdlet, words: list[str], *named: str) -> None:
    """Nothing is sent: the words do not even become values."""
    with pytest.raises(Usage) as wrong:
        bind(command, from_argv(words), {})
    assert "\n" not in wrong.value.message
    assert wrong.value.message.endswith(".")
    assert wrong.value.hint
    assert all(name in wrong.value.message for name in named), wrong.value.message


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_each_option_of_each_command_has_its_bad_input(command: Cmdlet) -> None:
    refused(command, [*line(command), "--no-such-option", "x"], command.name, "no-such-option")
    for param in command.params:
        name = written(param)
        others = line(command, without=param)
        if param.required:
            refused(command, others, f"{command.name} needs {name}: {param.help}")
        if param.kind not in ("each", "setting"):
            refused(command, [*others, *good(param), *good(param)], f"{name} is given twice")
        if param.kind == "switch":
            refused(command, [*others, f"{name}:perhaps"], f"{name} cannot be 'perhaps'")
        elif param.kind != "pairs":
            refused(command, [*others, name], f"{name} needs a value")
        if BAD[param.kind]:
            refused(command, [*others, name, *BAD[param.kind]])


def test_no_table_has_a_kind_of_value_that_is_not_tried() -> None:
    assert {param.kind for command in ALL for param in command.params} <= set(BAD) == set(GOOD)
    assert set(GREEDY) <= set(BAD)
