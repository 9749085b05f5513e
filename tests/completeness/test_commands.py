"""Every command is whole: it has a rule, somebody who makes it, and a scenario in which it is accepted.

That every order goes through HTTP is seen in test_entry_points.py, by sending it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache

import pytest

from dkv.domain import commands
from dkv.domain.commands import COMMANDS, FACTS, ORDERS, Command
from dkv.domain.decide import RULES
from tests.domain.test_scenarios import SCENARIOS, replay
from tests.domain.verbs import ScenarioRunner
from tests.lint.repository import python_files, tree_of

REPORTERS_OF_FACTS = ("src/dkv/machine", "src/dkv/control", "src/dkv/manager.py")


@cache
def reported() -> set[str]:
    """The facts that managers make: what is called like a constructor in their files."""
    files = [name for name in python_files("src") if any(name.is_relative_to(place) for place in REPORTERS_OF_FACTS)]
    calls = [node.func for name in files for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)]
    return {call.id if isinstance(call, ast.Name) else call.attr for call in calls if isinstance(call, ast.Name | ast.Attribute)}


@cache
def accepted() -> set[str]:
    """Names of all commands that are accepted in some scenario, found by replaying each."""
    names: set[str] = set()
    for path in SCENARIOS:
        runner = ScenarioRunner()
        replay(path.read_text(encoding="utf-8"), runner)
        names |= runner.world.accepted
    return names


def names(kinds: Iterable[type[Command]]) -> list[str]:
    return [kind.__name__ for kind in kinds]


def test_every_kind_of_command_is_an_order_or_a_fact() -> None:
    kinds = [kind for kind in vars(commands).values() if isinstance(kind, type) and issubclass(kind, Command)]
    leaves = {kind.__name__ for kind in kinds if not kind.__subclasses__()}
    assert leaves == set(COMMANDS)
    assert not set(ORDERS) & set(FACTS)


def test_every_command_has_its_rule_and_every_rule_its_command() -> None:
    assert set(RULES) == set(COMMANDS.values())


@pytest.mark.parametrize("name", names(FACTS))
def test_every_fact_is_reported_by_somebody(name: str) -> None:
    assert name in reported(), f"nobody in {', '.join(REPORTERS_OF_FACTS)} makes a {name}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_accepted_in_a_scenario(name: str) -> None:
    assert name in accepted(), f"no scenario of tests/scenarios has an accepted {name}"
