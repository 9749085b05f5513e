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
    Machine,
    ValkeyMachine,
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
from tests.contract.handovers import failover_asked, handed_over


async def filled(machine: Machine, start_id: int, keys: int, name: str = "key") -> None:
    for number in range(keys):
        assert await machine.write(start_id, f"{name}-{number}", "v" * 50) == "+OK"


async def attached_te(machine: Machine, spec: EngineSpec, leader: EngineSpec) -> None:
    known = peer(leader, await seen(machine, leader.start_id))
    await machine.engines.launch_memory(memory_only(replace(spec, peers=(known,))))
    await seen(machine, spec.start_id, ready)
    await machine.engines.meet(leader.start_id, peer(spec))
    await machine.engines.replicate(spec.start_id, known)
    await seen(machine, spec.start_id, lambda engine: engine.replication.link_up and not engine.replication.resyncing)


async def in_sync_pair(machine: Machine) -> tuple[EngineSpec, EngineSpec]:
    """A leader and a follower, the marker 1-2 on both disks."""
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await following(machine, follower, leader)
    await machine.engines.mark(1, 1, 2, "beef")
    await seen(machine, 2, lambda engine: has_marker(1, 2)(engine) and not engine.files.rewriting)
    await machine.engines.confirm_initialised(follower.directory)
    return leader, follower


def followers(engine: EngineSeen) -> set[tuple[str, str | None]]:
    """Who follows whom as that engine knows it: a leader hears nobody's wish to take over whom it takes for something else."""
    return {(node.node_id, node.follows) for node in engine.cluster.nodes}


async def restarted(machine: Machine, old: int, spec: EngineSpec) -> None:
    """The archive's engine killed and started again, not yet told what to do."""
    await machine.engines.kill(old, Cause.OPERATOR_KILL)
    await ended(machine, old)
    await started(machine, spec, fresh=False)


# -- who owns the slots ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [config.PHANTOM_EPOCH, 10**6])
def test_a_phantom_that_outbids_the_living_leader_is_not_believed(
    engine_machine: Machine, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """Trap 1, and why our phantoms are in handshake: a leader that heard of the phantom would believe the higher epoch, and
    delete what is not its own any more. Nobody gossips about a node in handshake, so it never hears of it.
    """

    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await filled(machine, 1, 20)
        await following(machine, follower, leader)
        await seen(machine, 1, lambda engine: any(node.node_id == follower.node_id for node in engine.cluster.nodes))
        monkeypatch.setattr(config, "PHANTOM_EPOCH", epoch)
        await restarted(
            machine, 2, replace(machine.spec(3, 2), peers=(peer(leader),))
        )  # nobody told its manager that a leader lives
        await machine.pause(2.0)  # of gossip, for what must not happen
        assert await machine.dbsize(1) == 20
        leader_seen = await seen(machine, 1)
        assert {node.node_id for node in leader_seen.cluster.nodes if not node.handshake} == {leader.node_id, follower.node_id}
        ours = {(spec.address, spec.client_port) for spec in (leader, follower)}
        assert {(node.address, node.port) for node in leader_seen.cluster.nodes if node.port} <= ours, (
            "somebody told it of the phantom"
        )

    engine_machine.play(scenario)


# -- who counts ------------------------------------------------------------------------------------------------------


def test_wait_counts_an_engine_that_has_no_disk(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader = machine.spec(1, 1)
        await leading(machine, leader)
        await attached_te(machine, machine.spec(2, 2), leader)
        await seen(machine, 1, lambda engine: any(replica.online for replica in engine.replication.replicas))
        assert await machine.wait(1, 1, 2.0) == 1

    engine_machine.play(scenario)


def test_wait_counts_a_joiner_whose_disk_has_no_marker(patient_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        await seen(machine, 1, lambda engine: any(replica.online for replica in engine.replication.replicas))
        assert await machine.wait(1, 1, 2.0) == 1
        assert (await machine.engines.read_position(follower.directory)).term == 0

    patient_machine.play(scenario)


def test_a_paused_follower_acknowledges_late(patient_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await in_sync_pair(machine)
        assert await machine.wait(1, 1, 5.0) == 1
        machine.freeze(2)
        assert await machine.wait(1, 1, 0.3) == 0
        silent = await seen(
            machine, 1, lambda engine: bool(engine.replication.replicas) and engine.replication.replicas[0].silent_ms >= 1_000
        )
        assert silent.replication.replicas[0].offset < silent.replication.offset
        machine.thaw(2)
        assert await machine.wait(1, 1, 5.0) == 1
        await seen(
            machine,
            1,
            lambda engine: (
                bool(engine.replication.replicas) and engine.replication.replicas[0].offset >= silent.replication.offset
            ),
        )

    patient_machine.play(scenario)


def test_the_tail_of_a_follower_lags_and_the_leader_is_never_behind(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        machine.freeze(2)
        await filled(machine, 1, 30)
        machine.kill_from_outside(1)
        await ended(machine, 1)
        ahead = await machine.engines.read_position(leader.directory)
        behind = await machine.engines.read_position(follower.directory)
        assert (ahead.term, ahead.sequence) == (behind.term, behind.sequence) == (1, 2)
        assert ahead.bytes_after > behind.bytes_after
        machine.thaw(2)
        await seen(machine, 2, lambda engine: engine.answering and not engine.replication.link_up)
        assert (await machine.engines.read_position(follower.directory)).order <= ahead.order

    engine_machine.play(scenario)


# -- full resync -----------------------------------------------------------------------------------------------------


def test_a_full_resync_keeps_the_history_of_the_disk_until_its_end(patient_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        await filled(machine, 1, 50)
        old = await until_equal(machine, leader, follower)
        again = replace(machine.spec(3, 2), peers=(peer(leader, await seen(machine, 1)),))
        await restarted(machine, 2, again)
        await filled(machine, 1, 10, "later")
        await machine.slow_down_resyncs(1)
        await machine.engines.replicate(3, peer(leader, await seen(machine, 1)))
        await seen(machine, 3, lambda engine: engine.replication.resyncing)
        assert (await machine.engines.read_position(follower.directory)).order == old
        await seen(machine, 3, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
        assert (await machine.engines.read_position(follower.directory)).term == 0
        await machine.engines.mark(1, 1, 3, "f00d")
        await seen(machine, 3, has_marker(1, 3))
        assert await machine.dbsize(3) == await machine.dbsize(1)

    patient_machine.play(scenario)


def test_a_kill_inside_a_full_resync_leaves_the_old_archive(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        await filled(machine, 1, 50)
        old = await until_equal(machine, leader, follower)
        await restarted(machine, 2, replace(machine.spec(3, 2), peers=(peer(leader, await seen(machine, 1)),)))
        await filled(machine, 1, 10, "later")
        await machine.slow_down_resyncs(1)
        await machine.engines.replicate(3, peer(leader, await seen(machine, 1)))
        await seen(machine, 3, lambda engine: engine.replication.resyncing)
        machine.kill_from_outside(3)
        await ended(machine, 3)
        left = await machine.engines.read_position(follower.directory)
        assert left.order == old < (await machine.engines.read_position(leader.directory)).order
        await started(machine, machine.spec(4, 2), fresh=False)
        assert await machine.dbsize(4) == 50

    engine_machine.play(scenario)


async def until_equal(machine: Machine, leader: EngineSpec, follower: EngineSpec) -> tuple[int, int, int]:
    """The position both have, once the follower caught up."""
    wanted = (await machine.engines.read_position(leader.directory)).order
    for _ in range(1000):
        if (await machine.engines.read_position(follower.directory)).order == wanted:
            return wanted
        await machine.pause(0.01)
    raise AssertionError("the follower never caught up")


def test_a_link_that_breaks_goes_on_where_it_was(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        await filled(machine, 1, 20)
        for _ in range(3):
            await machine.break_link(1)
            await filled(machine, 1, 5, "on the way")
            await seen(machine, 2, lambda engine: engine.replication.link_up)
        await until_equal(machine, leader, follower)
        follower_seen = await seen(machine, 2, has_marker(1, 2))
        assert follower_seen.replication.history == (await seen(machine, 1)).replication.history
        assert await machine.dbsize(2) == await machine.dbsize(1)

    engine_machine.play(scenario)


# -- leading ---------------------------------------------------------------------------------------------------------


def test_takeover_asks_nobody_and_the_old_leader_keeps_its_disk(patient_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        await known_as_follower(machine, leader, follower)
        machine.freeze(2)
        await filled(machine, 1, 20)
        before = await machine.engines.read_position(leader.directory)
        await machine.break_link(1)
        machine.thaw(2)
        await machine.engines.take_over(2)
        assert (await seen(machine, 2)).role == "leader"
        await seen(machine, 1, lambda engine: engine.role == "follower")
        await machine.pause(1.5)
        old = await seen(machine, 1)
        assert not old.replication.link_up
        assert (await machine.engines.read_position(leader.directory)).order >= before.order
        assert await machine.dbsize(1) == 20

    patient_machine.play(scenario)


def test_a_leader_ignores_the_request_to_fail_over_of_whom_it_does_not_know_to_follow_it(engine_machine: Machine) -> None:
    """However well linked it is; the follower was answered OK."""

    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        await known_as_follower(machine, leader, follower)
        await machine.engines.forget(1, follower.node_id)
        await failover_asked(machine, 2)
        await machine.pause(1.5)  # of what must not happen
        engine, two = await seen(machine, 1), await seen(machine, 2)
        assert (engine.role, engine.writes.yields, two.role, two.replication.link_up) == ("leader", False, "follower", True)
        assert await machine.write(1, "k", "v") == "+OK"

    engine_machine.play(scenario)


def test_takeover_does_not_ask_how_much_an_engine_has(engine_machine: Machine) -> None:
    """One that never followed anybody leads beside the living leader of twenty keys; who may lead is our judgement alone."""

    async def scenario(machine: Machine) -> None:
        leader, stranger = machine.spec(1, 1), machine.spec(2, 2)
        leads = await leading(machine, leader)
        await filled(machine, 1, 20)
        await started(machine, replace(stranger, peers=(peer(leader, leads),)))
        await machine.engines.take_over(2)
        assert (await seen(machine, 2)).role == "leader"
        assert await machine.dbsize(2) == 0

    engine_machine.play(scenario)


def test_offsets_and_history_begin_anew_with_a_process(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await filled(machine, 1, 100)
        before = await seen(machine, 1)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await leading(machine, machine.spec(2, 1), fresh=False, term=2)
        after = await seen(machine, 2)
        assert after.replication.offset < before.replication.offset
        assert after.replication.history != before.replication.history
        assert await machine.dbsize(2) == 100

    engine_machine.play(scenario)


def test_a_follower_that_counts_distinct_writes_and_looks_no_newer(engine_machine: Machine) -> None:
    """Trap 3: its file alone has the command. So it is for a leader that was just demoted, whoever looked at it since."""

    async def scenario(machine: Machine) -> None:
        leader, follower = await in_sync_pair(machine)
        assert not (await machine.add_distinct(1, "visitors")).startswith("-")
        equal = await until_equal(machine, leader, follower)
        before = await machine.engines.read_position(follower.directory)
        assert not (await machine.count_distinct(2, "visitors")).startswith("-")
        after = await machine.engines.read_position(follower.directory)
        assert after.bytes_after > before.bytes_after
        assert after.order == before.order == equal
        assert (await seen(machine, 2)).replication.offset <= (await seen(machine, 1)).replication.offset, (
            "living followers are compared by offset"
        )
        await seen(machine, 1, lambda engine: any(node.node_id == follower.node_id for node in engine.cluster.nodes))
        assert not (await machine.add_distinct(1, "others")).startswith("-")
        await handed_over(machine, 2)
        before = await machine.engines.read_position(leader.directory)
        assert not (await machine.count_distinct(1, "others")).startswith("-")
        assert (await machine.engines.read_position(leader.directory)).order == before.order
        assert not (await machine.count_distinct(2, "others")).startswith("-")

    engine_machine.play(scenario)


# -- scripts ---------------------------------------------------------------------------------------------------------


def test_a_leader_demoted_inside_a_script_differs_at_an_equal_offset_and_is_known(engine_machine: Machine) -> None:
    """Measured on 9.1.2: a script that answers BUSY lets its engine vote and lose its role. What it wrote then stands in its
    memory and file alone; the link continues where it was. No order of ours is done meanwhile, a marker neither."""

    async def scenario(machine: Machine) -> None:
        _, follower = await in_sync_pair(machine)
        await seen(machine, 1, lambda engine: any(node.node_id == follower.node_id for node in engine.cluster.nodes))
        ended = await machine.run_script(1, "torn")
        for order in (
            machine.engines.hand_over(1, 1, 3, "cafe"),
            machine.engines.mark(1, 1, 3, "cafe"),
            machine.engines.fence(1),
        ):
            with pytest.raises(EngineRefused):
                await order
        await handed_over(machine, 2)
        await ended()
        old = await seen(machine, 1, lambda engine: engine.role == "follower" and not engine.busy)
        if await machine.read(2, "torn") == "1":
            pytest.skip("the failover came after the script this time: its five seconds were not enough inside it")
        assert old.replication.torn
        await machine.engines.replicate(1, peer(follower, await seen(machine, 2)))
        await seen(machine, 1, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
        assert old.follows == follower.node_id
        assert (await machine.read(1, "torn"), (await machine.read(2, "torn")).strip("$-1")) == ("1", "")
        await machine.engines.mark(2, 2, 1, "beef")
        await seen(machine, 1, has_marker(2, 1))
        assert (await seen(machine, 1)).replication.offset <= (await seen(machine, 2)).replication.offset, (
            "nothing but the contents shows it"
        )

    engine_machine.play(scenario)


def test_a_leader_that_hands_over_after_a_script_has_ended_is_whole(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        _, follower = await in_sync_pair(machine)
        await seen(machine, 1, lambda engine: any(node.node_id == follower.node_id for node in engine.cluster.nodes))
        ended = await machine.run_script(1, "whole")
        await ended()
        await seen(machine, 1, lambda engine: engine.role == "leader" and not engine.busy)
        await machine.engines.hand_over(1, 1, 3, "cafe")
        await seen(machine, 2, has_marker(1, 3))
        await handed_over(machine, 2)
        old = await seen(machine, 1, lambda engine: engine.role == "follower" and engine.replication.link_up)
        assert not old.replication.torn, "and it follows at once, without being told to"
        assert (await machine.read(1, "whole"), await machine.read(2, "whole")) == ("1", "1")

    engine_machine.play(scenario)


# -- sleep -----------------------------------------------------------------------------------------------------------


def test_a_follower_that_is_to_take_over_is_kept_awake_until_it_leads(tmp_path: Path) -> None:
    """Measured on 9.1.2: one that has won tells nobody before something wakes it, its manager's next look or its own next round
    up to 0.1 s later, and writes wait for that long. So the order asks on until it leads. Three times have to show it, since a
    machine may be too busy for the others, and an order that only sends may be followed by a late look.
    """

    async def scenario(machine: ValkeyMachine) -> None:
        pair = await in_sync_pair(machine)
        in_time = 0
        for turn in range(10):
            leader, heir = pair if turn % 2 == 0 else reversed(pair)
            await seen(machine, leader.start_id, lambda engine, pair=(heir.node_id, leader.node_id): pair in followers(engine))
            await machine.engines.hand_over(leader.start_id, 1, 3 + turn, "cafe")
            await seen(
                machine, heir.start_id, lambda engine, turn=turn: has_marker(1, 3 + turn)(engine) and engine.replication.link_up
            )
            await machine.engines.failover(heir.start_id)
            now = of(await machine.engines.survey(), heir.start_id)
            in_time += now is not None and now.role == "leader"
            if in_time == 3:
                return
            await handed_over(machine, heir.start_id, requested=True)
            await seen(machine, leader.start_id, lambda engine: engine.role == "follower" and engine.replication.link_up)
        raise AssertionError(f"in {in_time} of 10 failovers only was there a leader when the order returned")

    ValkeyMachine(tmp_path).play(scenario)


# -- disks -----------------------------------------------------------------------------------------------------------


def test_a_torn_tail_counts_to_its_last_whole_record_and_loads_to_there(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await filled(machine, 1, 5)
        whole = await machine.engines.read_position(spec.directory)
        assert await machine.write(1, "torn", "v") == "+OK"
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        machine.tear(spec.directory)
        assert (await machine.engines.read_position(spec.directory)).order == whole.order
        await started(machine, machine.spec(2, 1), fresh=False)
        assert await machine.dbsize(2) == 5
        assert (await machine.engines.read_position(spec.directory)).order == whole.order

    engine_machine.play(scenario)


def test_a_second_start_on_a_locked_archive_is_refused(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        engine = await leading(machine, spec)
        other = machine.another_manager()
        with pytest.raises(ArchiveRefused, match=f"in use by pid {engine.pid}") as no:
            await other.launch(machine.spec(2, 1))
        assert no.value.cause is Cause.ARCHIVE_LOCKED
        assert await machine.write(1, "k", "v") == "+OK"

    engine_machine.play(scenario)


def test_swapped_archives_are_both_refused_as_foreign(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        engine, two = machine.spec(1, 1), machine.spec(2, 2)
        for spec in (engine, two):
            await leading(machine, spec)
            await machine.engines.kill(spec.start_id, Cause.OPERATOR_KILL)
            await ended(machine, spec.start_id)
        machine.swap(engine.directory, two.directory)
        for spec in (engine, two):
            for fresh in (False, True):
                await refused_because(machine, spec.directory, spec.identity.archive_id, fresh, Cause.ARCHIVE_FOREIGN)
        machine.swap(engine.directory, two.directory)
        await started(machine, machine.spec(3, 1), fresh=False)

    engine_machine.play(scenario)


@pytest.mark.parametrize("spoilt", ["files gone", "identity gone", "all gone"])
def test_an_archive_that_lost_its_files_is_refused_with_its_own_cause(engine_machine: Machine, spoilt: str) -> None:
    async def scenario(machine: Machine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        if spoilt == "identity gone":
            machine.lose_identity(spec.directory)
        else:
            machine.empty(spec.directory, identity_too=spoilt == "all gone")
        cause = Cause.ARCHIVE_UNINITIALISED if spoilt == "files gone" else Cause.ARCHIVE_MISSING
        await refused_because(machine, spec.directory, 1, False, cause)

    engine_machine.play(scenario)


async def refused_because(machine: Machine, directory: str, archive_id: int, fresh: bool, cause: Cause) -> None:
    with pytest.raises(ArchiveRefused) as no:
        await machine.engines.prepare(directory, identity(archive_id), fresh)
    assert no.value.cause is cause
    survey = await until(machine, lambda _: True)
    assert survey.engines == ()
