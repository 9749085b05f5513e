"""Commands as JSON: every command there and back, and a clear word for JSON that is none."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from dkv import wire
from dkv.api.problems import DOOR_CODES
from dkv.domain.commands import COMMANDS, Command
from dkv.domain.refusals import CATALOGUE, no
from tests.domain.verbs import Teller


def sample(kind: Any) -> Any:
    """Some value of an annotated type, never its default."""
    if get_origin(kind) in (Union, UnionType):
        return sample(next(one for one in get_args(kind) if one is not type(None)))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return (sample(kinds[0]), sample(kinds[0])) if kinds[1:] == (...,) else tuple(sample(one) for one in kinds)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: sample(hints[f.name]) for f in fields(kind)})  # type: ignore[operator]
    if issubclass(kind, Enum):
        return list(kind)[-1]
    return {str: "word", int: 7, bool: True}[kind]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_survives_the_wire(name: str) -> None:
    command = sample(COMMANDS[name])
    assert isinstance(command, Command)
    body = json.loads(json.dumps(wire.to_wire(command)))
    assert not any("_" in key for key in body)
    assert wire.from_wire(name, body) == command


@pytest.mark.parametrize(
    ("name", "body", "sentence", "hint"),
    [
        ("StopProcess", {}, "no command StopProcess", "StartProcess"),
        ("DeleteDatabase", {"nam": "x"}, "DeleteDatabase has no field nam", "Did you mean name?"),
        ("DeleteDatabase", {}, "lacks the field name", ""),
        ("DeleteDatabase", {"name": 7}, "DeleteDatabase.name is 7 and should be of type str", ""),
        ("DeleteArchive", {"archiveId": True}, "DeleteArchive.archiveId is True", ""),
        ("StartProcess", {"database": "d", "role": "TM"}, "role is 'TM'", ""),
        ("StartProcess", {"database": "d", "role": "SM", "expected": [1]}, "has 1 entries and should have 2", ""),
        ("CreateArchives", {"database": "d", "archives": 7}, "should be a list", ""),
        ("CreateArchives", {"database": "d", "archives": [7]}, "archives[0] is 7 and should be an object", ""),
    ],
)
def test_json_that_is_no_command_is_refused(name: str, body: dict[str, Any], sentence: str, hint: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.from_wire(name, body)
    assert sentence in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_refusal_of_the_domain_is_a_problem(code: str) -> None:
    problem = wire.problem(no(code, "It cannot be.", "Do something else."))
    assert (problem["code"], problem["status"]) == (code, CATALOGUE[code].status)
    assert problem["detail"] == "It cannot be."


def test_the_doors_add_codes_and_change_none() -> None:
    assert not set(DOOR_CODES) & set(CATALOGUE)


def test_tombstones_of_a_store_stand_in_the_order_in_which_they_were_counted() -> None:
    """A manager that was away tells late of an earlier time: newest first are the exits, not what clocks said of them."""
    teller = Teller()
    for line in ("servers A B", "create orders on=A,B", "start orders-1 orders-2", "up orders", "exit orders-2", "exit 2"):
        teller.tell(line)
    state = teller.world.state
    assert {one.minor for one in state.tombstones.values()} == {1, 2}
    late = {start_id: replace(one, at=1_000 - one.minor) for start_id, one in state.tombstones.items()}
    told = wire.tombstones_view(replace(state, tombstones=late), "orders")
    assert [one["incarnation"]["minor"] for one in told] == [2, 1]
