"""What killed children of engines leave behind does not pile up in an archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dkv.engine.contract import Cause
from tests.contract.engine_harness import ValkeyMachine, ended, leading, seen, started


def test_a_rewrite_that_was_killed_leaves_nothing_in_the_archive(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.say(1, "EVAL", "for i = 1, 2000 do server.call('SET', 'key-' .. i, string.rep('x', 1000)) end", "0")
        await machine.slow_down_resyncs(1)
        await machine.engines.rewrite(1, (1, 2, "0a1b2c3e"))
        await seen(machine, 1, lambda engine: engine.files.rewriting and bool(unfinished(spec.directory)))
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        assert unfinished(spec.directory), "Valkey leaves it there"
        mine = Path(spec.directory, "temp-notes.txt")
        mine.write_text("not an engine's")
        await started(machine, replace(spec, start_id=2), fresh=False)
        assert unfinished(spec.directory) == []
        assert mine.exists()
        assert await machine.dbsize(2) == 2000

    ValkeyMachine(tmp_path).play(scenario)


def unfinished(directory: str) -> list[str]:
    return [path.name for path in Path(directory).glob("temp-*.aof")]
