"""A dead leader's tail, fed from its files to its followers: the same stories on real Valkey and on the simulated one.

Engine 1 leads, engines 2 and 3 follow; engine 2 stands still before engine 1 is killed, so that it lacks the end.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from dkv.engine.contract import (
    ArchiveRefused,
    ByteRangeDigest,
    EngineRefused,
    EngineSpec,
    EngineUnreachable,
    TailFollower,
    TailPlan,
)
from tests.contract.engine_harness import Room, ended, following, has_marker, identity, leading, node_id, peer, seen

MARKER = (1, 2, "beef")
FRESH = "ab" * 20


@dataclass
class Dead:
    """What is there after the leader died: how to start each, and what would be fed."""

    specs: dict[int, EngineSpec]
    plan: TailPlan


async def dead_leader(room: Room, writes: int = 50, large: int = 0) -> Dead:
    """The leader is dead, its archive has more than engine 2, and everybody's place is known. `large`: size of one more."""
    specs = {number: room.spec(number, number) for number in (1, 2, 3)}
    await leading(room, specs[1])
    for number in (2, 3):
        await following(room, specs[number], specs[1])
    await room.engines.mark(1, *MARKER)
    for number in (2, 3):
        await seen(room, number, has_marker(1, 2))
        await room.engines.confirm_initialised(specs[number].directory)
    assert await room.write(1, "first", "1") == "+OK"
    assert not (await room.add_distinct(1, "visitors")).startswith("-")
    await room.pause(0.2)
    room.freeze(2)
    await room.break_link(1)  # engine 2 cannot come back, engine 3 does
    await seen(room, 1, lambda one: any(r.online and r.port == specs[3].client_port for r in one.replicas))
    await seen(room, 3, lambda one: one.link_up)
    for number in range(writes):
        assert await room.write(1, f"k{number}", str(number)) == "+OK"
    if large:
        assert await room.write(1, "large", "x" * large) == "+OK"
    await room.pause(0.2)
    room.kill_from_outside(1)
    room.thaw(2)
    await ended(room, 1)
    return Dead(specs, await planned(room, specs))


async def planned(room: Room, specs: dict[int, EngineSpec]) -> TailPlan:
    followers, former = [], ""
    await room.engines.prepare(specs[1].directory, specs[1].identity, False)
    all_of_it = await room.engines.digest(specs[1].directory, MARKER)
    for number in (2, 3):
        one = await seen(room, number, lambda one: one.answering and not one.link_up)
        position = await room.engines.read_position(specs[number].directory)
        mine = await room.engines.digest(specs[number].directory, MARKER)
        assert mine == await room.engines.digest(specs[1].directory, MARKER, mine.size), "it is a beginning of the leader's"
        assert position.bytes_after == mine.size
        followers.append(TailFollower(node_id(number), one.offset, mine.size))
        former = one.history
    shift = max(one.offset for one in followers) - min(one.place for one in followers) + 128
    return TailPlan(
        directory=specs[1].directory,
        node_id=node_id(1),
        address=specs[1].address,
        port=specs[1].client_port,
        secret=specs[1].secret,
        marker=MARKER,
        stretch=all_of_it,
        former=former,
        history=FRESH,
        shift=shift,
        followers=tuple(followers),
    )


async def fed(room: Room, dead: Dead, *numbers: int) -> None:
    """Serve until these followers have everything."""
    wanted = (FRESH, dead.plan.stretch.size + dead.plan.shift)
    for number in numbers:
        for _ in range(600):
            await room.engines.serve_tail(dead.plan, identity(1))
            one = await seen(room, number)
            if (one.history, one.offset) == wanted:
                break
            await room.pause(0.02)
        assert (one.history, one.offset) == wanted, one


def test_followers_get_exactly_what_the_dead_leader_has_and_go_on_without_a_full_resync(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        specs = dead.specs
        before = await room.engines.digest(specs[2].directory, MARKER)
        assert before.size < dead.plan.stretch.size
        await fed(room, dead, 2, 3)
        for number in (2, 3):
            assert await room.engines.digest(specs[number].directory, MARKER) == dead.plan.stretch
            assert await room.read(number, "k49") == "49"
        assert not (await room.write(2, "early", "1")).startswith("+"), "nobody leads yet"
        await room.engines.take_over(2)
        await room.engines.stop_tail(specs[1].directory)
        await room.engines.mark(2, 2, 1, "cafe")
        await room.engines.admit(2)
        await room.engines.unfence(2)
        leads = await seen(room, 2, lambda one: one.role == "leader")
        assert await room.write(2, "after", "2") == "+OK"
        await room.engines.replicate(3, peer(specs[2], leads))
        other = await seen(room, 3, lambda one: one.link_up and has_marker(2, 1)(one))
        assert other.marker is not None
        ends = [await room.engines.digest(specs[number].directory, MARKER) for number in (2, 3)]
        assert ends[0].digest == ends[1].digest, "a full resync would have taken the old marker away"

    engines_room.play(told)


def test_a_feed_that_is_broken_off_goes_on_where_it_was(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        await room.engines.serve_tail(dead.plan, identity(1))
        await room.pause(0.3)
        await room.restart_manager()
        await fed(room, dead, 2, 3)
        for number in (2, 3):
            assert await room.engines.digest(dead.specs[number].directory, MARKER) == dead.plan.stretch

    engines_room.play(told)


def test_a_large_value_is_given_too_and_what_is_read_for_it_is_counted(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room, writes=3, large=(5 << 20) + 1)
        counted = room.engines.handled().get(dead.plan.directory, 0)
        await fed(room, dead, 2, 3)
        assert await room.engines.digest(dead.specs[2].directory, MARKER) == dead.plan.stretch
        assert await room.engines.digest(dead.specs[3].directory, MARKER) == dead.plan.stretch
        assert room.engines.handled()[dead.plan.directory] - counted >= dead.plan.stretch.size - dead.plan.lowest

    engines_room.play(told)


def test_the_dead_leader_can_be_started_again_instead(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        await fed(room, dead, 2)
        again = replace(dead.specs[1], start_id=4, current_epoch=400)
        await leading(room, again, fresh=False, term=2)
        leads = await seen(room, 4)
        for number in (2, 3):
            await room.engines.replicate(number, peer(again, leads))
            await seen(room, number, lambda one: one.link_up and not one.resyncing and one.marker is None)
            assert await room.read(number, "k49") == "49"

    engines_room.play(told)


def test_a_follower_that_is_elsewhere_is_not_fed_and_that_is_told(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        followers = tuple(replace(one, offset=one.offset + 1) for one in dead.plan.followers)
        wrong = Dead(dead.specs, replace(dead.plan, followers=followers))
        before = await seen(room, 2)
        with pytest.raises(EngineRefused):
            await fed(room, wrong, 2)
        after = await seen(room, 2)
        assert (after.history, after.offset) == (before.history, before.offset)

    engines_room.play(told)


def test_a_follower_that_counted_distinct_is_found_different(engines_room: Room) -> None:
    """Its file alone has the command: before it is given anything it is no beginning, and afterwards it is not the same."""

    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        place = await room.engines.digest(dead.specs[2].directory, MARKER)
        assert not (await room.count_distinct(2, "visitors")).startswith("-")
        mine = await room.engines.digest(dead.specs[2].directory, MARKER)
        assert mine.size > place.size
        with suppress(ArchiveRefused):  # it has no boundary there
            assert await room.engines.digest(dead.specs[1].directory, MARKER, mine.size) != mine
        await fed(room, dead, 2)
        assert await room.engines.digest(dead.specs[2].directory, MARKER) != dead.plan.stretch

    engines_room.play(told)


def test_nothing_is_fed_that_was_not_measured_or_without_the_lock(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        other = replace(dead.plan, stretch=ByteRangeDigest(dead.plan.stretch.size, "00"))
        with pytest.raises(ArchiveRefused):
            await room.engines.serve_tail(other, identity(1))
        with pytest.raises(ArchiveRefused):
            await room.engines.serve_tail(dead.plan, identity(2))
        with pytest.raises(ArchiveRefused):
            await room.engines.digest(dead.specs[1].directory, (9, 9, "none"))
        with pytest.raises(ArchiveRefused):
            await room.engines.digest(dead.specs[1].directory, MARKER, dead.plan.stretch.size + 1)
        with pytest.raises((ArchiveRefused, EngineUnreachable)):
            await room.another_manager().serve_tail(dead.plan, identity(1))

    engines_room.play(told)


def test_whoever_is_not_renewed_feeds_nobody(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        dead = await dead_leader(room)
        room.freeze(2)
        await room.engines.serve_tail(dead.plan, identity(1))
        await room.pause(1.7)
        room.thaw(2)
        await room.pause(1.5)
        assert (await seen(room, 2)).history == dead.plan.former
        await fed(room, dead, 2)

    engines_room.play(told)
