"""How soon a durable follower of the real engine notices that its leader's snapshot is on its disk."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.engine_harness import Machine, ValkeyMachine, leading, peer, seen, started

SOON = 0.35  # s; left alone, a follower that was just started looks after 0.6 s or more


def test_a_follower_notices_a_small_snapshot_soon_and_goes_on_at_its_usual_pace(tmp_path: Path) -> None:
    machine = ValkeyMachine(tmp_path)

    async def scenario(_: Machine) -> None:
        leader = machine.spec(1, 1)
        await leading(machine, leader)
        waited = []
        for number in (2, 3, 4):
            await started(machine, machine.spec(number, number))
            await machine.engines.meet(1, peer(machine.spec(number, number)))
            await machine.engines.replicate(number, peer(leader, await seen(machine, 1)))
            await seen(machine, number, lambda engine: engine.replication.link_up)
            waited.append(noticed_after(tmp_path, number))
            await seen(machine, number)
            (answer,) = await machine.engines._known(number).valkey.do(("CONFIG", "GET", "hz"))
            assert answer == [b"hz", b"10"]
        assert min(waited) < SOON, waited  # one of three, because the machine may be busy

    machine.play(scenario)


def noticed_after(path: Path, start_id: int) -> float:
    """Seconds between the end of the download and the moment the engine saw it, as its log tells."""
    (log,) = path.rglob(f"run/{start_id}/engine.log")
    text = log.read_text()
    return _second(text, "detected RDB download completion") - _second(text, "Done downloading RDB")


def _second(text: str, words: str) -> float:
    """The time of day of the last line with these words, in seconds."""
    hours, minutes, seconds = re.findall(rf"(\d\d):(\d\d):(\d\d\.\d{{3}}) .*{words}", text)[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
