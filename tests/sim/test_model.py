"""The model of the rules: what dkv demands holds in all states, a clause less does not, and both name each other."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import pytest

import dkv
from dkv.sim.model.__main__ import main
from dkv.sim.model.explore import explore
from dkv.sim.model.group import Bounds
from dkv.sim.model.mutants import EXPLORED, MOST, NOT_SHOWN, SMALL, WHERE, mutants
from dkv.sim.model.rules import Clauses

SOURCE = Path(dkv.__file__).parent
QUICK = ("confirm_by_name", "confirm_on_the_leader_named", "proven_before_assign")
"""Mutants that are found among so few states that every test run can look."""


def test_each_clause_of_the_model_is_named_by_the_code_that_it_is_a_model_of() -> None:
    files = [path for path in SOURCE.rglob("*.py") if SOURCE / "sim" not in path.parents]
    named = {name for path in files for name in re.findall(r"model: (\w+)", path.read_text(encoding="utf-8"))}
    assert named == {field.name for field in fields(Clauses)}


def test_with_all_clauses_everything_holds_in_all_states_of_a_small_group() -> None:
    found = explore(Clauses(), SMALL)
    assert found.violation == "", "\n".join(found.story)
    assert found.complete
    assert found.states > 5_000, "fewer states than there are: nothing was explored"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.full) for n in mutants() if n not in NOT_SHOWN]
)
def test_a_clause_less_is_found(name: str) -> None:
    found = explore(mutants()[name], WHERE.get(name, next(iter(EXPLORED.values()))), MOST)
    assert found.violation, f"nothing is wrong without {name}, in {found.states} states"


@pytest.mark.full
@pytest.mark.parametrize("name", EXPLORED)
def test_with_all_clauses_everything_holds_in_all_states_that_are_explored(name: str) -> None:
    found = explore(Clauses(), EXPLORED[name])
    assert found.violation == "", "\n".join(found.story)
    assert found.complete


def test_a_search_that_gives_up_says_so() -> None:
    assert not explore(Clauses(), Bounds(), 100).complete


def test_the_command_says_what_it_found() -> None:
    output = io.StringIO()
    with redirect_stdout(output):
        code = main(["--mutants", "confirm_by_name", "--states", "200"])
    assert code == 1
    assert "without confirm_by_name:" in output.getvalue() and "NOT FOUND" in output.getvalue()
