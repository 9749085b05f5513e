"""Engine contract: whom an engine lets in as clients is set while it runs, and seen."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from dkv.engine.contract import EngineUser, EngineUsers, Secrets
from tests.contract.engine_harness import Machine, following, leading, seen
from tests.contract.test_engine_memory import attached, there, up


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


SECRETS = Secrets("s3cret")
ADA = EngineUser("ada", (hashed("a"),))
EVE = EngineUser("eve", tuple(sorted((hashed("e"), hashed("new")))), read_only=True, keys=("foo:*", "\"b'ä?"), scripting=False)
LIMITED = tuple(
    EngineUser(f"user-{read_only}-{scripting}-{bool(keys)}", (hashed("x"),), read_only, keys, scripting)
    for read_only in (False, True)
    for scripting in (False, True)
    for keys in ((), ("a*", "b*"))
)
KINDS = (*LIMITED, EngineUser("watch", (hashed("w"),), monitor=True), EngineUser("move", (hashed("m"),), importing=True))


def test_users_are_set_on_a_running_engine_and_seen(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        engine = await leading(machine, machine.spec(1, 1))
        assert engine.options.users == EngineUsers()
        changes = ((ADA, EVE), (ADA, EVE), (replace(ADA, passwords=(hashed("b"),)),), tuple(sorted(KINDS, key=lambda u: u.name)))
        for users in changes:
            await machine.engines.set_users(1, EngineUsers(open=False, users=users), SECRETS)
            assert (await seen(machine, 1)).options.users == EngineUsers(open=False, users=users)
        await machine.restart_manager()
        assert (await seen(machine, 1)).options.users == EngineUsers(open=False, users=changes[-1])
        await machine.engines.set_users(1, EngineUsers(), SECRETS)
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
        await machine.engines.set_users(3, users, SECRETS)
        process = await there(machine, up)
        assert [engine.options.users for engine in process.engines] == [users, users]

    engine_machine.play(scenario)


def test_the_managers_password_is_changed_in_steps_and_followers_attach_in_each(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        for secrets in (Secrets("s3cret", "new"), Secrets("new", "s3cret"), Secrets("new")):
            for start_id in (1, 2):
                await machine.engines.set_users(start_id, EngineUsers(), secrets)
                assert (await seen(machine, start_id)).options.secrets == secrets.digest
            await machine.restart_manager()
            assert await machine.write(1, "k", secrets.digest) == "+OK"
            await machine.break_link(2)
            await seen(machine, 2, lambda engine: engine.replication.link_up)
            assert (await seen(machine, 2)).options.secrets == secrets.digest

    engine_machine.play(scenario)
