"""The engine contract: a stranger on the cluster bus takes the slots of whoever lets it in (measured on 9.1.2).

The bus knows no password. A node that is met is believed, the higher epoch owns the slots, and the leader that owned them deletes
the keys in them, in its file and on its followers.
"""

from __future__ import annotations

from dkv.engine.contract import Cause
from tests.contract.engine_harness import STRANGER, Room, ended, following, leading, seen, started
from tests.contract.test_engine_traps import filled

EPOCH = 9_000


async def robbed(room: Room) -> None:
    """A leader with 20 keys and its follower, both emptied by a stranger that was let in."""
    leader, follower = room.spec(1, 1), room.spec(2, 2)
    await leading(room, leader)
    await filled(room, 1, 20)
    await following(room, follower, leader)
    await seen(room, 1, lambda one: any(node.node_id == follower.node_id and not node.handshake for node in one.nodes))
    await room.let_strangers_in(1)
    await room.stranger_meets(1, EPOCH)
    await seen(room, 1, lambda one: one.slots == ())


def test_nobody_is_let_in_who_is_not_expected(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await filled(room, 1, 20)
        await room.engines.let_nobody_in(1)
        assert not (await seen(room, 1)).lets_in
        await room.stranger_meets(1, EPOCH)
        for _ in range(15):  # three times as long as a stranger takes that is let in
            await room.pause(0.1)
            one = await seen(room, 1)
            assert STRANGER not in {node.node_id for node in one.nodes}
        assert one.slots == ((0, 16383),)
        assert await room.dbsize(1) == 20
        assert await room.write(1, "still", "here") == "+OK"

    engines_room.play(told)


def test_a_copy_that_is_expected_is_let_in_by_a_leader_that_lets_nobody_else_in(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.engines.let_nobody_in(1)
        await following(room, room.spec(2, 2), room.spec(1, 1))
        await seen(room, 1, lambda one: any(node.node_id == room.spec(2, 2).node_id for node in one.nodes))
        assert (await seen(room, 1)).lets_in

    engines_room.play(told)


def test_a_stranger_that_is_let_in_empties_a_leader_and_its_copies(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await robbed(room)
        one = await seen(room, 1)
        assert next(node.slots for node in one.nodes if node.node_id == STRANGER) == ((0, 16383),)
        assert await room.dbsize(1) == 0
        await seen(room, 2)
        for _ in range(100):
            if await room.dbsize(2) == 0:
                break
            await room.pause(0.1)
        assert await room.dbsize(2) == 0
        assert (await room.write(1, "k", "v"))[:6] in ("-MOVED", "-CLUST")

    engines_room.play(told)


def test_a_stranger_shows_at_the_next_look_even_when_nothing_goes_on(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.let_strangers_in(1)
        await room.stranger_meets(1, EPOCH)
        for _ in range(100):
            await room.pause(0.1)
            answered = await room.write(1, "k", "v")
            glance = (await room.engines.survey(thorough=False)).engines[0]
            if answered != "+OK":
                break
        assert glance.slots == (), (answered, glance)

    engines_room.play(told)


def test_slots_are_owned_again_and_what_was_deleted_is_put_back(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await robbed(room)
        for start_id in (1, 2):
            await room.engines.forget(start_id, STRANGER)
        await room.engines.reclaim_slots(1, ((0, 16383),))
        one = await seen(room, 1, lambda one: one.slots == ((0, 16383),) and one.cluster_ok)
        assert one.epoch > EPOCH
        kept = await room.engines.keep_deleted(1)
        assert kept is not None
        assert kept.whole
        await room.engines.roll_back(1, kept.path)
        assert (await ended(room, 1)).cause is Cause.LOST_ITS_SLOTS
        await started(room, room.spec(3, 1), fresh=False)
        assert await room.dbsize(3) == 20
        position = await room.engines.read_position(room.directory(1))
        assert (position.term, position.sequence) == (1, 1)

    engines_room.play(told)


def test_nothing_is_kept_where_nothing_was_deleted(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await filled(room, 1, 3)
        assert await room.engines.keep_deleted(1) is None

    engines_room.play(told)
