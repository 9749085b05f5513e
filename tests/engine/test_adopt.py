"""What a manager finds when it starts: run directories of its own boot are engines, those of another one only ends."""

from __future__ import annotations

from pathlib import Path

from dkv.engine.contract import Cause
from tests.contract.engine_harness import RealRoom, ended, leading, of


def test_whoever_has_a_process_number_of_another_boot_is_not_adopted(tmp_path: Path) -> None:
    room = RealRoom(tmp_path)

    async def told(_: object) -> None:
        await leading(room, room.spec(1, 1))
        await room.begin_another_boot()
        assert (await ended(room, 1)).cause is Cause.MACHINE_RESTARTED
        assert of(await room.engines.survey(), 1) is None

    room.play(told)
