"""A schedule: the same for the same seed, within its length, and the same again from its file."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import field
from tests.chaos.domain import servers_for
from tests.chaos.schedule import FAULTS, MOST_AT_ONCE, WHOLE_HOST, WORK, draw, from_text, narrowed, to_text
from tests.chaos.strikes import Striker

SEEDS = range(40)


def test_a_seed_has_one_schedule_and_others_have_others() -> None:
    assert draw(7, 120, field()) == draw(7, 120, field())
    assert len({to_text(draw(seed, 120, field())) for seed in SEEDS}) == len(SEEDS)


def test_all_faults_and_all_tasks_are_met_and_none_begins_at_the_end() -> None:
    strokes = [stroke for seed in SEEDS for stroke in draw(seed, 120, field())]
    assert {stroke.kind for stroke in strokes} == {*FAULTS, *WORK}
    assert all(0 < stroke.at < 115 for stroke in strokes)
    assert all(stroke.until <= 120 for stroke in strokes if stroke.kind in FAULTS)


def test_hosts_are_struck_together_only_so_far() -> None:
    for seed in SEEDS:
        hosts = [stroke for stroke in draw(seed, 300, field()) if stroke.kind in WHOLE_HOST]
        for stroke in hosts:
            assert sum(other.at <= stroke.at < other.until for other in hosts) <= MOST_AT_ONCE


def test_every_fault_can_be_carried_out() -> None:
    assert all(callable(getattr(Striker, "_" + kind.replace(" ", "_"))) for kind in FAULTS)


def test_a_file_holds_a_schedule_that_can_be_narrowed_by_hand() -> None:
    strokes = draw(3, 120, field())
    assert from_text("# a remark\n\n" + to_text(strokes)) == strokes
    assert narrowed(strokes, 0, [2]) == [strokes[1]]
    assert narrowed(strokes, strokes[3].at, []) == strokes[3:]


@pytest.mark.parametrize(
    ("line", "why"),
    [("{", "line 1 is no stroke"), ('{"at": 1, "kind": "flood", "target": ""}', "there is no fault or task 'flood'")],
)
def test_a_line_that_is_no_stroke_is_named(line: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_text(line)


@pytest.mark.parametrize(("nodes", "servers", "spread"), [(3, 3, 3), (4, 3, 2), (6, 3, 3), (3, 5, 3), (6, 5, 3), (4, 4, 4)])
def test_a_store_is_spread_evenly_over_as_many_servers_as_can_be(nodes: int, servers: int, spread: int) -> None:
    assert servers_for(nodes, servers) == spread
