"""Tests of the domain: what records may be, how many, and what regions say that were made of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import Database, DatabaseOptions, Record, State
from dkv.domain.orders import PutRecord
from dkv.domain.records import region_of
from dkv.domain.rules import records


def put(state: State, **more: object) -> Accepted | Refused:
    return decide(state, PutRecord(**{"kind": "kvstore", "key": "k", "value": '"v"', **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"kind": "users"}, "Did you mean user?"),
        ({"key": ""}, "0 bytes"),
        ({"key": "k" * 513}, "513 bytes"),
        ({"key": "\ud800"}, "not text"),
        ({"value": "{"}, "not JSON"),
        ({"value": json.dumps("v" * records.LARGEST_VALUE)}, "bytes long"),
    ],
)
def test_what_could_be_no_record_is_refused_with_the_reason(content: dict[str, object], word: str) -> None:
    refused = put(State(), **content)
    assert isinstance(refused, Refused)
    assert refused.code == "bad_value"
    assert word in f"{refused.message} {refused.hint}"


def full(count: int, value: str) -> State:
    return State(records={("kvstore", f"k{n}"): Record("kvstore", f"k{n}", value) for n in range(count)})


def test_there_is_an_end_to_their_number_and_to_their_size_and_changing_one_is_still_possible() -> None:
    many = full(records.MOST_OF_A_KIND, '"v"')
    assert isinstance(put(many), Refused)
    assert isinstance(put(many, key="k0", value='"other"'), Accepted)
    assert isinstance(put(many, kind="user"), Accepted)
    large = full(records.LARGEST_SUM // 60_000 + 1, json.dumps("v" * 60_000))
    refused = put(large)
    assert isinstance(refused, Refused)
    assert refused.code == "records_full"
    assert isinstance(put(large, key="k0", value=None), Accepted), "what is too much can be deleted"


def test_a_server_is_in_the_region_it_was_put_in_as_long_as_both_exist() -> None:
    database = Database("test", "u1", "s", DatabaseOptions())
    placed = {"uid": "u1", "default": 2, "servers": {"s1": 1, "s2": 7}}
    state = State(
        databases={"test": database},
        records={
            ("regions", "all"): Record("regions", "all", '{"next": 3, "names": {"1": "east", "2": "west"}}'),
            ("database_regions", "test"): Record("database_regions", "test", json.dumps(placed)),
        },
    )
    assert [region_of(state, "test", name) for name in ("s1", "s2", "s3")] == ["east", "Default", "west"]
    assert region_of(state, "other", "s1") == "Default"
    made_anew = replace(state, databases={"test": replace(database, uid="u2")})
    assert region_of(made_anew, "test", "s1") == "Default"
