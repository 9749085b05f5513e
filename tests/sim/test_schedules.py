"""V10 of the model: a phantom attaches to the old leader by itself. The other schedules stand in tests/safety/README.md."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain.model import ProcessState
from dkv.sim.engines.engine import SimEngine
from tests.safety.safety_domain import SOON, A, B, C, SafetyDomain

SOME_WORLDS = range(1, 40, 3)  # a planted fault does its harm in some of them only
CHOICE = 30.0  # s in which a choice must have been made, if one can be


async def a_phantom_hears_of_the_old_leader(domain: SafetyDomain) -> tuple[str, bool]:
    """B holds w1 and is chosen, hears of A, which still runs, and dies before it leads; C lacks w1."""
    line = await domain.connect()
    domain.cut(A, C)
    assert (await line.write("w1")).acknowledged
    assert domain.holds(B, "w1")
    assert not domain.holds(C, "w1")
    domain.cut(A, B)
    domain.world.kill_manager(A)
    await domain.until(lambda: domain.vacant, every=SOON)
    domain.kill_engine(B)
    domain.kill_engine(C)
    domain.mend(A, B)
    await domain.until(lambda: reported(domain, 2), every=SOON)
    domain.world.freeze_manager(C)
    await domain.until(lambda: domain.group.leader == 1 and domain.runs(B), every=SOON)
    domain.world.freeze_manager(B)
    await domain.until(lambda: not domain.engine(B).loading, every=SOON)
    domain.engine(A).announce()
    await domain.until(lambda: domain.engine(B).follows == domain.engine(A).node_id, every=SOON)
    await domain.comes_true(lambda: domain.position(B).term == 0, 1.2)
    domain.kill_engine(B)
    domain.world.thaw_manager(B)
    await domain.until(lambda: domain.group.term == 3, every=SOON)
    domain.world.thaw_manager(C)
    await domain.until(lambda: bool(domain.leader), CHOICE)
    return domain.leader, domain.led_with("w1")


def reported(domain: SafetyDomain, archive_id: int) -> bool:
    """Whether an archive's new process has answered how far it got."""
    process = domain.world.state.process_on(archive_id)
    return process is not None and process.state is ProcessState.STARTED and process.report is not None


def test_v10_a_phantom_attaches_to_nobody_until_it_is_told() -> None:
    assert SafetyDomain.play(3, a_phantom_hears_of_the_old_leader) == (B, True)


def test_v10_with_credentials_from_the_start_its_marker_and_the_write_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = SimEngine.__init__

    def trusting(self: SimEngine, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.credentials = True

    monkeypatch.setattr(SimEngine, "__init__", trusting)
    assert any(SafetyDomain.play(3, a_phantom_hears_of_the_old_leader, first=seed) == (C, False) for seed in SOME_WORLDS)
