"""A process, its manager, or both are killed in every state of an SM's life cycle: the store is whole again by itself.

Each row brings about one moment on real engines and managers and holds it; each column is one kill (dying.py). What is
killed beside TEs, and while a whole store stops, is in test_te_states.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dkv.client import Json
from tests.e2e.dying import Column, Moment, Row, both_die, killed_and_whole_again, manager_dies, process_dies, table
from tests.e2e.holding import STORE, Stage, stage
from tests.e2e.local_domain import wait_for


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("states")) as running_stage:
        yield running_stage


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
    _, follower = there.without_leader()
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
    _, follower = there.leader_loads()
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
        for name in there.names():
            there.start_one(name)

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
    return Moment(follower, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True)


def leaving_leader(there: Stage) -> Moment:
    """Asked to leave, in HANDOVER: the manager of the target is frozen."""
    leader, follower = there.roles()
    there.freeze(there.manager_of(follower))
    there.client.stop_instance(STORE, leader)
    wait_for("HANDOVER", lambda: group_is(there, leader, "HANDOVER"))
    return Moment(leader, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True)


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
    return Moment(follower, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True)


def group_is(there: Stage, leader: str, phase: str) -> bool:
    group = there.group(STORE)
    return bool(group["leader"] == leader and group["phase"] == phase)


def state_in(store: Json, name: str) -> str:
    run = next(instance["process"] for instance in store["instances"] if instance["instanceName"] == name)
    return f"{run['state']}:{run['engineState']}" if run else ""


# The table -------------------------------------------------------------------------------------------------------------


WITHOUT_ENGINE = (requested, started)
ROWS = (
    requested,
    started,
    configured_follower,
    configured_leader,
    tracked_follower,
    tracked_leader,
    opening,
    announced,
    required,
    required_leader,
    running_follower,
    running_leader,
    lone_leader,
    leaving_follower,
    leaving_leader,
    taking_over,
    stopped_last,
)
USUAL = (
    (requested, manager_dies),
    (started, process_dies),
    (configured_follower, both_die),
    (tracked_follower, manager_dies),
    (announced, process_dies),
    (running_leader, both_die),
    (leaving_follower, process_dies),
)
EMPTY = {*((row, both_die) for row in WITHOUT_ENGINE), (required_leader, process_dies)}  # nothing else than beside it


@pytest.mark.parametrize(("row", "column"), table(ROWS, (process_dies, manager_dies, both_die), USUAL, EMPTY))
def test_whoever_is_killed_whenever_all_is_whole_again(
    there: Stage, row: Row, column: Column, request: pytest.FixtureRequest
) -> None:
    killed_and_whole_again(there, row, column, request.node.callspec.id)
