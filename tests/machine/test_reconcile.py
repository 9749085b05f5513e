"""The loop of a manager: quiet when nothing differs, one step at a time, never on old knowledge, hard to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dkv.control.submit import View
from dkv.domain import facts, orders
from dkv.domain.model import State
from dkv.engine.contract import Cause, EngineRefused, EngineUnreachable
from dkv.machine.failing import LATEST
from dkv.machine.next_look import CUT_OFF_INTERVAL
from dkv.machine.reconcile import LONG_GAP
from dkv.machine.steps import Admit, Fence
from dkv.store.contract import Unavailable
from tests.machine.cluster import Cluster
from tests.machine.fakes import FakeManager
from tests.machine.stage import DATABASE


def run(scenario: Callable[[Cluster], Awaitable[Any]], **options: Any) -> None:
    """Play a scenario of two managers whose store is settled."""

    async def main() -> None:
        cluster = await Cluster.settled(**options)
        await scenario(cluster)

    asyncio.run(main())


def test_ten_thousand_looks_at_a_settled_machine_command_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        await manager.glance()
        manager.engines.calls.clear()
        revision = (await manager.submitter.view()).revision
        for _ in range(10_000):
            cluster.clock.now += 0.5
            cluster.world.written += 1  # so that every look shows something new
            await manager.reconciler.look()
        assert set(manager.engines.calls) == {"survey"}
        assert (await manager.submitter.view()).revision == revision

    run(scenario)


def test_a_step_that_raises_does_not_stop_the_loop_and_is_taken_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        leader = cluster.engine(0)
        leader.admits = False
        for trouble in (EngineUnreachable("gone"), EngineRefused("no"), RuntimeError("our own mistake"), OSError("disk")):
            manager.engines.refuses = {"admit": trouble}
            await cluster.round()
            assert manager.errors[-1][1] is trouble
        manager.engines.refuses = {}
        await cluster.round()
        assert leader.admits

    run(scenario)


FAST = 0.07  # s between two looks while a step that failed is tried again without a wait


async def failing(manager: FakeManager, clock: Any, trouble: Exception, seconds: float) -> None:
    """Look for some time of the manager's own clock while replicas cannot be admitted."""
    manager.engines.refuses = {"admit": trouble}
    for _ in range(int(seconds / FAST)):
        clock.now += FAST
        await manager.glance()


def test_a_step_that_fails_the_same_way_is_tried_less_and_less_often_and_logged_once_a_minute() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).admits = False
        await failing(manager, cluster.clock, OSError("no space is left"), 1)
        assert manager.commands.count("admit") >= 8  # what may be over at once is hardly waited with
        await failing(manager, cluster.clock, OSError("no space is left"), 69)
        tries = manager.commands.count("admit")
        assert tries < 70, tries
        assert [type(step) for step, _, _ in manager.errors] == [Admit, Admit]
        times = [times for _, _, times in manager.errors]
        assert times[0] == 1
        assert tries - 10 < times[1] <= tries

    run(scenario)


def test_what_fails_is_tried_within_seconds_once_it_can_be_done_and_at_once_when_it_fails_anew() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).admits = False
        await failing(manager, cluster.clock, OSError("no space is left"), 30)
        manager.engines.refuses = {}
        cluster.clock.now += LATEST
        await manager.glance()
        assert cluster.engine(0).admits
        cluster.engine(0).admits = False
        manager.engines.calls.clear()
        await failing(manager, cluster.clock, OSError("no space is left"), 0.5)
        assert manager.commands.count("admit") >= 5
        assert len(manager.errors) == 1  # not a minute since it was logged

    run(scenario)


def test_a_fence_that_fails_is_tried_at_every_look() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        await cluster.submit(orders.ShutdownDatabase(name=DATABASE))
        await manager.glance()
        cluster.engine(0).fenced = False
        manager.engines.calls.clear()
        manager.engines.refuses = {"fence": EngineUnreachable("busy")}
        for _ in range(20):
            cluster.clock.now += 1
            await manager.glance()
        assert manager.commands.count("fence") == 20

    run(scenario)


@pytest.mark.parametrize("trouble", [EngineUnreachable("away"), Unavailable("away"), OSError("too many open files")])
def test_a_look_that_fails_does_not_stop_the_loop(trouble: Exception) -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        manager.engines.refuses = {"survey": trouble}
        loop = asyncio.create_task(manager.reconciler.run())
        async with asyncio.timeout(10):
            while not manager.errors:
                await asyncio.sleep(0.01)
        cluster.engine(0).admits = False
        manager.engines.refuses = {}
        async with asyncio.timeout(10):
            while not cluster.engine(0).admits:
                await asyncio.sleep(0.01)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await manager.reconciler.close()

    run(scenario)


def test_while_nothing_goes_on_a_look_need_not_be_thorough_and_news_make_it_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        looks = manager.engines.thorough
        looks.clear()
        loop = asyncio.create_task(manager.reconciler.run())
        async with asyncio.timeout(10):
            while False not in looks:
                await asyncio.sleep(0.01)
        assert looks[0]
        looks.clear()
        uid = (await cluster.state()).servers["s2"].uid
        await manager.submitter.submit(facts.ServerLost(server_id="s2", uid=uid, actor="test"))
        async with asyncio.timeout(10):
            while not looks:
                await asyncio.sleep(0.01)
        assert looks[0]
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await manager.reconciler.close()

    run(scenario)


def test_one_step_at_a_time_for_each_thing() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).admits = False
        go_on = asyncio.Event()
        manager.engines.before["admit"] = lambda: go_on.wait()  # type: ignore[dict-item, return-value]
        for _ in range(5):
            await manager.glance(settle=False)
            await turns()
        assert manager.commands.count("admit") == 1
        go_on.set()
        await manager.finish()
        assert cluster.engine(0).admits

    run(scenario)


async def turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


# Guarded steps -------------------------------------------------------------------------------------------------------


def test_a_guarded_step_is_dropped_when_a_fresh_read_does_not_call_for_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).fenced = True
        manager.reconciler.learn(await manager.submitter.view())
        await cluster.submit(orders.ShutdownDatabase(name=DATABASE))  # now the fence is wanted
        manager.engines.calls.clear()
        await manager.reconciler.look()
        await manager.finish()
        assert manager.commands == []
        assert cluster.engine(0).fenced

    run(scenario)


@pytest.mark.parametrize(("lease", "done"), [(1.6, True), (1.4, False)])
def test_a_guarded_step_needs_more_than_half_of_the_lease(lease: float, done: bool) -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).admits = False
        manager.lease = lease
        await manager.glance()
        assert ("admit" in manager.commands) is done

    run(scenario)


def test_a_guarded_step_is_judged_by_the_time_it_is_taken() -> None:
    """The manager was frozen between its glance and the step: the handover may have no time left."""

    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s2"]
        await manager.glance()
        await cluster.submit(facts.HandoverBegun(to_archive=1, **await cluster.quote()))
        cluster.clock.now += 0.1
        await manager.glance(settle=False)
        cluster.clock.now += 7.0
        await manager.finish()
        assert "failover" not in manager.commands

    run(scenario)


# Old knowledge -------------------------------------------------------------------------------------------------------


def test_an_engine_launched_while_the_machine_is_looked_at_is_not_missing() -> None:
    """A survey may take half a second, when an engine does not answer; what the domain says must not be newer."""

    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s2"]
        await cluster.stop(1)
        await cluster.request(1)
        await manager.glance()  # taken
        cluster.clock.now += 60.0  # long in coming, for whatever reason
        looking = asyncio.Event()
        survey = await manager.engines.survey()

        async def old_survey(thorough: bool = True) -> Any:
            looking.set()
            for _ in range(50):
                await asyncio.sleep(0)
            return survey

        await manager.glance(settle=False)  # the launch begins
        manager.engines.survey = old_survey  # type: ignore[method-assign]
        glance = asyncio.create_task(manager.reconciler.look())
        await looking.wait()
        manager.reconciler.learn(await manager.submitter.view())
        await glance
        await manager.finish()
        state = await cluster.state()
        assert state.process_on(1) is not None
        assert not {"vanished", "release"} & set(manager.commands)
        assert not any(t.cause == Cause.EXITED for t in state.tombstones.values())

    run(scenario)


def test_what_a_step_did_while_the_machine_was_looked_at_is_not_undone_by_that_look() -> None:
    """The process is asked to leave while its engine is being launched: the survey may not show that engine yet."""

    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s2"]
        await cluster.stop(1)
        await cluster.request(1)
        await manager.glance()  # taken
        go_on, looking = asyncio.Event(), asyncio.Event()
        manager.engines.before["launch"] = lambda: go_on.wait()  # type: ignore[dict-item, return-value]
        await manager.glance(settle=False)  # the launch begins
        await turns()
        process = (await cluster.state()).process_on(1)
        assert process is not None
        await cluster.submit(orders.ShutdownProcess(start_id=process.start_id))
        manager.reconciler.learn(await manager.submitter.view())
        survey = await manager.engines.survey()

        async def old_survey(thorough: bool = True) -> Any:
            looking.set()
            await manager.reconciler.settle()
            return survey

        manager.engines.survey = old_survey  # type: ignore[method-assign]
        glance = asyncio.create_task(manager.reconciler.look())
        await looking.wait()
        go_on.set()
        await glance
        await manager.finish()
        assert process.start_id in (await cluster.state()).processes
        assert "release" not in manager.commands

    run(scenario)


def test_two_steps_of_one_look_on_the_same_thing_are_one() -> None:
    async def scenario(cluster: Cluster) -> None:
        reconciler = cluster.managers["s1"].reconciler
        first, second = Fence("fence", 0), Admit("fence", 0)
        assert reconciler._start(first, 1.0)
        assert not reconciler._start(second, 1.0)
        await cluster.managers["s1"].finish()

    run(scenario)


def test_a_late_watch_does_not_bring_back_what_was_read_past() -> None:
    async def scenario(cluster: Cluster) -> None:
        reconciler = cluster.managers["s1"].reconciler
        newest = await cluster.managers["s1"].submitter.view()
        reconciler.learn(newest)
        reconciler.learn(View(newest.revision - 1, State()))
        assert reconciler.known() is newest.state

    run(scenario)


def test_after_a_long_gap_the_domain_is_read_before_anything_but_a_fence() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        await manager.glance()
        cluster.engine(0).admits = False
        cluster.engine(1).follows = None
        manager.lease = 0.5
        manager.engines.calls.clear()

        async def away() -> Any:
            raise Unavailable("away")

        manager.submitter.view = away  # type: ignore[method-assign]
        period = await manager.reconciler.look(stale=True)
        await manager.finish()
        assert manager.commands == ["fence"]
        assert period <= CUT_OFF_INTERVAL
        assert LONG_GAP <= 1.0

    run(scenario)


def test_a_backend_that_hangs_does_not_hold_up_a_fence() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        await manager.glance()
        cluster.engine(1).follows = None
        manager.lease = 0.5

        async def hangs() -> Any:
            await asyncio.sleep(3600)

        manager.submitter.view = hangs  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            await manager.reconciler.look(stale=True)
            await manager.finish()
        assert cluster.engine(0).fenced

    run(scenario)


# Ends ----------------------------------------------------------------------------------------------------------------


def test_an_exit_is_reported_once_then_forgotten() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s2"]
        start_id = cluster.engine(1).spec.start_id
        cluster.world.end(start_id, Cause.KILLED_BY_SIGNAL, 137)
        await manager.glance()
        assert cluster.world.exits[manager.engines.address] == {}
        state = await cluster.state()
        assert state.tombstones[start_id].cause == "killed by signal"
        for _ in range(10):
            await cluster.round()
        assert list((await cluster.state()).tombstones) == [start_id]
        assert manager.commands.count("forget_exit") == 1

    run(scenario)


def test_a_manager_that_died_between_report_and_forgetting_reports_nothing_twice() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s2"]
        start_id = cluster.engine(1).spec.start_id
        cluster.world.end(start_id, Cause.KILLED_BY_SIGNAL, 137)
        record = dict(cluster.world.exits[manager.engines.address])
        await manager.glance()
        cluster.world.exits[manager.engines.address] = record  # as if it had not been forgotten
        cluster.replace_manager("s2")
        await cluster.round()
        assert cluster.world.exits[manager.engines.address] == {}
        assert list((await cluster.state()).tombstones) == [start_id]

    run(scenario)


def test_the_view_that_a_look_begins_with_is_announced_too() -> None:
    """Else what follows the state beside the loop waits for the next commit, which may be long in coming."""

    async def scenario(cluster: Cluster) -> None:
        cluster.replace_manager("s1")
        manager = cluster.managers["s1"]
        await manager.reconciler.look()
        await manager.reconciler.look()
        assert manager.announced == [await cluster.state()]

    run(scenario)


def test_closing_lets_running_steps_go() -> None:
    async def scenario(cluster: Cluster) -> None:
        manager = cluster.managers["s1"]
        cluster.engine(0).admits = False
        manager.engines.before["admit"] = lambda: asyncio.sleep(3600)
        await manager.glance(settle=False)
        await turns()
        assert manager.commands == ["admit"]
        async with asyncio.timeout(10):
            await manager.reconciler.close()
            await manager.reconciler.settle()  # at once: nothing runs any more
        assert not cluster.engine(0).admits

    run(scenario)


def test_the_whole_loop_brings_a_store_up_and_goes_when_cancelled() -> None:
    async def scenario() -> None:
        cluster = Cluster(real_time=True)
        await cluster.create_domain()
        await cluster.request(0)
        await cluster.request(1)
        loops = [asyncio.create_task(m.reconciler.run()) for m in cluster.managers.values()]
        async with asyncio.timeout(30):
            while not await cluster.both_in_sync():
                await asyncio.sleep(0.02)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for manager in cluster.managers.values():
            await manager.reconciler.close()

    asyncio.run(scenario())
