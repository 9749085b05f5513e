"""Commands, refusals and tombstones as JSON."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from dkv.api.problems import API_CODES
from dkv.domain.command import Command
from dkv.domain.facts import FACTS
from dkv.domain.orders import ORDERS
from dkv.domain.refusals import CATALOGUE, no
from dkv.wire import views
from dkv.wire.commands import camel, to_wire
from tests.domain.verbs import ScenarioRunner


def sample(kind: Any) -> Any:
    """Some value of an annotated type, never its default."""
    if get_origin(kind) in (Union, UnionType):
        return sample(next(kind_in_it for kind_in_it in get_args(kind) if kind_in_it is not type(None)))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return (sample(kinds[0]), sample(kinds[0])) if kinds[1:] == (...,) else tuple(sample(kind_in_it) for kind_in_it in kinds)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: sample(hints[f.name]) for f in fields(kind)})  # type: ignore[operator]
    if issubclass(kind, Enum):
        return list(kind)[-1]
    return {str: "word", int: 7, bool: True}[kind]


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else dict(vars(value)) if is_dataclass(value) else value


@pytest.mark.parametrize("kind", ORDERS + FACTS)
def test_every_field_of_a_command_is_in_its_json(kind: type[Command]) -> None:
    command = sample(kind)
    assert isinstance(command, Command)
    body = json.loads(json.dumps(to_wire(command)))
    assert {key: type(value) for key, value in body.items()} == {
        camel(field.name): type(plain(getattr(command, field.name))) for field in fields(command)
    }
    assert not any("_" in key for key in body)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_refusal_of_the_domain_is_a_problem(code: str) -> None:
    problem = views.problem(no(code, "It cannot be.", "Do something else."))
    assert (problem["code"], problem["status"]) == (code, CATALOGUE[code].status)
    assert problem["detail"] == "It cannot be."


def test_the_api_adds_codes_and_changes_none() -> None:
    assert not set(API_CODES) & set(CATALOGUE)


def test_tombstones_of_a_store_stand_in_the_order_in_which_they_were_counted() -> None:
    """A manager that was away reports late what happened earlier: newest first are the exits, not what clocks said of them."""
    runner = ScenarioRunner()
    for line in ("servers A B", "create orders on=A,B", "start orders-1 orders-2", "up orders", "exit orders-2", "exit 2"):
        runner.run(line)
    state = runner.world.state
    assert {tombstone.minor for tombstone in state.tombstones.values()} == {1, 2}
    late = {start_id: replace(tombstone, at=1_000 - tombstone.minor) for start_id, tombstone in state.tombstones.items()}
    shown = views.tombstones_view(replace(state, tombstones=late), "orders")
    assert [tombstone["incarnation"]["minor"] for tombstone in shown] == [2, 1]
