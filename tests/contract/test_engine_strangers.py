"""The engine contract: a stranger on the cluster bus takes the slots of whoever lets it in (measured on 9.1.2).

The bus knows no password. A node that is met is believed, the higher epoch owns the slots, and the leader that owned them deletes
the keys in them, in its file and on its followers.
"""

from __future__ import annotations

from dkv.engine.contract import Cause
from tests.contract.engine_harness import STRANGER, Machine, ended, following, leading, seen, started
from tests.contract.test_engine_traps import filled

EPOCH = 9_000


async def robbed(machine: Machine) -> None:
    """A leader with 20 keys and its follower, both emptied by a stranger that was let in."""
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await filled(machine, 1, 20)
    await following(machine, follower, leader)
    await seen(
        machine, 1, lambda engine: any(node.node_id == follower.node_id and not node.handshake for node in engine.cluster.nodes)
    )
    await machine.let_strangers_in(1)
    await machine.stranger_meets(1, EPOCH)
    await seen(machine, 1, lambda engine: engine.cluster.slots == ())


def test_nobody_is_let_in_who_is_not_expected(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await filled(machine, 1, 20)
        await machine.engines.let_nobody_in(1)
        assert not (await seen(machine, 1)).cluster.lets_in
        await machine.stranger_meets(1, EPOCH)
        for _ in range(15):  # three times as long as a stranger takes that is let in
            await machine.pause(0.1)
            engine = await seen(machine, 1)
            assert STRANGER not in {node.node_id for node in engine.cluster.nodes}
        assert engine.cluster.slots == ((0, 16383),)
        assert await machine.dbsize(1) == 20
        assert await machine.write(1, "still", "here") == "+OK"

    engine_machine.play(scenario)


def test_a_copy_that_is_expected_is_let_in_by_a_leader_that_lets_nobody_else_in(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.engines.let_nobody_in(1)
        await following(machine, machine.spec(2, 2), machine.spec(1, 1))
        await seen(machine, 1, lambda engine: any(node.node_id == machine.spec(2, 2).node_id for node in engine.cluster.nodes))
        assert (await seen(machine, 1)).cluster.lets_in

    engine_machine.play(scenario)


def test_a_stranger_that_is_let_in_empties_a_leader_and_its_copies(plain_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await robbed(machine)
        engine = await seen(machine, 1)
        assert next(node.slots for node in engine.cluster.nodes if node.node_id == STRANGER) == ((0, 16383),)
        assert await machine.dbsize(1) == 0
        await seen(machine, 2)
        for _ in range(100):
            if await machine.dbsize(2) == 0:
                break
            await machine.pause(0.1)
        assert await machine.dbsize(2) == 0
        assert (await machine.write(1, "k", "v"))[:6] in ("-MOVED", "-CLUST")

    plain_machine.play(scenario)


def test_a_stranger_shows_at_the_next_look_even_when_nothing_goes_on(plain_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.let_strangers_in(1)
        await machine.stranger_meets(1, EPOCH)
        for _ in range(100):
            await machine.pause(0.1)
            answered = await machine.write(1, "k", "v")
            glance = (await machine.engines.survey(thorough=False)).engines[0]
            if answered != "+OK":
                break
        assert glance.cluster.slots == (), (answered, glance)

    plain_machine.play(scenario)


def test_slots_are_owned_again_and_what_was_deleted_is_put_back(plain_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await robbed(machine)
        for start_id in (1, 2):
            await machine.engines.forget(start_id, STRANGER)
        await machine.engines.reclaim_slots(1, ((0, 16383),))
        leader = await seen(machine, 1, lambda engine: engine.cluster.slots == ((0, 16383),) and engine.cluster.state_ok)
        assert leader.cluster.epoch > EPOCH
        copied = await machine.engines.keep_deleted(1)
        assert copied is not None
        assert copied.whole
        await machine.engines.roll_back(1, copied.path)
        assert (await ended(machine, 1)).cause is Cause.LOST_ITS_SLOTS
        await started(machine, machine.spec(3, 1), fresh=False)
        assert await machine.dbsize(3) == 20
        position = await machine.engines.read_position(machine.directory(1))
        assert (position.term, position.sequence) == (1, 1)

    plain_machine.play(scenario)


def test_nothing_is_kept_where_nothing_was_deleted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await filled(machine, 1, 3)
        assert await machine.engines.keep_deleted(1) is None

    engine_machine.play(scenario)
