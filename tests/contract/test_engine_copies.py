"""One suite over all engines: writes wait, a cut is noted, copied and restored. Scenarios of one machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, EngineRefused, EngineSpec, EngineUnreachable, QuiescePoint
from tests.contract.engine_harness import ALL_SLOTS, Machine, ended, following, identity, leading, ready, seen

SLOTS = ALL_SLOTS[0].slots
LABEL = CopyLabel("domain-1/1", identity(1), SLOTS, 1_000)
LONG = 20_000  # ms, a pause that no scenario waits out


async def nothing(percent: int) -> None:
    """Told of progress and content with it."""


def restoring(machine: Machine, start_id: int, archive_id: int, target: str) -> EngineSpec:
    return replace(machine.spec(start_id, archive_id), directory=target, restored=True)


async def restored(machine: Machine, start_id: int, archive_id: int, target: str) -> None:
    """A new archive's engine leads with what a hot copy held."""
    spec = restoring(machine, start_id, archive_id, target)
    position = await machine.engines.prepare(target, spec.identity, True, SLOTS)
    assert position.origin == "domain-1/1"
    await machine.engines.launch(spec)
    await seen(machine, start_id, ready)
    await machine.engines.take_over(start_id)
    await machine.engines.take_clients(start_id)


async def copied(machine: Machine, start_id: int, archive_id: int, still: QuiescePoint) -> str:
    """A whole copy of what an archive held at a moment of stillness; where it is."""
    directory, target = machine.directory(archive_id), f"{machine.directory(archive_id)}-copy"
    await machine.engines.claim_target(directory, target, LABEL)
    await machine.engines.note_cut(start_id, "1-1", still)
    await machine.engines.resume(start_id)
    await machine.engines.write_copy(directory, "1-1", target, LABEL, rate=0, report=nothing)
    await machine.engines.drop_cut(directory, "1-1")
    return target


async def paused(machine: Machine, start_id: int) -> QuiescePoint:
    still = await machine.engines.pause(start_id, LONG)
    await seen(machine, start_id, lambda engine: engine.writes.paused)
    return still


# -- waiting -------------------------------------------------------------------------------------------------------------


def test_while_writes_wait_reads_go_on_and_nothing_is_written(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.write(1, "k", "old")
        still = await paused(machine, 1)
        waiting = asyncio.create_task(machine.write(1, "k", "new"))
        await machine.pause(0.2)
        assert not waiting.done()
        assert await machine.read(1, "k") == "old"
        resumed = await machine.engines.resume(1)
        assert (resumed.file, resumed.size, resumed.history) == (still.file, still.size, still.history)
        assert await waiting == "+OK"
        assert not (await seen(machine, 1)).writes.paused

    engine_machine.play(scenario)


def test_a_marker_waits_like_any_write(engine_machine: Machine) -> None:
    """An engine that hands over marks nothing that its follower never gets; Valkey makes writes wait for both alike."""

    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        before = (await machine.engines.read_position(machine.directory(1))).order
        await paused(machine, 1)
        marking = asyncio.create_task(machine.engines.mark(1, 1, 99, "n"))
        await machine.pause(0.2)
        assert (await machine.engines.read_position(machine.directory(1))).order == before
        await machine.engines.resume(1)
        with suppress(EngineUnreachable):
            await marking
        await machine.engines.mark(1, 1, 100, "n")
        assert (await machine.engines.read_position(machine.directory(1))).sequence == 100

    engine_machine.play(scenario)


def test_a_pause_ends_by_itself_and_what_was_written_then_shows(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        still = await machine.engines.pause(1, 200)
        assert await machine.write(1, "k", "v") == "+OK"
        resumed = await machine.engines.resume(1)
        assert (resumed.file, resumed.size) != (still.file, still.size)

    engine_machine.play(scenario)


def test_a_fenced_leader_and_a_follower_are_not_paused(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        with pytest.raises(EngineRefused):
            await machine.engines.pause(2, 100)
        await machine.engines.fence(1)
        with pytest.raises(EngineRefused):
            await machine.engines.pause(1, 100)
        assert not (await seen(machine, 1)).writes.paused

    engine_machine.play(scenario)


def test_a_fenced_marker_lets_no_waiting_write_pass(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await paused(machine, 1)
        waiting = asyncio.create_task(machine.write(1, "k", "v"))
        await machine.pause(0.1)
        await machine.engines.fence(1)
        await machine.engines.mark(1, 1, 2, "ffff0000")
        assert (await waiting).startswith("-")
        await machine.engines.unfence(1)
        assert await machine.read(1, "k") != "v"

    engine_machine.play(scenario)


# -- cutting and copying -----------------------------------------------------------------------------------------------------


def test_a_copy_of_a_leader_holds_what_was_written_before_the_cut_and_nothing_after(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.write(1, "before", "1")
        still = await paused(machine, 1)
        waiting = asyncio.create_task(machine.write(1, "after", "1"))
        target = await copied(machine, 1, 1, still)
        assert await waiting == "+OK"
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await restored(machine, 3, 3, target)
        assert await machine.read(3, "before") == "1"
        assert await machine.read(3, "after") != "1"
        assert await machine.dbsize(3) == 1

    engine_machine.play(scenario)


def test_a_copy_of_a_follower_holds_what_its_leader_had_when_it_paused(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        for n in range(20):
            await machine.write(1, f"k{n}", "v")
        still = await paused(machine, 1)
        directory, target = machine.directory(2), f"{machine.directory(2)}-copy"
        await machine.engines.claim_target(directory, target, LABEL)
        await machine.engines.note_cut(2, "1-1", still)
        await machine.engines.resume(1)
        await machine.write(1, "after", "v")
        await machine.engines.write_copy(directory, "1-1", target, LABEL, rate=0, report=nothing)
        for start_id in (2, 1):
            await machine.engines.kill(start_id, Cause.OPERATOR_KILL)
            await ended(machine, start_id)
        await restored(machine, 3, 3, target)
        assert await machine.dbsize(3) == 20

    engine_machine.play(scenario)


def test_a_follower_that_is_behind_notes_no_cut(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        still = await paused(machine, 1)
        ahead = replace(still, offset=still.offset + 10_000)
        with pytest.raises(EngineRefused):
            await machine.engines.note_cut(2, "1-1", ahead)
        with pytest.raises(EngineRefused):
            await machine.engines.note_cut(2, "1-1", replace(still, history="of another"))
        await machine.engines.note_cut(2, "1-1", still)

    engine_machine.play(scenario)


def test_a_cut_that_was_noted_stays_what_it_is(engine_machine: Machine) -> None:
    """A step that is repeated late, when writes have gone on, must not move the moment."""

    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.write(1, "before", "1")
        still = await paused(machine, 1)
        directory, target = machine.directory(1), f"{machine.directory(1)}-copy"
        await machine.engines.claim_target(directory, target, LABEL)
        cut = await machine.engines.note_cut(1, "1-1", still)
        await machine.engines.resume(1)
        assert await machine.write(1, "after", "1") == "+OK"
        assert await machine.engines.note_cut(1, "1-1", still) == cut
        await machine.engines.write_copy(directory, "1-1", target, LABEL, rate=0, report=nothing)
        assert (await machine.engines.note_cut(1, "1-2", still)).length > cut.length
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await restored(machine, 3, 3, target)
        assert await machine.dbsize(3) == 1

    engine_machine.play(scenario)


def test_a_rewrite_takes_no_file_of_a_cut_away(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.write(1, "before", "1")
        still = await paused(machine, 1)
        directory, target = machine.directory(1), f"{machine.directory(1)}-copy"
        await machine.engines.claim_target(directory, target, LABEL)
        await machine.engines.note_cut(1, "1-1", still)
        await machine.engines.resume(1)
        await machine.engines.rewrite(1, (1, 2, "0000ffff"))
        await seen(
            machine,
            1,
            lambda engine: not engine.files.rewriting and engine.files.marker is not None and engine.files.marker.sequence == 2,
        )
        await machine.write(1, "after", "1")
        await machine.engines.write_copy(directory, "1-1", target, LABEL, rate=0, report=nothing)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await restored(machine, 3, 3, target)
        assert await machine.dbsize(3) == 1

    engine_machine.play(scenario)


def test_a_copy_that_is_given_up_is_none_and_leaves_nothing(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.write(1, "k", "v" * 10_000)
        still = await paused(machine, 1)
        directory, target = machine.directory(1), f"{machine.directory(1)}-copy"
        await machine.engines.claim_target(directory, target, LABEL)
        await machine.engines.note_cut(1, "1-1", still)
        await machine.engines.resume(1)

        async def enough(percent: int) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await machine.engines.write_copy(directory, "1-1", target, LABEL, rate=5_000, report=enough)
        spec = restoring(machine, 3, 3, target)
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(target, spec.identity, True, SLOTS)
        assert no.value.cause is Cause.NOT_A_COPY
        await machine.engines.abandon_target(target, LABEL)
        await machine.engines.claim_target(directory, target, replace(LABEL, cut="domain-1/2"))

    engine_machine.play(scenario)


# -- places and restoring ------------------------------------------------------------------------------------------------------


def test_a_copy_goes_to_no_place_that_holds_something(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        directory, target = machine.directory(1), f"{machine.directory(1)}-copy"
        with pytest.raises(EngineRefused):
            await machine.engines.claim_target(directory, directory, LABEL)
        with pytest.raises(EngineRefused):
            await machine.engines.claim_target(directory, f"{directory}/inside", LABEL)
        await machine.engines.claim_target(directory, target, LABEL)
        await machine.engines.claim_target(directory, target, LABEL)
        with pytest.raises(EngineRefused, match="not empty"):
            await machine.engines.claim_target(directory, target, replace(LABEL, cut="domain-1/2"))

    engine_machine.play(scenario)


def test_only_a_whole_copy_of_the_same_slots_is_restored(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        still = await paused(machine, 1)
        target = await copied(machine, 1, 1, still)
        label = await machine.engines.recognise(target)
        assert label and (label.identity.group, label.slots) == (identity(1).group, SLOTS)
        assert await machine.engines.recognise(machine.directory(9)) is None
        for place, cause in ((machine.directory(1), Cause.ARCHIVE_FOREIGN), (machine.directory(9), Cause.NOT_A_COPY)):
            with pytest.raises(ArchiveRefused) as no:
                await machine.engines.prepare(place, identity(3), True, SLOTS)
            assert no.value.cause is cause
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(target, identity(3), True, ((0, 100),))
        assert no.value.cause is Cause.COPY_OF_ANOTHER_GROUP
        with pytest.raises(ArchiveRefused):
            await machine.engines.prepare(target, identity(3), False)  # a copy is no living archive

    engine_machine.play(scenario)


def test_a_restored_archive_is_its_own_from_its_first_engine_on(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await leading(machine, machine.spec(1, 1))
        still = await paused(machine, 1)
        target = await copied(machine, 1, 1, still)
        await restored(machine, 3, 3, target)
        await machine.engines.kill(3, Cause.OPERATOR_KILL)
        await ended(machine, 3)
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(target, identity(4), True, SLOTS)
        assert no.value.cause is Cause.ARCHIVE_FOREIGN
        assert (await machine.engines.prepare(target, identity(3), True, SLOTS)).initialised
        await machine.engines.release(target)
        assert (await machine.engines.prepare(target, identity(3), False)).initialised

    engine_machine.play(scenario)
