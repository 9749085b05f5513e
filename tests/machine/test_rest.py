"""A machine that is as it should be: looked at as often as ever, judged once, and again as soon as anything is news."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dkv.domain import orders
from dkv.domain.model import State
from dkv.machine.plan import plan
from tests.machine.cluster import Cluster


def test_a_machine_that_is_as_it_should_be_is_judged_once_until_something_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[State] = []

    def counted(state: State, me: Any, seen: Any) -> Any:
        judged.append(state)
        return plan(state, me, seen)

    async def scenario() -> None:
        cluster = await Cluster.settled()
        manager = cluster.managers["s1"]

        async def judges() -> bool:
            judged.clear()
            cluster.clock.now += 1.0
            await manager.reconciler.look()
            await manager.finish()
            return bool(judged)

        manager.reconciler.learn(await manager.submitter.view())
        await judges()
        assert not await judges()
        observed = manager.reconciler.observed()
        assert observed is not None
        assert observed.conditions.now == cluster.clock.now * 1000
        manager.lease = 1.4  # seconds left of three
        assert await judges()
        assert await judges()
        manager.lease = 3.0
        assert await judges()
        await cluster.submit(orders.PutRecord(kind="kvstore", key="colour", value='"red"'))
        manager.reconciler.learn(await manager.submitter.view())
        assert await judges()
        assert not await judges()
        cluster.engine(0).admits = False
        assert await judges()
        assert cluster.engine(0).admits

    monkeypatch.setattr("dkv.machine.reconcile.plan", counted)
    asyncio.run(scenario())
