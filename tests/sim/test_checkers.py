"""The checkers of the simulation can fail: each breach is planted in a whole domain, and named in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dkv.control.submit import Submitter
from dkv.domain.decision import Event
from dkv.domain.hotcopy import CopyStage
from dkv.domain.model import ProcessRole, State
from dkv.domain.orders import RequestHotCopy, StartProcess
from dkv.machine.observation import directory_of
from dkv.sim import clients, scenario
from dkv.sim.checks.metadata import MetadataChecks
from dkv.sim.checks.te_and_backup import TeAndBackupChecks
from dkv.sim.clients import Write
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.scenario import Scenario
from dkv.sim.world import DATABASE
from tests.sim.test_scenarios import ScenarioRun

Schedule = Callable[[ScenarioRun], Awaitable[None]]
KEY = (DATABASE, "g1")


def failures(scenario: Scenario) -> list[str]:
    return ScenarioRun(3).play(scenario)


def test_a_run_without_a_breach_is_a_good_one() -> None:
    async def nothing(run: ScenarioRun) -> None:
        run.checkers.confirmed(last(run), 0.49)
        run.checkers.at_the_end()
        assert run.checkers.unhealthy() == []

    assert failures(nothing) == []


def last(run: ScenarioRun) -> Write:
    """The write that was confirmed last."""
    return run.ledger.confirmed[KEY][-1]


def disk_of(run: ScenarioRun, archive_id: int) -> Disk:
    archive = run.world.state.archives[archive_id]
    return run.world.machines[archive.server_id].hardware.disks[directory_of("/data", archive)]


def leader(run: ScenarioRun) -> SimEngine:
    engine = run.checkers.leader_engine(run.group)
    assert engine is not None
    return engine


def follower(run: ScenarioRun) -> int:
    """An archive in S that does not lead."""
    return next(archive_id for archive_id in run.group.in_sync if archive_id != run.group.leader)


# -- what was confirmed ------------------------------------------------------------------------------------------------


async def by_an_old_view(run: ScenarioRun) -> None:
    run.checkers.confirmed(last(run), 0.5)


async def by_a_view_whose_reader_forgot_when_he_asked(run: ScenarioRun) -> None:
    old = last(run).view
    await run.world.order(StartProcess(actor="operator", database=DATABASE, role=ProcessRole.TE, server_id="s1"))
    await run.confirm(1)
    await asyncio.sleep(0.6)
    run.checkers.confirmed(replace(last(run), view=old), 0.1)


async def after_a_later_term(run: ScenarioRun) -> None:
    run.checkers.confirmed(replace(last(run), term=9), 0.1)
    await run.confirm(1)


async def not_on_the_disk_of_a_member(run: ScenarioRun) -> None:
    disk_of(run, follower(run)).replace({})
    run.checkers.confirmed(last(run), 0.1)


async def by_a_copy_that_entered_without_it(run: ScenarioRun) -> None:
    late, state = follower(run), run.world.state
    disk_of(run, late).replace({})
    smaller = replace(run.group, in_sync=tuple(a for a in run.group.in_sync if a != late))
    run.checkers.committed(replace(state, groups={KEY: smaller}), state, ())


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (by_an_old_view, "was called confirmed by a view that was 0.500 s old"),
        (by_a_view_whose_reader_forgot_when_he_asked, "was called confirmed by a view that was"),
        (after_a_later_term, "confirmed after writes of term 9 had been confirmed"),
        (not_on_the_disk_of_a_member, "was confirmed and is not on the disk of archive"),
        (by_a_copy_that_entered_without_it, "entered S of g1 without 5 confirmed writes"),
    ],
)
def test_a_write_called_confirmed_that_is_not_is_found_out(breach: Schedule, words: str) -> None:
    assert words in " / ".join(failures(breach))


# -- what is there at the end ------------------------------------------------------------------------------------------


async def a_confirmed_write_is_gone(run: ScenarioRun) -> None:
    del leader(run).data[last(run).key]
    run.checkers.at_the_end()


async def an_acknowledged_write_is_gone(run: ScenarioRun) -> None:
    last(run).confirmed_at = None
    await a_confirmed_write_is_gone(run)


async def a_member_lacks_what_the_leader_has(run: ScenarioRun) -> None:
    state = run.world.state
    process = state.process_on(follower(run))
    assert process is not None
    del run.world.machines[process.server_id].hardware.engines[process.start_id].data[last(run).key]
    run.checkers.at_the_end()


async def two_engines_lead(run: ScenarioRun) -> None:
    process = run.world.state.process_on(follower(run))
    assert process is not None
    run.world.machines[process.server_id].hardware.engines[process.start_id].role = "leader"
    run.world.failures += run.checkers.unhealthy()


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (a_confirmed_write_is_gone, "confirmed at"),
        (an_acknowledged_write_is_gone, "is lost although its machine was there at every choice"),
        (a_member_lacks_what_the_leader_has, "differs from its leader's: lacks: 1"),
        (two_engines_lead, "g1 is led by processes ["),
    ],
)
def test_what_is_missing_at_the_end_is_found_out(breach: Schedule, words: str) -> None:
    assert words in " / ".join(failures(breach))


# -- what stands beside the copies -------------------------------------------------------------------------------------


async def te_of(run: ScenarioRun) -> SimEngine:
    """The engine of a memory-only process, once it has what its leader has."""
    await an_order(run)
    machines = run.world.machines.values()
    await run.until(lambda: any(te.engines[0].data for machine in machines for te in machine.hardware.memory.values()))
    return next(te.engines[0] for machine in machines for te in machine.hardware.memory.values())


async def a_te_leads(run: ScenarioRun) -> None:
    (await te_of(run)).role = "leader"
    TeAndBackupChecks(run.world, run.ledger).committed(run.world.state, run.world.state, ())


async def a_te_lacks_something(run: ScenarioRun) -> None:
    del (await te_of(run)).data[last(run).key]
    TeAndBackupChecks(run.world, run.ledger).at_the_end()


async def copied(run: ScenarioRun, spoil: Callable[[list[Disk]], None]) -> None:
    """A hot copy is complete; its files are spoilt, and it is said to be complete once more."""
    beside = TeAndBackupChecks(run.world, run.ledger)
    run.world.watchers.append(beside)
    await run.world.order(RequestHotCopy(actor="operator", database=DATABASE, shared=True, whole=False, default_path="/copy"))
    await run.until(lambda: [c.stage for c in run.world.state.copies.values()] == [CopyStage.COMPLETED])
    state = run.world.state
    ((copy_id, copy),) = state.copies.items()
    places = [run.world.machines[part.server_id].hardware.backups.places[part.path] for part in copy.parts]
    spoil([place.files for place in places if place.files is not None])
    beside.committed(replace(state, copies={copy_id: replace(copy, stage=CopyStage.COPYING)}), state, ())


async def a_hot_copy_without_what_was_confirmed(run: ScenarioRun) -> None:
    await copied(run, lambda files: files[0].replace({}))


async def a_hot_copy_whose_archives_differ(run: ScenarioRun) -> None:
    await copied(run, lambda files: files[0].replace({**files[0].load(), "odd": "1"}))


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (a_te_leads, "a TE, leads g1"),
        (a_te_lacks_something, "a TE, lacks 1 writes of g1"),
        (a_hot_copy_without_what_was_confirmed, "lacks 5 writes that were confirmed before"),
        (a_hot_copy_whose_archives_differ, "differ"),
    ],
)
def test_what_is_wrong_beside_the_copies_is_found_out(breach: Schedule, words: str) -> None:
    assert words in " / ".join(failures(breach))


# -- what was answered -------------------------------------------------------------------------------------------------


async def an_order(run: ScenarioRun) -> None:
    await run.world.order(StartProcess(actor="operator", database=DATABASE, role=ProcessRole.TE, server_id="s1"))


def test_an_order_that_is_called_accepted_and_was_not_written_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Submitter._commit

    async def for_nothing(self: Submitter, snapshot: Any, before: State, decision: Any, key: str) -> None:
        if not key:  # a manager's fact; people give a key
            await commit(self, snapshot, before, decision, key)

    async def scenario(run: ScenarioRun) -> None:
        monkeypatch.setattr(Submitter, "_commit", for_nothing)
        await an_order(run)

    reported = failures(scenario)
    assert reported[0] == "StartProcess was accepted and nothing of it can be read"
    assert "was accepted and is not there" in reported[1]


def test_a_healed_world_that_does_not_become_whole_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    heal = Scenario._heal

    async def all_but_the_managers(self: Scenario) -> None:
        await heal(self)
        for name in self.world.machines:
            self.world.kill_manager(name)
        await self._kill_the_leaders()

    monkeypatch.setattr(scenario, "FAULTY", 0.1)
    monkeypatch.setattr(Scenario, "_heal", all_but_the_managers)
    assert "not whole 60 s after everything was healed" in scenario.play(3).failures[0]


def test_a_whole_world_in_which_nothing_can_be_confirmed_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "FAULTY", 0.1)
    monkeypatch.setattr(clients, "_all_have_it", lambda *_: False)
    assert "could be confirmed in a whole domain for 5 s" in scenario.play(3).failures[0]


# -- the books ---------------------------------------------------------------------------------------------------------


Commits = Callable[[State], Sequence[tuple[State, State, Sequence[Event]]]]


def a_start_id_twice(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    return [(replace(state, processes={}), state, ())] * 2


def an_incarnation_back(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    database = state.databases[DATABASE]
    return [(state, replace(state, databases={DATABASE: replace(database, major=database.major - 1, minor=99)}), ())]


def two_leaders_of_one_term(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    group = state.groups[KEY]
    other = next(archive_id for archive_id in group.in_sync if archive_id != group.leader)
    return [
        (state, state, ()),
        (state, replace(state, groups={KEY: replace(group, phase=replace(group.phase, leader=other))}), ()),
    ]


def a_move_without_a_row(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    return [(state, state, [Event("process.odd", "process 0", "nobody knows", change="MONITORED -> REQUESTED")])]


def a_move_from_elsewhere(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    return [(state, state, [Event("process.odd", "process 0", "nobody knows", change="REQUESTED -> STARTED")])]


def a_move_without_a_report(state: State) -> Sequence[tuple[State, State, Sequence[Event]]]:
    return [(state, replace(state, processes={}), ())]


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (a_start_id_twice, "was given out twice"),
        (an_incarnation_back, "orders went back from incarnation"),
        (two_leaders_of_one_term, "two archives led g1 in term 1"),
        (a_move_without_a_row, "no process life cycle row from MONITORED to REQUESTED"),
        (a_move_from_elsewhere, "process 0 was MONITORED and is said to have moved REQUESTED -> STARTED"),
        (a_move_without_a_report, "and the events of its commit leave it at MONITORED"),
    ],
)
def test_a_commit_that_breaks_the_books_is_found_out(breach: Commits, words: str) -> None:
    async def scenario(run: ScenarioRun) -> None:
        books = MetadataChecks(run.world)
        for commit in breach(run.world.state):
            books.committed(*commit)

    assert words in " / ".join(failures(scenario))
