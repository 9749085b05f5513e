"""An engine's log is bounded while the engine runs, keeps its newest lines, and has room on a full disk."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        assert "x30000" in log.read_text()
        assert "bytes of this log were dropped here" in log.read_text()
        machine.kill_from_outside(1)
        end = await ended(machine, 1)
        assert end.cause is Cause.KILLED_BY_SIGNAL
        assert end.last_words[-1].endswith("x30000")

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
    assert path.stat().st_size <= LOG_KEPT + 4096 + 200


def test_no_line_is_lost_that_an_engine_writes_while_its_log_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.touch()
    log = Log(path)
    script = "import os, sys\nfor n in range(60_000): os.write(1, b'%d %s\\n' % (n, b'x' * 500))"
    with path.open("ab") as output, subprocess.Popen([sys.executable, "-c", script], stdout=output) as writer:
        while writer.poll() is None:
            log.tend()
    if not _takes_blocks_out(tmp_path):
        pytest.skip("this file system cannot take blocks out of a file: lines may be lost")
    log.tend()
    log.close()
    note, *lines = path.read_text().splitlines()
    assert note.startswith("--- dkv: ")
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == list(range(numbers[0], 60_000))
    assert all(len(line.split()[1]) == 500 for line in lines)


def _takes_blocks_out(place: Path) -> bool:
    """Whether this disk can do FALLOC_FL_COLLAPSE_RANGE (8)."""
    with (place / "probe").open("wb") as probe:
        probe.write(bytes(1 << 20))
        probe.flush()
        return bool(ctypes.CDLL(None).fallocate(probe.fileno(), 8, ctypes.c_long(0), ctypes.c_long(1 << 19)) == 0)


def test_a_log_keeps_room_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("x" * 100_000)
    log = Log(path)
    log.tend()
    log.close()
    assert os.stat(path).st_blocks * 512 >= 100_000 + LOG_ROOM
    assert path.stat().st_size == 100_000
