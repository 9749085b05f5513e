"""The simulation can fail: each mutant takes one clause of the rules away, and a few seeds find it out."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain.rules import leadership
from dkv.machine import lead, perform
from dkv.sim import scenario
from dkv.sim.replication import Replication

TRIES = 40


def found(seeds: range) -> str:
    """The first failure of the first seed that has one."""
    for seed in seeds:
        failures = scenario.play(seed).failures
        if failures:
            return failures[0]
    return ""


def test_promoting_a_follower_without_asking_the_dead_leader_loses_acknowledged_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank = leadership._rank
    monkeypatch.setattr(leadership, "_must_wait", lambda *_: False)
    monkeypatch.setattr(leadership, "_rank", lambda group, member: (False, *rank(group, member)[1:]))
    assert "is lost although its machine was there" in found(range(10, 10 + TRIES))


def test_a_resync_that_acknowledges_before_its_disk_is_new_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Replication.resync_ended

    def without_disk(self: Replication, *arguments: Any) -> None:
        disk, self.engine.disk = self.engine.disk, None
        ended(self, *arguments)
        self.engine.disk = disk

    monkeypatch.setattr(Replication, "resync_ended", without_disk)
    assert "without" in found(range(3, 3 + TRIES))


def test_growing_the_in_sync_set_without_catching_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def believed(self: perform.Performer, step: Any) -> None:
        fact = perform.JoinDurable(start_id=step.start_id, term=step.term, sequence=step.sequence, nonce=step.nonce,
                                   **self._told)  # fmt: skip
        await self._tell(fact)

    monkeypatch.setattr(perform.Performer, "_checkmarker", believed)
    monkeypatch.setattr(lead, "_caught_up", lambda *_: True)
    assert "without" in found(range(20, 20 + TRIES))
