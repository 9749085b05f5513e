"""No link of a chain is forgotten: each event of a group stands in a table of event_causality.py, or begins a chain."""

from __future__ import annotations

import re
from pathlib import Path

from dkv.domain.event_causality import FROM, JUST
from dkv.domain.lifecycle import GROUP
from dkv.domain.rules import leadership

BEGIN = {"group.created", "group.switchover", "group.enforced", "group.slots_lost"}
"""Ordered, or from outside; or the rule names the event it follows from."""


def test_whatever_is_told_of_a_group_follows_from_something_or_is_an_order() -> None:
    texts = [file.read_text() for file in Path(leadership.__file__).parent.glob("*.py")]
    kinds = {kind for text in texts for kind in re.findall(r'note\(\s*"(group\.[a-z_]+)"', text)}
    kinds |= {f"group.{row.on.replace(' ', '_')}" for row in GROUP}
    assert {"group.serving", "group.vacated", "group.tail_fed"} <= kinds
    assert kinds - BEGIN == {kind for kind in (*FROM, *JUST) if kind.startswith("group.")}
