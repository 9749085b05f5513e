"""The engine contract, third half: the habits of engines that lose data when one does not know them.

Each was measured on real Valkey (docs/reference/positions.md#traps); a simulated engine that lacks one fails here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine import config
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, EngineSeen, EngineSpec
from tests.contract.engine_harness import (
    RealRoom,
    Room,
    ended,
    following,
    has_marker,
    identity,
    known_as_follower,
    leading,
    memory_only,
    of,
    peer,
    ready,
    seen,
    started,
    until,
)
from tests.contract.handovers import handed_over


async def filled(room: Room, start_id: int, keys: int, name: str = "key") -> None:
    for number in range(keys):
        assert await room.write(start_id, f"{name}-{number}", "v" * 50) == "+OK"


async def attached_te(room: Room, spec: EngineSpec, leader: EngineSpec) -> None:
    known = peer(leader, await seen(room, leader.start_id))
    await room.engines.launch_memory(memory_only(replace(spec, peers=(known,))))
    await seen(room, spec.start_id, ready)
    await room.engines.meet(leader.start_id, peer(spec))
    await room.engines.replicate(spec.start_id, known)
    await seen(room, spec.start_id, lambda one: one.link_up and not one.resyncing)


async def in_sync_pair(room: Room) -> tuple[EngineSpec, EngineSpec]:
    """A leader and a follower, the marker 1-2 on both disks."""
    leader, follower = room.spec(1, 1), room.spec(2, 2)
    await leading(room, leader)
    await following(room, follower, leader)
    await room.engines.mark(1, 1, 2, "beef")
    await seen(room, 2, lambda one: has_marker(1, 2)(one) and not one.rewriting)
    await room.engines.confirm_initialised(follower.directory)
    return leader, follower


def followers(one: EngineSeen) -> set[tuple[str, str | None]]:
    """Who follows whom as that engine knows it: a leader hears nobody's wish to take over whom it takes for something else."""
    return {(node.node_id, node.follows) for node in one.nodes}


async def restarted(room: Room, old: int, spec: EngineSpec) -> None:
    """The archive's engine killed and started again, not yet told what to do."""
    await room.engines.kill(old, Cause.OPERATOR_KILL)
    await ended(room, old)
    await started(room, spec, fresh=False)


# -- who owns the slots ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [config.PHANTOM_EPOCH, 10**6])
def test_a_phantom_that_outbids_the_living_leader_is_not_believed(
    engines_room: Room, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """Trap 1, and why our phantoms are in handshake: a leader that heard of the phantom would believe the higher epoch, and
    delete what is not its own any more. Nobody gossips about a node in handshake, so it never hears of it.
    """

    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await filled(room, 1, 20)
        await following(room, follower, leader)
        await seen(room, 1, lambda one: any(node.node_id == follower.node_id for node in one.nodes))
        monkeypatch.setattr(config, "PHANTOM_EPOCH", epoch)
        await restarted(room, 2, replace(room.spec(3, 2), peers=(peer(leader),)))  # nobody told its manager that a leader lives
        await room.pause(2.0)  # of gossip, for what must not happen
        assert await room.dbsize(1) == 20
        one = await seen(room, 1)
        assert {node.node_id for node in one.nodes if not node.handshake} == {leader.node_id, follower.node_id}
        ours = {(spec.address, spec.client_port) for spec in (leader, follower)}
        assert {(node.address, node.port) for node in one.nodes if node.port} <= ours, "somebody told it of the phantom"

    engines_room.play(told)


# -- who counts ------------------------------------------------------------------------------------------------------


def test_wait_counts_an_engine_that_has_no_disk(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader = room.spec(1, 1)
        await leading(room, leader)
        await attached_te(room, room.spec(2, 2), leader)
        await seen(room, 1, lambda one: any(replica.online for replica in one.replicas))
        assert await room.wait(1, 1, 2.0) == 1

    engines_room.play(told)


def test_wait_counts_a_joiner_whose_disk_has_no_marker(patient_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = room.spec(1, 1), room.spec(2, 2)
        await leading(room, leader)
        await following(room, follower, leader)
        await seen(room, 1, lambda one: any(replica.online for replica in one.replicas))
        assert await room.wait(1, 1, 2.0) == 1
        assert (await room.engines.read_position(follower.directory)).term == 0

    patient_room.play(told)


def test_a_paused_follower_acknowledges_late(patient_room: Room) -> None:
    async def told(room: Room) -> None:
        await in_sync_pair(room)
        assert await room.wait(1, 1, 5.0) == 1
        room.freeze(2)
        assert await room.wait(1, 1, 0.3) == 0
        silent = await seen(room, 1, lambda one: bool(one.replicas) and one.replicas[0].silent_ms >= 1_000)
        assert silent.replicas[0].offset < silent.offset
        room.thaw(2)
        assert await room.wait(1, 1, 5.0) == 1
        await seen(room, 1, lambda one: bool(one.replicas) and one.replicas[0].offset >= silent.offset)

    patient_room.play(told)


def test_the_tail_of_a_follower_lags_and_the_leader_is_never_behind(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        room.freeze(2)
        await filled(room, 1, 30)
        room.kill_from_outside(1)
        await ended(room, 1)
        ahead = await room.engines.read_position(leader.directory)
        behind = await room.engines.read_position(follower.directory)
        assert (ahead.term, ahead.sequence) == (behind.term, behind.sequence) == (1, 2)
        assert ahead.bytes_after > behind.bytes_after
        room.thaw(2)
        await seen(room, 2, lambda one: one.answering and not one.link_up)
        assert (await room.engines.read_position(follower.directory)).order <= ahead.order

    engines_room.play(told)


# -- full resync -----------------------------------------------------------------------------------------------------


def test_a_full_resync_keeps_the_history_of_the_disk_until_its_end(patient_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        await filled(room, 1, 50)
        old = await until_equal(room, leader, follower)
        again = replace(room.spec(3, 2), peers=(peer(leader, await seen(room, 1)),))
        await restarted(room, 2, again)
        await filled(room, 1, 10, "later")
        await room.slow_down_resyncs(1)
        await room.engines.replicate(3, peer(leader, await seen(room, 1)))
        await seen(room, 3, lambda one: one.resyncing)
        assert (await room.engines.read_position(follower.directory)).order == old
        await seen(room, 3, lambda one: one.link_up and not one.resyncing)
        assert (await room.engines.read_position(follower.directory)).term == 0
        await room.engines.mark(1, 1, 3, "f00d")
        await seen(room, 3, has_marker(1, 3))
        assert await room.dbsize(3) == await room.dbsize(1)

    patient_room.play(told)


def test_a_kill_inside_a_full_resync_leaves_the_old_archive(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        await filled(room, 1, 50)
        old = await until_equal(room, leader, follower)
        await restarted(room, 2, replace(room.spec(3, 2), peers=(peer(leader, await seen(room, 1)),)))
        await filled(room, 1, 10, "later")
        await room.slow_down_resyncs(1)
        await room.engines.replicate(3, peer(leader, await seen(room, 1)))
        await seen(room, 3, lambda one: one.resyncing)
        room.kill_from_outside(3)
        await ended(room, 3)
        left = await room.engines.read_position(follower.directory)
        assert left.order == old < (await room.engines.read_position(leader.directory)).order
        await started(room, room.spec(4, 2), fresh=False)
        assert await room.dbsize(4) == 50

    engines_room.play(told)


async def until_equal(room: Room, leader: EngineSpec, follower: EngineSpec) -> tuple[int, int, int]:
    """The position both have, once the follower caught up."""
    wanted = (await room.engines.read_position(leader.directory)).order
    for _ in range(1000):
        if (await room.engines.read_position(follower.directory)).order == wanted:
            return wanted
        await room.pause(0.01)
    raise AssertionError("the follower never caught up")


def test_a_link_that_breaks_goes_on_where_it_was(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        await filled(room, 1, 20)
        for _ in range(3):
            await room.break_link(1)
            await filled(room, 1, 5, "on the way")
            await seen(room, 2, lambda one: one.link_up)
        await until_equal(room, leader, follower)
        one = await seen(room, 2, has_marker(1, 2))
        assert one.history == (await seen(room, 1)).history
        assert await room.dbsize(2) == await room.dbsize(1)

    engines_room.play(told)


# -- leading ---------------------------------------------------------------------------------------------------------


def test_takeover_asks_nobody_and_the_old_leader_keeps_its_disk(patient_room: Room) -> None:
    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        await known_as_follower(room, leader, follower)
        room.freeze(2)
        await filled(room, 1, 20)
        before = await room.engines.read_position(leader.directory)
        await room.break_link(1)
        room.thaw(2)
        await room.engines.take_over(2)
        assert (await seen(room, 2)).role == "leader"
        await seen(room, 1, lambda one: one.role == "follower")
        await room.pause(1.5)
        old = await seen(room, 1)
        assert not old.link_up
        assert (await room.engines.read_position(leader.directory)).order >= before.order
        assert await room.dbsize(1) == 20

    patient_room.play(told)


async def failover_asked(room: Room, start_id: int) -> None:
    """As soon as that follower accepts it, for which its bus connection to its leader must be there."""
    while True:
        try:
            return await room.engines.failover(start_id)
        except EngineRefused:
            await room.pause(0.02)


def test_a_leader_ignores_the_request_to_fail_over_of_whom_it_does_not_know_to_follow_it(engines_room: Room) -> None:
    """However well linked it is; the follower was answered OK."""

    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        await known_as_follower(room, leader, follower)
        await room.engines.forget(1, follower.node_id)
        await failover_asked(room, 2)
        await room.pause(1.5)  # of what must not happen
        one, two = await seen(room, 1), await seen(room, 2)
        assert (one.role, one.yields, two.role, two.link_up) == ("leader", False, "follower", True)
        assert await room.write(1, "k", "v") == "+OK"

    engines_room.play(told)


def test_takeover_does_not_ask_how_much_an_engine_has(engines_room: Room) -> None:
    """One that never followed anybody leads beside the living leader of twenty keys; who may lead is our judgement alone."""

    async def told(room: Room) -> None:
        leader, stranger = room.spec(1, 1), room.spec(2, 2)
        leads = await leading(room, leader)
        await filled(room, 1, 20)
        await started(room, replace(stranger, peers=(peer(leader, leads),)))
        await room.engines.take_over(2)
        assert (await seen(room, 2)).role == "leader"
        assert await room.dbsize(2) == 0

    engines_room.play(told)


def test_offsets_and_history_begin_anew_with_a_process(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await filled(room, 1, 100)
        before = await seen(room, 1)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await leading(room, room.spec(2, 1), fresh=False, term=2)
        after = await seen(room, 2)
        assert after.offset < before.offset
        assert after.history != before.history
        assert await room.dbsize(2) == 100

    engines_room.play(told)


def test_a_follower_that_counts_distinct_writes_and_looks_no_newer(engines_room: Room) -> None:
    """Trap 3: its file alone has the command. So it is for a leader that was just demoted, whoever looked at it since."""

    async def told(room: Room) -> None:
        leader, follower = await in_sync_pair(room)
        assert not (await room.add_distinct(1, "visitors")).startswith("-")
        equal = await until_equal(room, leader, follower)
        before = await room.engines.read_position(follower.directory)
        assert not (await room.count_distinct(2, "visitors")).startswith("-")
        after = await room.engines.read_position(follower.directory)
        assert after.bytes_after > before.bytes_after
        assert after.order == before.order == equal
        assert (await seen(room, 2)).offset <= (await seen(room, 1)).offset, "living followers are compared by offset"
        await seen(room, 1, lambda one: any(node.node_id == follower.node_id for node in one.nodes))
        assert not (await room.add_distinct(1, "others")).startswith("-")
        await handed_over(room, 2)
        before = await room.engines.read_position(leader.directory)
        assert not (await room.count_distinct(1, "others")).startswith("-")
        assert (await room.engines.read_position(leader.directory)).order == before.order
        assert not (await room.count_distinct(2, "others")).startswith("-")

    engines_room.play(told)


# -- scripts ---------------------------------------------------------------------------------------------------------


def test_a_leader_demoted_inside_a_script_differs_at_an_equal_offset_and_is_known(engines_room: Room) -> None:
    """Measured on 9.1.2: a script that answers BUSY lets its engine vote and lose its role. What it wrote then stands in its
    memory and file alone; the link continues where it was. No order of ours is done meanwhile, a marker neither."""

    async def told(room: Room) -> None:
        _, follower = await in_sync_pair(room)
        await seen(room, 1, lambda one: any(node.node_id == follower.node_id for node in one.nodes))
        ended = await room.run_script(1, "torn")
        for order in (room.engines.hand_over(1, 1, 3, "cafe"), room.engines.mark(1, 1, 3, "cafe"), room.engines.fence(1)):
            with pytest.raises(EngineRefused):
                await order
        await handed_over(room, 2)
        await ended()
        old = await seen(room, 1, lambda one: one.role == "follower" and not one.busy)
        if await room.read(2, "torn") == "1":
            pytest.skip("the failover came after the script this time: its five seconds were not enough inside it")
        assert old.torn
        await room.engines.replicate(1, peer(follower, await seen(room, 2)))
        await seen(room, 1, lambda one: one.link_up and not one.resyncing)
        assert old.follows == follower.node_id
        assert (await room.read(1, "torn"), (await room.read(2, "torn")).strip("$-1")) == ("1", "")
        await room.engines.mark(2, 2, 1, "beef")
        await seen(room, 1, has_marker(2, 1))
        assert (await seen(room, 1)).offset <= (await seen(room, 2)).offset, "nothing but the contents shows it"

    engines_room.play(told)


def test_a_leader_that_hands_over_after_a_script_has_ended_is_whole(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        _, follower = await in_sync_pair(room)
        await seen(room, 1, lambda one: any(node.node_id == follower.node_id for node in one.nodes))
        ended = await room.run_script(1, "whole")
        await ended()
        await seen(room, 1, lambda one: one.role == "leader" and not one.busy)
        await room.engines.hand_over(1, 1, 3, "cafe")
        await seen(room, 2, has_marker(1, 3))
        await handed_over(room, 2)
        old = await seen(room, 1, lambda one: one.role == "follower" and one.link_up)
        assert not old.torn, "and it follows at once, without being told to"
        assert (await room.read(1, "whole"), await room.read(2, "whole")) == ("1", "1")

    engines_room.play(told)


# -- sleep -----------------------------------------------------------------------------------------------------------


def test_a_follower_that_is_to_take_over_is_kept_awake_until_it_leads(tmp_path: Path) -> None:
    """Measured on 9.1.2: one that has won tells nobody before something wakes it, its manager's next look or its own next round
    up to 0.1 s later, and writes wait for that long. So the order asks on until it leads. Three times have to show it, since a
    machine may be too busy for the others, and an order that only sends may be followed by a late look.
    """

    async def told(room: RealRoom) -> None:
        pair = await in_sync_pair(room)
        in_time = 0
        for turn in range(10):
            leader, heir = pair if turn % 2 == 0 else reversed(pair)
            await seen(room, leader.start_id, lambda one, pair=(heir.node_id, leader.node_id): pair in followers(one))
            await room.engines.hand_over(leader.start_id, 1, 3 + turn, "cafe")
            await seen(room, heir.start_id, lambda one, turn=turn: has_marker(1, 3 + turn)(one) and one.link_up)
            await room.engines.failover(heir.start_id)
            now = of(await room.engines.survey(), heir.start_id)
            in_time += now is not None and now.role == "leader"
            if in_time == 3:
                return
            await handed_over(room, heir.start_id, asked=True)
            await seen(room, leader.start_id, lambda one: one.role == "follower" and one.link_up)
        raise AssertionError(f"in {in_time} of 10 failovers only was there a leader when the order returned")

    RealRoom(tmp_path).play(told)


# -- disks -----------------------------------------------------------------------------------------------------------


def test_a_torn_tail_counts_to_its_last_whole_record_and_loads_to_there(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await filled(room, 1, 5)
        whole = await room.engines.read_position(spec.directory)
        assert await room.write(1, "torn", "v") == "+OK"
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        room.tear(spec.directory)
        assert (await room.engines.read_position(spec.directory)).order == whole.order
        await started(room, room.spec(2, 1), fresh=False)
        assert await room.dbsize(2) == 5
        assert (await room.engines.read_position(spec.directory)).order == whole.order

    engines_room.play(told)


def test_a_second_start_on_a_locked_archive_is_refused(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        one = await leading(room, spec)
        other = room.another_manager()
        with pytest.raises(ArchiveRefused, match=f"in use by pid {one.pid}") as no:
            await other.launch(room.spec(2, 1))
        assert no.value.cause is Cause.ARCHIVE_LOCKED
        assert await room.write(1, "k", "v") == "+OK"

    engines_room.play(told)


def test_swapped_archives_are_both_refused_as_foreign(engines_room: Room) -> None:
    async def told(room: Room) -> None:
        one, two = room.spec(1, 1), room.spec(2, 2)
        for spec in (one, two):
            await leading(room, spec)
            await room.engines.kill(spec.start_id, Cause.OPERATOR_KILL)
            await ended(room, spec.start_id)
        room.swap(one.directory, two.directory)
        for spec in (one, two):
            for fresh in (False, True):
                await refused_because(room, spec.directory, spec.identity.archive_id, fresh, Cause.ARCHIVE_FOREIGN)
        room.swap(one.directory, two.directory)
        await started(room, room.spec(3, 1), fresh=False)

    engines_room.play(told)


@pytest.mark.parametrize("spoilt", ["files gone", "identity gone", "all gone"])
def test_an_archive_that_lost_its_files_is_refused_with_its_own_cause(engines_room: Room, spoilt: str) -> None:
    async def told(room: Room) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        if spoilt == "identity gone":
            room.lose_identity(spec.directory)
        else:
            room.empty(spec.directory, identity_too=spoilt == "all gone")
        cause = Cause.ARCHIVE_UNINITIALISED if spoilt == "files gone" else Cause.ARCHIVE_MISSING
        await refused_because(room, spec.directory, 1, False, cause)

    engines_room.play(told)


async def refused_because(room: Room, directory: str, archive_id: int, fresh: bool, cause: Cause) -> None:
    with pytest.raises(ArchiveRefused) as no:
        await room.engines.prepare(directory, identity(archive_id), fresh)
    assert no.value.cause is cause
    survey = await until(room, lambda _: True)
    assert survey.engines == ()
