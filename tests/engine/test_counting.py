"""PFCOUNT on followers: each is answered there as by plain Valkey, writes to its own file, and looks no newer for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dkv.engine.contract import Cause, EngineSpec, Position
from tests.contract.engine_harness import ValkeyMachine, ended, following, has_marker, leading, seen

MANY = 10_000


async def replies(machine: ValkeyMachine, start_id: int, *commands: str) -> bytes:
    """All that an engine answers to a client that said READONLY and sends these at once."""
    record = machine._record(start_id)
    reader, writer = await asyncio.open_connection(record.address, record.client_port)
    try:
        writer.write("\r\n".join(("READONLY", *commands, "ECHO done", "")).encode())
        return await reader.readuntil(b"$4\r\ndone\r\n")
    finally:
        writer.close()


async def copies(machine: ValkeyMachine, count: int) -> list[EngineSpec]:
    """A leader and followers, all with the marker 1-2 on their disks."""
    specs = [machine.spec(number, number) for number in range(1, count + 1)]
    await leading(machine, specs[0])
    for spec in specs[1:]:
        await following(machine, spec, specs[0])
    await machine.engines.mark(1, 1, 2, "beef")
    for spec in specs[1:]:
        await seen(machine, spec.start_id, lambda engine: has_marker(1, 2)(engine) and not engine.files.rewriting)
        await machine.engines.confirm_initialised(spec.directory)
    return specs


async def caught_up(machine: ValkeyMachine, spec: EngineSpec) -> Position:
    """The position of a follower that has all that its leader has."""
    reached = (await seen(machine, 1)).replication.offset
    await seen(machine, spec.start_id, lambda engine: engine.replication.offset >= reached)
    return await machine.engines.read_position(spec.directory)


def test_a_client_without_readonly_is_sent_to_the_leader_and_one_with_it_gets_its_number(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        _, follower = await copies(machine, 2)
        assert await machine.say(1, "PFADD", "k", "a", "b") == ":1"
        await caught_up(machine, follower)
        assert (await machine.say(2, "PFCOUNT", "k", readonly=False)).startswith("-MOVED ")
        assert await machine.say(2, "PFCOUNT", "k") == ":2"
        assert await machine.say(1, "PFCOUNT", "k", readonly=False) == ":2"

    ValkeyMachine(tmp_path).play(scenario)


@pytest.mark.parametrize(
    "commands",
    [
        ("PFCOUNT {t}one",),
        ("pfcount {t}one",),
        ("PFCOUNT {t}one {t}two",),
        ("MULTI", "PFCOUNT {t}one", "PFCOUNT {t}two", "EXEC"),
        ("""EVAL "server.call('PFCOUNT', KEYS[1]) return server.call('PFCOUNT', KEYS[2])" 2 {t}one {t}two""",),
        ("SELECT 5", "PFCOUNT {t}one"),
        ("SELECT 5", "MULTI", "PFCOUNT {t}one", "PFCOUNT {t}two", "EXEC"),
    ],
)
def test_however_a_follower_counts_it_looks_no_newer(tmp_path: Path, commands: tuple[str, ...]) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = await copies(machine, 2)
        adding = ("PFADD {t}one a b", "PFADD {t}two a")
        assert b"-" not in await replies(machine, 1, "SELECT 5", *adding, "SELECT 0", *adding)
        before = await caught_up(machine, follower)
        answers = await replies(machine, 2, *commands)
        assert b"-" not in answers, answers
        after = await machine.engines.read_position(follower.directory)
        assert (after.bytes_after > before.bytes_after) == ("one {t}two" not in commands[0] or "EVAL" in commands[0])
        assert after.order == before.order
        assert b"-" not in await replies(machine, 1, "SELECT 5", "PFADD {t}one c", "SELECT 0", "SET k v")
        assert (await caught_up(machine, follower)).order == (await machine.engines.read_position(leader.directory)).order

    ValkeyMachine(tmp_path).play(scenario)


def test_the_copy_with_the_last_write_ranks_above_an_older_one_that_counted_ten_thousand_times(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        _, newer, older = await copies(machine, 3)
        assert b"-" not in await replies(machine, 1, *(f"PFADD k{number} a" for number in range(MANY)))
        for spec in (newer, older):
            await caught_up(machine, spec)
        machine.freeze(3)
        await machine.break_link(1)  # engine 3 cannot come back, engine 2 does
        await seen(machine, 1, lambda engine: any(r.online and r.port == newer.client_port for r in engine.replication.replicas))
        assert await machine.write(1, "last", "acknowledged") == "+OK"
        await caught_up(machine, newer)
        machine.kill_from_outside(1)
        machine.thaw(3)
        await ended(machine, 1)
        answers = await replies(machine, 3, *(f"PFCOUNT k{number}" for number in range(MANY)))
        assert answers.count(b":1\r\n") == MANY
        for number in (2, 3):
            await machine.engines.kill(number, Cause.OPERATOR_KILL)
            await ended(machine, number)
        ahead, behind = [await machine.engines.read_position(spec.directory) for spec in (newer, older)]
        assert ahead.order > behind.order
        assert ahead.bytes_after < behind.bytes_after
        await leading(machine, machine.spec(4, 2), fresh=False, term=2)
        assert await machine.read(4, "last") == "acknowledged"

    ValkeyMachine(tmp_path).play(scenario)
