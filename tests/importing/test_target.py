"""What is written to a store whose groups change their leaders meanwhile: every key, once its group has a leader again."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.importing import target
from dkv.importing.connection import Broken, Command, ImportFailed, Place, slot_of
from dkv.importing.source import Value
from dkv.importing.target import Target

FIRST, SECOND, NEXT = Place("10.0.0.11", 7861), Place("10.0.0.12", 7861), Place("10.0.0.13", 7861)
HALF = 8191
LOW, HIGH = b"b", b"a"  # keys of the first and the second group
VALUES = [Value(LOW, b"low", 0), Value(HIGH, b"high", 0)]


class Engines:
    """In the place of connections: what each engine was given; those of `dead` do not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *dead: Place) -> None:
        self.written: dict[Place, list[bytes]] = {}
        self.dead = dead
        monkeypatch.setattr(target, "Connection", self._connected)
        monkeypatch.setattr(target, "PAUSE", 0.0)

    def _connected(self, place: Place, database: int) -> Any:
        if place in self.dead:
            raise Broken("connection refused")
        engines = self

        class Connected:
            def ask(self, *commands: Command) -> list[Any]:
                engines.written.setdefault(place, []).extend(bytes(command[1]) for command in commands)
                return [b"OK"] * len(commands)

        return Connected()


def leaders(first: Place | None, second: Place | None) -> dict[Place, list[tuple[int, int]]]:
    shown = {first: [(0, HALF)], second: [(HALF + 1, 16383)]}
    return {place: slots for place, slots in shown.items() if place is not None}


def test_the_keys_of_the_test_are_of_two_groups() -> None:
    assert slot_of(LOW) <= HALF < slot_of(HIGH)


def test_keys_of_a_group_without_a_leader_wait_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch, FIRST)
    views = [leaders(FIRST, SECOND), leaders(None, SECOND), {}, leaders(NEXT, SECOND)]
    Target(lambda: views.pop(0)).write(0, VALUES)
    assert engines.written == {SECOND: [HIGH], NEXT: [LOW]}


def test_keys_whose_group_has_no_leader_from_the_beginning_are_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch)
    views = [leaders(None, SECOND), leaders(FIRST, SECOND)]
    Target(lambda: views.pop(0)).write(0, VALUES)
    assert engines.written == {SECOND: [HIGH], FIRST: [LOW]}


def test_a_group_that_gets_no_leader_ends_the_import_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    Engines(monkeypatch)
    monkeypatch.setattr(target, "PATIENCE", 0.0)
    with pytest.raises(ImportFailed, match="1 keys cannot be written"):
        Target(lambda: leaders(None, SECOND)).write(0, VALUES)


def test_what_every_leader_is_told_waits_until_each_group_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(monkeypatch)
    views = [leaders(None, SECOND), {}, leaders(FIRST, SECOND)]
    assert Target(lambda: views.pop(0)).each(("FUNCTION", b"LOAD")) == [[b"OK"], [b"OK"]]
    assert engines.written == {FIRST: [b"LOAD"], SECOND: [b"LOAD"]}
