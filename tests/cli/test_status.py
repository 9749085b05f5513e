"""`dkv status` begins with one sentence that says whether all is well, and the worst first if not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dkv.cli.status import answer
from dkv.wire import schemas


def item(store: str | None = None, blocks: bool = False) -> schemas.BlockedItem:
    fields: dict[str, Any] = {"kind": "server", "subject": "server s2", "store": store, "for": "", "since": None, "reason": "r"}
    return cast("schemas.BlockedItem", {**fields, "hint": "", "hintParts": [], "blocksWrites": blocks})


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        ([], "All is well: 2 servers, 1 store."),
        ([item()], "1 thing waits: 2 servers, 1 store."),
        ([item(), item("B"), item("B", blocks=True)], "Some writes of B are not taken. 3 things wait: 2 servers, 1 store."),
        ([item("C", True), item("B", True)], "Some writes of B, C are not taken. 2 things wait: 2 servers, 1 store."),
    ],
)
def test_the_answer_comes_first(waiting: list[schemas.BlockedItem], sentence: str) -> None:
    domain = cast("schemas.Domain", {"servers": [{}, {}]})
    assert answer(domain, cast("list[schemas.Store]", [{}]), waiting) == sentence
