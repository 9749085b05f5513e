"""V10 of the model: a phantom attaches to the old leader by itself. The other schedules stand in tests/safety/README.md."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain.model import ProcessState
from dkv.sim.engines.engine import SimEngine
from tests.safety.stage import SOON, A, B, C, Stage

SOME_WORLDS = range(1, 40, 6)  # a planted fault does its harm in some of them only
CHOICE = 30.0  # s in which a choice must have been made, if one can be


async def a_phantom_hears_of_the_old_leader(stage: Stage) -> tuple[str, bool]:
    """B holds w1 and is chosen, hears of A, which still runs, and dies before it leads; C lacks w1."""
    line = await stage.connect()
    stage.cut(A, C)
    assert (await line.write("w1")).acknowledged
    assert stage.holds(B, "w1")
    assert not stage.holds(C, "w1")
    stage.cut(A, B)
    stage.world.kill_manager(A)
    await stage.until(lambda: stage.vacant, every=SOON)
    stage.kill_engine(B)
    stage.kill_engine(C)
    stage.mend(A, B)
    await stage.until(lambda: said(stage, 2), every=SOON)
    stage.world.freeze_manager(C)
    await stage.until(lambda: stage.group.leader == 1 and stage.runs(B), every=SOON)
    stage.world.freeze_manager(B)
    await stage.until(lambda: not stage.engine(B).loading, every=SOON)
    stage.engine(A).tell()
    await stage.until(lambda: stage.engine(B).follows == stage.engine(A).node_id, every=SOON)
    await stage.comes_true(lambda: stage.position(B).term == 0, 1.2)
    stage.kill_engine(B)
    stage.world.thaw_manager(B)
    await stage.until(lambda: stage.group.term == 3, every=SOON)
    stage.world.thaw_manager(C)
    await stage.until(lambda: bool(stage.leader), CHOICE)
    return stage.leader, stage.led_with("w1")


def said(stage: Stage, archive_id: int) -> bool:
    """Whether an archive's new process has answered how far it got."""
    process = stage.world.state.process_on(archive_id)
    return process is not None and process.state is ProcessState.STARTED and process.report is not None


def test_v10_a_phantom_attaches_to_nobody_until_it_is_told() -> None:
    assert Stage.play(3, a_phantom_hears_of_the_old_leader) == (B, True)


def test_v10_with_credentials_from_the_start_its_marker_and_the_write_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = SimEngine.__init__

    def trusting(self: SimEngine, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.credentials = True

    monkeypatch.setattr(SimEngine, "__init__", trusting)
    assert any(Stage.play(3, a_phantom_hears_of_the_old_leader, first=seed) == (C, False) for seed in SOME_WORLDS)
