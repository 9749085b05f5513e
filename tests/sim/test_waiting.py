"""A sentence of `dkv show waiting` that is not true is found out, and so is an outage of which there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dkv.domain.blocked import blocked
from dkv.domain.model import State
from dkv.sim.checks.health import Health
from dkv.sim.checks.waiting import JUDGES_WITHIN, UNNAMED_FOR, UNTRUE_FOR, Sentences, WaitingChecks
from tests.sim.test_scenarios import ScenarioRun


class WaitingRun(ScenarioRun):
    """A domain of three servers, watched by these checkers alone."""

    def __init__(self, sentences: Sentences) -> None:
        super().__init__(3)
        health = Health(self.world)
        self.world.watchers = [health, WaitingChecks(self.world, health, sentences)]

    async def look(self, seconds: float, state: State | None = None) -> None:
        """Time passes; in a state, if it is given."""
        for _ in range(int(seconds)):
            self.world.state = state or self.world.state
            for watcher in self.world.watchers:
                watcher.passed()
            await asyncio.sleep(1.0)


Breach = Callable[[WaitingRun], Awaitable[None]]


def failures(breach: Breach, sentences: Sentences = blocked) -> str:
    run = WaitingRun(sentences)

    async def watched(_: ScenarioRun) -> None:
        await breach(run)

    return " / ".join(run.play(watched))


async def an_engine_that_answers_is_called_silent(run: WaitingRun) -> None:
    state = run.world.state
    process = state.processes[run.group.leader_process or 0]
    silent = replace(process, health=replace(process.health, silent_at=7))
    await run.look(UNTRUE_FOR + 3.0, replace(state, processes={**state.processes, process.start_id: silent}))


async def a_server_that_is_well_is_called_away(run: WaitingRun) -> None:
    state = run.world.state
    away = replace(state.servers["s2"], alive=False, lost_at=7)
    await run.look(UNTRUE_FOR + 3.0, replace(state, servers={**state.servers, "s2": away}))


async def the_leader_stands_still(run: WaitingRun) -> None:
    engine = run.checkers.leader_engine(run.group)
    assert engine is not None
    engine.stop()
    await run.look(UNNAMED_FOR + JUDGES_WITHIN + 3.0)


async def all_but_one_are_off(run: WaitingRun) -> None:
    for name in run.world.machines:
        if name != run.leader():
            run.world.switch_off(name)
    await run.look(UNNAMED_FOR + JUDGES_WITHIN + 3.0)


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (an_engine_that_answers_is_called_silent, "is said to wait for its engine"),
        (a_server_that_is_well_is_called_away, "is said to wait for the manager of s2"),
    ],
)
def test_a_sentence_that_is_not_true_is_found_out(breach: Breach, words: str) -> None:
    assert words in failures(breach)


def test_an_outage_that_nothing_names_is_found_out() -> None:
    assert "g1 takes no writes for 8 s" in failures(the_leader_stands_still, lambda state: ())


@pytest.mark.parametrize("course", [all_but_one_are_off, the_leader_stands_still])
def test_what_is_said_is_true(course: Breach) -> None:
    assert failures(course) == ""
