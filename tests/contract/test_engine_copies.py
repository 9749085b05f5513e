"""One suite over all engines: writes wait, a cut is noted, copied and restored. Told as stories of one machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, EngineRefused, EngineSpec, EngineUnreachable, QuiescePoint
from tests.contract.engine_harness import ALL_SLOTS, Room, ended, following, identity, leading, ready, seen

SLOTS = ALL_SLOTS[0].slots
LABEL = CopyLabel("domain-1/1", identity(1), SLOTS, 1_000)
LONG = 20_000  # ms, a pause that no story waits out


async def nothing(percent: int) -> None:
    """Told of progress and content with it."""


def restoring(room: Room, start_id: int, archive_id: int, target: str) -> EngineSpec:
    return replace(room.spec(start_id, archive_id), directory=target, restored=True)


async def restored(room: Room, start_id: int, archive_id: int, target: str) -> None:
    """A new archive's engine leads with what a hot copy held."""
    spec = restoring(room, start_id, archive_id, target)
    position = await room.engines.prepare(target, spec.identity, True, SLOTS)
    assert position.origin == "domain-1/1"
    await room.engines.launch(spec)
    await seen(room, start_id, ready)
    await room.engines.take_over(start_id)
    await room.engines.take_clients(start_id)


async def copied(room: Room, start_id: int, archive_id: int, still: QuiescePoint) -> str:
    """A whole copy of what an archive held at a moment of stillness; where it is."""
    directory, target = room.directory(archive_id), f"{room.directory(archive_id)}-copy"
    await room.engines.claim_target(directory, target, LABEL)
    await room.engines.note_cut(start_id, "1-1", still)
    await room.engines.resume(start_id)
    await room.engines.write_copy(directory, "1-1", target, LABEL, rate=0, tell=nothing)
    await room.engines.drop_cut(directory, "1-1")
    return target


async def paused(room: Room, start_id: int) -> QuiescePoint:
    still = await room.engines.pause(start_id, LONG)
    await seen(room, start_id, lambda one: one.paused)
    return still


# -- waiting -------------------------------------------------------------------------------------------------------------


def test_while_writes_wait_reads_go_on_and_nothing_is_written(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.write(1, "k", "old")
        still = await paused(room, 1)
        waiting = asyncio.create_task(room.write(1, "k", "new"))
        await room.pause(0.2)
        assert not waiting.done()
        assert await room.read(1, "k") == "old"
        found = await room.engines.resume(1)
        assert (found.file, found.size, found.history) == (still.file, still.size, still.history)
        assert await waiting == "+OK"
        assert not (await seen(room, 1)).paused

    engines_room.play(told)


def test_a_marker_waits_like_any_write(engines_room: Room) -> None:
    """An engine that hands over marks nothing that its follower never gets; Valkey makes writes wait for both alike."""

    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        before = (await room.engines.read_position(room.directory(1))).order
        await paused(room, 1)
        marking = asyncio.create_task(room.engines.mark(1, 1, 99, "n"))
        await room.pause(0.2)
        assert (await room.engines.read_position(room.directory(1))).order == before
        await room.engines.resume(1)
        with suppress(EngineUnreachable):
            await marking
        await room.engines.mark(1, 1, 100, "n")
        assert (await room.engines.read_position(room.directory(1))).sequence == 100

    engines_room.play(told)


def test_a_pause_ends_by_itself_and_what_was_written_then_shows(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        still = await room.engines.pause(1, 200)
        assert await room.write(1, "k", "v") == "+OK"
        found = await room.engines.resume(1)
        assert (found.file, found.size) != (still.file, still.size)

    engines_room.play(told)


def test_a_fenced_leader_and_a_follower_are_not_paused(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        with pytest.raises(EngineRefused):
            await room.engines.pause(2, 100)
        await room.engines.fence(1)
        with pytest.raises(EngineRefused):
            await room.engines.pause(1, 100)
        assert not (await seen(room, 1)).paused

    engines_room.play(told)


def test_a_fenced_marker_lets_no_waiting_write_pass(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await paused(room, 1)
        waiting = asyncio.create_task(room.write(1, "k", "v"))
        await room.pause(0.1)
        await room.engines.fence(1)
        await room.engines.mark(1, 1, 2, "ffff0000")
        assert (await waiting).startswith("-")
        await room.engines.unfence(1)
        assert await room.read(1, "k") != "v"

    engines_room.play(told)


# -- cutting and copying -----------------------------------------------------------------------------------------------------


def test_a_copy_of_a_leader_holds_what_was_written_before_the_cut_and_nothing_after(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.write(1, "before", "1")
        still = await paused(room, 1)
        waiting = asyncio.create_task(room.write(1, "after", "1"))
        target = await copied(room, 1, 1, still)
        assert await waiting == "+OK"
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await restored(room, 3, 3, target)
        assert await room.read(3, "before") == "1"
        assert await room.read(3, "after") != "1"
        assert await room.dbsize(3) == 1

    engines_room.play(told)


def test_a_copy_of_a_follower_holds_what_its_leader_had_when_it_paused(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        for n in range(20):
            await room.write(1, f"k{n}", "v")
        still = await paused(room, 1)
        directory, target = room.directory(2), f"{room.directory(2)}-copy"
        await room.engines.claim_target(directory, target, LABEL)
        await room.engines.note_cut(2, "1-1", still)
        await room.engines.resume(1)
        await room.write(1, "after", "v")
        await room.engines.write_copy(directory, "1-1", target, LABEL, rate=0, tell=nothing)
        for start_id in (2, 1):
            await room.engines.kill(start_id, Cause.OPERATOR_KILL)
            await ended(room, start_id)
        await restored(room, 3, 3, target)
        assert await room.dbsize(3) == 20

    engines_room.play(told)


def test_a_follower_that_is_behind_notes_no_cut(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        still = await paused(room, 1)
        ahead = replace(still, offset=still.offset + 10_000)
        with pytest.raises(EngineRefused):
            await room.engines.note_cut(2, "1-1", ahead)
        with pytest.raises(EngineRefused):
            await room.engines.note_cut(2, "1-1", replace(still, history="of another"))
        await room.engines.note_cut(2, "1-1", still)

    engines_room.play(told)


def test_a_cut_that_was_noted_stays_what_it_is(engines_room: Room) -> None:
    """A step that is repeated late, when writes have gone on, must not move the moment."""

    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.write(1, "before", "1")
        still = await paused(room, 1)
        directory, target = room.directory(1), f"{room.directory(1)}-copy"
        await room.engines.claim_target(directory, target, LABEL)
        cut = await room.engines.note_cut(1, "1-1", still)
        await room.engines.resume(1)
        assert await room.write(1, "after", "1") == "+OK"
        assert await room.engines.note_cut(1, "1-1", still) == cut
        await room.engines.write_copy(directory, "1-1", target, LABEL, rate=0, tell=nothing)
        assert (await room.engines.note_cut(1, "1-2", still)).length > cut.length
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await restored(room, 3, 3, target)
        assert await room.dbsize(3) == 1

    engines_room.play(told)


def test_a_rewrite_takes_no_file_of_a_cut_away(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.write(1, "before", "1")
        still = await paused(room, 1)
        directory, target = room.directory(1), f"{room.directory(1)}-copy"
        await room.engines.claim_target(directory, target, LABEL)
        await room.engines.note_cut(1, "1-1", still)
        await room.engines.resume(1)
        await room.engines.rewrite(1, (1, 2, "0000ffff"))
        await seen(room, 1, lambda one: not one.rewriting and one.marker is not None and one.marker.sequence == 2)
        await room.write(1, "after", "1")
        await room.engines.write_copy(directory, "1-1", target, LABEL, rate=0, tell=nothing)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await restored(room, 3, 3, target)
        assert await room.dbsize(3) == 1

    engines_room.play(told)


def test_a_copy_that_is_given_up_is_none_and_leaves_nothing(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        await room.write(1, "k", "v" * 10_000)
        still = await paused(room, 1)
        directory, target = room.directory(1), f"{room.directory(1)}-copy"
        await room.engines.claim_target(directory, target, LABEL)
        await room.engines.note_cut(1, "1-1", still)
        await room.engines.resume(1)

        async def enough(percent: int) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await room.engines.write_copy(directory, "1-1", target, LABEL, rate=5_000, tell=enough)
        spec = restoring(room, 3, 3, target)
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(target, spec.identity, True, SLOTS)
        assert no.value.cause is Cause.NOT_A_COPY
        await room.engines.abandon_target(target, LABEL)
        await room.engines.claim_target(directory, target, replace(LABEL, cut="domain-1/2"))

    engines_room.play(told)


# -- places and restoring ------------------------------------------------------------------------------------------------------


def test_a_copy_goes_to_no_place_that_holds_something(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        directory, target = room.directory(1), f"{room.directory(1)}-copy"
        with pytest.raises(EngineRefused):
            await room.engines.claim_target(directory, directory, LABEL)
        with pytest.raises(EngineRefused):
            await room.engines.claim_target(directory, f"{directory}/inside", LABEL)
        await room.engines.claim_target(directory, target, LABEL)
        await room.engines.claim_target(directory, target, LABEL)
        with pytest.raises(EngineRefused, match="not empty"):
            await room.engines.claim_target(directory, target, replace(LABEL, cut="domain-1/2"))

    engines_room.play(told)


def test_only_a_whole_copy_of_the_same_slots_is_restored(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        still = await paused(room, 1)
        target = await copied(room, 1, 1, still)
        found = await room.engines.recognise(target)
        assert found and (found.identity.group, found.slots) == (identity(1).group, SLOTS)
        assert await room.engines.recognise(room.directory(9)) is None
        for place, cause in ((room.directory(1), Cause.ARCHIVE_FOREIGN), (room.directory(9), Cause.NOT_A_COPY)):
            with pytest.raises(ArchiveRefused) as no:
                await room.engines.prepare(place, identity(3), True, SLOTS)
            assert no.value.cause is cause
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(target, identity(3), True, ((0, 100),))
        assert no.value.cause is Cause.COPY_OF_ANOTHER_GROUP
        with pytest.raises(ArchiveRefused):
            await room.engines.prepare(target, identity(3), False)  # a copy is no living archive

    engines_room.play(told)


def test_a_restored_archive_is_its_own_from_its_first_engine_on(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        await leading(room, room.spec(1, 1))
        still = await paused(room, 1)
        target = await copied(room, 1, 1, still)
        await restored(room, 3, 3, target)
        await room.engines.kill(3, Cause.OPERATOR_KILL)
        await ended(room, 3)
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(target, identity(4), True, SLOTS)
        assert no.value.cause is Cause.ARCHIVE_FOREIGN
        assert (await room.engines.prepare(target, identity(3), True, SLOTS)).initialised
        await room.engines.release(target)
        assert (await room.engines.prepare(target, identity(3), False)).initialised

    engines_room.play(told)
