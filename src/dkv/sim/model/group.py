"""Model: what one storage group, its machines and one client are made of. A state is a tuple of small integers and tuples.

Nothing here judges. Archives, servers, managers and engines have the same number: archive 0 is on server 0. An archive's log is
what its disk holds, in order: `MARK + term` for a term's marker, a smaller number for a write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

MARK = 100
VACANT, ASSIGNED, OPEN, SERVING, HANDOVER = range(5)
GONE, FOLLOWS, LEADS = range(3)  # an engine: no process, or its role
RUNS, FROZEN, DEAD = range(3)  # a manager
NONE, ANNOUNCED, MARKED, REQUIRED, NOTED = range(5)  # how far a joiner is
NO_ORDER, TAKEOVER, UNFENCE, FAILOVER = range(4)  # an order that was sent and not executed
NO_ARCHIVE = -1

Ints: TypeAlias = tuple[int, ...]
Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Bounds:
    """What is explored. `faults` counts everything that goes wrong; healing is free."""

    archives: int = 2
    writes: int = 1
    terms: int = 2
    faults: int = 2
    kinds: frozenset[str] = frozenset(("crash", "manager", "lost", "cut", "freeze"))
    handovers: int = 0
    evictions: bool = False
    joins: bool = True


@dataclass(frozen=True)
class View:
    """What a client read of the domain."""

    term: int
    leader: int
    required: int  # bits


class State:
    """One state. What it consists of is never changed in place: a copy is made, which then gets other values."""

    phase: int
    term: int
    leader: int
    in_sync: int  # bits of archives; so are required, suspects, contested, silent and reported
    required: int
    joiner: int
    stage: int
    noted: int  # length of the leader's log that the joiner has to reach
    suspects: int
    last: int
    contested: int
    silent: int
    reported: int  # whose position was read in this vacancy
    evicted: int  # whose process an operator gave up; its engine may go on
    history: int  # the lineage of the leader of the last opened term
    target: int
    alive: Ints  # whether the domain takes a server for alive; this and the next ones by archive
    down: Ints  # a machine that is lost for good
    cut: Ints  # a machine that reaches neither another one nor the backend; its clients reach it
    manager: Ints
    role: Ints
    fenced: Ints
    admits: Ints
    epoch: Ints
    follows: Ints
    attached: Ints
    lineage: Ints  # of an engine's replication history; 0: it was started and has none
    order: tuple[tuple[int, int], ...]  # to each engine: which, and for which term
    log: tuple[Ints, ...]
    view: View | None
    writing: tuple[int, int, int, int] | None  # engine, write, length of its log then, term of the view it was sent by
    written: int  # how many writes there were
    acknowledged: int  # bits of writes
    confirmed: int
    left: int  # archives that were unreachable when another was assigned: what their engines acknowledge may be missing
    excused: int  # acknowledged writes that may be missing, for a reason that the promise names
    faults: int
    handovers: int

    def __init__(self, values: dict[str, object]) -> None:
        self.__dict__ = values

    @property
    def key(self) -> Key:
        """The state as a value."""
        return tuple(self.__dict__.values())

    def copy(self) -> State:
        """Another one, to be given other values."""
        return State(self.__dict__.copy())

    def put(self, i: int, **values: object) -> None:
        """Other values of one archive, its engine, manager or machine."""
        for name, value in values.items():
            known = self.__dict__[name]
            self.__dict__[name] = (*known[:i], value, *known[i + 1 :])

    # -- what is true in it ----------------------------------------------------------------------------------------------

    def archives(self) -> range:
        """All archives."""
        return range(len(self.log))

    def members(self, bits: int) -> Iterator[int]:
        """The archives of a set."""
        return (i for i in self.archives() if bits >> i & 1)

    def hears(self, i: int, j: int) -> bool:
        """Whether two machines reach each other."""
        return not (self.cut[i] or self.cut[j] or self.down[i] or self.down[j])

    def commits(self, i: int) -> bool:
        """Whether a manager can read and change the domain."""
        return self.manager[i] == RUNS and not self.cut[i] and not self.down[i]

    def open(self) -> bool:
        """Whether a term is open."""
        return self.phase in (OPEN, SERVING, HANDOVER)

    def position(self, i: int) -> tuple[int, int]:
        """The newest marker on a disk and what stands after it."""
        for place in range(len(self.log[i]) - 1, -1, -1):
            if self.log[i][place] >= MARK:
                return self.log[i][place], len(self.log[i]) - place
        return 0, 0

    def continues(self, i: int, j: int) -> bool:
        """Whether one archive's log is a beginning of another's."""
        return self.log[j][: len(self.log[i])] == self.log[i]


def first_state(bounds: Bounds) -> State:
    """A group that serves, with all its archives in S, led by archive 0 in term 1."""
    n = bounds.archives
    everyone = (1 << n) - 1
    return State(
        {
            "phase": SERVING, "term": 1, "leader": 0, "in_sync": everyone, "required": everyone & ~1, "joiner": NO_ARCHIVE,
            "stage": NONE, "noted": 0, "suspects": 1, "last": 0, "contested": 0, "silent": 0, "reported": 0, "evicted": 0,
            "history": 1,
            "target": NO_ARCHIVE, "alive": (1,) * n, "down": (0,) * n, "cut": (0,) * n, "manager": (RUNS,) * n,
            "role": (LEADS,) + (FOLLOWS,) * (n - 1), "fenced": (0,) + (1,) * (n - 1), "admits": (1,) + (0,) * (n - 1),
            "epoch": (1,) + (0,) * (n - 1), "follows": (NO_ARCHIVE,) + (0,) * (n - 1), "attached": (0,) + (1,) * (n - 1),
            "lineage": (1,) * n, "order": ((NO_ORDER, 0),) * n, "log": ((MARK + 1,),) * n, "view": None, "writing": None,
            "written": 0, "acknowledged": 0, "confirmed": 0, "left": 0, "excused": 0, "faults": 0, "handovers": 0,
        }
    )  # fmt: skip
