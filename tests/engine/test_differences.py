"""What could make two copies differ at equal offsets, and does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dkv.engine.contract import Cause, RunOptions
from dkv.engine.replies import parse_info
from tests.contract.engine_harness import ValkeyMachine, ended, following, leading, seen

LIBRARY = "#!lua name=mine\nserver.register_function('f', function() return 1 end)"


def test_a_follower_on_which_a_command_fails_that_its_leader_carried_out_ends(tmp_path: Path) -> None:
    """By default Valkey writes a line into its log and goes on, at the offset of its leader, without what the command did."""

    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        leader_driver, follower_driver = machine.engines._running(1).valkey, machine.engines._running(2).valkey
        await leader_driver.do(("FUNCTION", "LOAD", LIBRARY))
        reached = (await seen(machine, 1)).replication.offset
        await seen(machine, 2, lambda engine: engine.replication.offset >= reached)
        writable, guarded = (("CONFIG", "SET", "replica-read-only", word) for word in ("no", "yes"))
        await follower_driver.do(writable, ("FUNCTION", "DELETE", "mine"), guarded)
        await leader_driver.do(("FUNCTION", "DELETE", "mine"))
        assert (await ended(machine, 2)).cause is Cause.ENGINE_CRASHED

    ValkeyMachine(tmp_path).play(scenario)


def test_no_client_writes_to_a_follower(tmp_path: Path) -> None:
    """Nor with a script, nor a function library; what a follower may not do it does not log either."""

    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        before = await machine.engines.read_position(follower.directory)
        words = (
            ("SET", "k", "v"),
            ("EVAL", "return server.call('SET', KEYS[1], 1)", "1", "k"),
            ("FLUSHALL",),
            ("PFADD", "p", "1"),
            ("FUNCTION", "LOAD", LIBRARY),
            ("GETEX", "k", "EX", "9"),
            ("SORT", "k", "STORE", "d"),
        )
        for command in words:
            assert (await machine.say(2, *command)).startswith("-"), command
        assert (await machine.engines.read_position(follower.directory)).order == before.order

    ValkeyMachine(tmp_path).play(scenario)


def test_a_leader_that_drops_keys_streams_their_deletion(tmp_path: Path) -> None:
    """What is dropped depends on chance: a follower that chose for itself would hold other keys at an equal offset."""

    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        for start_id in (1, 2):
            await machine.engines.set_options(start_id, RunOptions(16 << 20, maxmemory_policy="allkeys-random"))
        drivers = [machine.engines._running(start_id).valkey for start_id in (1, 2)]
        value = "v" * 100_000
        for number in range(300):  # 30 MB, where 16 are allowed
            assert await machine.write(1, f"key-{number}", value) == "+OK"
        await machine.engines.set_options(1, RunOptions(64 << 20))  # no more is dropped while the two are compared
        assert await machine.wait(1, 1, 30) == 1  # writes one key itself
        keys, dropped, digests = [], [], []
        for driver in drivers:
            size, stats, digest = await driver.do(("DBSIZE",), ("INFO", "stats"), ("DEBUG", "DIGEST"))
            keys.append(size)
            dropped.append(int(parse_info(stats)["evicted_keys"]))
            digests.append(digest)
        assert 50 < keys[0] == keys[1] < 300, "what is kept of the stream for followers takes little of it"
        assert dropped == [301 - keys[0], 0]
        assert digests[0] == digests[1]

    ValkeyMachine(tmp_path).play(scenario)


def test_an_engine_with_little_memory_takes_writes_however_much_was_streamed(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, replace(leader, options=RunOptions(16 << 20)))
        await following(machine, follower, leader)
        for _ in range(24):
            assert await machine.write(1, "the same", "v" * 1_000_000) == "+OK"

    ValkeyMachine(tmp_path).play(scenario)
