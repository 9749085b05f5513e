"""A forced stop of a whole store while one of its servers is away: nobody waits for a machine that may never return."""

from __future__ import annotations

from dkv.domain import facts, orders
from dkv.domain.decision import Accepted
from dkv.domain.model import DatabaseState, ProcessRole, ProcessState
from tests.machine.stage import DATABASE, Stage


def test_a_forced_stop_does_not_wait_for_a_server_that_is_away_and_the_rest_starts_again() -> None:
    stage = Stage(2).settled()
    stage.server_is_lost("s2")
    stage.submit(orders.ShutdownDatabase(name=DATABASE))
    assert stage.state.databases[DATABASE].state is DatabaseState.REQUESTED_SM_SHUTDOWN
    stage.submit(orders.ShutdownDatabase(name=DATABASE, force=True))
    assert [p.archive_id for p in stage.state.processes.values()] == [0]
    stage.ends(0)
    assert stage.state.databases[DATABASE].state is DatabaseState.NOT_RUNNING
    stage.request(0)
    stage.rise(0, ProcessState.STARTED)
    assert stage.group.leader == 0


def test_what_ended_unproven_stays_under_suspicion() -> None:
    stage = Stage(2).settled()
    leader = stage.process(0).start_id
    stage.server_is_lost("s1")
    stage.submit(orders.ShutdownDatabase(name=DATABASE, force=True))
    assert leader in stage.group.suspects
    assert stage.state.tombstones[leader].cause == "server away"


def test_nobody_waits_for_what_ran_on_an_archive_that_was_deleted() -> None:
    """Seed 24 of the simulation: the group had been vacant for ever."""
    stage = Stage(2).settled()
    leader = stage.process(0).start_id
    stage.server_is_lost("s1")
    stage.submit(orders.ShutdownDatabase(name=DATABASE, force=True))
    stage.submit(orders.DeleteArchive(archive_id=0))
    assert leader in stage.group.suspects
    stage.server_joins("s1")
    stage.submit(facts.ArchiveRetired(archive_id=0, server_id="s1", path="gone"))
    assert stage.group.suspects == ()


def test_a_te_that_an_end_before_its_own_has_told_to_stop_ends_as_one_that_stops() -> None:
    stage = Stage(1).settled()
    stage.submit(orders.StartProcess(database=DATABASE, role=ProcessRole.TE, server_id="s1"))
    te = max(stage.state.processes)
    stage.server_is_lost("s1")
    decision = stage.offer(orders.ShutdownDatabase(name=DATABASE, force=True))
    assert isinstance(decision, Accepted)
    moves = [event.change for event in decision.events if event.subject == f"process {te}"]
    assert moves == ["REQUESTED -> REQUESTED_SHUTDOWN", "REQUESTED_SHUTDOWN -> (gone)"]


def test_every_end_counts_in_the_incarnation() -> None:
    stage = Stage(2).settled()
    minor = stage.state.databases[DATABASE].minor
    stage.server_is_lost("s2")
    stage.submit(orders.ShutdownDatabase(name=DATABASE, force=True))
    assert stage.state.databases[DATABASE].minor == minor + 1
    assert stage.state.databases[DATABASE].state is DatabaseState.REQUESTED_SM_SHUTDOWN
