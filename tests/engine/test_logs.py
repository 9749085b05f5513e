"""An engine's log is bounded while the engine runs, keeps its newest lines, and has room on a full disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from dkv.engine.contract import Cause
from dkv.engine.logs import LOG_KEPT, LOG_MOST, LOG_ROOM, Log
from tests.contract.engine_harness import ValkeyMachine, ended, leading

STORM = "local s = string.rep('x', 900) for i = 1, 30000 do server.log(server.LOG_WARNING, s .. i) end return 1"  # 30 MB


def test_a_script_that_logs_fills_no_disk(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.engines.survey()
        log = tmp_path / "manager/run/1/engine.log"
        largest = 0
        writing = asyncio.create_task(machine.say(1, "EVAL", STORM, "0"))
        while not writing.done():
            largest = max(largest, log.stat().st_size)
            await asyncio.sleep(0.001)
        assert writing.result() == ":1"
        await asyncio.sleep(0.05)
        assert log.stat().st_size <= LOG_MOST
        assert largest < 20 << 20, "it is cut while the script runs"
        await machine.say(1, "EVAL", "server.log(server.LOG_WARNING, 'the last line') return 1", "0")
        assert "xxxxxxxx" in log.read_text()
        assert "bytes of this log were dropped here" in log.read_text()
        machine.kill_from_outside(1)
        end = await ended(machine, 1)
        assert end.cause is Cause.KILLED_BY_SIGNAL
        assert end.last_words[-1].endswith("the last line")

    ValkeyMachine(tmp_path).play(scenario)


def test_a_cut_log_keeps_whole_lines_of_its_end(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("".join(f"line {number}\n" for number in range(500_000)))
    log = Log(path)
    log.tend()
    with open(path, "a") as engine:
        engine.write("one more\n")
    log.tend()
    log.close()
    note, first, *_, last, more = path.read_text().splitlines()
    assert note.startswith("--- dkv: ")
    assert first.startswith("line ") and (last, more) == ("line 499999", "one more")
    assert path.stat().st_size <= LOG_KEPT + 200


def test_a_log_keeps_room_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("x" * 100_000)
    log = Log(path)
    log.tend()
    log.close()
    assert os.stat(path).st_blocks * 512 >= 100_000 + LOG_ROOM
    assert path.stat().st_size == 100_000
