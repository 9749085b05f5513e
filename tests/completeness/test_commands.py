"""Every command is whole: it has a rule, a manager or an operator that makes it, and a scenario in which it is accepted.

That every order goes through HTTP is seen in test_entry_points.py, by sending it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from types import ModuleType

import pytest

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.decide import RULES
from dkv.domain.facts import FACTS
from dkv.domain.orders import ORDERS
from tests.domain.test_scenarios import SCENARIOS, replay
from tests.domain.verbs import ScenarioRunner
from tests.lint.repository import constructed, python_files

REPORTERS_OF_FACTS = ("src/dkv/machine", "src/dkv/control", "src/dkv/manager.py", "src/dkv/members")


@cache
def reported() -> set[str]:
    """The full names of what managers construct."""
    files = [name for name in python_files("src") if any(name.is_relative_to(place) for place in REPORTERS_OF_FACTS)]
    return set().union(*(constructed(name) for name in files))


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


@pytest.mark.parametrize(("module", "table"), [(orders, ORDERS), (facts, FACTS)], ids=["orders", "facts"])
def test_every_kind_of_command_is_in_the_table_of_its_file(module: ModuleType, table: tuple[type[Command], ...]) -> None:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Command)]
    assert {kind for kind in kinds if not kind.__subclasses__()} == set(table)
    assert len(set(table)) == len(table)


def test_every_command_has_its_rule_and_every_rule_its_command() -> None:
    assert set(RULES) == {*ORDERS, *FACTS}


@pytest.mark.parametrize("fact", FACTS, ids=names(FACTS))
def test_every_fact_is_constructed_by_a_manager(fact: type[Command]) -> None:
    assert f"{fact.__module__}.{fact.__name__}" in reported(), f"nothing in {', '.join(REPORTERS_OF_FACTS)} makes it"


@pytest.mark.parametrize("name", names(ORDERS + FACTS))
def test_every_command_is_accepted_in_a_scenario(name: str) -> None:
    assert name in accepted(), f"no scenario of tests/scenarios has an accepted {name}"
