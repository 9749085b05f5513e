"""What a manager finds when it starts: run directories of its own boot are engines, those of another one only ends."""

from __future__ import annotations

from pathlib import Path

from dkv.engine.contract import Cause
from tests.contract.engine_harness import ValkeyMachine, ended, leading, of


def test_whoever_has_a_process_number_of_another_boot_is_not_adopted(tmp_path: Path) -> None:
    machine = ValkeyMachine(tmp_path)

    async def scenario(_: object) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.begin_another_boot()
        assert (await ended(machine, 1)).cause is Cause.MACHINE_RESTARTED
        assert of(await machine.engines.survey(), 1) is None

    machine.play(scenario)
