"""What is written to a store whose groups change their leaders meanwhile: every key, once its group has a leader again."""

from __future__ import annotations

import pytest

from dkv.importing.connection import ImportFailed, slot_of
from dkv.importing.source import Value
from tests.importing.engines import FIRST, HALF, NEXT, SECOND, Engines, leaders

LOW, HIGH = b"b", b"a"  # keys of the first and the second group
VALUES = [Value(LOW, b"low", 0), Value(HIGH, b"high", 0)]


def test_the_keys_of_the_test_are_of_two_groups() -> None:
    assert slot_of(LOW) <= HALF < slot_of(HIGH)


def test_keys_of_a_group_without_a_leader_wait_for_the_next_one() -> None:
    engines = Engines(dead=(FIRST,))
    views = [leaders(FIRST, SECOND), leaders(None, SECOND), {}, leaders(NEXT, SECOND)]
    engines.target(lambda: views.pop(0)).write(0, VALUES)
    assert engines.written == {SECOND: [HIGH], NEXT: [LOW]}


def test_keys_whose_group_has_no_leader_from_the_beginning_are_written_too() -> None:
    engines = Engines()
    views = [leaders(None, SECOND), leaders(FIRST, SECOND)]
    engines.target(lambda: views.pop(0)).write(0, VALUES)
    assert engines.written == {SECOND: [HIGH], FIRST: [LOW]}


def test_a_group_that_gets_no_leader_ends_the_import_with_a_sentence() -> None:
    with pytest.raises(ImportFailed, match="1 keys cannot be written"):
        Engines().target(lambda: leaders(None, SECOND), patience=0.0).write(0, VALUES)


def test_what_every_leader_is_told_waits_until_each_group_has_one() -> None:
    engines = Engines()
    views = [leaders(None, SECOND), {}, leaders(FIRST, SECOND)]
    assert engines.target(lambda: views.pop(0)).on_every_leader(("FUNCTION", b"LOAD")) == [[b"OK"], [b"OK"]]
    assert engines.written == {FIRST: [b"LOAD"], SECOND: [b"LOAD"]}
