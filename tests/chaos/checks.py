"""What has to hold after a chaos run, judged from what clients, the domain and the harness wrote down. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from typing import Any, NamedTuple

from tests.chaos.clients import CONFIRMED, PROBE, READ, REDIS, REGISTER, VALKEY

SURE, ACKNOWLEDGED, ACCEPTED = "confirmed", "acknowledged", "accepted"
PLAIN = (VALKEY, REDIS)


class Operation(NamedTuple):
    """One operation of a client; moments in monotonic seconds. `mark` is what the client was answered, `more` why or by whom."""

    store: str
    kind: str
    key: str
    value: str
    sent: float
    answered: float
    mark: str
    more: str = ""


class Blow(NamedTuple):
    """A fault as it struck: its kind, when it began and ended (monotonic seconds), the servers and processes that it hit, and the
    group that it was meant for ("Two/g1", or "").
    """

    kind: str
    began: float
    ended: float
    servers: tuple[str, ...]
    pids: tuple[int, ...] = ()
    group: str = ""


def operations(text: str) -> list[Operation]:
    """The log of a client process; a line that it did not end is left out."""
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = (line.split("\t") for line in lines)
    return [Operation(r[0], r[1], r[2], r[3], float(r[4]), float(r[5]), r[6], r[7] if len(r) > 7 else "") for r in rows]


# -- writes -------------------------------------------------------------------------------------------------------------


def missing(writes: Iterable[Operation], contents: Mapping[str, Mapping[str, str]], marks: Sequence[str]) -> list[Operation]:
    """The writes of these marks that are not in the contents of their store. Each key was written once."""
    return [w for w in writes if w.mark in marks and contents.get(w.store, {}).get(w.key) != w.value]


def missing_registers(writes: Iterable[Operation], contents: Mapping[str, Mapping[str, str]]) -> list[Operation]:
    """The confirmed writes of registers above which their register is not in the end."""
    sure = [w for w in writes if w.kind == REGISTER and w.mark == SURE]
    return [w for w in sure if int(contents.get(w.store, {}).get(w.key, "0")) < int(w.value)]


class Place(NamedTuple):
    """Where a write was answered: its group ("Two/g1"), the server that led it, "" where that is not known, and the other
    servers of the domain.
    """

    group: str
    server: str
    others: tuple[str, ...] = ()


Applies = Callable[[Operation, Sequence[Blow], Place], bool]


@dataclass(frozen=True)
class Excuse:
    """A line of docs/critiques.md, quoted, by which an acknowledged write may be missing, and whether it applies: by the blows
    on the server that led then.
    """

    line: str
    applies: Applies


LOST = ("lose host", "lose a leader ahead", "kill everything")
PARTLY = ("cut one way", "cut both ways")  # cut off from some machines, not all
ALL_OTHERS = "all others away"  # no blow of a schedule: several that leave a server alone
CUTS = ("unplug host", "isolate host", *PARTLY, ALL_OTHERS)
GONE = ("unplug host", "isolate host", "freeze host", *LOST)  # nobody reaches such a server
KILLS = ("kill engine", "kill engine and manager", "kill a leader ahead")
BEFORE, AFTER = 15.0, 5.0  # s: a write may be answered so long after a blow ended, or so long before it began


def _struck(kinds: Sequence[str], least: float = 0.0) -> Applies:
    def applies(write: Operation, blows: Sequence[Blow], _: Place) -> bool:
        return any(b.kind in kinds and b.ended - b.began >= least and _near(write, b) for b in blows)

    return applies


def _near(write: Operation, blow: Blow) -> bool:
    return blow.began - AFTER <= write.answered and write.sent <= blow.ended + BEFORE


def _killed(write: Operation, blows: Sequence[Blow], place: Place) -> list[Blow]:
    """The blows near a write that ended an engine of its group."""
    return [blow for blow in blows if blow.kind in KILLS and blow.group == place.group and _near(write, blow)]


def _no_progress(write: Operation, blows: Sequence[Blow], place: Place) -> bool:
    """The leader was killed, and then its disk or machine stood still, or its manager could report nothing."""
    still = [
        b for b in blows if b.kind in ("slow disk", "freeze host", "freeze manager", "kill manager", "kill engine and manager")
    ]
    still = [blow for blow in still if blow.ended - blow.began >= 2.0]
    ends = [blow.began for blow in _killed(write, blows, place)]
    return any(blow.began - AFTER <= end <= blow.ended or end <= blow.began <= end + AFTER for blow in still for end in ends)


def _thrice(write: Operation, blows: Sequence[Blow], place: Place) -> bool:
    return len(_killed(write, blows, place)) >= 3


EXCUSES = (
    Excuse("A leader's machine is cut off from the others and from the state, its manager lives", _struck(CUTS)),
    Excuse("A leader's machine stands still for more than 3 s and goes on", _struck(("freeze host", "freeze engine"), least=3.0)),
    Excuse(
        "The leader's machine or disk is lost, or boots later than the others after a power cut",
        _struck(("lose host", "lose a leader ahead", "kill everything")),
    ),
    Excuse(
        "Engine and manager of the leader die, the machine is fine, and no manager is back within 10 s",
        _struck(("kill engine and manager",), least=9.0),
    ),
    Excuse(
        "The dead leader is restarted, and for `failoverGrace` (2 s) its process neither computes, reads, writes nor grows",
        _no_progress,
    ),
    Excuse(
        "The leader ends, and what it needs to start again is missing (room, its port, its directory)", _struck(("fill disk",))
    ),
    Excuse("The leader ends three times in a row within 10 s of running", _thrice),
)


def excuse(write: Operation, blows: Sequence[Blow], place: Place) -> str:
    """The line of docs/critiques.md that explains why an acknowledged write is missing; "" if none does."""
    return _line(EXCUSES, write, blows, place)


def _line(excuses: Sequence[Excuse], write: Operation, blows: Sequence[Blow], place: Place) -> str:
    here = [blow for blow in blows if not place.server or place.server in blow.servers]
    here += alone(place.server, place.others, blows)
    return next((known.line for known in excuses if known.applies(write, here, place)), "")


def alone(server: str, others: Sequence[str], blows: Sequence[Blow]) -> list[Blow]:
    """The times in which a server reached none of the others, each for a reason of its own: it is cut off from the state then
    although nothing struck it.
    """
    ways = [
        [b for b in blows if (other in b.servers and b.kind in GONE) or (b.kind in PARTLY and {server, other} == set(b.servers))]
        for other in others
    ]
    spans = ((max(b.began for b in way), min(b.ended for b in way)) for way in product(*ways) if way)
    return [Blow(ALL_OTHERS, began, ended, (server,)) for began, ended in spans if began < ended]


# -- registers ----------------------------------------------------------------------------------------------------------


def register_faults(history: Iterable[Operation]) -> list[str]:
    """Where the history of rising registers has no order that fits all confirmed writes and reads. A read has to show what was
    confirmed before it began, nothing that was not yet written when it ended, and no less than a read that ended before it.
    """
    faults = []
    by_register = sorted((o for o in history if o.kind in (REGISTER, READ)), key=lambda o: (o.store, o.key))
    for (store, key), group in groupby(by_register, key=lambda o: (o.store, o.key)):
        faults += [f"{store} {key}: {fault}" for fault in _register(list(group))]
    return faults


def _register(history: Sequence[Operation]) -> list[str]:
    reads = [o for o in history if o.kind == READ and o.mark == SURE]
    known = _Floor((o.answered, int(o.value)) for o in history if o.mark == SURE)
    begun = _Floor((o.sent, int(o.value)) for o in history if o.kind == REGISTER)
    faults = []
    for read in reads:
        value, least, most = int(read.value), known.before(read.sent), begun.before(read.answered)
        if value < least:
            faults.append(f"a confirmed read at {read.answered:.3f} showed {value} after {least} was confirmed or read")
        if value > most:
            faults.append(f"a confirmed read at {read.answered:.3f} showed {value}, but no more than {most} was written")
    return faults


class _Floor:
    """The largest value of those that came before a moment."""

    def __init__(self, steps: Iterable[tuple[float, int]]) -> None:
        self._moments: list[float] = []
        self._largest: list[int] = []
        for moment, value in sorted(steps):
            self._moments.append(moment)
            self._largest.append(max(value, self._largest[-1] if self._largest else 0))

    def before(self, moment: float) -> int:
        place = bisect_left(self._moments, moment)
        return self._largest[place - 1] if place else 0


# -- leaders ------------------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    """A term of a group: the engine that led it, and a moment before which it had not begun (monotonic seconds)."""

    leader: str
    after: float = -math.inf


def out_of_order(probes: Iterable[Operation], terms: Sequence[Term]) -> list[Operation]:
    """The writes that engines of one group accepted after a later leader had. Answers that overlap another engine's in time show
    no order and count for nothing.
    """
    place, late = 0, []
    for probe in _ordered(list(probes)):
        fitting = (n for n, t in enumerate(terms[place:], place) if t.leader == probe.value and t.after <= probe.answered)
        if (number := next(fitting, None)) is None:
            late.append(probe)
        else:
            place = number
    return late


NO_MANAGER = ("kill manager", "kill engine and manager", "freeze manager")


def _unfenced(write: Operation, blows: Sequence[Blow], place: Place) -> bool:
    asleep = _struck(CUTS)(write, blows, place) and _struck(("freeze manager",))(write, blows, place)
    return asleep or (_struck(PARTLY)(write, blows, place) and _struck(NO_MANAGER)(write, blows, place))


TWO_LEADERS = (
    Excuse("A manager is dead, or stands still, **and** its leader is cut off in a way that no guard sees", _unfenced),
    Excuse("A leader's machine stands still for more than 3 s and goes on", _struck(("freeze host", "freeze engine"), least=3.0)),
)


def leader_excuse(probe: Operation, blows: Sequence[Blow], place: Place) -> str:
    """The line of docs/critiques.md that explains why an engine accepted a write too late; "" if none does."""
    return _line(TWO_LEADERS, probe, blows, place)


def _ordered(probes: Sequence[Operation]) -> list[Operation]:
    probes = sorted((p for p in probes if p.kind == PROBE and p.mark == ACCEPTED), key=lambda p: p.sent)
    clear = []
    for index, probe in enumerate(probes):
        near = probes[max(0, index - 20) : index + 20]
        if not any(o.value != probe.value and o.sent < probe.answered and probe.sent < o.answered for o in near):
            clear.append(probe)
    return clear


# -- deaths, what waits, progress ---------------------------------------------------------------------------------------

OURS = ("killed by signal",)
OWN_WILL = {
    "graceful stop", "operator kill", "fenced by its manager", "lost its role inside a script",
    "lost its hash slots to another node",
    "was in the last epoch of the cluster bus",
}  # fmt: skip
ONLY_AFTER = {
    "killed by signal": LOST,  # a process that was born just before has no pid that the harness or the domain knows
    "never answered": ("freeze engine", "freeze host", "slow disk"),
    "disk full": ("fill disk",),
    "disk error": ("fill disk",),
    "directory not usable": ("fill disk",),
    "exited": ("fill disk", "lose host", "lose a leader ahead", "kill everything", "kill engine and manager", "kill manager"),
}
"""Causes of an end that a fault has to have struck for."""


def wrong_deaths(tombstones: Iterable[Mapping[str, Any]], blows: Sequence[Blow]) -> list[str]:
    """The ends whose recorded cause is not what happened: the harness knows which processes it killed, and what else struck."""
    killed = {pid for blow in blows for pid in blow.pids}
    faults = []
    for tombstone in tombstones:
        cause, pid = str(tombstone["cause"]), tombstone["pid"]
        server = str(tombstone["server"])
        here = {blow.kind for blow in blows if server in blow.servers}
        if pid in killed:
            right = cause in OURS or cause in OWN_WILL  # what the manager had begun itself may come first
        else:
            right = cause in OWN_WILL or bool(here & set(ONLY_AFTER.get(cause, ())))
        if not right:
            faults.append(
                f"process {tombstone['startId']} of {tombstone['instanceName']} on {server}: {cause}, {tombstone['reason']}"
            )
    return faults


def outages(answers: Iterable[Operation], begin: float, end: float, least: float) -> list[tuple[float, float]]:
    """The spans between two answers of a client that lasted longer than `least` seconds."""
    moments = [begin, *sorted(o.answered for o in answers if o.mark in (SURE, ACKNOWLEDGED)), end]
    return [(before, after) for before, after in pairwise(moments) if after - before > least]


def differences(copies: Mapping[str, Mapping[str, str]]) -> list[str]:
    """How the contents of the copies of one group differ, one line for each copy that has not what the first has."""
    names = list(copies)
    faults = []
    for name in names[1:]:
        first, other = copies[names[0]], copies[name]
        keys = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if keys:
            there, here = first.get(keys[0]), other.get(keys[0])
            faults.append(f"{name} differs from {names[0]} in {len(keys)} keys, such as {keys[0]}: {here} and {there}")
    return faults


def count(writes: Iterable[Operation], kind: str) -> dict[str, int]:
    """How many operations of a kind ended with each mark."""
    counts: dict[str, int] = {}
    for write in writes:
        if write.kind == kind:
            counts[write.mark] = counts.get(write.mark, 0) + 1
    return counts


WRITES = (CONFIRMED, VALKEY, REDIS)
