"""Hints are values: every kind of action can be typed, as a cmdlet and as a verb, and survives the way over the wire."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from dkv.cli import nouns
from dkv.cli.binding import bind, find_param, from_argv
from dkv.cli.cmdlets import CMDLETS as EVERY_CMDLET
from dkv.cli.cmdlets import find_cmdlet
from dkv.cli.errors import Usage
from dkv.cli.hints import CMDLETS, VERBS, command_line, rendered
from dkv.hints import KINDS, Action, Hint, action, filled, from_json, hint, sentences, to_json
from tests.lint.repository import ROOT

VALUES: dict[str, str | int] = {
    "store": "OrdersStore",
    "instance": "orders-1",
    "archiveId": 3,
    "startId": 17,
    "server": "server-1",
    "host": "10.0.0.13",
    "group": "g1",
    "option": "max-memory",
    "value": "512MB",
    "path": "/srv/my data",
    "state": "sqlite:/srv/domain.sqlite",
    "clusterPort": 7813,
    "clientPort": 7863,
    "user": "app",
}
BEGINS_A_COMMAND = re.compile(r"dkv |[A-Z][a-z]+-Dkv")


def sample(kind: str) -> Action:
    return action(kind, **{name: VALUES[name] for name in KINDS[kind].arguments})


DIALECTS = [(kind, verbs) for kind in KINDS for verbs in (True, False)]


@pytest.mark.parametrize(("kind", "verbs"), DIALECTS)
def test_every_kind_of_action_can_be_typed(kind: str, verbs: bool) -> None:
    line = command_line(sample(kind), verbs)
    if BEGINS_A_COMMAND.match(line):
        _binds(line)
    else:
        _has_known_parameters(line)


@pytest.mark.parametrize("path", ["/srv/it's here", "/srv/a b", "/srv/$(reboot)", "/srv/`x`;y", "/srv/ä"])
def test_a_path_in_a_hint_is_one_word_of_a_shell(path: str) -> None:
    """It is copied from a terminal into a shell, and a path may be another user's choice."""
    line = command_line(action("rebuildState", state=path), verbs=True)
    assert shlex.split(line) == ["dkv", "rebuild", "state", "--state", path, "--data-dir", "DIRECTORY"]


def _binds(line: str) -> None:
    """The line is a command with all that it needs, by the command line's own binder."""
    words = shlex.split(line)
    words = words[1:] if words[0] == "dkv" else words
    name = words[0] if "-Dkv" in words[0] else " ".join(words[:2])
    cmdlet = find_cmdlet(name)
    bound = bind(cmdlet, from_argv(words[len(name.split()) :]), {})
    given = [word for word in words if word.startswith("-")]
    assert len([value for value in bound.values() if value not in (None, False)]) >= len(given)


def _has_known_parameters(line: str) -> None:
    """What is to be added to a command is a parameter of one."""
    for word in line.split():
        if word.startswith("-"):
            assert any(_takes(command, word) for command in (*EVERY_CMDLET, *nouns.everything())), f"nothing takes {word}"


def _takes(command: object, word: str) -> bool:
    try:
        find_param(command, word.lstrip("-"))  # type: ignore[arg-type]
    except Usage:
        return False
    return True


def test_the_tables_have_the_kinds_there_are() -> None:
    assert set(VERBS) == set(KINDS)
    assert set(CMDLETS) <= set(KINDS)


def test_every_kind_is_offered_somewhere() -> None:
    sources = "".join(
        file.read_text()
        for package in ("domain", "api", "store", "control")
        for file in (ROOT / "src/dkv" / package).rglob("*.py")
    )
    assert [kind for kind in KINDS if f'"{kind}"' not in sources] == []


def test_what_a_manager_says_names_no_command_of_a_client() -> None:
    """In a text beside an action a command would be read by people who cannot type it."""
    named = {
        f"{file.name}: {text}"
        for file in files_of("domain", "control", "machine", "store")
        for text in _texts(ast.parse(file.read_text()))
        if re.search(r"\w-Dkv|(: |at |use )dkv [a-z]+ [a-z]|(^|[ (])--?[a-z]+-[a-z]|(^|[ (])-[A-Z][a-z]+[A-Z]", text)
    }
    assert named == set()


def files_of(*packages: str) -> list[Path]:
    return [file for package in packages for file in (ROOT / "src/dkv" / package).rglob("*.py")]


def _texts(tree: ast.Module) -> list[str]:
    """The texts of a module but its docstrings."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [str(node.value) for node in constants if id(node) not in documents]


def test_a_hint_is_plain_text_and_its_actions_are_typed_as_the_reader_types() -> None:
    start = action("startInstance", store="a.b", instance="a-1", archiveId=4, server="s1")
    written = hint("Start it: ", start, ".")
    assert str(written) == "Start it: start instance a-1 of store a.b."
    assert rendered(written, verbs=False) == "Start it: Start-DkvStore -Name a.b -InstanceName a-1."
    assert rendered(written, verbs=True) == "Start it: dkv start process --db-name a.b --archive-id 4 --server-id s1."
    assert rendered(hint("Use ", action("usePath", path="/srv/it's here"), "."), verbs=True) == (
        "Use --archive-path '/srv/it'\\''s here'."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_hint_comes_over_the_wire_as_it_was(kind: str) -> None:
    written = hint("First: ", sample(kind), "; then look.")
    assert from_json(str(written), json.loads(json.dumps(to_json(written)))) == written


def test_what_a_client_does_not_know_stays_text() -> None:
    newer = [{"text": "go: ", "action": None, "arguments": {}}, {"text": "fly", "action": "fly", "arguments": {"to": "moon"}}]
    assert str(from_json("go: fly", newer)) == "go: fly"
    odd = [{"text": "start it", "action": "startStore", "arguments": {"name": "orders"}}]
    assert from_json("", odd).parts == ("start it",)
    assert str(from_json("only text", None)) == str(from_json("only text", [])) == "only text"
    assert not from_json(None, ["no part"])


def test_hints_are_made_of_others() -> None:
    both = sentences([hint("One."), hint("Two ", action("force"), ".")])
    assert str(both) == "One. Two force."
    assert (
        str(filled("Either {first} or {second}.", first="this", second=action("showWaiting")))
        == "Either this or show what waits."
    )
    assert not Hint() and not hint("") and not sentences([])
