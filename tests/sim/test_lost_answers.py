"""A lost answer is what it is called: the work was done, and its caller is answered that nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkv.control.submit import ANSWERS
from dkv.engine.contract import EngineUnreachable
from dkv.sim.store import LinkConditions, SimStore
from dkv.sim.world import Shape, World
from dkv.store.contract import Unavailable
from tests.contract.engine_harness import leading, seen
from tests.sim.sim_machine import SimulatedMachine


def test_a_commit_whose_answer_is_lost_was_made_once_and_its_token_says_so() -> None:
    world, weather = World(1, Shape(servers=2)), LinkConditions(lose=1.0)
    store = SimStore(world.net, world.domain, LinkConditions(), weather)
    words: dict[str, str | None] = {f"{ANSWERS}key": "told"}

    async def scenario() -> None:
        with pytest.raises(Unavailable, match="the answer was lost"):
            await store.commit(0, words, [], "token")
        assert world.domain.snapshot.records == words
        weather.lose = 0.0
        assert await store.commit(0, words, [], "token") == world.domain.snapshot.revision == 1

    try:
        world.loop.run_until_complete(scenario())
        assert world.net.seen["fault lost commit answer"] == 1
    finally:
        world.loop.close()


def test_an_order_whose_reply_is_lost_was_carried_out(tmp_path: Path) -> None:
    async def scenario(machine: SimulatedMachine) -> None:
        await leading(machine, machine.spec(1, 1))  # type: ignore[arg-type]
        machine._net.loses["s1"] = 1.0
        with pytest.raises(EngineUnreachable, match="did not answer"):
            await machine.engines.fence(1)
        machine._net.loses["s1"] = 0.0
        assert (await seen(machine, 1)).writes.fenced  # type: ignore[arg-type]
        assert machine._net.seen["fault lost engine reply"] == 1

    SimulatedMachine(tmp_path).play(scenario)
