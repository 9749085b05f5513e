"""A leader inside a script that answers BUSY: scenarios in which an operator wants another leader just then."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from dkv.domain.decision import Accepted
from dkv.domain.facts import HandoverBegun
from dkv.domain.orders import Switchover
from dkv.domain.phases import Open
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.net import CLIENTS
from dkv.sim.world import DATABASE
from tests.sim.test_scenarios import ScenarioRun


def leading(run: ScenarioRun) -> SimEngine:
    """The leader's engine."""
    engine = run.checkers.leader_engine(run.group)
    assert engine is not None
    return engine


async def busy(run: ScenarioRun, seconds: float) -> SimEngine:
    """The leader's engine, inside a script of that length."""
    engine = leading(run)
    run.world.net.post(CLIENTS, engine, engine.run_script, "script", "1", seconds, lambda answer: None)
    await run.until(lambda: engine.deaf)
    return engine


async def whole(run: ScenarioRun) -> None:
    """Everybody is in sync again, and everything is compared."""
    await run.until(lambda: bool(run.leader()) and len(run.group.in_sync) == 3 and isinstance(run.group.phase, Open))
    await run.confirm(5)
    await asyncio.sleep(3.0)
    run.checkers.at_the_end()


async def a_client_leaves_before_its_script_begins(run: ScenarioRun) -> None:
    engine = await busy(run, 2.0)
    run.world.net.post(CLIENTS, engine, engine.run_script, "second", "1", 60.0, lambda answer: None)
    await run.until(lambda: bool(engine.inbox))
    engine.withdrawn.add("second")
    await whole(run)
    assert "second" not in engine.data


def test_a_script_whose_client_left_before_it_began_is_not_run() -> None:
    assert ScenarioRun(3).play(a_client_leaves_before_its_script_begins) == []


async def a_switchover_is_asked_for(run: ScenarioRun, after: float, seconds: float) -> None:
    engine = await busy(run, seconds)
    await asyncio.sleep(after)
    await run.world.order(Switchover(actor="operator", database=DATABASE, group="g1"))
    await asyncio.sleep(seconds - after + 1.0)
    await whole(run)
    assert not engine.torn, "the leader lost its role inside the script"


@pytest.mark.parametrize(("after", "seconds"), [(1.0, 7.0), (6.5, 16.0), (9.7, 16.0), (11.5, 16.0)])
def test_no_switchover_ends_inside_a_script(after: float, seconds: float) -> None:
    assert ScenarioRun(3).play(partial(a_switchover_is_asked_for, after=after, seconds=seconds)) == []


async def a_failover_is_carried_out_inside_a_script(run: ScenarioRun) -> None:
    """As one that a frozen engine was asked for is, when it goes on: no rule of ours can take it back."""
    engine = await busy(run, 16.0)
    await run.until(lambda: engine.busy)
    group = run.group
    heir = next(e for e in run.world.net.engines.values() if e.follows == engine.node_id)
    begun = HandoverBegun(
        server_id=run.leader(),
        actor=run.leader(),
        database=group.database,
        group=group.name,
        term=group.term,
        to_archive=heir.spec.identity.archive_id,
        sequence=10**6,
    )
    assert isinstance(await run.world.order(begun), Accepted)
    heir.begin_failover()
    await run.until(lambda: heir.role == "leader" and engine.role == "follower")
    await run.until(lambda: run.group.term == group.term + 1)
    assert engine.spec.identity.archive_id in run.group.in_sync, "it is taken for whole"
    await run.until(lambda: engine.torn)
    await asyncio.sleep(8.0)
    await whole(run)


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_leader_that_lost_its_role_inside_a_script_is_filled_anew(seed: int) -> None:
    assert ScenarioRun(seed).play(a_failover_is_carried_out_inside_a_script) == []


def test_copies_that_differ_at_equal_offsets_are_found() -> None:
    """The checker itself: another value, a key more, a key less; in memory or on the disk alone."""

    async def scenario(run: ScenarioRun) -> None:
        other = next(e for e in run.world.net.engines.values() if e.follows == leading(run).node_id)
        assert other.disk is not None
        await asyncio.sleep(3.0)
        run.checkers.at_the_end()
        assert run.world.failures == []
        key = next(iter(other.data))
        was, other.data[key] = other.data[key], "other"
        other.data["more"] = "1"
        run.checkers.at_the_end()
        other.data[key] = was
        del other.data["more"]
        assert other.replication.offset <= leading(run).replication.offset
        other.disk.base["more"] = "1"
        run.checkers.at_the_end()

    run = ScenarioRun(1).play(scenario)
    assert len(run) == 2
    assert "its engine differs from its leader's: has what its leader has not: 1, such as more; has another value: 1" in run[0]
    assert "its disk differs from its leader's: has what its leader has not" in run[1]
