"""Tests of the domain: runs a scenario: takes its lines apart and finds what each is about. The words: verbs.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dkv.domain.command import Command
from dkv.domain.model import Group, Process
from tests.domain.world import World


@dataclass
class Line:
    """One line of a scenario: its verb, what it is about, and its options."""

    verb: str
    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, default: int = 0) -> int:
        return int(self.options.get(name, default))

    def has(self, word: str) -> bool:
        return word in self.words


def parse(text: str) -> Line:
    """Split a line like a shell would."""
    verb, *rest = shlex.split(text)
    line = Line(verb)
    for word in rest:
        name, equals, value = word.partition("=")
        if equals:
            line.options[name] = value
        else:
            line.words.append(word)
    return line


class ScenarioRunner:
    """Carries out the lines of one scenario in one world."""

    def __init__(self) -> None:
        self.world = World()
        self.boots: dict[str, int] = {}

    def run(self, text: str) -> list[str]:
        """Carry out one line and say what happened."""
        line = parse(text)
        verb = VERBS.get(line.verb)
        assert verb is not None, f"no verb {line.verb}"
        outcome = verb(self, line)
        return outcome if isinstance(outcome, list) else self.world.do(outcome)

    # Finding what a line is about ----------------------------------------------------------------------------

    def archive(self, word: str) -> int:
        """The archive id of an instance, 99 if there is none."""
        if word.isdigit():
            return int(word)
        archive_ids = (a.archive_id for a in self.world.state.archives.values() if a.name == word)
        return next(archive_ids, 99)

    def start_id(self, word: str) -> int:
        """The start id of an instance's process, 99 if there is none."""
        if word.isdigit():
            return int(word)
        process = self.world.state.process_on(self.archive(word))
        return process.start_id if process else 99

    def process(self, word: str) -> Process | None:
        """The live process of a word."""
        return self.world.state.processes.get(self.start_id(word))

    def of(self, line: Line, **more: Any) -> dict[str, Any]:
        """What every fact about one process says."""
        process = self.process(line.words[0])
        server = line.options.get("by", process.server_id if process else "nobody")
        return {"now": self.world.now, "server_id": server, "start_id": self.start_id(line.words[0]), **more}

    def group(self, line: Line) -> Group:
        """The group a line is about: of the archive or process it names first."""
        state = self.world.state
        word = line.words[0]
        archive_id = self.archive(word)
        if word.isdigit():
            process = self.process(word) or state.tombstones[int(word)].process
            assert process.archive_id is not None
            archive_id = process.archive_id
        return (
            state.group_of_archive(archive_id)
            if archive_id in state.archives
            else min(state.groups.values(), key=lambda g: g.name)
        )

    def leads(self, line: Line, **more: Any) -> dict[str, Any]:
        """What every fact of a leader's manager says."""
        group = self.group(line)
        leader = self.world.state.processes.get(-1 if group.leader_process is None else group.leader_process)
        server = line.options.get("by", leader.server_id if leader else "nobody")
        return {
            "now": self.world.now,
            "server_id": server,
            "database": group.database,
            "group": group.name,
            "term": line.number("term", group.term),
            **more,
        }


Verb = Callable[[ScenarioRunner, Line], Command | list[str]]
VERBS: dict[str, Verb] = {}


def verb(name: str) -> Callable[[Verb], Verb]:
    """Give a function its word."""

    def keep(function: Verb) -> Verb:
        VERBS[name] = function
        return function

    return keep
