"""One domain, one person at a keyboard: fixtures of the cli's tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dkv.cli.binding import from_argv
from dkv.cli.cmdlets import run_cmdlet
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.cli.shell import run_text
from tests.cli.fake import FakeDomain


@dataclass
class Output:
    """What one run printed, and its exit code."""

    code: int
    out: str
    err: str

    def rows(self) -> list[list[str]]:
        """The table's rows as tokens: header and rule left out."""
        lines = self.out.splitlines()
        rule = next((i for i, line in enumerate(lines) if line.startswith("-----")), None)
        if rule is None:
            return []
        body = lines[rule + 1 :]
        return [line.split() for line in body[: body.index("") if "" in body else None]]


class Person:
    """Types into one shell, or runs one-shot commands that share a home directory."""

    def __init__(self, domain: FakeDomain, home: Path) -> None:
        self.domain = domain
        self.environ = {"XDG_CONFIG_HOME": str(home / "config")}
        self.shell = self.session()

    def session(self) -> Session:
        """What a command runs in: nothing is connected yet but what the context file keeps."""
        screen = Screen(io.StringIO(), io.StringIO())
        clock = self.domain.clock
        return Session(screen, self.environ, self.domain, sleep=clock.sleep, clock=clock)

    def types(self, text: str) -> Output:
        """Run a script text in the one shell."""
        self.shell.screen = Screen(io.StringIO(), io.StringIO())
        return self._output(self.shell, run_text(self.shell, text))

    def runs(self, *words: str) -> Output:
        """Run one one-shot command."""
        session = self.session()
        return self._output(session, run_cmdlet(session, words[0], from_argv(words[1:])))

    @staticmethod
    def _output(session: Session, code: int) -> Output:
        out, err = session.screen.out, session.screen.err
        assert isinstance(out, io.StringIO)
        assert isinstance(err, io.StringIO)
        return Output(code, out.getvalue(), err.getvalue())


@pytest.fixture
def domain() -> FakeDomain:
    return FakeDomain()


@pytest.fixture
def person(domain: FakeDomain, tmp_path: Path) -> Person:
    return Person(domain, tmp_path)


@pytest.fixture
def connected(person: Person) -> Person:
    assert person.types("Connect-DkvManager 127.0.0.11,127.0.0.12").code == 0
    return person


@pytest.fixture
def with_store(connected: Person) -> Person:
    """OrdersStore with orders-1 on .11 and orders-2 on .12, not started."""
    assert connected.types("New-DkvStore OrdersStore orders").code == 0
    connected.domain.log.clear()
    return connected


Maker = Callable[[int], Person]


@pytest.fixture
def person_with(tmp_path: Path) -> Maker:
    return lambda servers: Person(FakeDomain(servers), tmp_path)
