"""A dead leader's tail, fed from its files to its followers: the same scenarios on real Valkey and on the simulated one.

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
from tests.contract.engine_harness import Machine, ended, following, has_marker, identity, leading, node_id, peer, seen

MARKER = (1, 2, "beef")
FRESH = "ab" * 20


@dataclass
class Dead:
    """What is there after the leader died: how to start each, and what would be fed."""

    specs: dict[int, EngineSpec]
    plan: TailPlan


async def dead_leader(machine: Machine, writes: int = 50, large: int = 0) -> Dead:
    """The leader is dead, its archive has more than engine 2, and everybody's place is known. `large`: size of one more."""
    specs = {number: machine.spec(number, number) for number in (1, 2, 3)}
    await leading(machine, specs[1])
    for number in (2, 3):
        await following(machine, specs[number], specs[1])
    await machine.engines.mark(1, *MARKER)
    for number in (2, 3):
        await seen(machine, number, has_marker(1, 2))
        await machine.engines.confirm_initialised(specs[number].directory)
    assert await machine.write(1, "first", "1") == "+OK"
    assert not (await machine.add_distinct(1, "visitors")).startswith("-")
    await machine.pause(0.2)
    machine.freeze(2)
    await machine.break_link(1)  # engine 2 cannot come back, engine 3 does
    await seen(machine, 1, lambda engine: any(r.online and r.port == specs[3].client_port for r in engine.replication.replicas))
    await seen(machine, 3, lambda engine: engine.replication.link_up)
    for number in range(writes):
        assert await machine.write(1, f"k{number}", str(number)) == "+OK"
    if large:
        assert await machine.write(1, "large", "x" * large) == "+OK"
    await machine.pause(0.2)
    machine.kill_from_outside(1)
    machine.thaw(2)
    await ended(machine, 1)
    return Dead(specs, await planned(machine, specs))


async def planned(machine: Machine, specs: dict[int, EngineSpec]) -> TailPlan:
    followers, former = [], ""
    await machine.engines.prepare(specs[1].directory, specs[1].identity, False)
    all_of_it = await machine.engines.digest(specs[1].directory, MARKER)
    for number in (2, 3):
        follower = await seen(machine, number, lambda engine: engine.answering and not engine.replication.link_up)
        position = await machine.engines.read_position(specs[number].directory)
        mine = await machine.engines.digest(specs[number].directory, MARKER)
        assert mine == await machine.engines.digest(specs[1].directory, MARKER, mine.size), "it is a beginning of the leader's"
        assert position.bytes_after == mine.size
        followers.append(TailFollower(node_id(number), follower.replication.offset, mine.size))
        former = follower.replication.history
    shift = max(follower.offset for follower in followers) - min(follower.place for follower in followers) + 128
    return TailPlan(
        directory=specs[1].directory,
        node_id=node_id(1),
        address=specs[1].address,
        port=specs[1].client_port,
        secrets=specs[1].secrets,
        marker=MARKER,
        stretch=all_of_it,
        former=former,
        history=FRESH,
        shift=shift,
        followers=tuple(followers),
        tls=specs[1].tls,
    )


async def fed(machine: Machine, dead: Dead, *numbers: int) -> None:
    """Serve until these followers have everything."""
    wanted = (FRESH, dead.plan.stretch.size + dead.plan.shift)
    for number in numbers:
        for _ in range(600):
            await machine.engines.serve_tail(dead.plan, identity(1))
            engine = await seen(machine, number)
            if (engine.replication.history, engine.replication.offset) == wanted:
                break
            await machine.pause(0.02)
        assert (engine.replication.history, engine.replication.offset) == wanted, engine


def test_followers_get_exactly_what_the_dead_leader_has_and_go_on_without_a_full_resync(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        specs = dead.specs
        before = await machine.engines.digest(specs[2].directory, MARKER)
        assert before.size < dead.plan.stretch.size
        await fed(machine, dead, 2, 3)
        for number in (2, 3):
            assert await machine.engines.digest(specs[number].directory, MARKER) == dead.plan.stretch
            assert await machine.read(number, "k49") == "49"
        assert not (await machine.write(2, "early", "1")).startswith("+"), "nobody leads yet"
        await machine.engines.take_over(2)
        await machine.engines.stop_tail(specs[1].directory)
        await machine.engines.mark(2, 2, 1, "cafe")
        await machine.engines.admit(2)
        await machine.engines.unfence(2)
        leads = await seen(machine, 2, lambda engine: engine.role == "leader")
        assert await machine.write(2, "after", "2") == "+OK"
        await machine.engines.replicate(3, peer(specs[2], leads))
        other = await seen(machine, 3, lambda engine: engine.replication.link_up and has_marker(2, 1)(engine))
        assert other.files.marker is not None
        ends = [await machine.engines.digest(specs[number].directory, MARKER) for number in (2, 3)]
        assert ends[0].digest == ends[1].digest, "a full resync would have taken the old marker away"

    engine_machine.play(scenario)


def test_a_feed_that_is_broken_off_goes_on_where_it_was(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        await machine.engines.serve_tail(dead.plan, identity(1))
        await machine.pause(0.3)
        await machine.restart_manager()
        await fed(machine, dead, 2, 3)
        for number in (2, 3):
            assert await machine.engines.digest(dead.specs[number].directory, MARKER) == dead.plan.stretch

    engine_machine.play(scenario)


def test_a_large_value_is_given_too_and_what_is_read_for_it_is_counted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine, writes=3, large=(5 << 20) + 1)
        counted = machine.engines.handled().get(dead.plan.directory, 0)
        await fed(machine, dead, 2, 3)
        assert await machine.engines.digest(dead.specs[2].directory, MARKER) == dead.plan.stretch
        assert await machine.engines.digest(dead.specs[3].directory, MARKER) == dead.plan.stretch
        assert machine.engines.handled()[dead.plan.directory] - counted >= dead.plan.stretch.size - dead.plan.lowest

    engine_machine.play(scenario)


def test_the_dead_leader_can_be_started_again_instead(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        await fed(machine, dead, 2)
        again = replace(dead.specs[1], start_id=4, current_epoch=400)
        await leading(machine, again, fresh=False, term=2)
        leads = await seen(machine, 4)
        for number in (2, 3):
            await machine.engines.replicate(number, peer(again, leads))
            await seen(
                machine,
                number,
                lambda engine: engine.replication.link_up and not engine.replication.resyncing and engine.files.marker is None,
            )
            assert await machine.read(number, "k49") == "49"

    engine_machine.play(scenario)


def test_a_follower_that_is_elsewhere_is_not_fed_and_that_is_told(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        followers = tuple(replace(engine, offset=engine.offset + 1) for engine in dead.plan.followers)
        wrong = Dead(dead.specs, replace(dead.plan, followers=followers))
        before = await seen(machine, 2)
        with pytest.raises(EngineRefused):
            await fed(machine, wrong, 2)
        after = await seen(machine, 2)
        assert (after.replication.history, after.replication.offset) == (before.replication.history, before.replication.offset)

    engine_machine.play(scenario)


def test_a_follower_that_counted_distinct_is_found_different(engine_machine: Machine) -> None:
    """Its file alone has the command: before it is given anything it is no beginning, and afterwards it is not the same."""

    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        place = await machine.engines.digest(dead.specs[2].directory, MARKER)
        assert not (await machine.count_distinct(2, "visitors")).startswith("-")
        mine = await machine.engines.digest(dead.specs[2].directory, MARKER)
        assert mine.size > place.size
        with suppress(ArchiveRefused):  # it has no boundary there
            assert await machine.engines.digest(dead.specs[1].directory, MARKER, mine.size) != mine
        await fed(machine, dead, 2)
        assert await machine.engines.digest(dead.specs[2].directory, MARKER) != dead.plan.stretch

    engine_machine.play(scenario)


def test_nothing_is_fed_that_was_not_measured_or_without_the_lock(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        other = replace(dead.plan, stretch=ByteRangeDigest(dead.plan.stretch.size, "00"))
        with pytest.raises(ArchiveRefused):
            await machine.engines.serve_tail(other, identity(1))
        with pytest.raises(ArchiveRefused):
            await machine.engines.serve_tail(dead.plan, identity(2))
        with pytest.raises(ArchiveRefused):
            await machine.engines.digest(dead.specs[1].directory, (9, 9, "none"))
        with pytest.raises(ArchiveRefused):
            await machine.engines.digest(dead.specs[1].directory, MARKER, dead.plan.stretch.size + 1)
        with pytest.raises((ArchiveRefused, EngineUnreachable)):
            await machine.another_manager().serve_tail(dead.plan, identity(1))

    engine_machine.play(scenario)


def test_whoever_is_not_renewed_feeds_nobody(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        dead = await dead_leader(machine)
        machine.freeze(2)
        await machine.engines.serve_tail(dead.plan, identity(1))
        await machine.pause(1.7)
        machine.thaw(2)
        await machine.pause(1.5)
        assert (await seen(machine, 2)).replication.history == dead.plan.former
        await fed(machine, dead, 2)

    engine_machine.play(scenario)
