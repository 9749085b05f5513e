"""Tests of the domain: a group moves only along its life cycle, and a phase holds only what it has."""

from __future__ import annotations

import pytest

from dkv.domain.decision import InvariantError
from dkv.domain.draft import Draft
from dkv.domain.facts import Tick
from dkv.domain.model import Group, State
from dkv.domain.phases import Assigned, Open, Vacant

GROUP = Group("orders", "g1", "0" * 40, ((0, 16383),), Assigned(leader=0, leader_process=1), term=1)


def drafted() -> Draft:
    return Draft(State(groups={GROUP.key: GROUP}), Tick(clock=1))


def test_a_group_moves_to_the_phase_that_its_life_cycle_names() -> None:
    draft = drafted()
    moved = draft.move_group(GROUP, "opened", Open(leader=0, leader_process=1), "it is fenced")
    assert (moved.open, moved.serving, draft.events[0].change) == (True, False, "ASSIGNED -> OPEN")


def test_a_move_to_another_phase_than_its_row_names_is_our_own_mistake() -> None:
    with pytest.raises(InvariantError, match="moved to VACANT on opened, which leads to OPEN"):
        drafted().move_group(GROUP, "opened", Vacant(), "nothing")


def test_a_move_without_a_row_is_our_own_mistake() -> None:
    with pytest.raises(InvariantError, match="no group life cycle row from ASSIGNED on handed over"):
        drafted().move_group(GROUP, "handed over", Open(leader=0, leader_process=1), "nothing")


def test_a_field_that_its_phase_does_not_have_is_not_stored() -> None:
    draft = drafted()
    with pytest.raises(TypeError, match="Assigned has no field serving"):
        draft.put_phase(GROUP, serving=True)
    assert draft.groups[GROUP.key] == GROUP
