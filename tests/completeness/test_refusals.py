"""Every code that a refusal is made with is in the catalogue, and a refusal is made with every code of the catalogue."""

from __future__ import annotations

import ast

from dkv.api.problems import API_CODES
from dkv.domain.refusals import CATALOGUE
from tests.lint.repository import called, calls_in, python_files

KNOWN = set(CATALOGUE) | set(API_CODES)
MAKES_REFUSAL = ("no", "refuse", "refused", "Refused")
"""The functions of domain/refusals.py and api/problems.py, and the value of domain/decision.py; the code comes first."""
COMMAND_LINE = "src/dkv/cli"  # its errors have no code


def codes_given() -> set[str]:
    """The codes that the product makes refusals with."""
    calls = [call for name in python_files("src") if not name.is_relative_to(COMMAND_LINE) for call in calls_in(name)]
    firsts = [call.args[0] for call in calls if call.args and called(call) in MAKES_REFUSAL]
    return {first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)}


def test_every_code_that_is_given_is_in_the_catalogue() -> None:
    assert codes_given() <= KNOWN, sorted(codes_given() - KNOWN)
    assert not set(CATALOGUE) & set(API_CODES)


def test_a_refusal_is_made_with_every_code_of_the_catalogue() -> None:
    idle = KNOWN - codes_given()
    assert not idle, f"take these out of domain/refusals.py and api/problems.py, no refusal has them: {sorted(idle)}"
