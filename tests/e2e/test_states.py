"""A process, its manager, or both are killed in every state of the life cycle: the store is whole again by itself.

Each row brings about one moment on real engines and managers and holds it (holding.py says how); each column is one
kill. What the victim's tombstone says, which start ids were given out, how often the incarnation counted, and that no
acknowledged write is missing is looked at after each. A state without an engine is killed by the operator's word.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dkv.client import Json
from tests.e2e.holding import STORE, Journal, Stage, stage
from tests.e2e.house import Manager, wait_for

BY_SIGNAL = ("killed by signal", 137)
BY_OPERATOR = ("operator kill", 0)       # it had no engine, so there was nothing to be killed
GRACEFUL = ("graceful stop", 0)


@dataclass(frozen=True)
class Moment:
    """A moment that is held: whose process is in it, in which state, and what else is true."""

    name: str                  # of the instance
    state: str                 # of its process
    asked: bool = False        # to leave: it ends anyway
    later: str = ""            # its state when its end is reported by a manager that was away for longer
    others: tuple[str, ...] = ()   # instances that end gracefully by themselves afterwards
    whose: str = ""            # the instance whose manager is the victim, if it is another's


Row = Callable[[Stage], Moment]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("states")) as found:
        yield found


# The rows --------------------------------------------------------------------------------------------------------------


def requested(there: Stage) -> Moment:
    """Its manager is frozen, so nobody takes the request."""
    _, follower = there.roles()
    there.stop_one(follower)
    there.freeze(there.manager_of(follower))
    there.start_one(follower)
    return Moment(follower, "REQUESTED:UNKNOWN")


def started(there: Stage) -> Moment:
    """The other archive has newer data and is not requested, so nobody may lead."""
    leader, follower = there.roles()
    there.stop_one(follower)
    there.stop_one(leader)
    there.start_one(follower)
    wait_for("AWAITING_ARCHIVE_HISTORIES_MSG", lambda: there.client.store(STORE)["state"] == "AWAITING_ARCHIVE_HISTORIES_MSG")
    return Moment(follower, "STARTED:UNKNOWN")


def configured_follower(there: Stage) -> Moment:
    """Launched beside a leader that serves, and does not answer yet."""
    _, follower = there.roles()
    there.stop_one(follower)
    there.hold(follower)
    there.start_one(follower)
    return Moment(follower, "CONFIGURED:UNKNOWN")


def configured_leader(there: Stage) -> Moment:
    """Assigned in a cold start of both, and does not answer yet: the group is ASSIGNED, the database STARTED."""
    leader, follower = there.roles()
    there.stop_all()
    there.hold(leader)
    there.start_one(leader)
    there.start_one(follower)
    wait_for("ASSIGNED", lambda: group_is(there, leader, "ASSIGNED"))
    assert there.client.store(STORE)["state"] == "STARTED"
    return Moment(leader, "CONFIGURED:UNKNOWN")


def tracked_follower(there: Stage) -> Moment:
    """Loaded, while the only archive that may lead is still loading."""
    leader, follower = there.roles()
    there.stop_one(follower)
    there.stop_one(leader)
    there.hold(leader)
    there.start_one(leader)
    there.start_one(follower)
    return Moment(follower, "TRACKED:UNKNOWN")


def tracked_leader(there: Stage) -> Moment:
    """Loaded, before its manager opened its term: caught by freezing that manager."""

    def sight(store: Json) -> bool:
        group = store["groups"][0]
        return bool(group["phase"] == "ASSIGNED" and state_in(store, group["leader"]) == "TRACKED:UNKNOWN")

    return Moment(caught_leading(there, sight), "TRACKED:UNKNOWN")


def opening(there: Stage) -> Moment:
    """Its term is open and it does not serve yet: it is being made the leader."""

    def sight(store: Json) -> bool:
        return bool(store["groups"][0]["phase"] == "OPEN" and not store["groups"][0]["serving"])

    return Moment(caught_leading(there, sight), "TRACKED:UNKNOWN")


def caught_leading(there: Stage, sight: Callable[[Json], bool]) -> str:
    """In a cold start of both the last leader leads again; its manager is frozen at that sight. Its name."""
    leader = there.roles()[0]

    def again() -> None:
        nonlocal leader
        leader = there.roles()[0]
        there.stop_all()
        for one in there.names():
            there.start_one(one)

    there.caught(lambda: there.manager_of(leader), again, sight)
    assert there.group(STORE)["leader"] == leader
    return leader


def announced(there: Stage) -> Moment:
    """It may join and its engine does not get to it."""
    follower = tracked_follower(there).name
    there.stop_clock_of(int(there.reaches(follower, "TRACKED:UNKNOWN")["pid"]))
    there.let_go_of_held()
    wait_for("ANNOUNCED", lambda: [j["stage"] for j in there.group(STORE)["joining"]] == ["ANNOUNCED"])
    return Moment(follower, "MONITORED:SYNCING")


def required(there: Stage, whose: str = "") -> Moment:
    """Its marker is on its disk and confirmed writes wait for it; the leader's manager, which takes it in, is frozen."""
    leader, follower = there.roles()

    def again() -> None:
        there.stop_one(follower)
        there.start_one(follower)

    def sight(store: Json) -> bool:
        return [j["stage"] for j in store["groups"][0]["joining"]] == ["REQUIRED"]

    there.caught(lambda: there.manager_of(leader), again, sight)
    return Moment(follower, "MONITORED:SYNCING", whose=leader if whose else "")


def required_leader(there: Stage) -> Moment:
    """The same, and it is the leader's manager that dies."""
    return required(there, "leader")


def running_follower(there: Stage) -> Moment:
    return Moment(there.roles()[1], "MONITORED:RUNNING", later="MONITORED:SYNCING")


def running_leader(there: Stage) -> Moment:
    return Moment(there.roles()[0], "MONITORED:RUNNING")


def lone_leader(there: Stage) -> Moment:
    """The other SM is missing: the database serves on, in AWAITING_ARCHIVE_HISTORIES_INC."""
    leader, follower = there.roles()
    there.stop_one(follower)
    assert there.client.store(STORE)["state"] == "AWAITING_ARCHIVE_HISTORIES_INC"
    assert there.engine(STORE, leader).set("served", "in INC")
    return Moment(leader, "MONITORED:RUNNING")


def leaving_follower(there: Stage) -> Moment:
    """Asked to leave and out of S; its engine does not get to it."""
    leader, follower = there.roles()
    there.stop_clock_of(int(there.run(follower)["pid"]))
    there.client.stop_instance(STORE, follower)
    wait_for("S without it", lambda: there.group(STORE)["inSync"] == [leader])
    return Moment(follower, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", asked=True)


def leaving_leader(there: Stage) -> Moment:
    """Asked to leave, in HANDOVER: the manager of the target is frozen."""
    leader, follower = there.roles()
    there.freeze(there.manager_of(follower))
    there.client.stop_instance(STORE, leader)
    wait_for("HANDOVER", lambda: group_is(there, leader, "HANDOVER"))
    return Moment(leader, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", asked=True)


def taking_over(there: Stage) -> Moment:
    """The other end of a handover: the leader leaves, and its target is the victim."""
    leader, follower = there.roles()
    leaving_leader(there)
    return Moment(follower, "MONITORED:RUNNING", later="MONITORED:SYNCING", others=(leader,))


def stopped_last(there: Stage) -> Moment:
    """The whole store is being stopped, in REQUESTED_SM_SHUTDOWN; this engine does not get to it."""
    _, follower = there.roles()
    there.stop_clock_of(int(there.run(follower)["pid"]))
    there.client.stop_store(STORE)
    there.reaches(follower, "REQUESTED_SHUTDOWN:SHUTTING_DOWN")
    assert there.client.store(STORE)["state"] == "REQUESTED_SM_SHUTDOWN"
    wait_for("the other ended", lambda: not there.run(there.names(follower)[0]))
    return Moment(follower, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", asked=True)


def group_is(there: Stage, leader: str, phase: str) -> bool:
    group = there.group(STORE)
    return bool(group["leader"] == leader and group["phase"] == phase)


def state_in(store: Json, name: str) -> str:
    run = next(one["process"] for one in store["instances"] if one["instanceName"] == name)
    return f"{run['state']}:{run['engineState']}" if run else ""


# The columns -----------------------------------------------------------------------------------------------------------


def process_dies(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    if run["pid"] is None:
        there.client.stop_instance(STORE, victim.name, force=True)
    else:
        there.release_files()
        os.kill(int(run["pid"]), signal.SIGKILL)


def manager_dies(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    manager.kill()
    assert there.state(victim.name) == victim.state, "it was not in that state when its manager died"


def both_die(there: Stage, victim: Moment, manager: Manager, run: Json) -> None:
    manager_dies(there, victim, manager, run)
    process_dies(there, victim, manager, run)


COLUMNS = (process_dies, manager_dies, both_die)
WITHOUT_ENGINE = (requested, started)
ROWS = (
    requested, started, configured_follower, configured_leader, tracked_follower, tracked_leader, opening, announced,
    required, required_leader, running_follower, running_leader, lone_leader, leaving_follower, leaving_leader,
    taking_over, stopped_last,
)  # fmt: skip
USUAL = (
    (requested, manager_dies), (started, process_dies), (configured_follower, both_die), (tracked_follower, manager_dies),
    (announced, process_dies), (running_leader, both_die), (leaving_follower, process_dies),
)  # fmt: skip
EMPTY = {*((row, both_die) for row in WITHOUT_ENGINE), (required_leader, process_dies)}   # nothing else than beside it
TABLE = [
    pytest.param(row, column, id=f"{row.__name__}-{column.__name__}",
                 marks=() if (row, column) in USUAL else pytest.mark.full)
    for row in ROWS for column in COLUMNS if (row, column) not in EMPTY
]  # fmt: skip


@pytest.mark.parametrize(("row", "column"), TABLE)
def test_whoever_is_killed_whenever_all_is_whole_again(
    there: Stage, row: Row, column: Callable[[Stage, Moment, Manager, Json], None], request: pytest.FixtureRequest
) -> None:
    there.whole()
    with Journal(there, request.node.callspec.id) as journal:
        victim = row(there)
        run = there.reaches(victim.name, victim.state)
        before = Record(there)
        manager = there.manager_of(victim.whose or victim.name)
        column(there, victim, manager, run)
        if column is both_die:   # what is held lasts until the manager is back and has told of the end
            manager.restart()
            there.end_of(STORE, int(run["startId"]))
        there.let_go()
        if manager.process is None:
            manager.restart()
        settles(there, victim, run, column)
        there.whole()
        wait_for("writes again", lambda count=journal.acknowledged: journal.acknowledged > count)  # type: ignore[misc]
    assert journal.lost(there) == set()
    before.look(victim, run, died=column is not manager_dies)


def settles(there: Stage, victim: Moment, run: Json, column: object) -> None:
    """What ends, ends before anything is started again; what only lost its manager lives on under its start id."""
    if victim.asked or column is not manager_dies:
        there.end_of(STORE, int(run["startId"]))
    for name in victim.others:
        wait_for(f"{name} ended", lambda name=name: not there.run(name))  # type: ignore[misc]


class Record:
    """What the domain had written down when the kill came, to be compared with what it says afterwards."""

    def __init__(self, there: Stage) -> None:
        self._there = there
        self._ended = {int(one["startId"]) for one in there.client.tombstones(STORE)}
        self._lived = {int(one["startId"]): str(one["instanceName"]) for one in there.client.processes()}
        self._incarnation = dict(there.client.store(STORE)["incarnation"])

    def look(self, victim: Moment, run: Json, died: bool) -> None:
        """The victim's tombstone, if it died; nobody else's but of those who leave; start ids; the incarnation."""
        mine = int(run["startId"])
        found = {int(one["startId"]): one for one in self._there.client.tombstones(STORE)}
        fresh = {start_id: one for start_id, one in found.items() if start_id not in self._ended}
        leaves = {start_id for start_id, name in self._lived.items() if name in victim.others}
        assert set(fresh) == leaves | ({mine} if died or victim.asked else set()), fresh
        for start_id, one in fresh.items():
            self._one_end(one, victim if start_id == mine else None, run, died)
        self._start_ids(found, fresh)
        self._count(fresh)

    def _one_end(self, told: Json, victim: Moment | None, run: Json, died: bool) -> None:
        if victim is None or not died:
            expected, state = GRACEFUL, "REQUESTED_SHUTDOWN:SHUTTING_DOWN"
        else:
            expected, state = (BY_OPERATOR if run["pid"] is None else BY_SIGNAL), victim.state
        was = f"{told['state']}:{told['engineState']}"
        assert was == state or (victim is not None and was == victim.later), told
        assert (told["cause"], told["exitCode"]) == expected, told

    def _start_ids(self, found: dict[int, Json], fresh: dict[int, Json]) -> None:
        """No id is used twice; who did not end keeps his; who is new has a higher one than anybody before."""
        lives = {int(one["startId"]) for one in self._there.client.processes()}
        assert not lives & set(found)
        assert set(self._lived) - set(fresh) <= lives
        assert all(one > max(self._lived) for one in lives - set(self._lived))

    def _count(self, fresh: dict[int, Json]) -> None:
        """Each end counts once in the incarnation it happened in; no two have the same, and the newest is shown first."""
        counted = [(t["incarnation"]["major"], t["incarnation"]["minor"]) for t in self._there.client.tombstones(STORE)]
        assert counted == sorted(set(counted), reverse=True)
        now = self._there.client.store(STORE)["incarnation"]
        if now["major"] == self._incarnation["major"]:
            assert now["minor"] == self._incarnation["minor"] + len(fresh)
        assert now["major"] >= max(major for major, _ in counted) if counted else True
