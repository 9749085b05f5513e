"""What a row and a column of the tables of kills are, and what is true after each cell (test_states.py, test_te_states.py).

A row brings about one moment on real engines and managers and holds it (holding.py says how); a column is one kill.
Afterwards all is whole again by itself: what the tombstones say, which start ids were given out, how often the
incarnation counted, and that no acknowledged write is missing is looked at each time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from dkv.client import Json
from dkv.kernel import started
from tests.e2e.holding import STORE, TE, Journal, Stage
from tests.e2e.local_domain import Manager, wait_for

BY_SIGNAL = ("killed by signal", 137)
BY_OPERATOR = ("operator kill", 0)  # it had no engine, so there was nothing to be killed
GRACEFUL = ("graceful stop", 0)


@dataclass(frozen=True)
class Moment:
    """A moment that is held: whose process is in it, in which state, and what else is true."""

    name: str  # of the instance, or TE
    state: str  # of its process
    leaves: bool = False  # it is about to end anyway
    later: str = ""  # its state when its end is reported by a manager that was away for longer
    others: tuple[str, ...] = ()  # who ends gracefully by itself afterwards
    whose: str = ""  # the instance whose manager is the victim, if it is another's
    dismissed: tuple[str, int] = BY_OPERATOR  # how an operator's kill is reported while it has no engine


Row = Callable[[Stage], Moment]
Column = Callable[[Stage, Moment, Manager, Json], None]


# The columns -----------------------------------------------------------------------------------------------------------


def process_dies(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    """By SIGKILL; of a TE that is its launcher. Without an engine it is the operator's word that ends it."""
    if run["pid"] is None:
        there.kill_one(victim.name)
    else:
        there.release_files()
        killed(int(run["pid"]))


def engine_dies(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    """One engine of a TE dies, and its launcher sees it."""
    there.release_files()
    killed(wait_for("its engine", there.engines_of_te)[0])


def killed(pid: int) -> None:
    """SIGKILL, and it has ended: a manager that goes on at the same moment may still want to kill it for reasons of its own."""
    os.kill(pid, signal.SIGKILL)
    wait_for(f"the end of {pid}", lambda: not started(pid))


def manager_dies(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    manager.kill()
    assert there.state(victim.name) == victim.state, "it was not in that state when its manager died"


def both_die(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    manager_dies(there, victim, manager, run)
    process_dies(there, victim, manager, run)


def table(rows: Iterable[Row], columns: Iterable[Column], usual: Collection[Any], empty: Collection[Any]) -> list[Any]:
    """The cells as parameters; all but the usual ones are marked `full`."""
    return [
        pytest.param(
            row, column, id=f"{row.__name__}-{column.__name__}", marks=() if (row, column) in usual else pytest.mark.full
        )
        for row in rows
        for column in columns
        if (row, column) not in empty
    ]


# One cell --------------------------------------------------------------------------------------------------------------


def killed_and_whole_again(there: Stage, row: Row, column: Column, name: str) -> None:
    """Bring the moment about, kill, let go of what was held, and see that all is as it should be."""
    there.whole()
    with Journal(there, name) as journal:
        victim = row(there)
        run = there.reaches(victim.name, victim.state)
        before = Record(there)
        manager = there.manager_of(victim.whose or victim.name)
        column(there, victim, manager, run)
        if column is both_die:  # what is held lasts until the manager is back and has reported the end
            manager.restart()
            there.end_of(STORE, int(run["startId"]))
        there.let_go()
        if manager.process is None:
            manager.restart()
        _settles(there, victim, run, column)
        there.whole()
        wait_for("writes again", lambda count=journal.acknowledged: journal.acknowledged > count)  # type: ignore[misc]
    assert journal.lost(there) == set()
    wait_for("the TE holds them too", lambda: not journal.missed_by_te(there))
    before.look(victim, run, died=column is not manager_dies)


def _settles(there: Stage, victim: Moment, run: Json, column: Column) -> None:
    """What ends, ends before anything is started again; what only lost its manager lives on under its start id."""
    if victim.leaves or column is not manager_dies:
        there.end_of(STORE, int(run["startId"]))
    for name in victim.others:
        wait_for(f"{name} ended", lambda name=name: not there.run(name))  # type: ignore[misc]


class Record:
    """What the domain had written down when the kill came, to be compared with what it says afterwards."""

    def __init__(self, there: Stage) -> None:
        self._there = there
        self._ended = {int(tombstone["startId"]) for tombstone in there.client.tombstones(STORE)}
        self._lived = {int(process["startId"]): str(process["instanceName"] or TE) for process in there.client.processes()}
        self._incarnation = dict(there.client.store(STORE)["incarnation"])

    def look(self, victim: Moment, run: Json, died: bool) -> None:
        """The victim's tombstone, if it died; nobody else's but of those who leave; start ids; the incarnation."""
        mine = int(run["startId"])
        tombstones = {int(tombstone["startId"]): tombstone for tombstone in self._there.client.tombstones(STORE)}
        fresh = {start_id: tombstone for start_id, tombstone in tombstones.items() if start_id not in self._ended}
        leaves = {start_id for start_id, name in self._lived.items() if name in victim.others}
        assert set(fresh) == leaves | ({mine} if died or victim.leaves else set()), fresh
        for start_id, end in fresh.items():
            self._one_end(end, victim if start_id == mine else None, run, died)
        self._start_ids(tombstones, fresh)
        self._count(fresh)

    def _one_end(self, tombstone: Json, victim: Moment | None, run: Json, died: bool) -> None:
        if victim is None or not died:
            expected, state = GRACEFUL, "REQUESTED_SHUTDOWN:SHUTTING_DOWN"
        else:
            expected, state = (victim.dismissed if run["pid"] is None else BY_SIGNAL), victim.state
        was = f"{tombstone['state']}:{tombstone['engineState']}"
        assert was == state or (victim is not None and was == victim.later), tombstone
        assert (tombstone["cause"], tombstone["exitCode"]) == expected, tombstone

    def _start_ids(self, tombstones: dict[int, Json], fresh: dict[int, Json]) -> None:
        """No id is used twice; who did not end keeps his; who is new has a higher one than anybody before."""
        lives = {int(process["startId"]) for process in self._there.client.processes()}
        assert not lives & set(tombstones)
        assert set(self._lived) - set(fresh) <= lives
        assert all(start_id > max(self._lived) for start_id in lives - set(self._lived))

    def _count(self, fresh: dict[int, Json]) -> None:
        """Each end counts once in the incarnation it happened in; no two have the same, and the newest is shown first."""
        counted = [(t["incarnation"]["major"], t["incarnation"]["minor"]) for t in self._there.client.tombstones(STORE)]
        assert counted == sorted(set(counted), reverse=True)
        now = self._there.client.store(STORE)["incarnation"]
        if now["major"] == self._incarnation["major"]:
            assert now["minor"] == self._incarnation["minor"] + len(fresh)
        assert now["major"] >= max(major for major, _ in counted) if counted else True
