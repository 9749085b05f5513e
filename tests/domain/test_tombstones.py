"""How many tombstones are kept: so many per incarnation, so many in all, never without one that is still suspected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.model import State, Tombstone
from dkv.domain.rules.process_lifecycle import TOMBSTONES_IN_ALL, TOMBSTONES_KEPT
from tests.domain.verbs import ScenarioRunner

FIRST = 1_000_000  # start ids of this test begin here, far above those of the made-up tombstones


def filled(*majors: tuple[int, int]) -> ScenarioRunner:
    """A store with one leader and one follower, whose past has (how many) ended processes in each (major)."""
    runner = ScenarioRunner()
    for line in ("servers A B", "create db on=A,B", "start db-1 db-2", "up db"):
        runner.run(line)
    runner.world.state = replace(runner.world.state, next_start_id=FIRST)
    runner.run("exit db-2")
    state: State = runner.world.state
    tombstone = next(iter(state.tombstones.values()))
    made: dict[int, Tombstone] = {}
    for major, count in majors:
        for _ in range(count):
            start_id = 100 + len(made)
            made[start_id] = replace(tombstone, process=replace(tombstone.process, start_id=start_id), major=major)
    newest = max(major for major, _ in majors)
    database = replace(state.databases["db"], major=newest)
    runner.world.state = replace(state, tombstones=made, databases={"db": database})
    return runner


def test_the_oldest_of_an_incarnation_goes_and_that_is_said_once() -> None:
    runner = filled((1, 5), (2, TOMBSTONES_KEPT))
    (trimmed,) = [line for line in runner.run("exit db-2") if "tombstones_trimmed" in line]
    assert "more than 1000 ended processes in incarnation 2" in trimmed
    tombstones = runner.world.state.tombstones
    assert len(tombstones) == 5 + TOMBSTONES_KEPT
    assert {100, 101, 102, 103, 104} <= set(tombstones), "those of an earlier incarnation stay"
    assert 105 not in tombstones
    assert not [line for line in runner.run("exit db-2") if "tombstones_trimmed" in line]
    assert runner.world.state.databases["db"].trimmed == 2


def test_in_all_there_is_a_bound_too() -> None:
    runner = filled(*((major, 500) for major in range(1, 11)))
    assert len(runner.world.state.tombstones) == TOMBSTONES_IN_ALL
    runner.run("exit db-2")
    assert len(runner.world.state.tombstones) == TOMBSTONES_IN_ALL
    assert 100 not in runner.world.state.tombstones


@pytest.mark.parametrize("suspected", [True, False])
def test_a_tombstone_whose_process_may_still_lead_is_kept(suspected: bool) -> None:
    runner = filled((1, TOMBSTONES_KEPT))
    group = next(iter(runner.world.state.groups.values()))
    if suspected:
        group = replace(group, suspects=(*group.suspects, 100))
    runner.world.state = replace(runner.world.state, groups={group.key: group})
    runner.run("exit db-2")
    assert (100 in runner.world.state.tombstones) == suspected
    assert len(runner.world.state.tombstones) == TOMBSTONES_KEPT
