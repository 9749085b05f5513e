"""What is shown of a state: status, reasons, whom a group waits for, how many servers may still be lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.domain.decide import decide
from dkv.domain.decision import Accepted
from dkv.domain.facts import Tick
from dkv.domain.model import (
    Archive,
    ArchiveState,
    Database,
    DatabaseOptions,
    DatabaseState,
    EngineState,
    Group,
    JoinStage,
    PositionReport,
    Process,
    ProcessRole,
    ProcessState,
    Server,
    State,
    Tombstone,
    Verdict,
)
from dkv.domain.phases import Assigned, Joining, Moment, Open, Vacant
from dkv.domain.status import can_lose, instance_state, role, store_status, waits_for, why_not_running

A, B, C = 0, 1, 2
NAMES = {A: "o-1", B: "o-2", C: "o-3"}
LEADS = {
    "phase": Open(leader=A, leader_process=10, serving=True),
    "term": 3,
    "in_sync": (A, B),
    "required": (B,),
    "last_leader": A,
}
VACANT: dict[str, Any] = {"phase": Vacant(since=Moment(4_000, 1_700_000_004_000)), "term": 3, "in_sync": (A, B), "last_leader": A}


class StateBuilder:
    """A store of three copies on three servers, all running, put together and then disturbed."""

    def __init__(self, **group: Any) -> None:
        self.servers = {f"s{i + 1}": Server(f"s{i + 1}", f"u{i}", f"10.0.0.{i + 1}", 7801, 8888, "b") for i in NAMES}
        self.database = Database("o", "uid", "secret", DatabaseOptions(3, 1), DatabaseState.RUNNING)
        self.group = replace(Group("o", "g", "f" * 40, ((0, 16383),)), **(group or LEADS))
        self.archives = {
            i: Archive(i, "o", "uid", "g", f"s{i + 1}", NAMES[i], "", 7811, 7861, ArchiveState.RUNNING) for i in NAMES
        }
        self.processes = {i: self.run(i) for i in NAMES}
        self.tombstones: dict[int, Tombstone] = {}

    def run(self, archive: int, **changes: Any) -> Process:
        base = Process(
            archive + 10,
            "o",
            ProcessRole.SM,
            f"s{archive + 1}",
            archive,
            "g",
            ProcessState.MONITORED,
            EngineState.RUNNING,
            report=PositionReport(term=3),
        )
        return replace(base, **changes)

    def now(self, archive: int, **changes: Any) -> StateBuilder:
        self.processes[archive] = self.run(archive, **changes)
        return self

    def without(self, archive: int, cause: str = "", reason: str = "", **changes: Any) -> StateBuilder:
        process = self.processes.pop(archive)
        if cause:
            self.tombstones[process.start_id] = Tombstone(process, 1, 1, reason or cause, cause, 137, 9, 5)
        self.archives[archive] = replace(self.archives[archive], state=ArchiveState.NOT_RUNNING, **changes)
        return self

    def lose(self, *archives: int) -> StateBuilder:
        for archive in archives:
            server = f"s{archive + 1}"
            self.servers[server] = replace(self.servers[server], alive=False)
        return self

    def wanting(self, **options: Any) -> StateBuilder:
        self.database = replace(self.database, options=replace(self.database.options, **options))
        return self

    def being(self, state: DatabaseState) -> StateBuilder:
        self.database = replace(self.database, state=state)
        return self

    def state(self) -> State:
        processes = {p.start_id: p for p in self.processes.values()}
        return State(
            "d",
            10_000,
            3,
            20,
            self.servers,
            {"o": self.database},
            {("o", "g"): self.group},
            self.archives,
            processes,
            self.tombstones,
        )


def waiting(builder: StateBuilder) -> tuple[tuple[str, ...], str]:
    waiting_for = waits_for(builder.state(), builder.group)
    assert waiting_for is not None
    assert waiting_for.reason
    return waiting_for.archives, waiting_for.reason


# Instances -------------------------------------------------------------------------------------------------------

FAILED = {"cause": "killed by signal", "reason": "killed by signal 9, sender unknown"}

INSTANCES: list[tuple[str, StateBuilder, str, str | None]] = [
    ("runs", StateBuilder(), "Running", None),
    ("was never started", StateBuilder().without(B), "Stopped", "it was not started yet"),
    (
        "requested",
        StateBuilder().now(B, state=ProcessState.REQUESTED),
        "Starting",
        "the manager of s2 has not taken the request yet",
    ),
    (
        "requested of a lost server",
        StateBuilder().now(B, state=ProcessState.REQUESTED).lose(B),
        "Unreachable",
        "server s2 is away",
    ),
    ("running when its server was lost", StateBuilder().lose(B), "Unreachable", "server s2 is away"),
    (
        "stopping when its server was lost",
        StateBuilder().now(B, state=ProcessState.REQUESTED_SHUTDOWN).lose(B),
        "Stopping",
        "stopped",
    ),
    ("loads", StateBuilder().now(B, state=ProcessState.CONFIGURED, loading_percent=42), "Starting", "loading its data, 42 %"),
    ("loaded", StateBuilder().now(B, state=ProcessState.TRACKED), "Starting", "joins its leader"),
    ("not let in yet", StateBuilder().now(B, engine_state=EngineState.SYNCING), "Starting", "waits for its leader's manager"),
    ("stops", StateBuilder().now(B, state=ProcessState.REQUESTED_SHUTDOWN), "Stopping", "it is being stopped"),
    ("is killed", StateBuilder().now(B, kill=True), "Stopping", "it is being killed"),
    ("given up", StateBuilder().now(B, verdict=Verdict("no leader in time", 2)), "Stopping", "no leader in time"),
    ("of a store that stops", StateBuilder().being(DatabaseState.REQUESTED_SM_SHUTDOWN), "Stopping", "it is being stopped"),
    ("stopped", StateBuilder().without(B, "graceful stop", stopped_by_operator=True), "Stopped", "stopped by an operator"),
    ("killed by an operator", StateBuilder().without(B, "operator kill"), "Stopped", "it was stopped"),
    ("died", StateBuilder().without(B, **FAILED), "Failed", "killed by signal 9, sender unknown"),
]


@pytest.mark.parametrize("case", INSTANCES, ids=[i[0] for i in INSTANCES])
def test_an_instance_is_described_by_one_word_and_one_clause(case: tuple[str, StateBuilder, str, str | None]) -> None:
    _, builder, word, why = case
    state = builder.state()
    assert instance_state(state, state.archives[B]) == word
    shown = why_not_running(state, state.archives[B])
    assert (shown is None) == (why is None)
    assert (why or "") in (shown or "")


def test_an_instance_without_data_that_never_ran_is_created() -> None:
    builder = StateBuilder().without(B)
    builder.archives[B] = replace(builder.archives[B], state=ArchiveState.PROVISIONED)
    assert instance_state(builder.state(), builder.archives[B]) == "Created"


def test_a_verdict_of_the_domain_is_a_failure_whatever_ended_the_process() -> None:
    builder = StateBuilder().now(B, verdict=Verdict("no leader in time", 2)).without(B, "graceful stop", "no leader in time")
    assert instance_state(builder.state(), builder.archives[B]) == "Failed"


@pytest.mark.parametrize("stage", list(JoinStage))
def test_every_stage_of_joining_has_its_words(stage: JoinStage) -> None:
    builder = StateBuilder().now(C, engine_state=EngineState.SYNCING)
    builder.group = replace(builder.group, phase=replace(builder.group.phase, joining=(Joining(C, 12, stage),)))
    why = why_not_running(builder.state(), builder.archives[C])
    assert why is not None
    assert "copy" in why or "copies" in why


def test_a_store_is_running_stopped_partial_or_empty() -> None:
    assert store_status(StateBuilder().state(), "o") == "Running"
    assert store_status(StateBuilder().without(C, **FAILED).state(), "o") == "Partial"
    assert store_status(StateBuilder().now(C, state=ProcessState.TRACKED).state(), "o") == "Partial"
    stopped = StateBuilder().without(A).without(B, **FAILED).without(C, stopped_by_operator=True)
    assert store_status(stopped.state(), "o") == "Stopped"
    assert store_status(replace(stopped.state(), archives={}), "o") == "NoInstances"


def test_only_an_opened_leader_is_called_leader() -> None:
    builder = StateBuilder()
    assert [role(builder.state(), builder.archives[i]) for i in NAMES] == ["leader", "follower", "follower"]
    builder = (
        StateBuilder(**LEADS | {"phase": Assigned(leader=A, leader_process=10)}).now(A, state=ProcessState.TRACKED).without(B)
    )
    assert [role(builder.state(), builder.archives[i]) for i in (A, B)] == [None, None]


# Groups ----------------------------------------------------------------------------------------------------------


def test_a_group_that_serves_or_is_not_wanted_waits_for_nobody() -> None:
    assert waits_for(StateBuilder().state(), StateBuilder().group) is None
    for state in (DatabaseState.NOT_RUNNING, DatabaseState.REQUESTED_SM_SHUTDOWN):
        builder = StateBuilder(**VACANT).being(state)
        assert waits_for(builder.state(), builder.group) is None


def test_a_new_group_waits_for_its_requested_instances() -> None:
    builder = StateBuilder(term=0).now(A, state=ProcessState.REQUESTED).without(B).without(C)
    names, reason = waiting(builder)
    assert names == ("o-1", "o-2", "o-3")
    assert "o-1 was requested, and the manager of s1 has not taken the request yet" in reason


VACANCIES: list[tuple[str, StateBuilder, str, str]] = [
    ("loading", StateBuilder(**VACANT).now(A, state=ProcessState.CONFIGURED, loading_percent=7), "is loading its data, 7 %", ""),
    ("silent", StateBuilder(**VACANT).now(A, report=None), "o-1 has not reported its position yet", ""),
    (
        "stopped",
        StateBuilder(**VACANT).without(A, stopped_by_operator=True),
        "o-1 was stopped by an operator",
        "Start it: start instance o-1 of store o.",
    ),
    ("server lost", StateBuilder(**VACANT).lose(A), "o-1 is on server s1, which is away", "Bring server s1 back."),
    ("failed", StateBuilder(**VACANT).without(A, **FAILED), "does not run: killed by signal 9", "Start it"),
    ("stopping", StateBuilder(**VACANT).now(A, state=ProcessState.REQUESTED_SHUTDOWN), "o-1 is stopping", "Start it again"),
]


@pytest.mark.parametrize("case", VACANCIES, ids=[v[0] for v in VACANCIES])
def test_a_vacant_group_names_the_members_it_lacks_and_what_would_help(case: tuple[str, StateBuilder, str, str]) -> None:
    _, builder, reason, hint = case
    waiting_for = waits_for(builder.state(), builder.group)
    assert waiting_for is not None
    assert waiting_for.archives == ("o-1",)  # o-3 was never in sync: nobody waits for it
    assert waiting_for.at == 1_700_000_004_000
    assert reason in waiting_for.reason
    assert hint in str(waiting_for.hint)


def test_since_when_a_group_waits_does_not_slide_while_nothing_else_happens() -> None:
    """decide drops a Tick that moved nothing but the clock, so the clock cannot be what is shown."""
    builder = StateBuilder(**{**VACANT, "phase": Vacant()}).lose(A)
    began, state = 1_700_000_000_000, builder.state()
    shown = []
    for later in (1_000, 4_000, 9_000):
        decision = decide(state, Tick(now=began + later, clock=state.clock + later))
        assert isinstance(decision, Accepted)
        state = decision.state
        waiting_for = waits_for(state, state.groups[builder.group.key])
        shown.append(waiting_for.at if waiting_for else None)
    assert shown == [began + 1_000] * 3


def test_an_enforced_leader_is_the_only_one_waited_for() -> None:
    builder = StateBuilder(**{**VACANT, "phase": Vacant(enforced=C)}).without(A, stopped_by_operator=True).now(C, report=None)
    assert waiting(builder) == (("o-3",), "o-3 has not reported its position yet")


def test_a_vacant_group_may_wait_for_proof_that_its_old_leader_stopped() -> None:
    builder = StateBuilder(**VACANT, suspects=(10,))
    assert waiting(builder) == (("o-1",), "o-1 may still lead and is not proven stopped")
    builder = StateBuilder(**VACANT)
    assert waiting(builder) == ((), "its next leader is being chosen")


def test_an_assigned_leader_is_waited_for_with_its_progress() -> None:
    phase = Assigned(leader=A, leader_process=10, since=Moment(9_000, 1_700_000_009_000))
    assigned = {**LEADS, "phase": phase}
    builder = StateBuilder(**assigned).now(A, state=ProcessState.CONFIGURED, loading_percent=42)
    waiting_for = waits_for(builder.state(), builder.group)
    assert waiting_for is not None
    assert (waiting_for.archives, waiting_for.at) == (("o-1",), 1_700_000_009_000)
    assert waiting_for.reason == "o-1 was chosen to lead in term 3 and is loading its data, 42 %"
    assert "After 2 s without progress" in str(waiting_for.hint)
    builder.group = replace(builder.group, phase=replace(phase, stalled_since=8_500), in_sync=(A,))
    waiting_for = waits_for(builder.state(), builder.group)
    assert waiting_for is not None
    assert str(waiting_for.hint) == "No other instance is in sync, so this one has to finish."


def test_who_waits_for_the_leader_says_for_whom() -> None:
    builder = StateBuilder(**VACANT).now(B, state=ProcessState.STARTED).without(A, stopped_by_operator=True)
    assert why_not_running(builder.state(), builder.archives[B]) == "it waits for o-1: o-1 was stopped by an operator"


def test_a_leader_without_its_manager_serves_but_its_in_sync_set_stands_still() -> None:
    names, reason = waiting(StateBuilder().lose(A))
    assert names == ("o-1",)
    assert "the in-sync set cannot change" in reason


def test_below_min_in_sync_the_view_says_that_writes_are_refused_and_who_is_missing() -> None:
    builder = StateBuilder(**{**LEADS, "in_sync": (A,), "required": ()}).wanting(min_in_sync=2)
    builder.now(B, engine_state=EngineState.SYNCING).without(C, stopped_by_operator=True)
    waiting_for = waits_for(builder.state(), builder.group)
    assert waiting_for is not None
    assert waiting_for.archives == ("o-2", "o-3")
    assert "1 of 2 copies are in sync, so writes are refused" in waiting_for.reason
    assert str(waiting_for.hint) == "Start it: start instance o-3 of store o."
    builder.now(B, state=ProcessState.TRACKED)  # a loaded one that is not let in yet asks nobody in a circle
    assert waits_for(builder.state(), builder.group) is not None


# Losses ----------------------------------------------------------------------------------------------------------

LOSSES: list[tuple[str, StateBuilder, tuple[int, int]]] = [
    ("two in sync", StateBuilder(), (1, 1)),
    ("three in sync", StateBuilder(**{**LEADS, "in_sync": (A, B, C), "required": (B, C)}), (2, 2)),
    ("the restarted leader alone", StateBuilder(**{**LEADS, "in_sync": (A,), "required": (B,)}), (0, 0)),
    ("a follower's server gone", StateBuilder().lose(B), (0, 0)),
    ("a follower's process gone", StateBuilder().without(B, **FAILED), (1, 0)),
    ("minInSync 2 of 2", StateBuilder().wanting(min_in_sync=2), (1, 0)),
    ("minInSync 2 of 3", StateBuilder(**{**LEADS, "in_sync": (A, B, C)}).wanting(min_in_sync=2), (2, 1)),
    ("all gone", StateBuilder().lose(A, B, C), (0, 0)),
    ("a new group", StateBuilder(term=0), (0, 0)),
]


@pytest.mark.parametrize("case", LOSSES, ids=[v[0] for v in LOSSES])
def test_the_view_says_how_many_more_servers_may_be_lost(case: tuple[str, StateBuilder, tuple[int, int]]) -> None:
    _, builder, expected = case
    assert can_lose(builder.state(), builder.group) == expected


def test_two_copies_on_one_server_are_lost_together() -> None:
    builder = StateBuilder(**{**LEADS, "in_sync": (A, B, C)})
    builder.archives[B] = replace(builder.archives[B], server_id="s1")
    assert can_lose(builder.state(), builder.group) == (1, 1)
