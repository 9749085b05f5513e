"""Bench kit: a writer as its parent sees it: its log, the outage in it, and the proof that no promise was broken."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kit.resp import Line, Refused
from kit.stage import PATIENT, Stage, until
from kit.writer import ACKNOWLEDGED, DOUBT, SURE, key_of

BATCH = 2000  # keys read at once
KEPT = 10.0  # s of writes kept after a proof


class Write(NamedTuple):
    """One logged write; moments in monotonic seconds."""

    mark: str
    n: int
    sent: float
    answered: float


@dataclass
class Proof:
    """What reading back showed. `overwritten` keys were used again before they were read: not proven, not lost."""

    acknowledged: int = 0
    confirmed: int = 0
    lost_acknowledged: int = 0
    lost_confirmed: int = 0
    overwritten: int = 0
    examples: list[str] = field(default_factory=list)


class Writer:
    """A writer process; use as a context."""

    def __init__(
        self, stage: Stage, kind: str, *, tag: str, keys: int, rate: int, endpoints: Sequence[str], more: Sequence[str] = ()
    ) -> None:
        self.kind, self.tag, self.keys = kind, tag, keys
        self.writes: list[Write] = []  # since the last proof, and what an outage around it needs
        self._newest: dict[int, Write] = {}  # by key: what has to be read there in the end
        self._maybe: set[int] = set()  # numbers of writes without an answer
        self._endpoints = list(endpoints)
        self._log = stage.directory / f"writer-{kind}-{tag}.log"
        self._marks: Counter[str] = Counter()
        self._log.write_text("", encoding="utf-8")  # what an earlier writer of this name said is not ours
        self._offset = 0
        self._proven = 0
        script = Path(__file__).with_name("writer.py")
        words = [kind, str(self._log), str(rate), str(keys), tag, ",".join(endpoints), *more]
        self._child = subprocess.Popen([sys.executable, str(script), *words], stdin=subprocess.DEVNULL)
        stage.adopt(self._child.pid)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; its log stays."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def look(self) -> None:
        """Take up what it logged since the last look."""
        with self._log.open(encoding="utf-8") as file:
            file.seek(self._offset)
            text = file.read()
        text = text[: text.rfind("\n") + 1]
        self._offset += len(text)
        for line in text.splitlines():
            mark, n, sent, answered = line.split()
            write = Write(mark, int(n), float(sent), float(answered))
            self.writes.append(write)
            self._marks[mark] += 1
            if mark == DOUBT:
                self._maybe.add(write.n)
            else:
                self._newest[write.n % self.keys] = write

    def count(self, mark: str) -> int:
        """How many writes ended with a mark, of those looked at."""
        return self._marks[mark]

    def await_answers(self, count: int, since: float, marks: str = ACKNOWLEDGED + SURE) -> None:
        """Until it was answered so often after a moment."""

        def enough() -> bool | None:
            self.look()
            recent = self.writes[-4 * count - 100 :]
            return sum(w.sent >= since and w.mark in marks for w in recent) >= count or None

        until(enough, PATIENT, f"the {self.kind} writer to be answered", 0.02)

    def outage(self, killed: float, over: float, marks: str = ACKNOWLEDGED + SURE) -> float:
        """Milliseconds of the longest time without an answer that overlaps the span from a kill to its end."""
        near = [w.answered for w in self.writes if w.mark in marks and killed - 5 <= w.answered <= over + 5]
        gaps = [b - a for a, b in pairwise(near) if b > killed and a < over]
        return 1000 * max(gaps, default=float("nan"))

    def prove(self) -> Proof:
        """Read back what was promised since the last proof."""
        self.look()
        proof = self._judge({w.n % self.keys: w for w in self.writes[self._proven :] if w.mark != DOUBT})
        self.writes = [w for w in self.writes if w.answered > self.writes[-1].answered - KEPT]
        self._proven = len(self.writes)
        return proof

    def prove_all(self) -> Proof:
        """Read back every key as it has to be now. Only after the writer was stopped."""
        self.look()
        return self._judge(self._newest)

    def _judge(self, newest: Mapping[int, Write]) -> Proof:
        proof = Proof()
        values = self._values(list(newest))
        for slot, w in newest.items():
            name = "confirmed" if w.mark == SURE else "acknowledged"
            setattr(proof, name, getattr(proof, name) + 1)
            value = values[slot]
            if value is not None and (value == w.n or (value > w.n and value in self._maybe)):
                continue
            if value is not None and value > w.n:
                proof.overwritten += 1
                continue
            setattr(proof, f"lost_{name}", getattr(proof, f"lost_{name}") + 1)
            proof.examples.append(f"{key_of(self.tag, self.kind, w.n, self.keys)} is {value}, promised {w.n}")
        del proof.examples[5:]
        return proof

    def _values(self, slots: Sequence[int]) -> dict[int, int | None]:
        values: dict[int, int | None] = {}
        for start in range(0, len(slots), BATCH):
            batch = slots[start : start + BATCH]
            names = [key_of(self.tag, self.kind, slot, self.keys) for slot in batch]
            answers = until(lambda wanted=names: read_back(self._endpoints, wanted), PATIENT, "the keys to be readable", 0.05)
            values.update({slot: None if a is None else int(a) for slot, a in zip(batch, answers, strict=True)})
        return values


def read_back(endpoints: Sequence[str], keys: Sequence[str]) -> list[Any] | None:
    """The values of keys from whichever endpoint leads them; None while nobody answers."""
    for endpoint in endpoints:
        try:
            with Line(endpoint) as line:
                answers = line.ask_all([("GET", key) for key in keys])
        except OSError:
            continue
        if not any(isinstance(answer, Refused) for answer in answers):
            return answers
    return None
