"""What the console's buttons send, and the lines beside them: routes that can be planned, and lines that can be typed."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from dkv.api import console_files
from dkv.api.plan import PLANNABLE
from dkv.api.rights import match
from dkv.cli import nouns
from dkv.cli.binding import bind, from_argv
from dkv.cli.cmdlets import find_cmdlet
from dkv.cli.hints import VERBS
from dkv.domain.rights import Right
from dkv.hints import KINDS

ACTIONS: dict[str, dict[str, Any]] = json.loads(console_files._read("actions.json")[0])
SENT = {name: action for name, action in ACTIONS.items() if "method" in action}
NUMBERS = ("startId", "archiveId", "copyId", "coordinator")


def example(template: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: "7" if found[1] in NUMBERS else "orders", template)


def test_every_action_of_a_hint_is_a_line_here_as_at_the_command_line() -> None:
    for name in KINDS:
        line = VERBS[name]
        assert (name in ACTIONS) == line.startswith("dkv "), name
        assert name not in ACTIONS or ACTIONS[name]["line"].startswith(line), name


@pytest.mark.parametrize("name", sorted(SENT))
def test_an_action_is_one_route_that_can_be_planned_and_asks_for_the_right_its_button_has(name: str) -> None:
    action = SENT[name]
    path, _, query = example(action["path"]).partition("?")
    route = match(path, action["method"])
    assert route and PLANNABLE.fullmatch(path), path
    right = route.right(action["method"], dict([query.split("=")]) if query else {})
    assert right == Right(action.get("right", "operate"))
    known = set(KINDS[name].arguments) if name in KINDS else set()
    used = set(re.findall(r"\{(\w+)\}", json.dumps(action))) - set(action.get("inputs", ()))
    assert not known or used - {"instance"} <= known, "a hint has no more than these"
    assert not action.get("typed") or action["loses"], "what may be lost is said where a name is to be typed"


@pytest.mark.parametrize("name", sorted(SENT))
def test_the_line_beside_a_button_can_be_typed(name: str) -> None:
    words = shlex.split(example(SENT[name]["line"]))[1:]
    used = 2 if words[0] in nouns.VERB_WORDS else 1
    bind(find_cmdlet(" ".join(words[:used])), from_argv(words[used:]), {})
