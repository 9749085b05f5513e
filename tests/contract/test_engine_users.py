"""Engine contract: whom an engine lets in as clients is set while it runs, and seen."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from dkv.engine.contract import EngineUser, EngineUsers
from tests.contract.engine_harness import Machine, leading, seen
from tests.contract.test_engine_memory import attached, there, up


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


ADA = EngineUser("ada", (hashed("a"),))
EVE = EngineUser("eve", tuple(sorted((hashed("e"), hashed("new")))), read_only=True, keys=("foo:*", "\"b'ä?"), scripting=False)
KINDS = tuple(
    EngineUser(f"user-{read_only}-{scripting}-{bool(keys)}", (hashed("x"),), read_only, keys, scripting)
    for read_only in (False, True)
    for scripting in (False, True)
    for keys in ((), ("a*", "b*"))
)


def test_users_are_set_on_a_running_engine_and_seen(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        engine = await leading(machine, machine.spec(1, 1))
        assert engine.options.users == EngineUsers()
        changes = ((ADA, EVE), (ADA, EVE), (replace(ADA, passwords=(hashed("b"),)),), tuple(sorted(KINDS, key=lambda u: u.name)))
        for users in changes:
            await machine.engines.set_users(1, EngineUsers(open=False, users=users))
            assert (await seen(machine, 1)).options.users == EngineUsers(open=False, users=users)
        await machine.restart_manager()
        assert (await seen(machine, 1)).options.users == EngineUsers(open=False, users=changes[-1])
        await machine.engines.set_users(1, EngineUsers())
        assert (await seen(machine, 1)).options.users == EngineUsers()

    engine_machine.play(scenario)


def test_an_engine_is_started_with_its_users(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        users = EngineUsers(open=False, users=(ADA, EVE))
        engine = await leading(machine, replace(machine.spec(1, 1), users=users))
        assert engine.options.users == users

    engine_machine.play(scenario)


def test_users_are_set_on_each_engine_of_a_memory_only_process(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await attached(machine)
        users = EngineUsers(open=False, users=(ADA,))
        await machine.engines.set_users(3, users)
        process = await there(machine, up)
        assert [engine.options.users for engine in process.engines] == [users, users]

    engine_machine.play(scenario)
