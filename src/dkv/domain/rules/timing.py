"""Time passed: one Tick arms the timers that have something to wait for, and fires those that ran out.

Only the domain clock is judged by. A timer is armed by the first Tick that sees its reason, so a clock that
stood still or jumped can make a wait longer, never shorter.
"""

from __future__ import annotations

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import Tick
from dkv.domain.held_back import rest_of
from dkv.domain.hotcopy import CopyStage
from dkv.domain.model import (
    ARCHIVES_GO_HOME,
    COPIES_ACTIVE,
    GROUPS_MOVING,
    GROUPS_VACANT,
    PROCESSES_IN,
    PROCESSES_TIMED,
    EngineState,
    Group,
    Process,
    ProcessRole,
    ProcessState,
    Reader,
    Requester,
    State,
    Verdict,
)
from dkv.domain.phases import Assigned, HandingOver, Vacant
from dkv.domain.rules import copies, switchover, tail
from dkv.domain.rules.held_back import tick_rest
from dkv.domain.rules.leadership import assign, next_in_order
from dkv.domain.rules.process_lifecycle import Ending, end, vacate
from dkv.domain.table import items_of, keys_of

NO_LEADER = "local agent connection was rejected: ArchiveHistory failed: Timed out while awaiting leader assignment ({} ms)"
NO_ENTRY = "database entry request was rejected: EntryRequest failed: Timed out while awaiting entry node ({} ms)"


def tick(draft: Draft, command: Tick) -> Refused | None:
    """Arm and fire. decide() drops a Tick that moved nothing but the clock."""
    if command.clock <= draft.clock:
        return None
    draft.clock = command.clock
    for group in _timed_groups(draft):
        draft.unsettle(group)
        if not draft.stopping(group.database):
            _tick_group(draft, group)
        switchover.tick_switchover(draft, draft.groups[group.key])
    for start_id in keys_of(draft.processes, PROCESSES_TIMED):
        if start_id in draft.processes:
            _tick_process(draft, draft.processes[start_id])
    for archive in items_of(draft.archives, ARCHIVES_GO_HOME):
        switchover.tick_home(draft, archive)
    for copy in items_of(draft.copies, COPIES_ACTIVE):
        copies.tick_copy(draft, copy)
    return None


def _timed_groups(reader: Reader) -> list[Group]:
    """Groups for which time counts: they look for a leader among processes, are assigned one, or asked for another."""
    vacant = [key for key in keys_of(reader.groups, GROUPS_VACANT) if keys_of(reader.processes, PROCESSES_IN, key)]
    return [reader.groups[key] for key in sorted({*vacant, *keys_of(reader.groups, GROUPS_MOVING)})]


def waits(state: State) -> bool:
    """Whether a Tick could make anything true: a group looks for its leader or for another one, a process waits, or a hot copy
    awaits its cut. Else the domain clock may stand still.
    """
    return (
        any(not isinstance(group.phase, HandingOver) for group in _timed_groups(state))
        or any(switchover.may_go_home(state, archive) for archive in items_of(state.archives, ARCHIVES_GO_HOME))
        or any(not c.over and c.stage is not CopyStage.COPYING for c in items_of(state.copies, COPIES_ACTIVE))
        or any(
            p.waiting_since is not None or p.state is ProcessState.TRACKED or rest_of(p)
            for p in items_of(state.processes, PROCESSES_TIMED)
        )
    )


def _tick_group(draft: Draft, group: Group) -> None:
    match group.phase:
        case Vacant(since=None) if draft.processes_in(group):
            draft.put_phase(group, since=draft.moment)
        case Assigned() as phase:
            _tick_assigned(draft, group, phase)


def _tick_assigned(draft: Draft, group: Group, phase: Assigned) -> None:
    options = draft.databases[group.database].options
    if phase.stalled_since is None or phase.since is None:
        draft.put_phase(group, stalled_since=draft.clock, since=phase.since or draft.moment)
        return
    stalled = draft.clock - phase.stalled_since >= options.failover_grace
    limit, lasts = options.failover_limit, draft.clock - phase.since.clock
    late = 0 < limit <= lasts or (phase.tail is not None and lasts >= tail.longest(draft, phase.tail, options.failover_grace))
    if not stalled and not late:
        return
    if phase.enforced == phase.leader:
        return  # an operator chose it; only an operator chooses again
    if phase.tail:
        why = f"made no progress for {options.failover_grace} ms" if stalled else "took too long"
        vacate(draft, group, f"the transfer of the dead leader's tail to its assigned leader {why}")
        return
    successor = next_in_order(draft, group)
    if successor:
        why = f"made no progress for {options.failover_grace} ms" if stalled else f"took longer than {limit} ms"
        vacated = vacate(draft, group, f"its assigned leader, archive {phase.leader}, {why}")
        assign(draft, vacated, successor)


def _tick_process(draft: Draft, process: Process) -> None:
    """A process that is held back, and leaderAssignmentTimeout for one that an operator requested."""
    tick_rest(draft, process)
    process = draft.processes[process.start_id]
    if process.request.requester is not Requester.OPERATOR or not _waits(draft, process):
        if process.waiting_since is not None:
            draft.put_process(process, waiting_since=None)
        return
    if process.waiting_since is None:
        draft.put_process(process, waiting_since=draft.clock)
        return
    timeout = draft.databases[process.database].options.leader_assignment_timeout
    if draft.clock - process.waiting_since >= timeout:
        _time_out(draft, process, timeout)


def _waits(draft: Draft, process: Process) -> bool:
    if process.role is ProcessRole.TE:
        return process.state is ProcessState.TRACKED
    group = draft.group_of(process)
    return process.state is ProcessState.STARTED and group is not None and isinstance(group.phase, Vacant)


def _time_out(draft: Draft, process: Process, timeout: int) -> None:
    """No engine runs yet for an SM, so its end is known now; a TE's engine must be stopped first."""
    if process.role is ProcessRole.SM:
        reason = NO_LEADER.format(timeout)
        end(draft, process, Ending("leader assignment timeout", reason, 2, planned=True))
        return
    verdict = Verdict(NO_ENTRY.format(timeout), 127)
    draft.put_process(process, verdict=verdict, kill=True, engine_state=EngineState.UNKNOWN)
