"""Handing over in the engines' contract tests."""

from __future__ import annotations

from dkv.engine.contract import EngineRefused, EngineSeen
from tests.contract.engine_harness import Machine, of


async def handed_over(machine: Machine, start_id: int, thorough: bool = True, requested: bool = False) -> EngineSeen:
    """A coordinated failover to that engine, asked for again, as the product does, if its five seconds passed in vain.
    `asked`: it was asked just now.
    """
    for looks in range(2400):
        if looks % 600 == 0 and (looks or not requested):
            await machine.engines.failover(start_id)
        engine = of(await machine.engines.survey(thorough=thorough), start_id)
        if engine is not None and engine.role == "leader":
            return engine
        await machine.pause(0.01)
    raise AssertionError(f"engine {start_id} never came to lead")


async def failover_asked(machine: Machine, start_id: int) -> None:
    """As soon as that follower accepts it, for which its bus connection to its leader must be there."""
    while True:
        try:
            return await machine.engines.failover(start_id)
        except EngineRefused:
            await machine.pause(0.02)
