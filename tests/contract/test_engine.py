"""One suite over all engines: what the contract says, as scenarios of one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from dkv.engine.contract import ArchiveRefused, Cause, EngineError, EngineSeen
from tests.contract.engine_harness import (
    Machine,
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


def test_a_started_engine_waits_for_its_role_and_takes_no_write(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        engine = await started(machine, machine.spec(1, 1))
        assert (engine.role, engine.cluster.phantom, engine.writes.fenced, engine.admits_replicas) == (
            "follower",
            True,
            True,
            False,
        )
        assert engine.node_id == node_id(1)
        assert refused(await machine.write(1, "k", "v"))

    engine_machine.play(scenario)


def test_a_leader_takes_over_fenced_and_serves_when_it_is_told(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        await machine.engines.take_over(1)
        engine = await seen(machine, 1)
        assert (engine.role, engine.writes.fenced, engine.admits_replicas) == ("leader", True, False)
        assert refused(await machine.write(1, "k", "v"))
        assert engine.writes.refuses == "NOREPLICAS"
        await machine.engines.admit(1)
        await machine.engines.unfence(1)
        await machine.engines.take_clients(1)
        assert await machine.write(1, "k", "v") == "+OK"
        engine = await seen(machine, 1)
        assert not engine.writes.fenced
        assert not engine.writes.refuses
        assert engine.admits_replicas
        assert engine.cluster.epoch > 100

    engine_machine.play(scenario)


def test_take_over_may_be_repeated(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await started(machine, machine.spec(1, 1))
        await machine.engines.take_over(1)
        first = await seen(machine, 1)
        await machine.engines.take_over(1)
        again = await seen(machine, 1)
        assert (again.role, again.cluster.epoch) == ("leader", first.cluster.epoch)

    engine_machine.play(scenario)


def test_launching_twice_is_launching_once(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        pid = await machine.engines.launch(spec)
        assert await machine.engines.launch(spec) == pid
        await seen(machine, 1, ready)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        with pytest.raises(EngineError):
            await machine.engines.launch(spec)

    engine_machine.play(scenario)


def test_data_outlives_a_kill_and_a_restart(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        assert await machine.write(1, "k", "v") == "+OK"
        machine.kill_from_outside(1)
        await ended(machine, 1)
        spec = machine.spec(2, 1)
        position = await machine.engines.prepare(spec.directory, spec.identity, False)
        assert (position.term, position.sequence, position.nonce) == (1, 1, "0a1b2c3d")
        assert position.bytes_after > 0
        assert position.initialised
        await machine.engines.launch(spec)
        await seen(machine, 2, ready)
        await machine.engines.take_over(2)
        await machine.engines.take_clients(2)
        assert await machine.read(2, "k") == "v"

    engine_machine.play(scenario)


# -- locks and identities ----------------------------------------------------------------------------------------------


def test_a_running_engine_holds_its_archive(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        engine = await started(machine, spec)
        with pytest.raises(ArchiveRefused, match=f"in use by pid {engine.pid}") as no:
            await machine.engines.prepare(spec.directory, spec.identity, False)
        assert no.value.cause is Cause.ARCHIVE_LOCKED
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await machine.engines.prepare(spec.directory, spec.identity, False)
        await machine.engines.release(spec.directory)

    engine_machine.play(scenario)


def test_the_archive_of_another_is_refused_and_left_alone(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        await machine.engines.release(spec.directory)
        for stranger in (
            identity(2),
            replace(identity(1), domain_uid="domain-2"),
            replace(identity(1), database="other"),
            replace(identity(1), incarnation_of_name="incarnation-2"),
        ):
            for fresh in (False, True):
                with pytest.raises(ArchiveRefused) as no:
                    await machine.engines.prepare(spec.directory, stranger, fresh)
                assert no.value.cause is Cause.ARCHIVE_FOREIGN
        await machine.engines.prepare(spec.directory, spec.identity, False)
        await machine.engines.release(spec.directory)

    engine_machine.play(scenario)


def test_a_missing_archive_is_refused_and_not_made(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(machine.directory(1), identity(1), False)
        assert no.value.cause is Cause.ARCHIVE_MISSING
        await machine.engines.prepare(machine.directory(1), identity(1), True)
        await machine.engines.release(machine.directory(1))

    engine_machine.play(scenario)


def test_a_fresh_start_never_goes_over_data(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(spec.directory, spec.identity, True)
        assert no.value.cause is Cause.ARCHIVE_FOREIGN

    engine_machine.play(scenario)


def test_what_ended_an_engine_is_looked_for(engine_machine: Machine) -> None:
    """The lock somebody else holds, the files that are not there; nothing is changed by looking."""

    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        ports = (spec.client_port, spec.cluster_port)

        async def missing(cause: Cause) -> bool:
            return bool(await machine.engines.obstacle(spec.directory, cause, spec.address, ports))

        assert await missing(Cause.ARCHIVE_MISSING)
        other = machine.another_manager()
        await other.prepare(spec.directory, spec.identity, True)
        assert not await missing(Cause.ARCHIVE_MISSING)
        assert await missing(Cause.ARCHIVE_LOCKED)
        await other.release(spec.directory)
        for cause in Cause:
            assert not await missing(cause), cause
        await machine.engines.prepare(spec.directory, spec.identity, True)
        assert not await missing(Cause.ARCHIVE_LOCKED), "its own lock is in nobody's way"

    engine_machine.play(scenario)


def test_a_deleted_archive_is_renamed_and_its_name_is_free(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        with pytest.raises(EngineError):
            await machine.engines.retire(spec.directory, spec.identity)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        assert await machine.engines.retire(spec.directory, replace(spec.identity, archive_id=2)) is None
        moved = await machine.engines.retire(spec.directory, spec.identity)
        assert moved is not None
        assert moved.startswith(f"{spec.directory}.deleted-")
        assert (await machine.engines.read_position(moved)).term == 1
        assert await machine.engines.retire(spec.directory, spec.identity) is None
        await machine.engines.prepare(spec.directory, spec.identity, True)
        await machine.engines.release(spec.directory)

    engine_machine.play(scenario)


# -- following ---------------------------------------------------------------------------------------------------------


def test_a_follower_has_the_data_and_the_marker_on_its_own_disk(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        assert await machine.write(1, "k", "v") == "+OK"
        await following(machine, follower, leader)
        assert await machine.read(2, "k") == "v"
        await machine.engines.mark(1, 1, 2, "beef")
        engine = await seen(machine, 2, has_marker(1, 2))
        assert not engine.files.rewriting
        position = await machine.engines.read_position(follower.directory)
        assert (position.term, position.sequence, position.nonce, position.bytes_after) == (1, 2, "beef", 0)
        survey = await until(
            machine, lambda all: any(a.replication.replicas and a.replication.replicas[0].online for a in all.engines)
        )
        replica = survey.engines[0].replication.replicas[0]
        assert (replica.address, replica.port) == (follower.address, follower.client_port)

    engine_machine.play(scenario)


def test_a_follower_that_is_asked_acknowledges_before_its_second_is_over(engine_machine: Machine) -> None:
    """By itself it does so once a second: five writes, one after the other, would take four seconds at least."""

    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        await until(machine, lambda all: any(a.replication.replicas and a.replication.replicas[0].online for a in all.engines))
        clock = asyncio.get_running_loop()
        began = clock.time()
        for number in range(5):
            assert await machine.write(1, f"k{number}", "v") == "+OK"
            written = (await seen(machine, 1)).replication.offset
            await machine.engines.ask_followers(1)
            await seen(machine, 1, lambda engine, written=written: engine.replication.replicas[0].offset >= written)  # type: ignore[misc]
        assert clock.time() - began < 3.0

    engine_machine.play(scenario)


def test_nobody_follows_before_it_is_told_and_admitted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader = machine.spec(1, 1)
        await started(machine, leader)
        await machine.engines.take_over(1)
        await machine.engines.take_clients(1)
        leads = await seen(machine, 1)
        follower = machine.spec(2, 2, (peer(leader, leads),))
        fresh = await started(machine, follower)
        assert (fresh.follows, fresh.replication.link_up) == (node_id(1), False)
        await machine.engines.replicate(2, peer(leader, leads))
        await machine.pause(1.5)
        assert not (await seen(machine, 2)).replication.link_up
        await machine.engines.admit(1)
        await seen(machine, 2, lambda engine: engine.replication.link_up)

    engine_machine.play(scenario)


def test_a_phantom_beside_a_loaded_living_leader_harms_nobody(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        leads = await leading(machine, leader)
        for number in range(50):
            assert await machine.write(1, f"key-{number}", "v") == "+OK"
        await following(machine, follower, leader)
        await machine.engines.kill(2, Cause.OPERATOR_KILL)
        await ended(machine, 2)
        # Nobody told its manager that a leader lives: it starts beside it as a phantom's replica, epochs far ahead.
        lost = replace(machine.spec(3, 2, (peer(leader),)), current_epoch=9000)
        await started(machine, lost, fresh=False)
        await machine.pause(2.0)
        assert not (await seen(machine, 3)).replication.link_up, "it has no credentials until its manager attaches it"
        assert await machine.dbsize(1) == 50
        assert await machine.write(1, "one more", "v") == "+OK"
        await machine.engines.replicate(3, peer(leader, leads))
        await seen(machine, 3, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
        assert await machine.dbsize(3) == 51
        assert await machine.dbsize(1) == 51

    engine_machine.play(scenario)


def test_a_planned_switch_moves_the_lead(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        assert await machine.write(1, "k", "v") == "+OK"
        await following(machine, follower, leader)
        await seen(machine, 1, lambda engine: any(node.node_id == node_id(2) for node in engine.cluster.nodes))
        leads = await handed_over(machine, 2)
        await machine.engines.admit(2)
        await machine.engines.unfence(2)
        await seen(machine, 1, lambda engine: engine.role == "follower")
        await machine.engines.replicate(1, peer(follower, leads))
        await seen(machine, 1, lambda engine: engine.replication.link_up)
        assert await machine.write(2, "k", "w") == "+OK"
        await until(machine, lambda all: all.engines[0].replication.offset == all.engines[1].replication.offset)
        assert await machine.read(1, "k") == "w"

    engine_machine.play(scenario)


# -- looking -----------------------------------------------------------------------------------------------------------


async def glimpsed(machine: Machine, start_id: int, holds: Callable[[EngineSeen], bool]) -> EngineSeen:
    """As `seen`, with looks that are not thorough."""
    for _ in range(3000):
        engine = of(await machine.engines.survey(thorough=False), start_id)
        if engine is not None and holds(engine):
            return engine
        await machine.pause(0.01)
    raise AssertionError(f"never held; last seen: {engine}")


def test_a_look_that_is_not_thorough_misses_no_order_and_no_change_of_place(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        await seen(
            machine,
            1,
            lambda engine: any(node.node_id == node_id(2) for node in engine.cluster.nodes) and bool(engine.replication.replicas),
        )
        before = await glimpsed(machine, 1, lambda engine: engine.role == "leader" and not engine.writes.fenced)
        assert await machine.write(1, "k", "v") == "+OK"
        after = await glimpsed(machine, 1, lambda engine: engine.replication.offset > before.replication.offset)
        assert (after.role, after.cluster.epoch, after.cluster.nodes) == ("leader", before.cluster.epoch, before.cluster.nodes)
        await machine.engines.fence(1)
        fenced = of(await machine.engines.survey(thorough=False), 1)
        assert fenced is not None
        assert fenced.writes.fenced
        leads = await handed_over(machine, 2, thorough=False)
        assert leads.cluster.epoch > before.cluster.epoch
        steps_down = await glimpsed(machine, 1, lambda engine: engine.role == "follower")
        assert steps_down.follows == node_id(2)
        machine.kill_from_outside(2)
        await ended(machine, 2)

    engine_machine.play(scenario)


def test_what_gossip_brings_shows_within_seconds_even_at_looks_that_are_not_thorough(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, other = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await glimpsed(machine, 1, lambda engine: all(node.node_id != node_id(2) for node in engine.cluster.nodes))
        await started(machine, other)
        await machine.let_strangers_in(1)
        await machine.engines.meet(2, peer(leader))
        await glimpsed(machine, 1, lambda engine: any(node.node_id == node_id(2) for node in engine.cluster.nodes))

    engine_machine.play(scenario)
