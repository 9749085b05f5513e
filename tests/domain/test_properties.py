"""Tests of the domain: what holds after any command in any history, and that every life-cycle row can be used."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.decide import RULES, decide, decide_looking_at_all
from dkv.domain.decision import Accepted, Refused
from dkv.domain.lifecycle import ANY, TABLES
from dkv.domain.model import Group, State
from dkv.domain.phases import HandingOver
from dkv.domain.rules.timing import waits
from tests.domain.test_scenarios import SCENARIOS
from tests.domain.verbs import ScenarioRunner
from tests.domain.walks import walk
from tests.domain.world import moves_of

NUMBERS = st.lists(st.integers(0, 2**16), min_size=20, max_size=120)
WALKS, STEPS = 30, 250  # of the walks with fixed numbers

SHRINK = (facts.InSyncShrunk, facts.OpenTerm, facts.CleanStopReached, orders.DeleteArchive)
"""Commands that may take an archive out of S."""


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(NUMBERS)
def test_any_plausible_history_holds(numbers: list[int]) -> None:
    for before, command, decision in walk(numbers):
        assert decide(before, command) == decision, "the same question has one answer"
        if isinstance(decision, Accepted):
            step_holds(before, command, decision.state)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(NUMBERS)
def test_what_is_decided_by_what_was_touched_is_what_is_decided_by_looking_at_all(numbers: list[int]) -> None:
    for before, command, decision in walk(numbers, databases=3):
        assert decide_looking_at_all(before, command) == decision


@pytest.mark.long
def test_long_histories_of_several_databases_are_decided_as_by_looking_at_all() -> None:
    changed, serving = 0, set()
    for seed in range(WALKS):
        chance = random.Random(seed)
        for before, command, decision in walk((chance.randrange(2**16) for _ in range(STEPS)), databases=3):
            assert decide_looking_at_all(before, command) == decision, f"{command} in walk {seed}"
            if isinstance(decision, Accepted) and decision.state is not before:
                changed += 1
                serving |= {group.key for group in decision.state.groups.values() if group.serving}
    assert changed > 1_000
    assert len(serving) > 3, "groups of several databases were led at one time or another"


def test_a_state_refuses_to_be_written_into() -> None:
    for before, _, decision in long_walks()[:50]:
        if isinstance(decision, Accepted) and decision.state is not before:
            with pytest.raises(TypeError, match="a table is a value"):
                decision.state.processes[0] = None  # type: ignore[index]


def test_long_histories_hold() -> None:
    for before, command, decision in long_walks():
        assert decide_looking_at_all(before, command) == decision
        if isinstance(decision, Accepted):
            step_holds(before, command, decision.state)


@cache
def long_walks() -> list[tuple[State, Command, Accepted | Refused]]:
    steps: list[tuple[State, Command, Accepted | Refused]] = []
    for seed in range(WALKS):
        chance = random.Random(seed)
        steps += walk(chance.randrange(2**16) for _ in range(STEPS))
    return steps


def test_where_nobody_waits_for_time_a_tick_changes_nothing() -> None:
    still = 0
    for _, _, decision in long_walks():
        if isinstance(decision, Accepted) and not waits(decision.state):
            still += 1
            for later in (1, 100_000):
                ticked = decide(decision.state, facts.Tick(clock=decision.state.clock + later))
                assert isinstance(ticked, Accepted)
                assert not ticked.events
                assert replace(ticked.state, clock=0) == replace(decision.state, clock=0)
    assert still > 100


# What one step may do, said a second time and independently of invariants.py ------------------------------------------


def step_holds(before: State, command: Command, after: State) -> None:
    for key, group in after.groups.items():
        old = before.groups.get(key)
        if old and old.term <= group.term and not (old.term and not group.term):
            in_sync_holds(command, old, group, after)
            leadership_holds(before, after, old, group)
    for start_id in before.processes.keys() - after.processes.keys():
        assert start_id in after.tombstones, f"process {start_id} vanished without a tombstone"


def in_sync_holds(command: Command, old: Group, group: Group, after: State) -> None:
    """Only the commands that may change S change it; S never becomes empty again."""
    left, came = set(old.in_sync) - set(group.in_sync), set(group.in_sync) - set(old.in_sync)
    bootstrap = old.last_leader is None
    assert not left or bootstrap or isinstance(command, SHRINK), f"{command} took {left} out of S"
    assert not came or bootstrap or isinstance(command, facts.JoinCompleted | orders.EnforceLeader), (
        f"{command} put {came} into S"
    )
    assert group.in_sync or not old.in_sync, f"{command} emptied S"
    if group.open:
        assert set(group.in_sync) - {group.leader} <= set(group.required), "a member of S is not waited for"


def leadership_holds(before: State, after: State, old: Group, group: Group) -> None:
    """Who is assigned is in S, or the first of its group; nobody else may be leading."""
    if group.term == old.term or isinstance(old.phase, HandingOver):
        return
    assert not group.open, "assigned and opened in one commit"
    assert old.last_leader is None or group.leader in (*old.in_sync, group.enforced)
    for start_id in set(old.suspects) & before.processes.keys() - {group.leader_process}:
        suspect = before.processes[start_id]
        lost = not after.servers[suspect.server_id].alive
        ended = start_id not in group.suspects
        assert lost or ended, f"process {start_id} may still lead while {group.leader_process} is assigned"


# Every row is used ------------------------------------------------------------------------------------------------------

LEVEL = "databases are settled by level; a group passes ASSIGNED first, so this step is always split in two"
NEVER_SEEN = {
    # (table, from, to): why the row stands although no history uses it
    ("database", "REQUESTED", "AWAITING_ARCHIVE_HISTORIES_MSG"): LEVEL,
    ("database", "REQUESTED", "AWAITING_ARCHIVE_HISTORIES_INC"): LEVEL,
    ("database", "REQUESTED", "RUNNING"): LEVEL,
    ("database", "AWAITING_ARCHIVE_HISTORIES_MSG", "RUNNING"): LEVEL,
    ("database", "AWAITING_ARCHIVE_HISTORIES_MSG", "AWAITING_ARCHIVE_HISTORIES_INC"): LEVEL,
    ("database", "AWAITING_ARCHIVE_HISTORIES_MSG", "REQUESTED"): "a group that was led once never looks new again",
    ("database", "RUNNING", "STARTED"): "a vacancy drops the answers of running engines, so nobody is assigned at once",
}


@cache
def moves_and_accepted() -> tuple[frozenset[tuple[str, str, str]], frozenset[str]]:
    """Every life-cycle move, and every kind of command that was accepted, in all scenarios and long walks."""
    moves: set[tuple[str, str, str]] = set()
    accepted: set[str] = set()
    for scenario in SCENARIOS:
        runner = ScenarioRunner()
        for line in commands_of(scenario.read_text(encoding="utf-8")):
            runner.run(line)
        moves |= runner.world.rows
        accepted |= runner.world.accepted
    for _, command, decision in long_walks():
        if isinstance(decision, Accepted):
            moves |= moves_of(decision)
            accepted.add(type(command).__name__)
    return frozenset(moves), frozenset(accepted)


def commands_of(text: str) -> Iterator[str]:
    """The lines of a scenario that are carried out."""
    skipping = False
    for line in text.splitlines():
        if not line.strip():
            skipping = False
        elif line == "----":
            skipping = True
        elif not skipping and not line.startswith("#"):
            yield line


def test_every_row_of_the_life_cycles_is_used() -> None:
    seen, _ = moves_and_accepted()
    used = {(table, ANY, target) for table, _, target in seen} | seen
    unused = {(table, r.source, r.target) for table, rows in TABLES.items() for r in rows} - used
    assert unused - set(NEVER_SEEN) == set(), "rows no history uses"
    assert set(NEVER_SEEN) - unused == set(), "rows that are used after all"


def test_every_command_is_accepted_somewhere() -> None:
    assert moves_and_accepted()[1] == {kind.__name__ for kind in RULES}
