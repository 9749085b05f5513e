"""What the domain requests instead of a process that ended is what people requested: its labels and options stay."""

from __future__ import annotations

import pytest

from tests.domain.verbs import ScenarioRunner


@pytest.mark.parametrize("ends", ['exit db-2 cause="crash"', "servers B rebooted"])
def test_labels_and_options_of_a_process_survive_its_restart_by_the_domain(ends: str) -> None:
    runner = ScenarioRunner()
    for line in ("servers A B", "create db on=A,B", "start db-1", "start db-2 labels=zone:a options=verbose:info", "up db"):
        runner.run(line)
    before = runner.world.state.process_on(1)
    assert before is not None and before.request.labels == (("zone", "a"),) and before.request.options == (("verbose", "info"),)
    runner.run(ends)
    after = runner.world.state.process_on(1)
    assert after is not None and after.start_id != before.start_id
    assert (after.request.labels, after.request.options) == (before.request.labels, before.request.options)
    assert after.request.restart_of == before.start_id
