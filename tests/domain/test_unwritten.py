"""What people are shown while a manager cannot write: what it saw end has ended, who leads and who is in sync is untouched."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain import status
from dkv.domain.blocked import blocked
from dkv.domain.model import ArchiveState
from dkv.domain.unwritten import Ended, Unwritten, as_of
from dkv.hints import hint
from dkv.wire.views import store_view, tombstones_view
from tests.domain.test_waiting import UP, played

LOCKED = Unwritten("A", 1_700_000_000_000, 7, "pid 4711 (sqlite3 domain.sqlite) has held the write lock", hint("Kill it."))
KILLED = Ended(0, "killed by signal", "killed by signal 9, sender unknown", 137, ("last",))


def test_an_engine_that_its_manager_saw_end_is_not_shown_as_one_that_lives() -> None:
    state = played(UP).world.state
    shown = as_of(state, replace(LOCKED, ended=(KILLED,)))
    view = store_view(shown, shown.databases["db"], 7)
    assert [(i["instanceName"], i["state"]) for i in view["instances"]] == [("db-1", "Failed"), ("db-2", "Running")]
    assert "seen by its manager, which cannot commit it" in view["instances"][0]["reason"]
    assert (view["status"], shown.archives[0].state) == ("Partial", ArchiveState.NOT_RUNNING)
    assert tombstones_view(shown, "db")[0]["lastWords"] == ["last"]
    reasons = [(item.subject, item.blocks, item.reason) for item in blocked(shown, "db")]
    assert ("group db/UNPARTITIONED", True) in [(subject, blocks) for subject, blocks, _ in reasons]
    assert any("db-1 led it and ended (killed by signal 9" in reason for *_, reason in reasons), reasons


def test_who_confirms_by_a_view_is_shown_the_same_leader_and_in_sync_set_as_before() -> None:
    state = played(UP).world.state
    both = (KILLED, replace(KILLED, start_id=1))
    shown = as_of(state, replace(LOCKED, ended=both, refusing=((0, "MISCONF"), (1, "OOM"))))
    assert shown.groups == state.groups
    before, after = (store_view(seen, seen.databases["db"], 7)["groups"][0] for seen in (state, shown))
    same = ("term", "open", "leader", "leaderEndpoint", "inSync", "required", "requiredEndpoints", "canLoseForConfirmed")
    assert [before[name] for name in same] == [after[name] for name in same]


def test_a_view_that_may_be_old_says_so_and_vouches_for_nothing() -> None:
    shown = as_of(played(UP).world.state, LOCKED)
    (item,) = blocked(shown)
    assert (item.kind, item.blocks, item.since, str(item.hint)) == ("domain", True, LOCKED.at, "Kill it.")
    assert "pid 4711 (sqlite3 domain.sqlite)" in item.reason
    assert "7 s old" in item.reason
    assert status.store_status(shown, "db") == "Partial"
    assert status.can_lose(shown, shown.groups_of("db")[0]) == (1, 0), "nobody can take over while nothing can be written"


def test_what_an_engine_refuses_is_shown_although_it_cannot_be_reported() -> None:
    shown = as_of(played(UP).world.state, replace(LOCKED, refusing=((0, "MISCONF"), (99, "OOM"))))
    assert any("cannot write its append-only file" in item.reason for item in blocked(shown))


def test_an_end_that_was_written_after_all_is_not_shown_twice() -> None:
    state = played(UP + "exit db-1").world.state
    assert as_of(state, replace(LOCKED, ended=(KILLED,))).tombstones == state.tombstones
