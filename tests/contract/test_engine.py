"""One suite over all engines: what the contract says, told as stories of one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from dkv.engine.contract import ArchiveRefused, Cause, EngineError, EngineSeen
from tests.contract.engine_harness import (
    Room,
    ended,
    following,
    has_marker,
    identity,
    leading,
    node_id,
    of,
    peer,
    ready,
    seen,
    started,
    until,
)
from tests.contract.handovers import handed_over


def refused(answer: str) -> bool:
    return answer.startswith("-")


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_started_engine_waits_for_its_role_and_takes_no_write(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        one = await started(room, room.spec(1, 1))
        assert (one.role, one.phantom, one.fenced, one.admits_replicas) == ("follower", True, True, False)
        assert one.node_id == node_id(1)
        assert refused(await room.write(1, "k", "v"))

    engines_room.play(told)


def test_a_leader_takes_over_fenced_and_serves_when_it_is_told(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        await room.engines.take_over(1)
        one = await seen(room, 1)
        assert (one.role, one.fenced, one.admits_replicas) == ("leader", True, False)
        assert refused(await room.write(1, "k", "v"))
        assert one.refuses == "NOREPLICAS"
        await room.engines.admit(1)
        await room.engines.unfence(1)
        await room.engines.take_clients(1)
        assert await room.write(1, "k", "v") == "+OK"
        one = await seen(room, 1)
        assert not one.fenced
        assert not one.refuses
        assert one.admits_replicas
        assert one.epoch > 100

    engines_room.play(told)


def test_take_over_may_be_repeated(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await started(room, room.spec(1, 1))
        await room.engines.take_over(1)
        first = await seen(room, 1)
        await room.engines.take_over(1)
        again = await seen(room, 1)
        assert (again.role, again.epoch) == ("leader", first.epoch)

    engines_room.play(told)


def test_launching_twice_is_launching_once(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await room.engines.prepare(spec.directory, spec.identity, True)
        pid = await room.engines.launch(spec)
        assert await room.engines.launch(spec) == pid
        await seen(room, 1, ready)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        with pytest.raises(EngineError):
            await room.engines.launch(spec)

    engines_room.play(told)


def test_data_outlives_a_kill_and_a_restart(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        assert await room.write(1, "k", "v") == "+OK"
        room.kill_from_outside(1)
        await ended(room, 1)
        spec = room.spec(2, 1)
        position = await room.engines.prepare(spec.directory, spec.identity, False)
        assert (position.term, position.sequence, position.nonce) == (1, 1, "0a1b2c3d")
        assert position.bytes_after > 0
        assert position.initialised
        await room.engines.launch(spec)
        await seen(room, 2, ready)
        await room.engines.take_over(2)
        await room.engines.take_clients(2)
        assert await room.read(2, "k") == "v"

    engines_room.play(told)


# -- locks and identities ----------------------------------------------------------------------------------------------


def test_a_running_engine_holds_its_archive(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        one = await started(room, spec)
        with pytest.raises(ArchiveRefused, match=f"in use by pid {one.pid}") as no:
            await room.engines.prepare(spec.directory, spec.identity, False)
        assert no.value.cause is Cause.ARCHIVE_LOCKED
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await room.engines.prepare(spec.directory, spec.identity, False)
        await room.engines.release(spec.directory)

    engines_room.play(told)


def test_the_archive_of_another_is_refused_and_left_alone(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await room.engines.prepare(spec.directory, spec.identity, True)
        await room.engines.release(spec.directory)
        for stranger in (
            identity(2),
            replace(identity(1), domain_uid="domain-2"),
            replace(identity(1), database="other"),
            replace(identity(1), incarnation_of_name="incarnation-2"),
        ):
            for fresh in (False, True):
                with pytest.raises(ArchiveRefused) as no:
                    await room.engines.prepare(spec.directory, stranger, fresh)
                assert no.value.cause is Cause.ARCHIVE_FOREIGN
        await room.engines.prepare(spec.directory, spec.identity, False)
        await room.engines.release(spec.directory)

    engines_room.play(told)


def test_a_missing_archive_is_refused_and_not_made(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(room.directory(1), identity(1), False)
        assert no.value.cause is Cause.ARCHIVE_MISSING
        await room.engines.prepare(room.directory(1), identity(1), True)
        await room.engines.release(room.directory(1))

    engines_room.play(told)


def test_a_fresh_start_never_goes_over_data(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(spec.directory, spec.identity, True)
        assert no.value.cause is Cause.ARCHIVE_FOREIGN

    engines_room.play(told)


def test_what_ended_an_engine_is_looked_for(engines_room: Room) -> None:
    """The lock somebody else holds, the files that are not there; nothing is changed by looking."""

    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        ports = (spec.client_port, spec.cluster_port)

        async def missing(cause: Cause) -> bool:
            return bool(await room.engines.obstacle(spec.directory, cause, spec.address, ports))

        assert await missing(Cause.ARCHIVE_MISSING)
        other = room.another_manager()
        await other.prepare(spec.directory, spec.identity, True)
        assert not await missing(Cause.ARCHIVE_MISSING)
        assert await missing(Cause.ARCHIVE_LOCKED)
        await other.release(spec.directory)
        for cause in Cause:
            assert not await missing(cause), cause
        await room.engines.prepare(spec.directory, spec.identity, True)
        assert not await missing(Cause.ARCHIVE_LOCKED), "its own lock is in nobody's way"

    engines_room.play(told)


def test_a_deleted_archive_is_renamed_and_its_name_is_free(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        with pytest.raises(EngineError):
            await room.engines.retire(spec.directory, spec.identity)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        assert await room.engines.retire(spec.directory, replace(spec.identity, archive_id=2)) is None
        moved = await room.engines.retire(spec.directory, spec.identity)
        assert moved is not None
        assert moved.startswith(f"{spec.directory}.deleted-")
        assert (await room.engines.read_position(moved)).term == 1
        assert await room.engines.retire(spec.directory, spec.identity) is None
        await room.engines.prepare(spec.directory, spec.identity, True)
        await room.engines.release(spec.directory)

    engines_room.play(told)


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_follower_has_the_data_and_the_marker_on_its_own_disk(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        assert await room.write(1, "k", "v") == "+OK"
        await following(room, follower, leader)
        assert await room.read(2, "k") == "v"
        await room.engines.mark(1, 1, 2, "beef")
        one = await seen(room, 2, has_marker(1, 2))
        assert not one.rewriting
        position = await room.engines.read_position(follower.directory)
        assert (position.term, position.sequence, position.nonce, position.bytes_after) == (1, 2, "beef", 0)
        survey = await until(room, lambda all: any(a.replicas and a.replicas[0].online for a in all.engines))
        replica = survey.engines[0].replicas[0]
        assert (replica.address, replica.port) == (follower.address, follower.client_port)

    engines_room.play(told)


def test_a_follower_that_is_asked_acknowledges_before_its_second_is_over(engines_room: Room) -> None:
    """By itself it does so once a second: five writes, one after the other, would take four seconds at least."""

    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        await until(room, lambda all: any(a.replicas and a.replicas[0].online for a in all.engines))
        clock = asyncio.get_running_loop()
        began = clock.time()
        for number in range(5):
            assert await room.write(1, f"k{number}", "v") == "+OK"
            written = (await seen(room, 1)).offset
            await room.engines.ask_followers(1)
            await seen(room, 1, lambda one, written=written: one.replicas[0].offset >= written)  # type: ignore[misc]
        assert clock.time() - began < 3.0

    engines_room.play(told)


def test_nobody_follows_before_it_is_told_and_admitted(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader = room.spec(1, 1)
        await started(room, leader)
        await room.engines.take_over(1)
        await room.engines.take_clients(1)
        leads = await seen(room, 1)
        follower = room.spec(2, 2, (peer(leader, leads),))
        one = await started(room, follower)
        assert (one.follows, one.link_up) == (node_id(1), False)
        await room.engines.replicate(2, peer(leader, leads))
        await room.pause(1.5)
        assert not (await seen(room, 2)).link_up
        await room.engines.admit(1)
        await seen(room, 2, lambda one: one.link_up)

    engines_room.play(told)


def test_a_phantom_beside_a_loaded_living_leader_harms_nobody(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        leads = await leading(room, leader)
        for number in range(50):
            assert await room.write(1, f"key-{number}", "v") == "+OK"
        await following(room, follower, leader)
        await room.engines.kill(2, Cause.OPERATOR_KILL)
        await ended(room, 2)
        # Nobody told its manager that a leader lives: it starts beside it as a phantom's replica, epochs far ahead.
        lost = replace(room.spec(3, 2, (peer(leader),)), current_epoch=9000)
        await started(room, lost, fresh=False)
        await room.pause(2.0)
        assert not (await seen(room, 3)).link_up, "it has no credentials until its manager attaches it"
        assert await room.dbsize(1) == 50
        assert await room.write(1, "one more", "v") == "+OK"
        await room.engines.replicate(3, peer(leader, leads))
        await seen(room, 3, lambda one: one.link_up and not one.resyncing)
        assert await room.dbsize(3) == 51
        assert await room.dbsize(1) == 51

    engines_room.play(told)


def test_a_planned_switch_moves_the_lead(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        assert await room.write(1, "k", "v") == "+OK"
        await following(room, follower, leader)
        await seen(room, 1, lambda one: any(node.node_id == node_id(2) for node in one.nodes))
        leads = await handed_over(room, 2)
        await room.engines.admit(2)
        await room.engines.unfence(2)
        await seen(room, 1, lambda one: one.role == "follower")
        await room.engines.replicate(1, peer(follower, leads))
        await seen(room, 1, lambda one: one.link_up)
        assert await room.write(2, "k", "w") == "+OK"
        await until(room, lambda all: all.engines[0].offset == all.engines[1].offset)
        assert await room.read(1, "k") == "w"

    engines_room.play(told)


# -- looking -----------------------------------------------------------------------------------------------------------


async def glimpsed(room: Room, start_id: int, holds: Callable[[EngineSeen], bool]) -> EngineSeen:
    """As `seen`, with looks that are not thorough."""
    for _ in range(3000):
        one = of(await room.engines.survey(thorough=False), start_id)
        if one is not None and holds(one):
            return one
        await room.pause(0.01)
    raise AssertionError(f"never held; last seen: {one}")


def test_a_look_that_is_not_thorough_misses_no_order_and_no_change_of_place(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        await seen(room, 1, lambda one: any(node.node_id == node_id(2) for node in one.nodes) and bool(one.replicas))
        before = await glimpsed(room, 1, lambda one: one.role == "leader" and not one.fenced)
        assert await room.write(1, "k", "v") == "+OK"
        after = await glimpsed(room, 1, lambda one: one.offset > before.offset)
        assert (after.role, after.epoch, after.nodes) == ("leader", before.epoch, before.nodes)
        await room.engines.fence(1)
        fenced = of(await room.engines.survey(thorough=False), 1)
        assert fenced is not None
        assert fenced.fenced
        leads = await handed_over(room, 2, thorough=False)
        assert leads.epoch > before.epoch
        steps_down = await glimpsed(room, 1, lambda one: one.role == "follower")
        assert steps_down.follows == node_id(2)
        room.kill_from_outside(2)
        await ended(room, 2)

    engines_room.play(told)


def test_what_gossip_brings_shows_within_seconds_even_at_looks_that_are_not_thorough(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, other = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await glimpsed(room, 1, lambda one: all(node.node_id != node_id(2) for node in one.nodes))
        await started(room, other)
        await room.let_strangers_in(1)
        await room.engines.meet(2, peer(leader))
        await glimpsed(room, 1, lambda one: any(node.node_id == node_id(2) for node in one.nodes))

    engines_room.play(told)
