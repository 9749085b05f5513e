"""What a manager does with processes that have no archive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dkv.domain.facts import MemorySynced, ProcessExited
from dkv.domain.model import EngineState, Process, ProcessRole, ProcessState
from dkv.domain.orders import CreateArchives, NewArchive, ShutdownProcess, StartProcess
from dkv.engine.contract import Cause, ExitSeen, TeSpec
from dkv.machine.conditions import SILENT
from dkv.machine.observation import node_id, te_node_id
from dkv.machine.plan import HANG_TIMEOUT, REAP_PATIENCE, VANISHED
from dkv.machine.steps import Kill, LaunchTe, Meet, Replicate, SubmitFact
from tests.machine.cluster import Cluster
from tests.machine.stage import DATABASE, Stage, facts, kinds, me, next_look_of


def joined(stage: Stage, server: str = "s2") -> int:
    """A TE that has joined and holds everything."""
    start_id = stage.start_te(server, ProcessState.TRACKED)
    stage.submit(MemorySynced(now=1, server_id=server, start_id=start_id, synced=True))
    return start_id


# Coming ----------------------------------------------------------------------------------------------------------------


def test_a_requested_te_is_taken_and_launched_whoever_leads() -> None:
    stage = Stage()
    stage.start_te("s2")
    assert facts(stage.steps("s2")) == ["ProcessStarted"]
    te = stage.start_te("s2", ProcessState.STARTED)
    launch = next(step for step in stage.steps("s2") if isinstance(step, LaunchTe))
    (engine,) = launch.spec.engines
    assert (launch.spec.start_id, launch.spec.directory) == (te, f"/data/s2/te/{te}")
    assert engine.memory_only
    assert engine.node_id == te_node_id("d0", te, "UNPARTITIONED")
    assert {p.node_id for p in engine.peers} >= {node_id("d0", 0), node_id("d0", 1)}
    assert engine.node_id not in {p.node_id for p in engine.peers}


def test_each_of_its_engines_has_ports_nobody_else_has() -> None:
    stage = Stage()
    first, second = stage.start_te("s1"), stage.start_te("s1")
    ports = [p for te in (first, second) for e in stage.state.processes[te].endpoints for p in (e.cluster_port, e.client_port)]
    archive = stage.state.archives[0]
    assert len({*ports, archive.cluster_port, archive.client_port}) == 6
    taken = NewArchive(server_id="s1", cluster_port=ports[0], client_port=9000)
    refused = stage.offer(CreateArchives(database=DATABASE, archives=(taken,)))
    assert f"TE {first} of {DATABASE}" in getattr(refused, "message", "")
    stage.submit(CreateArchives(database=DATABASE, archives=(NewArchive(server_id="s1"),)))
    added = stage.state.archives[max(stage.state.archives)]
    assert not {added.cluster_port, added.client_port} & set(ports)


def test_a_launched_te_is_tracked_as_soon_as_its_engines_answer() -> None:
    stage = Stage()
    te = stage.start_te("s2", ProcessState.STARTED)
    assert facts(stage.steps("s2", stage.memory(te))) == ["ProcessConfigured"]
    te = stage.start_te("s2", ProcessState.CONFIGURED)
    assert stage.steps("s2", stage.memory(te, loading=True), stage.memory(te - 1))[1:] == []
    assert "ProcessTracked" in facts(stage.steps("s2", stage.memory(te), stage.memory(te - 1)))


def test_it_waits_for_its_leader_and_then_follows_at_once() -> None:
    stage = Stage().request(0).rise(0)
    te = stage.start_te("s2", ProcessState.TRACKED)
    assert stage.steps("s2", stage.memory(te, follows="f" * 40)) == []
    stage.open().serve()
    assert stage.state.processes[te].state is ProcessState.MONITORED
    assert stage.state.processes[te].engine_state is EngineState.SYNCING
    (step,) = stage.steps("s2", stage.memory(te, link_up=False))
    assert isinstance(step, Replicate)
    assert (step.start_id, step.leader.node_id, step.keep) == (te, node_id("d0", 0), None)
    assert next_look_of(stage.state, me("s2")) <= 0.05


def test_it_runs_when_its_links_are_up_and_its_data_is_loaded() -> None:
    stage = Stage().settled()
    te = stage.start_te("s2", ProcessState.TRACKED)
    follower = stage.engine(1)
    for unready in ({"resyncing": True}, {"loading": True}):
        assert facts(stage.steps("s2", follower, stage.memory(te, **unready))) == []
    (step,) = stage.steps("s2", follower, stage.memory(te))
    assert isinstance(step, SubmitFact)
    assert step.fact == MemorySynced(server_id="s2", actor="s2", start_id=te, synced=True)


# Staying ---------------------------------------------------------------------------------------------------------------


def test_a_settled_te_needs_nothing_and_nobody_counts_it() -> None:
    stage = Stage().settled()
    te = joined(stage)
    assert stage.steps("s2", stage.engine(1), stage.memory(te), lasting=3_600_000) == []
    assert stage.steps("s1", stage.engine(0), lasting=3_600_000) == []
    assert stage.group.in_sync == (0, 1)
    assert stage.group.required == (1,)


@pytest.mark.parametrize("server", ["s1", "s2"])
def test_archives_meet_a_te_they_do_not_know(server: str) -> None:
    stage = Stage().settled()
    known = stage.nodes()
    te = joined(stage)
    engine = stage.engine(0 if server == "s1" else 1, nodes=known)
    others = [stage.memory(te)] if server == "s2" else []
    (step,) = stage.steps(server, engine, *others)
    assert isinstance(step, Meet)
    assert step.peer.node_id == te_node_id("d0", te, "UNPARTITIONED")


def test_a_te_meets_what_it_does_not_know_and_forgets_what_is_gone() -> None:
    stage = Stage().settled()
    gone, te = joined(stage), joined(stage)
    before = stage.nodes()
    stage.submit(ProcessExited(server_id="s2", start_id=gone, cause="killed by signal", detail="killed", exit_code=137))
    assert kinds(stage.steps("s2", stage.engine(1), stage.memory(te, nodes=before))) == ["Forget"]
    assert kinds(stage.steps("s1", stage.engine(0, nodes=before))) == ["Forget"]
    fewer = tuple(n for n in stage.nodes() if n.node_id != node_id("d0", 1))
    assert kinds(stage.steps("s2", stage.engine(1), stage.memory(te, nodes=fewer))) == ["Meet"]


def test_it_may_find_its_leader_by_itself_before_it_is_ordered_again() -> None:
    stage = Stage().settled()
    te = joined(stage)
    astray = stage.memory(te, link_up=False)
    assert stage.steps("s2", stage.engine(1), astray, lasting=900) == []
    assert kinds(stage.steps("s2", stage.engine(1), astray, lasting=1_500)) == ["Replicate"]
    assert kinds(stage.steps("s2", stage.engine(1), stage.memory(te, follows="e" * 40), lasting=1_500)) == ["Replicate"]


def test_a_te_that_lost_touch_says_so_after_three_seconds() -> None:
    stage = Stage().settled()
    te = joined(stage)
    steps = stage.steps("s2", stage.engine(1), stage.memory(te, link_up=False), lasting=SILENT + 1)
    assert facts(steps) == ["MemorySynced"]


def test_it_is_not_ordered_to_follow_while_a_handover_stands() -> None:
    stage = Stage().settled()
    te = joined(stage)
    stage.hand_over(to=1)
    astray = stage.memory(te, follows="e" * 40)
    assert "Replicate" not in kinds(stage.steps("s2", stage.engine(1), astray, lasting=2_000))


# Going -----------------------------------------------------------------------------------------------------------------


def test_a_te_that_leads_is_killed() -> None:
    stage = Stage().settled()
    te = joined(stage)
    (step,) = stage.steps("s2", stage.engine(1), stage.memory(te, role="leader", follows=None))
    assert step == Kill(f"/data/s2/te/{te}", te, Cause.FENCED_BY_MANAGER)


def test_a_te_that_gives_no_answer_is_killed() -> None:
    stage = Stage().settled()
    te = joined(stage)
    for silent_ms, expected in ((HANG_TIMEOUT - 1, []), (HANG_TIMEOUT, [Cause.NEVER_ANSWERED])):
        hung = stage.memory(te, answering=False, silent_ms=silent_ms, idle_ms=silent_ms)
        steps = stage.steps("s2", stage.engine(1), hung)
        assert [step.cause for step in steps if isinstance(step, Kill)] == expected


def test_a_te_is_stopped_or_killed_when_asked_to() -> None:
    stage = Stage().settled()
    first, second = joined(stage), joined(stage)
    stage.submit(ShutdownProcess(start_id=first), ShutdownProcess(start_id=second, kill=True))
    seen = stage.memory(first), stage.memory(second)
    assert kinds(stage.steps("s2", stage.engine(1), *seen)) == ["ShutDown", "Kill"]


@pytest.mark.parametrize("state", [ProcessState.REQUESTED, ProcessState.STARTED])
@pytest.mark.parametrize("kill", [True, False])
def test_a_te_without_engines_leaves_at_once(state: ProcessState, kill: bool) -> None:
    stage = Stage()
    te = stage.start_te("s1", state)
    stage.submit(ShutdownProcess(start_id=te, kill=kill))
    assert kinds(stage.steps("s1")) == ["CancelProcess"]


def test_its_end_is_reported_and_one_without_a_trace_is_given_up() -> None:
    stage = Stage().settled()
    te = joined(stage)
    end = ExitSeen(te, f"/data/s2/te/{te}", Cause.KILLED_BY_SIGNAL, "killed", 137, 9, (), reaped=False)
    assert stage.steps("s2", stage.engine(1), exits=[end], lasting=REAP_PATIENCE - 1) == []
    assert kinds(stage.steps("s2", stage.engine(1), exits=[end], lasting=REAP_PATIENCE + 1)) == ["ReportExit"]
    assert stage.steps("s2", stage.engine(1), lasting=VANISHED - 1) == []
    assert facts(stage.steps("s2", stage.engine(1), lasting=VANISHED + 1)) == ["ProcessExited"]


def test_a_memory_only_process_nobody_asked_for_is_killed() -> None:
    stage = Stage().settled()
    te = joined(stage)
    stranger = stage.memory(te)
    stage.submit(ProcessExited(server_id="s2", start_id=te, cause="exited", detail="gone", exit_code=1))
    assert stage.steps("s2", stage.engine(1), stranger) == [Kill(stranger.directory, te, Cause.FENCED_BY_MANAGER)]


# Carried out -----------------------------------------------------------------------------------------------------------


def played(scenario: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = await Cluster.settled()
        try:
            await scenario(cluster)
        finally:
            for manager in cluster.managers.values():
                await manager.reconciler.close()

    asyncio.run(main())


async def te_of(cluster: Cluster) -> Process | None:
    processes = (p for p in (await cluster.state()).processes.values() if p.role is ProcessRole.TE)
    return next(processes, None)


async def runs(cluster: Cluster) -> Process:
    """A TE on s2, once it runs."""
    await cluster.submit(StartProcess(database=DATABASE, role=ProcessRole.TE, server_id="s2"))

    async def running() -> bool:
        process = await te_of(cluster)
        return process is not None and process.engine_state is EngineState.RUNNING

    await cluster.until(running)
    process = await te_of(cluster)
    assert process is not None
    return process


def test_a_te_comes_runs_and_goes() -> None:
    async def scenario(cluster: Cluster) -> None:
        process = await runs(cluster)
        spec: TeSpec = cluster.world.memory[process.start_id].spec
        await cluster.submit(ShutdownProcess(start_id=process.start_id))

        async def gone() -> bool:
            return await te_of(cluster) is None

        await cluster.until(gone)
        tombstone = (await cluster.state()).tombstones[process.start_id]
        assert (tombstone.cause, tombstone.exit_code) == (Cause.GRACEFUL_STOP, 0)
        assert not cluster.world.memory
        assert spec.engines[0].client_port == process.endpoints[0].client_port
        assert await cluster.both_in_sync()

    played(scenario)


def test_a_te_follows_the_leader_of_the_next_term_and_settles() -> None:
    async def scenario(cluster: Cluster) -> None:
        await runs(cluster)
        await cluster.stop(0)

        async def follows() -> bool:
            process = await te_of(cluster)
            assert process is not None
            (fake,) = cluster.world.memory[process.start_id].engines
            return fake.follows == node_id("d0", 1) and process.engine_state is EngineState.RUNNING

        await cluster.until(follows)
        for manager in cluster.managers.values():
            manager.engines.calls.clear()
        for _ in range(10):
            await cluster.round()
        assert all(manager.commands == [] for manager in cluster.managers.values())

    played(scenario)


def test_a_manager_that_is_replaced_goes_on_with_its_tes() -> None:
    async def scenario(cluster: Cluster) -> None:
        process = await runs(cluster)
        cluster.replace_manager("s2")
        for _ in range(5):
            await cluster.round()
        assert list(cluster.world.memory) == [process.start_id]
        assert "launch_memory" not in cluster.managers["s2"].engines.calls

    played(scenario)
