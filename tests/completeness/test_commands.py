"""Every command is whole: it has a rule, a door through which it comes, and a scenario that tells it.

What comes later stands in LATER with its reason, and fails here as soon as it has come.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache

import pytest

from dkv.domain import commands
from dkv.domain.commands import COMMANDS, FACTS, ORDERS, Command
from dkv.domain.decide import RULES
from tests.lint.repository import ROOT, python_files, tree_of

LATER: dict[tuple[str, str], str] = {
    # (command, "door" or "scenario"): why it is missing, and what brings it
}

DOORS_OF_ORDERS = ("src/dkv/api", "src/dkv/wire")
DOORS_OF_FACTS = ("src/dkv/machine", "src/dkv/control", "src/dkv/manager.py")
SCENARIOS = ROOT / "tests" / "scenarios"


@cache
def built_in(places: tuple[str, ...]) -> set[str]:
    """Names that are called like a constructor in the files below the places."""
    files = [name for name in python_files("src") if any(name.is_relative_to(place) for place in places)]
    calls = [node.func for name in files for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)]
    return {call.id if isinstance(call, ast.Name) else call.attr for call in calls if isinstance(call, ast.Name | ast.Attribute)}


@cache
def told() -> str:
    """All the scenarios, one after the other."""
    files = [path for path in sorted(SCENARIOS.rglob("*")) if path.is_file() and path.suffix in {".txt", ".py"}]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def names(kinds: Iterable[type[Command]]) -> list[str]:
    return [kind.__name__ for kind in kinds]


def room_exists(place: str) -> bool:
    """Is there more in the room than its name?"""
    return len(list((ROOT / place).glob("*.py"))) > 1


def test_every_kind_of_command_is_an_order_or_a_fact() -> None:
    kinds = [kind for kind in vars(commands).values() if isinstance(kind, type) and issubclass(kind, Command)]
    leaves = {kind.__name__ for kind in kinds if not kind.__subclasses__()}
    assert leaves == set(COMMANDS)
    assert not set(ORDERS) & set(FACTS)


def test_every_command_has_its_rule_and_every_rule_its_command() -> None:
    assert set(RULES) == set(COMMANDS.values())


@pytest.mark.parametrize("name", names(ORDERS))
def test_every_order_has_a_route(name: str) -> None:
    expect(name, "door", name in built_in(DOORS_OF_ORDERS), DOORS_OF_ORDERS)


@pytest.mark.parametrize("name", names(FACTS))
def test_every_fact_is_reported_by_somebody(name: str) -> None:
    expect(name, "door", name in built_in(DOORS_OF_FACTS), DOORS_OF_FACTS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_told_in_a_story(name: str) -> None:
    if not told():
        pytest.skip("no scenarios are written yet")
    expect(name, "scenario", name in told(), ("tests/scenarios",))


def expect(name: str, what: str, there: bool, places: Iterable[str]) -> None:
    """It is there, or stands in LATER; never both."""
    later = LATER.get((name, what))
    if there:
        assert later is None, f"{name} has its {what} now: take it out of LATER"
    elif later is None:
        if what == "door" and not room_exists(next(iter(places))):
            pytest.skip("its room is not built yet")
        pytest.fail(f"{name} has no {what} in {', '.join(places)}")


def test_later_names_only_real_commands() -> None:
    assert {name for name, _ in LATER} <= set(COMMANDS)
    assert all(LATER.values())
