"""What could make two copies differ at equal offsets, and does not."""

from __future__ import annotations

from pathlib import Path

from dkv.engine.contract import Cause
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
