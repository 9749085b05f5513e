"""Every command is executed through its entry point, and what it made true is read back."""

from __future__ import annotations

import asyncio

import pytest

from dkv.domain.command import Command
from dkv.domain.facts import FACTS
from dkv.domain.orders import ORDERS
from tests.completeness.life import Life
from tests.completeness.test_commands import names

QUIET = {
    # Facts that change the state without an event, and why nobody needs to read about them.
    "Tick": "time passed; what a timer does has its own event",
    "LoadingProgressed": "shown as a percentage in the view; an event each would bury the others",
    "LeaderProgressed": "one or two a second while a leader loads; what comes of it has its own event",
    "PositionReported": "an answer in a vacancy; the assignment that follows says whom it chose and why",
    "JoinMarked": "a stage between joining and required, which have events",
    "LeaderSteppedDown": "one suspect less; if the group loses its leader by it, that has its event",
    "CopyProgressed": "shown as a percentage of the hot copy",
    "CutDropped": "tidying up after a hot copy that ended",
    "LeaderSilence": "shown in what the group waits for; the vacancy that may follow says why",
}


@pytest.fixture(scope="module")
def life() -> Life:
    """The store's life, lived once for all tests of this file."""
    life = Life()
    asyncio.run(life.lived())
    return life


@pytest.mark.parametrize("name", names(ORDERS))
def test_every_order_goes_through_http_and_its_event_is_read_back(life: Life, name: str) -> None:
    assert life.events[name], f"no event of the log says that {name} made it so"


@pytest.mark.parametrize("fact", FACTS, ids=names(FACTS))
def test_every_fact_is_taken_and_read_back(life: Life, fact: type[Command]) -> None:
    name = fact.__name__
    assert fact in life.submitted, f"life.py never submits {name}"
    if name in QUIET:
        assert name in life.changed, f"{name} changed nothing"
    else:
        assert life.events[name], f"no event of the log says that {name} made it so; is it one of QUIET?"


def test_quiet_names_only_facts(life: Life) -> None:
    assert set(QUIET) <= set(names(FACTS))
