"""The schedule of a chaos run: which fault strikes what at what time, and what operators do meanwhile, from a seed. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

FIRST_AT = 4.0  # s after the writers began
QUIET = 5.0  # s at the end in which nothing new strikes
MEAN_GAP = 5.0  # s between two faults
MEAN_WORK_GAP = 20.0  # s between two tasks of an operator
BURST = 0.25  # the share of faults that strike within a second of the one before
WHOLE_HOST = (
    "lose host",
    "lose a leader ahead",
    "freeze host",
    "unplug host",
    "isolate host",
    "cut one way",
    "cut both ways",
    "fill disk",
    "slow disk",
)
MOST_AT_ONCE = 2  # faults of whole hosts that last at the same time


@dataclass(frozen=True)
class Group:
    """A storage group that a schedule may strike: its store, its number from 0, and how many copies it has."""

    store: str
    number: int
    copies: int


@dataclass(frozen=True)
class Stroke:
    """One fault or one task. `at` is in seconds since the writers began, `lasts` in seconds until it is taken back; `target` is
    what it strikes, in words that are resolved when it strikes: the leader of a group is whichever leads then.
    """

    at: float
    kind: str
    target: str
    lasts: float = 0.0

    @property
    def until(self) -> float:
        """When it is over, in seconds since the writers began."""
        return self.at + self.lasts


@dataclass(frozen=True)
class Field:
    """What can be struck."""

    servers: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def stores(self) -> list[str]:
        """The names of the stores."""
        return sorted({group.store for group in self.groups})


Draw = Callable[[random.Random, Field], tuple[str, float]]


def _engine(least: float, most: float) -> Draw:
    def draw(chance: random.Random, field: Field) -> tuple[str, float]:
        group = chance.choice(field.groups)
        role = chance.choice(("leader", "leader", "follower"))
        return f"{group.store}/{group.number}/{role}", _seconds(chance, least, most)

    return draw


def _group(least: float, most: float, copies: int) -> Draw:
    def draw(chance: random.Random, field: Field) -> tuple[str, float]:
        group = chance.choice([group for group in field.groups if group.copies <= copies])
        return f"{group.store}/{group.number}/leader", _seconds(chance, least, most)

    return draw


def _server(least: float, most: float) -> Draw:
    return lambda chance, field: (chance.choice(field.servers), _seconds(chance, least, most))


def _pair(least: float, most: float) -> Draw:
    return lambda chance, field: (">".join(chance.sample(field.servers, 2)), _seconds(chance, least, most))


def _all(least: float, most: float) -> Draw:
    return lambda chance, _: ("", _seconds(chance, least, most))


def _clock(chance: random.Random, field: Field) -> tuple[str, float]:
    jump = chance.choice((-86400, -3600, -30, 30, 3600, 86400))
    return f"{chance.choice(field.servers)}{jump:+d}", _seconds(chance, 4, 15)


def _store(least: float, most: float) -> Draw:
    return lambda chance, field: (chance.choice(field.stores), _seconds(chance, least, most))


def _option(chance: random.Random, field: Field) -> tuple[str, float]:
    option = chance.choice(("max-memory 134217728", "max-memory 268435456", "failover-grace 3000", "failover-grace 2000"))
    return f"{chance.choice(field.stores)} {option}", 0.0


def _seconds(chance: random.Random, least: float, most: float) -> float:
    return round(chance.uniform(least, most), 1)


FAULTS: dict[str, Draw] = {
    "kill engine": _engine(0, 0),
    "freeze engine": _engine(0.5, 8),
    "kill engine and manager": _engine(1, 12),
    "kill a leader ahead": _group(3, 6, copies=2),
    "kill manager": _server(1, 6),
    "freeze manager": _server(1, 8),
    "kill member": _server(0, 0),
    "freeze member": _server(1, 8),
    "kill state leader": _all(0, 0),
    "lose host": _server(3, 12),
    "lose a leader ahead": _group(6, 12, copies=3),
    "freeze host": _server(1, 6),
    "unplug host": _server(2, 10),
    "isolate host": _server(2, 12),
    "cut one way": _pair(2, 10),
    "cut both ways": _pair(2, 10),
    "fill disk": _server(2, 8),
    "slow disk": _server(2, 8),
    "jump clock": _clock,
    "kill everything": _all(0.5, 3),
}
"""What goes wrong. What `kill` ends is started again by who would do it: a manager by its service manager. A leader is
ahead when what it sends does not reach its followers for a moment before it ends. Of three copies that would be a host cut off.
"""

WORK: dict[str, Draw] = {
    "switch over": _store(0, 0),
    "rolling restart": _store(0, 0),
    "add and remove an instance": _store(8, 15),
    "hot copy": _store(0, 0),
    "set option": _option,
}
"""What operators do meanwhile."""

RARE = {"kill everything": 0.3, "jump clock": 0.5}


def draw(seed: int, length: float, field: Field) -> list[Stroke]:
    """The schedule of a seed for a run of so many seconds: the same each time. Each seed has its own mixture of faults."""
    chance = random.Random(f"chaos {seed}")
    weights = {kind: chance.choice((0, 1, 1, 2, 4)) * RARE.get(kind, 1.0) for kind in FAULTS}
    if not any(weights.values()):
        weights["kill engine"] = 1.0
    faults = _faults(chance, weights, length, field)
    return sorted([*faults, *_work(chance, length, field)], key=lambda stroke: (stroke.at, stroke.kind, stroke.target))


def _faults(chance: random.Random, weights: dict[str, float], length: float, field: Field) -> list[Stroke]:
    strokes: list[Stroke] = []
    at = FIRST_AT
    while at < length - QUIET:
        (kind,) = chance.choices(list(weights), list(weights.values()))
        target, lasts = FAULTS[kind](chance, field)
        stroke = Stroke(round(at, 2), kind, target, min(lasts, round(length - at - 0.05, 1)))
        if kind not in WHOLE_HOST or sum(other.until > at for other in strokes if other.kind in WHOLE_HOST) < MOST_AT_ONCE:
            strokes.append(stroke)
        at += chance.uniform(0.05, 1) if chance.random() < BURST else chance.expovariate(1 / MEAN_GAP) + 0.5
    return strokes


def _work(chance: random.Random, length: float, field: Field) -> list[Stroke]:
    tasks: list[Stroke] = []
    at = FIRST_AT + chance.expovariate(1 / MEAN_WORK_GAP)
    while at < length - QUIET:
        kind = chance.choice(list(WORK))
        target, lasts = WORK[kind](chance, field)
        tasks.append(Stroke(round(at, 2), kind, target, lasts))
        at += chance.expovariate(1 / MEAN_WORK_GAP) + 2
    return tasks


def to_text(strokes: Sequence[Stroke]) -> str:
    """A schedule as a file has it: one stroke a line, so that lines can be taken out by hand."""
    return "".join(json.dumps(asdict(stroke)) + "\n" for stroke in strokes)


def from_text(text: str) -> list[Stroke]:
    """A schedule from its file; blank lines and those that begin with # are left out. Raises ValueError."""
    strokes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            stroke = Stroke(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} is no stroke of a schedule: {error}") from error
        if stroke.kind not in FAULTS and stroke.kind not in WORK:
            raise ValueError(f"line {number}: there is no fault or task '{stroke.kind}'")
        strokes.append(stroke)
    return strokes


def narrowed(strokes: Sequence[Stroke], begin: float, only: Sequence[int]) -> list[Stroke]:
    """The part of a schedule from a time on (s), or the strokes of those numbers, counted from 1."""
    numbered = [(number, stroke) for number, stroke in enumerate(strokes, 1) if stroke.at >= begin]
    return [stroke for number, stroke in numbered if not only or number in only]
