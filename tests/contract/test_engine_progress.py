"""The engine contract: an engine that answers nothing is seen to work, or to do nothing, from outside."""

from __future__ import annotations

from dkv.engine.contract import Cause
from tests.contract.engine_harness import Machine, ended, leading, memory_only, of, seen, until


async def loaded_again(machine: Machine, start_id: int) -> tuple[int, int]:
    """Kill archive 1's engine and start the next on it; the longest it was silent and idle until it had loaded, in ms."""
    spec = machine.spec(start_id, 1)
    await machine.engines.kill(start_id - 1, Cause.OPERATOR_KILL)
    await ended(machine, start_id - 1)
    await machine.engines.prepare(spec.directory, spec.identity, False)
    await machine.engines.launch(spec)
    silent, idle = 0, 0
    while not (engine := await seen(machine, start_id)).answering or engine.loading:
        silent, idle = max(silent, engine.silent_ms), max(idle, engine.idle_ms)
        await machine.pause(0.05)
    return silent, idle


def test_an_engine_that_loads_in_silence_is_seen_to_work(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        for start_id in range(2, 8):  # each has more to load than the one before, until that takes this machine long enough
            await machine.load_in_silence(start_id - 1)
            silent, idle = await loaded_again(machine, start_id)
            if silent >= 800:
                break
            await machine.engines.take_over(start_id)
            await machine.engines.unfence(start_id)
        assert silent >= 800, "it said something: the test shows nothing"
        assert idle < silent - 300, "its process worked all the time"

    engine_machine.play(scenario)


def test_an_engine_that_stands_still_is_seen_to_do_nothing(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        machine.freeze(1)
        engine = await seen(machine, 1, lambda engine: engine.silent_ms >= 1_500)
        assert engine.idle_ms >= 500
        machine.thaw(1)
        engine_seen = await seen(machine, 1, lambda engine: engine.answering)
        assert (engine_seen.silent_ms, engine_seen.idle_ms) == (0, 0)

    engine_machine.play(scenario)


def test_an_engine_without_an_archive_that_stands_still_is_seen_to_do_nothing(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = memory_only(machine.spec(1, 1))
        await machine.engines.launch_memory(spec)
        await seen(machine, 1, lambda engine: engine.answering and not engine.loading)
        machine.freeze(1, "g0")
        survey = await until(machine, lambda all: (frozen := of(all, 1)) is not None and frozen.silent_ms >= 1_500)
        frozen = of(survey, 1)
        assert frozen is not None and frozen.idle_ms >= 500
        machine.thaw(1, "g0")

    engine_machine.play(scenario)
