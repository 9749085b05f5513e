"""The same kills (dying.py) in every state of a TE's life cycle, and while a whole store is being stopped.

A TE lives on when its manager dies, and is gone when it dies itself: nothing durable was lost, so nobody requests it again.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dying import Column, Moment, Row, both_die, engine_dies, killed_and_whole_again, manager_dies, process_dies, table
from tests.e2e.holding import STORE, TE, Stage, stage

LAUNCHED_MEANWHILE = ("operator kill", 137)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("te-states")) as running_stage:
        yield running_stage


@pytest.fixture
def there(domain: Stage) -> Iterator[Stage]:
    yield domain
    domain.without_te()


# A TE ------------------------------------------------------------------------------------------------------------------


def te_requested(there: Stage) -> Moment:
    """Its manager is frozen, so nobody takes the request."""
    _, follower = there.roles()
    there.freeze(there.manager_of(follower))
    there.start_te(follower)
    return Moment(TE, "REQUESTED:UNKNOWN")


def te_started(there: Stage) -> Moment:
    """Taken; its manager waited for the lock of its directory, and is frozen before it launches it."""
    te_requested(there)
    manager = there.manager_of(TE)
    with locked(manager.data_dir / "te" / str(there.run(TE)["startId"])):
        there.thaw()
        there.reaches(TE, "STARTED:UNKNOWN")
        there.freeze(manager)
    return Moment(TE, "STARTED:UNKNOWN", later="CONFIGURED:UNKNOWN", dismissed=LAUNCHED_MEANWHILE)


def te_configured(there: Stage) -> Moment:
    """Launched, and its engine does not answer yet."""
    _, follower = there.roles()
    there.hold(TE)
    there.start_te(follower)
    return Moment(TE, "CONFIGURED:UNKNOWN")


def te_tracked(there: Stage) -> Moment:
    """Ready before there is a leader: the only archive that may lead is still loading."""
    _, follower = there.leader_loads()
    there.start_te(follower)
    return Moment(TE, "TRACKED:UNKNOWN")


def te_syncing(there: Stage) -> Moment:
    """Its group is led, and its engine does not get to following."""
    te_tracked(there)
    there.reaches(TE, "TRACKED:UNKNOWN")
    there.stop_clock_of(*there.engines_of_te())
    there.let_go_of_held()
    return Moment(TE, "MONITORED:SYNCING")


def te_running(there: Stage) -> Moment:
    _, follower = there.roles()
    there.start_te(follower)
    return Moment(TE, "MONITORED:RUNNING")


def te_stands_still(there: Stage) -> None:
    """It runs, and its engines get to nothing any more."""
    te_running(there)
    there.reaches(TE, "MONITORED:RUNNING")
    there.stop_clock_of(*there.engines_of_te())


def te_leaving(there: Stage) -> Moment:
    """Asked to leave, and its engine does not get to it."""
    te_stands_still(there)
    there.stop_te()
    return Moment(TE, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True)


# A database that is being stopped --------------------------------------------------------------------------------------


def tes_stop_first(there: Stage) -> Moment:
    """The whole store is being stopped, in REQUESTED_TE_SHUTDOWN: its SMs serve until the TE is gone."""
    te_stands_still(there)
    there.client.stop_store(STORE)
    assert there.client.store(STORE)["state"] == "REQUESTED_TE_SHUTDOWN"
    return Moment(TE, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True, others=there.roles())


def leader_waits_for_tes(there: Stage) -> Moment:
    leader, follower = tes_stop_first(there).others
    return Moment(leader, "MONITORED:RUNNING", leaves=True, others=(TE, follower))


def follower_waits_for_tes(there: Stage) -> Moment:
    leader, follower = tes_stop_first(there).others
    return Moment(follower, "MONITORED:RUNNING", leaves=True, later="MONITORED:SYNCING", others=(TE, leader))


def te_alone(there: Stage) -> Moment:
    """Nothing durable is left, so the domain stops it, in REQUESTED_TE_SHUTDOWN again."""
    te_stands_still(there)
    there.without_leader()
    assert there.client.store(STORE)["state"] == "REQUESTED_TE_SHUTDOWN"
    return Moment(TE, "REQUESTED_SHUTDOWN:SHUTTING_DOWN", leaves=True)


def clean_stop_awaited(there: Stage) -> Moment:
    """The whole store is being stopped, in REQUESTED_SM_SHUTDOWN; the leader does not get to fencing its writes."""
    leader, follower = there.roles()
    there.stop_clock_of(int(there.run(leader)["pid"]))
    there.client.stop_store(STORE)
    assert there.client.store(STORE)["state"] == "REQUESTED_SM_SHUTDOWN"
    return Moment(leader, "MONITORED:RUNNING", leaves=True, later="REQUESTED_SHUTDOWN:SHUTTING_DOWN", others=(follower,))


# The table -------------------------------------------------------------------------------------------------------------


class locked:
    """A directory whose lock somebody else holds."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._file = (directory / "LOCK").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


WITHOUT_ENGINE = (te_requested, te_started)
OF_TES = (te_requested, te_started, te_configured, te_tracked, te_syncing, te_running, te_leaving, tes_stop_first, te_alone)
OF_SMS = (leader_waits_for_tes, follower_waits_for_tes, clean_stop_awaited)
USUAL = ((te_configured, both_die), (leader_waits_for_tes, process_dies))
EMPTY = {
    *((row, column) for row in WITHOUT_ENGINE for column in (engine_dies, both_die)),  # nothing is there to be killed
    *((row, engine_dies) for row in OF_SMS),  # an SM is its engine
}


@pytest.mark.parametrize(
    ("row", "column"), table((*OF_TES, *OF_SMS), (process_dies, engine_dies, manager_dies, both_die), USUAL, EMPTY)
)
def test_whoever_is_killed_beside_tes_or_in_a_stop_all_is_whole_again(
    there: Stage, row: Row, column: Column, request: pytest.FixtureRequest
) -> None:
    killed_and_whole_again(there, row, column, request.node.callspec.id)
