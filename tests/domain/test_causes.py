"""No link of a chain is forgotten: each event of a group stands in a table of event_causality.py, or begins a chain."""

from __future__ import annotations

import ast

from dkv.domain.event_causality import FROM, JUST
from dkv.domain.lifecycle import GROUP
from tests.lint.repository import called, calls_in, python_files

BEGIN = {"group.created", "group.switchover", "group.enforced", "group.slots_lost"}
"""Ordered, or from outside; or the rule names the event it follows from."""
RULES = "src/dkv/domain/rules"


def noted_kinds() -> set[str]:
    """Kinds of the events that rules note with a literal; those of the life cycles are made from its rows."""
    calls = [call for name in python_files("src") if name.is_relative_to(RULES) for call in calls_in(name)]
    kinds = [call.args[0] for call in calls if called(call) == "note" and call.args]
    return {kind.value for kind in kinds if isinstance(kind, ast.Constant)}


def test_every_event_of_a_group_follows_from_something_or_begins_a_chain() -> None:
    kinds = noted_kinds() | {f"group.{row.on.replace(' ', '_')}" for row in GROUP}
    assert {"group.serving", "group.vacated", "group.tail_fed"} <= kinds
    listed = {*FROM, *JUST, *BEGIN}
    assert {kind for kind in kinds if kind.startswith("group.")} == {kind for kind in listed if kind.startswith("group.")}
