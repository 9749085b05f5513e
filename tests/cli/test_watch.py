"""`dkv watch`: the live view on a terminal of any width, and what its messages change."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from dkv.cli import live_table, watch
from dkv.cli.output import Screen
from tests.api.world import World, orders


def view() -> dict[str, Any]:
    """The live view of a world with one store, as its manager answers it."""

    async def run() -> dict[str, Any]:
        world = World()
        await world.begin()
        async with world.at() as client:
            await client.post("/admin/v1/stores", json=orders())
            await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
            answer: dict[str, Any] = (await client.get("/admin/v1/live")).json()
            return answer

    return asyncio.run(run())


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    return view()


def drawn(seen: Any, width: int, broken: str = "") -> list[str]:
    return live_table.lines(watch._picture(Screen(io.StringIO(), io.StringIO()), seen, width, broken), width)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_it_fits_the_terminal_and_says_the_answer_first(seen: dict[str, Any], width: int) -> None:
    lines = drawn(seen, width)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "OrdersStore" in text and "orders-2" in text and "Starting" in text
    assert ("endpoint" in text, "pid" in text) == (width >= 100, width >= 110)
    assert "2 servers, 1 store" in " ".join(lines[:4])


def test_half_a_terminal_has_whole_words(seen: dict[str, Any]) -> None:
    """At 46 columns every cell was cut: `orders…  s1  Runni…  follow…`."""
    instance = {"state": "Running", "role": "follower", "reason": None, "inSync": True, "process": None}
    stores = [store | {"instances": [i | instance for i in store["instances"]]} for store in seen["stores"]]
    rows = [line.split() for line in drawn(seen | {"stores": stores}, 46) if "Running" in line]
    assert rows and all(row == [row[0], "Running", "follower", "yes"] and row[0].startswith("orders-") for row in rows), rows


def test_what_is_as_of_then_is_said_to_be(seen: dict[str, Any]) -> None:
    assert "As of" in drawn(seen, 80, "The manager does not answer.")[0]
    away = seen | {"asOf": {"since": 0, "why": "the state file does not answer", "hint": ""}}
    assert "waits for the domain, the state file does not answer" in " ".join(drawn(away, 200))


def test_a_message_brings_what_changed_and_the_events_since(seen: dict[str, Any]) -> None:
    known: dict[str, Any] = {}
    watch.merge(known, seen)
    newest = known["events"][-1]["sequence"]
    watch.merge(known, {"at": 7, "waiting": [], "events": [known["events"][-1], {"sequence": newest + 1, "at": 7, "text": "x"}]})
    assert known["at"] == 7 and known["waiting"] == [] and known["stores"] == seen["stores"]
    assert [event["sequence"] for event in known["events"]][-2:] == [newest, newest + 1]
    assert len(known["events"]) <= watch.EVENTS


def test_texts_of_the_domain_move_no_terminal(seen: dict[str, Any]) -> None:
    store = seen["stores"][0] | {"status": "\x1b[2J[red]"}
    text = "\n".join(drawn(seen | {"stores": [store]}, 100))
    assert "\x1b" not in text and "[red]" in text
