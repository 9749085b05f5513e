"""Busy is not dead: an engine that loads, or runs a long script, answers all the same."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineRefused
from dkv.engine.supervisor import Born, work_of
from tests.contract.engine_harness import ValkeyMachine, ended, following, leading, memory_only, peer, seen, started
from tests.engine.test_ends import wrapper


def test_loading_is_an_answer_with_a_percentage(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        words = "for i = 1, 8000 do server.call('SET', 'key-' .. i, string.rep('x', 100)) end"
        await machine.say(1, "EVAL", words, "0")
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await machine.engines.prepare(spec.directory, spec.identity, False)
        await machine.engines.launch(replace(spec, start_id=2))
        seen_now = await seen(machine, 2, lambda engine: engine.loading and engine.loading_percent > 0)
        assert seen_now.answering
        assert seen_now.writes.fenced
        assert seen_now.node_id == spec.node_id
        seen_now = await seen(machine, 2, lambda engine: engine.answering and not engine.loading)
        assert seen_now.role == "follower"
        assert await machine.dbsize(2) == 8000

    slow = 'exec {server} "$@" --key-load-delay 150 --loading-process-events-interval-bytes 1024'
    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, slow)).play(scenario)


def test_a_long_script_is_an_answer(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        loop = "local t = server.call('TIME')[1]; while server.call('TIME')[1] - t < 3 do end; return 1"
        asking = asyncio.create_task(machine.say(1, "EVAL", loop, "0"))
        await machine.pause(0.5)
        engine = (await machine.engines.survey()).engines[0]
        assert (engine.answering, engine.role, engine.silent_ms) == (True, "leader", 0)
        assert not asking.done()
        assert await asking == ":1"

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, 'exec {server} "$@" --busy-reply-threshold 50')).play(scenario)


def test_a_script_or_function_is_ended_unless_it_wrote(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.engines.end_script(1)  # nothing runs
        library = "#!lua name=endless\nserver.register_function('endless', function() while true do end end)"
        assert await machine.say(1, "FUNCTION", "LOAD", library) == "endless"
        for words in (("EVAL", "while true do end", "0"), ("FCALL", "endless", "0")):
            asking = asyncio.create_task(machine.say(1, *words))
            await seen(machine, 1, lambda engine: engine.writes.refuses == "BUSY")
            await machine.engines.end_script(1)
            assert "killed" in await asking
            await seen(machine, 1, lambda engine: not engine.busy and not engine.writes.refuses)
        asking = asyncio.create_task(machine.say(1, "EVAL", "server.call('SET', KEYS[1], 1) while true do end", "1", "k"))
        await seen(machine, 1, lambda engine: engine.writes.refuses == "BUSY")
        with pytest.raises(EngineRefused, match="UNKILLABLE"):
            await machine.engines.end_script(1)
        await machine.engines.kill(1, Cause.SCRIPT_TOO_LONG)
        assert (await ended(machine, 1)).cause is Cause.SCRIPT_TOO_LONG
        await asking

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, 'exec {server} "$@" --busy-reply-threshold 50')).play(scenario)


def test_an_engine_without_an_archive_keeps_no_files(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader = machine.spec(1, 1)
        leads = await leading(machine, leader)
        assert await machine.write(1, "k", "v") == "+OK"
        spec = memory_only(machine.spec(2, 2, (peer(leader, leads),)))
        await machine.engines.launch_memory(spec)
        await seen(machine, 2, lambda engine: engine.answering and not engine.loading)
        await machine.engines.replicate(2, peer(leader, leads))
        follower = await seen(machine, 2, lambda engine: engine.replication.link_up)
        await machine.engines.take_clients(2)
        assert follower.files.marker is None
        assert await machine.read(2, "k") == "v"
        names = {"valkey.conf", "users.acl", "nodes.conf", "alive", "admin.sock"}
        assert {path.name for path in Path(spec.engines[0].directory).iterdir()} <= names
        assert not (await machine.say(2, "PFCOUNT", "none")).startswith("-")

    ValkeyMachine(tmp_path).play(scenario)


def test_a_follower_of_a_leader_that_changes_follows_the_new_one(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        specs = [machine.spec(number, number) for number in (1, 2, 3)]
        await leading(machine, specs[0])
        for spec in specs[1:]:
            await following(machine, spec, specs[0])
        await machine.write(1, "k", "v")
        await machine.engines.mark(1, 1, 2, "cc")
        machine.kill_from_outside(1)
        await ended(machine, 1)
        await machine.engines.take_over(2)
        leads = await seen(machine, 2, lambda engine: engine.role == "leader")
        await machine.engines.admit(2)
        await machine.engines.unfence(2)
        await machine.engines.meet(2, peer(specs[2]))
        await machine.engines.replicate(3, peer(specs[1], leads))
        await seen(machine, 3, lambda engine: engine.replication.link_up and engine.follows == specs[1].node_id)
        assert await machine.write(2, "k", "w") == "+OK"
        await seen(machine, 3, lambda engine: engine.replication.offset >= leads.replication.offset)
        # The old leader comes back beside the new one and keeps quiet until it is told whom to follow.
        back = replace(specs[0], start_id=4, peers=(peer(specs[1], leads), peer(specs[2])))
        returned = await started(machine, back, fresh=False)
        assert (returned.role, returned.follows, returned.replication.link_up) == ("follower", specs[1].node_id, False)
        await machine.engines.meet(2, peer(specs[0]))
        await machine.engines.replicate(4, peer(specs[1], leads))
        await seen(machine, 4, lambda engine: engine.replication.link_up)
        await machine.engines.take_clients(4)
        assert await machine.read(4, "k") == "w"

    ValkeyMachine(tmp_path).play(scenario)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not count turns on a processor")
def test_a_process_that_waits_for_a_disk_that_works_is_seen_to_work(tmp_path: Path) -> None:
    """In fsync of a large value it wakes up as the disk gets on, for microseconds each: nothing else of it moves for seconds."""
    waits = subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(0.02)"])
    try:
        born = Born(waits.pid, int(Path(f"/proc/{waits.pid}/stat").read_text().rpartition(") ")[2].split()[19]))
        moved = moves(born, tmp_path, until=20)
        assert moved >= 20, "it woke up all the time"
        waits.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # until it has stopped
        assert moves(born, tmp_path, until=2) == 0
    finally:
        waits.kill()
        waits.wait()


def moves(born: Born, directory: Path, until: int) -> int:
    """In how many of at most 40 looks, 50 ms apart, something of it had moved; not more than `until` are counted."""
    count, before = 0, work_of(born, str(directory), alone=True)
    for _ in range(40):
        time.sleep(0.05)
        now = work_of(born, str(directory), alone=True)
        count, before = count + (now != before), now
        if count >= until:
            break
    return count
