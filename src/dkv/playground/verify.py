"""Playground: the two writer processes, the promises in their logs, and the check of these by reading."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dkv.cli.errors import CliError
from dkv.cli.waiting import until
from dkv.confirm import Kind
from dkv.playground.domain import STORE, Domain
from dkv.playground.writer import CONFIRMED, ERROR, PLAIN, TROUBLE, Target, drop, read_values, value_of

WRITES_WITHIN = 20.0  # s a writer has to begin, or to go on after trouble
PROVE_WITHIN = 30.0  # s the keys have to be readable at all
AUTHORS = {PLAIN: "a plain cluster client", CONFIRMED: "dkv.confirm"}


class Line(NamedTuple):
    """One line of a writer's log; `at` is in monotonic seconds, which all processes of the machine share."""

    mark: str
    key: str
    at: float
    reason: str


class Proved(NamedTuple):
    """How many keys of one promise were read back, and which were not."""

    promise: str
    author: str
    keys: int
    lost: tuple[str, ...]


@dataclass
class Writer:
    """One writer process and its log."""

    kind: str
    log: Path
    child: subprocess.Popen[bytes]

    def lines(self) -> list[Line]:
        """What it logged so far; a line it is still writing is left out."""
        text = self.log.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [_line(raw) for raw in whole.splitlines()]

    def promised(self) -> list[Line]:
        """The answers that count as a promise."""
        return [line for line in self.lines() if line.mark in (Kind.ACKNOWLEDGED, Kind.CONFIRMED)]

    def errors(self, since: float, until: float) -> list[Line]:
        """The errors of the writer between two moments."""
        return [line for line in self.lines() if line.mark == ERROR and since <= line.at <= until]

    def await_promises(self, count: int, since: float = 0.0) -> None:
        """Wait until it got so many answers since a moment. Raises CliError."""
        answered = until(
            lambda: sum(line.at >= since for line in self.promised()) >= count,
            lambda answered: answered or self.child.poll() is not None,
            WRITES_WITHIN,
            pause=0.05,
        )
        if answered:
            return
        if self.child.poll() is not None:
            raise CliError(f"The {self.kind} writer ended with code {self.child.returncode}.", f"See {self.log}.err")
        raise CliError(f"The {self.kind} writer got no answer for {WRITES_WITHIN:g} s.", f"See {self.log}")


def _line(raw: str) -> Line:
    mark, key, at, reason = raw.split("\t")
    return Line(mark, key, float(at), reason)


class Writers:
    """Both writers together."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.target = domain.target()
        self.all = [self._start(kind) for kind in (PLAIN, CONFIRMED)]

    def _start(self, kind: str) -> Writer:
        log = self._domain.record.directory / f"{kind}-writer.log"
        log.touch()
        command = [
            sys.executable,
            "-m",
            "dkv.playground.writer",
            kind,
            str(log),
            STORE,
            ",".join(self._domain.managers),
            ",".join(self.target.endpoints),
            self.target.authorities,
        ]
        with Path(f"{log}.err").open("wb") as errors:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
        self._domain.record.add(child.pid)
        return Writer(kind, log, child)

    def of(self, kind: str) -> Writer:
        """The writer of a kind."""
        return next(writer for writer in self.all if writer.kind == kind)

    def await_promises(self, count: int, since: float = 0.0) -> None:
        """Wait until each got so many answers since a moment."""
        for writer in self.all:
            writer.await_promises(count, since)

    def stop(self) -> None:
        """End both; what they logged stays."""
        for writer in self.all:
            if writer.child.poll() is None:
                writer.child.send_signal(signal.SIGTERM)
        for writer in self.all:
            try:
                writer.child.wait(WRITES_WITHIN)
            except subprocess.TimeoutExpired:
                writer.child.kill()
                writer.child.wait()

    def prove(self) -> list[Proved]:
        """Read every promised key back with a fresh client."""
        if os.environ.get("DKV_TEST_DROP_KEY"):
            drop(self.target, self.of(PLAIN).promised()[0].key)
        proofs = []
        for writer, promise in ((PLAIN, Kind.ACKNOWLEDGED), (CONFIRMED, Kind.ACKNOWLEDGED), (CONFIRMED, Kind.CONFIRMED)):
            keys = [line.key for line in self.of(writer).promised() if line.mark == promise]
            if keys or writer == PLAIN or promise is Kind.CONFIRMED:
                proofs.append(Proved(promise, AUTHORS[writer], len(keys), missing(self.target, keys)))
        return proofs


def missing(target: Target, keys: Iterable[str]) -> tuple[str, ...]:
    """The keys that do not hold what was written. Raises CliError when they cannot be read at all."""
    wanted = list(keys)

    def read() -> dict[str, str | None] | Exception:
        try:
            return read_values(target, wanted)
        except TROUBLE as error:
            return error

    answer = until(read, lambda answer: not isinstance(answer, Exception), PROVE_WITHIN)
    if isinstance(answer, Exception):
        raise CliError(f"The keys could not be read for {PROVE_WITHIN:g} s: {answer}.") from answer
    return tuple(key for key in wanted if answer[key] != value_of(key))


def outage(lines: Sequence[Line], killed_at: float, until: float) -> float:
    """Milliseconds of the longest time without an answer that a kill caused, seen by one writer."""
    moments = [line.at for line in lines]
    gaps = [after - before for before, after in itertools.pairwise(moments) if killed_at < after <= until]
    return 1000 * max(gaps, default=0.0)
