"""`dkv status` says that all is well only if nothing waits and no copy is missing; if not, the worst comes first."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dkv.cli.status import at_one_moment, troubles
from dkv.wire import schemas


def item(store: str | None = None, blocks: bool = False) -> schemas.BlockedItem:
    fields: dict[str, Any] = {"kind": "server", "subject": "server s2", "store": store, "for": "", "since": None, "reason": "r"}
    return cast("schemas.BlockedItem", {**fields, "hint": "", "hintParts": [], "blocksWrites": blocks})


def store(name: str, status: str, *instances: tuple[str, bool]) -> schemas.Store:
    """A store with instances in these states, in sync or not."""
    shown = [{"state": state, "inSync": in_sync} for state, in_sync in instances]
    return cast("schemas.Store", {"name": name, "status": status, "instances": shown})


@pytest.mark.parametrize(
    ("waiting", "sentences"),
    [
        ([], []),
        ([item()], ["1 thing waits."]),
        ([item(), item("B"), item("B", blocks=True)], ["Some writes of B are not taken.", "3 things wait."]),
        ([item("C", True), item("B", True)], ["Some writes of B, C are not taken.", "2 things wait."]),
    ],
)
def test_what_waits_is_counted_after_the_writes_that_are_not_taken(
    waiting: list[schemas.BlockedItem], sentences: list[str]
) -> None:
    assert troubles([], waiting) == sentences


@pytest.mark.parametrize(
    ("shown", "complete"),
    [
        (store("A", "Running", ("Running", True), ("Running", True)), True),
        (store("A", "Stopped", ("Stopped", False), ("Created", False)), True),
        (store("A", "NoInstances"), True),
        (store("A", "Running", ("Running", True), ("Running", False)), False),
        (store("A", "Partial", ("Running", True), ("Stopped", False)), False),
    ],
)
def test_a_copy_that_is_missing_is_wrong_although_nothing_waits_for_it(shown: schemas.Store, complete: bool) -> None:
    assert troubles([shown], []) == ([] if complete else ["Copies of A do not run or are not in sync."])


class Changing:
    """A domain that loses a server between the first answer and the second."""

    def __init__(self, *revisions: int) -> None:
        self.revisions = list(revisions)

    def domain(self) -> dict[str, Any]:
        return {"revision": self.revisions.pop(0) if len(self.revisions) > 1 else self.revisions[0]}

    def stores(self) -> list[Any]:
        return []

    def waiting(self) -> list[int]:
        return [self.revisions[0]]  # of the next revision


@pytest.mark.parametrize(
    ("revisions", "shown"),
    [((7, 7), (7, [7])), ((7, 8, 8), (8, [8])), ((1, 2, 3, 4, 5), (4, [4]))],
    ids=["at rest", "once", "always"],
)
def test_what_is_shown_is_of_one_moment(revisions: tuple[int, ...], shown: tuple[int, list[int]]) -> None:
    domain, _, waiting = at_one_moment(cast("Any", Changing(*revisions)))
    assert (domain["revision"], waiting) == shown
