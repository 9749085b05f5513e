"""What something else than its manager changes on an engine is undone in time, although an idle manager looks seldom."""

from __future__ import annotations

from dataclasses import replace

from dkv.engine.contract import EngineUser
from tests.sim.test_scenarios import ScenarioRun

WITHIN = 5.0  # s, as operations.md says
EVE = EngineUser("eve", (), altered="on nopass ~* &* +@all")


def test_a_user_that_was_made_by_hand_is_gone_within_five_seconds_wherever_nothing_else_goes_on() -> None:
    """Leader and followers alike, at any moment between two looks; each time an event says so."""
    took: list[float] = []

    async def scenario(run: ScenarioRun) -> None:
        world = run.world
        await run.world.net.sleep(20.0)
        for number, machine in enumerate([*world.machines.values()] * 2):
            (engine,) = machine.hardware.all_engines()
            right, began = engine.users, world.now()
            engine.users = replace(right, users=(*right.users, EVE))
            await run.until(lambda engine=engine, right=right: engine.users == right)  # type: ignore[misc]
            took.append(world.now() - began)
            await world.net.sleep(6.0 + 0.7 * number)
        told = [line for line in world.trace_lines if "process.users_altered" in line and "eve" in line]
        assert len(told) == len(took)

    run = ScenarioRun(7)
    assert run.play(scenario) == []
    assert len(took) == 6 and max(took) <= WITHIN, took
