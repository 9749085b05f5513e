"""Storage groups: opening a term, growing and shrinking the in-sync set, handover, clean stop.

The rule (docs/reference/safety.md): a confirmed write is on the disk of every member of S; so any member of S may
lead; only the leader's manager may change S, quoting its term.
"""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.elections import electing_elsewhere, lack_of_votes
from dkv.domain.facts import (
    CleanStopReached,
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverFailed,
    HandoverWithdrawn,
    InSyncShrunk,
    JoinAborted,
    JoinAnnounced,
    JoinCompleted,
    JoinDurable,
    JoinMarked,
    LeaderFact,
    LeaderServing,
    LeaderSilence,
    LeaderSteppedDown,
    OpenTerm,
)
from dkv.domain.model import EngineState, Group, JoinStage, Process, ProcessState
from dkv.domain.phases import Assigned, Election, HandingOver, Joining, Leadership, Open
from dkv.domain.refusals import no, stale_fact
from dkv.domain.rules import tail
from dkv.domain.rules.process_lifecycle import vacate
from dkv.domain.rules.processes import owned
from dkv.domain.rules.switchover import forget_home, give_up, note_failure


def current(draft: Draft, command: LeaderFact) -> Group | Refused:
    """The group, if the command quotes its newest term and comes from its leader's manager (model: only_the_leader_shrinks)."""
    group = draft.groups.get((command.database, command.group))
    if group is None:
        return stale_fact(f"there is no group {command.database}/{command.group}")
    if group.term != command.term:
        return no("stale_term", f"Group {group.name} is at term {group.term}, not {command.term}.", "Read again.")
    leader = draft.leader_of(group)
    if leader is None or leader.server_id != command.server_id:
        return no("not_the_leader", f"{command.server_id} does not manage the leader of {group.name}.", "Read again.")
    return group


def serving(draft: Draft, command: LeaderFact) -> tuple[Group, Open | HandingOver] | Refused:
    """As current(), for a leader whose term is open; with its phase."""
    group = current(draft, command)
    if isinstance(group, Refused):
        return group
    if not isinstance(group.phase, Leadership):
        return stale_fact(f"term {group.term} of {group.name} is not open")
    return group, group.phase


def _in_sync_note(draft: Draft, group: Group, kind: str, archive_id: int, because: str) -> None:
    draft.note(f"in_sync.{kind}", group.subject, because, database=group.database, archive_id=archive_id)


def _engine_says(draft: Draft, archive_id: int, state: EngineState) -> None:
    process = draft.process_on(archive_id)
    if process and process.state is ProcessState.MONITORED:
        running_at = process.running_at or (draft.command.now if state is EngineState.RUNNING else 0)
        draft.put_process(process, engine_state=state, running_at=running_at)


# Opening ---------------------------------------------------------------------------------------------------------


def open_term(draft: Draft, command: OpenTerm) -> Refused | None:
    """The assigned leader is loaded and fenced: S shrinks to it and the members that share its history."""
    group = current(draft, command)
    if isinstance(group, Refused):
        return group
    phase = group.phase
    if not isinstance(phase, Assigned) or phase.leader_process != command.start_id:
        return stale_fact(f"group {group.name} does not wait for process {command.start_id} to open")
    leader = draft.processes[command.start_id]
    if leader.state not in (ProcessState.TRACKED, ProcessState.MONITORED) or draft.stopping(group.database):
        return stale_fact(f"process {command.start_id} may not open its term now")
    opening: tail.Opening | Refused = tail.Opening(_sharing_history(draft, group, leader), leader.report, group.history)
    if phase.tail:  # not before it has all that only the dead leader's disk had
        opening = tail.opening(draft, group, phase.leader_process, phase.tail)
    if isinstance(opening, Refused):
        return opening
    for archive_id in group.in_sync:
        if archive_id not in (phase.leader, *opening.stay):
            _engine_says(draft, archive_id, EngineState.SYNCING)
            _in_sync_note(draft, group, "shrunk", archive_id, "it does not continue the new leader's history")
    draft.move_group(
        group,
        "opened",
        Open(leader=phase.leader, leader_process=phase.leader_process),
        f"archive {phase.leader} has loaded, is fenced and holds term {group.term}",
        in_sync=(phase.leader, *opening.stay),
        required=opening.stay,
        silent=(),
        machine_answers=True,
        last_leader=phase.leader,
        suspects=tuple(sorted({*group.suspects, command.start_id})),
        opened_at=opening.at,
        history=opening.history,
    )
    return None


def _sharing_history(draft: Draft, group: Group, leader: Process) -> tuple[int, ...]:
    """Members of S whose living engines continue the leader's history, and are not ahead of it (model: shared_history_stays)."""
    if leader.report is None or not leader.report.history or leader.report.history != group.history:
        return ()
    if isinstance(group.phase, Election) and group.phase.tail_abandoned:  # a feeder that stood still may still move one of them
        return ()
    members = []
    for archive_id in group.in_sync:
        process = draft.process_on(archive_id)
        report = process.report if process else None
        if process is None or report is None or process is leader or process.state is not ProcessState.MONITORED:
            continue
        if report.history == leader.report.history and report.offset <= leader.report.offset:
            members.append(archive_id)
    return tuple(members)


def leader_serving(draft: Draft, command: LeaderServing) -> Refused | None:
    """The opened leader leads: its group serves."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    if phase.leader_process != command.start_id:
        return stale_fact(f"process {command.start_id} is not the leader of {group.name}")
    if group.serving and (group.epoch, group.history) == (command.epoch, command.history):
        return stale_fact(f"group {group.name} serves already")
    if isinstance(phase, Open):
        phase = replace(phase, serving=True)
    draft.put_group(group, phase=phase, epoch=command.epoch, history=command.history)
    process = draft.processes[command.start_id]
    if process.state is ProcessState.TRACKED:
        draft.move_process(process, "leads", engine_state=EngineState.RUNNING, running_at=process.running_at or command.now)
    elif process.state is ProcessState.MONITORED:
        _engine_says(draft, phase.leader, EngineState.RUNNING)
    if not group.serving:
        draft.note(
            "group.serving",
            group.subject,
            f"archive {phase.leader} leads in term {group.term} and its marker is on disk",
            database=group.database,
            start_id=command.start_id,
            archive_id=phase.leader,
        )
    return None


# Growing S -------------------------------------------------------------------------------------------------------


def _joining(phase: Leadership, archive_id: int) -> Joining | None:
    return next((j for j in phase.joining if j.archive_id == archive_id), None)


def _with_joining(phase: Leadership, joining: Joining) -> tuple[Joining, ...]:
    return tuple(sorted((*_without(phase, joining.archive_id), joining), key=lambda j: j.archive_id))


def _without(phase: Leadership, archive_id: int) -> tuple[Joining, ...]:
    return tuple(j for j in phase.joining if j.archive_id != archive_id)


def join_announced(draft: Draft, command: JoinAnnounced) -> Refused | None:
    """An archive outside S may attach; its process joins its peers and is SYNCING."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    process = draft.process_on(command.archive_id)
    loaded = process and process.state in (ProcessState.TRACKED, ProcessState.MONITORED)
    if process is None or not loaded or (process.database, process.group) != group.key:
        return stale_fact(f"archive {command.archive_id} has no loaded process in {group.name}")
    if command.archive_id in group.in_sync or _joining(phase, command.archive_id):
        return stale_fact(f"archive {command.archive_id} is in sync or joining already")
    if process.state is ProcessState.TRACKED:
        draft.move_process(process, "joined", engine_state=EngineState.SYNCING, waiting_since=None)
    joining = Joining(command.archive_id, process.start_id, JoinStage.ANNOUNCED, at=command.now)
    draft.put_phase(group, joining=_with_joining(phase, joining))
    _in_sync_note(draft, group, "joining", command.archive_id, "its engine has loaded and attaches to the leader")
    return None


def join_marked(draft: Draft, command: JoinMarked) -> Refused | None:
    """Its link is up and a fresh marker was written through the leader; it must find that on its own disk."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    joining = _joining(phase, command.archive_id)
    if joining is None or joining.stage is JoinStage.REQUIRED:
        return stale_fact(f"archive {command.archive_id} is not at the stage of a marker")
    marked = Joining(joining.archive_id, joining.start_id, JoinStage.MARKED, command.sequence, command.nonce, command.now)
    draft.put_phase(group, joining=_with_joining(phase, marked))
    return None


def join_durable(draft: Draft, command: JoinDurable) -> Refused | None:
    """The marker is on its disk: confirmations wait for it from this commit on, 1 s before S grows (model: required_first)."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    phase = group.phase if group else None
    if group is None or not isinstance(phase, Leadership) or group.term != command.term:
        return stale_fact(f"process {command.start_id} is not joining in term {command.term}")
    joining = next((j for j in phase.joining if j.start_id == command.start_id), None)
    if joining is None:
        return stale_fact(f"process {command.start_id} is not joining in term {command.term}")
    marker = (joining.stage, joining.sequence, joining.nonce)
    if marker != (JoinStage.MARKED, command.sequence, command.nonce):
        return stale_fact("another marker is awaited")
    required = Joining(joining.archive_id, joining.start_id, JoinStage.REQUIRED, joining.sequence, joining.nonce, command.now)
    phase = replace(phase, joining=_with_joining(phase, required))
    draft.put_group(group, phase=phase, required=tuple(sorted({*group.required, joining.archive_id})))
    _in_sync_note(draft, group, "required", joining.archive_id, "its marker is on its disk; confirmations wait for it")
    return None


def join_completed(draft: Draft, command: JoinCompleted) -> Refused | None:
    """It was required for 1 s and passed the leader's offset noted after that: S grows."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    joining = _joining(phase, command.archive_id)
    if joining is None or joining.stage is not JoinStage.REQUIRED or isinstance(phase, HandingOver):
        return stale_fact(f"archive {command.archive_id} may not enter the in-sync set now")
    phase = replace(phase, joining=_without(phase, command.archive_id))
    draft.put_group(group, phase=phase, in_sync=(*group.in_sync, command.archive_id))
    _engine_says(draft, command.archive_id, EngineState.RUNNING)
    _in_sync_note(draft, group, "grown", command.archive_id, "it was required for 1 s and caught up with the leader")
    return None


def join_aborted(draft: Draft, command: JoinAborted) -> Refused | None:
    """It is not required any more: it starts over, unless it leaves."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    joining = _joining(phase, command.archive_id)
    if joining is None:
        return stale_fact(f"archive {command.archive_id} is not joining")
    draft.put_group(
        group,
        phase=replace(phase, joining=_without(phase, command.archive_id)),
        required=tuple(a for a in group.required if a != command.archive_id),
    )
    _in_sync_note(draft, group, "join_aborted", command.archive_id, command.reason)
    return None


def in_sync_shrunk(draft: Draft, command: InSyncShrunk) -> Refused | None:
    """S without a follower. Its leader's manager fenced first, if this falls below minInSync."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    follows = command.archive_id in group.in_sync and command.archive_id != phase.leader
    if not follows or isinstance(phase, HandingOver) or group.clean_stop:  # after a clean stop any of S may start the store again
        return stale_fact(f"archive {command.archive_id} cannot leave the in-sync set now")
    draft.put_group(
        group,
        in_sync=tuple(a for a in group.in_sync if a != command.archive_id),
        required=tuple(a for a in group.required if a != command.archive_id),
    )
    _engine_says(draft, command.archive_id, EngineState.SYNCING)
    _in_sync_note(draft, group, "shrunk", command.archive_id, command.reason)
    return None


# Handover --------------------------------------------------------------------------------------------------------


def handover_begun(draft: Draft, command: HandoverBegun) -> Refused | None:
    """A planned change of leader to a member of S. Term and S stay."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    target = draft.process_on(command.to_archive)
    fit = target and target.state is ProcessState.MONITORED and target.engine_state is EngineState.RUNNING
    if target is None or target.kill or not fit or command.to_archive not in group.in_sync or command.to_archive == phase.leader:
        return stale_fact(f"archive {command.to_archive} cannot take over from the leader")
    if not isinstance(phase, Open) or not phase.serving or draft.stopping(group.database):
        return stale_fact(f"group {group.name} cannot hand over now")
    electing = electing_elsewhere(draft, group, command.now)
    if electing:
        return stale_fact(f"group {electing.name} is being handed over")
    no_votes = lack_of_votes(draft, group)
    if no_votes:
        return stale_fact(no_votes)
    handover = HandingOver(
        leader=phase.leader,
        leader_process=phase.leader_process,
        joining=phase.joining,
        switchover=phase.switchover,
        to_archive=command.to_archive,
        to_process=target.start_id,
        immediate=command.immediate,
        at=command.now,
        sequence=command.sequence,
    )
    why = phase.switchover.reason if phase.switchover else "its leader is to leave"
    draft.move_group(group, "handover", handover, f"{why}, and archive {command.to_archive} is in sync")
    return None


def handover_declined(draft: Draft, command: HandoverDeclined) -> Refused | None:
    """No copy can take over from the leader now: an event says why, and nothing else changes."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    if phase.switchover is None or isinstance(phase, HandingOver):
        return stale_fact(f"group {group.name} has no requested switchover")
    give_up(draft, group, command.reason)
    return None


def handover_done(draft: Draft, command: HandoverDone) -> Refused | None:
    """The target was seen leading: a new term, already open, with S kept."""
    group_and_phase = _handing_over(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, handover = group_and_phase
    target = draft.processes.get(handover.to_process)
    ends = [draft.processes[p].server_id for p in (handover.leader_process, handover.to_process) if p in draft.processes]
    if target is None or command.server_id not in ends:
        return stale_fact("the handover is none of this manager's, or its target is gone")
    required = tuple(a for a in group.in_sync if a != handover.to_archive)
    draft.move_group(
        group,
        "handed over",
        Open(leader=handover.to_archive, leader_process=handover.to_process, serving=True),
        f"archive {handover.to_archive} leads; the handover from archive {handover.leader} is done",
        term=group.term + 1,
        required=required,
        last_leader=handover.to_archive,
        suspects=tuple(sorted({*group.suspects, handover.to_process})),
        epoch=command.epoch,
        history=command.history,
        silent=(),
        opened_at=None,
        machine_answers=True,
    )
    if handover.switchover or draft.archives[handover.to_archive].goes_home:
        forget_home(draft, group)
    if handover.switchover and handover.switchover.to_process not in (None, handover.to_process):
        note_failure(draft, draft.groups[group.key], f"process {handover.to_process} took over instead")
    return None


def _handing_over(draft: Draft, command: HandoverDone | HandoverWithdrawn) -> tuple[Group, HandingOver] | Refused:
    """The group whose handover to that process stands in that term; with its phase."""
    group = draft.groups.get((command.database, command.group))
    phase = group.phase if group else None
    if group is None or not isinstance(phase, HandingOver):
        return stale_fact("no such handover is under way")
    if group.term != command.term or phase.to_process != command.start_id:
        return stale_fact("no such handover is under way")
    return group, phase


def _stays(draft: Draft, group: Group, phase: HandingOver, because: str, why: str) -> None:
    """The handover is over and its leader leads on; a request for it is given up."""
    leads = Open(leader=phase.leader, leader_process=phase.leader_process, joining=phase.joining, serving=True)
    group = draft.move_group(group, "handover failed", leads, because)
    if phase.switchover:
        note_failure(draft, group, why)


def handover_withdrawn(draft: Draft, command: HandoverWithdrawn) -> Refused | None:
    """The target cannot take over, and its engine was not asked to: as if nothing had begun."""
    group_and_phase = _handing_over(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    target = owned(draft, command.start_id, command.server_id)
    if isinstance(target, Refused):
        return target
    _stays(draft, *group_and_phase, command.reason, command.reason)
    return None


def handover_failed(draft: Draft, command: HandoverFailed) -> Refused | None:
    """The old engine still leads, at the deadline or after the target's end: as if nothing had begun."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    if not isinstance(phase, HandingOver):
        return stale_fact("no handover is under way")
    because, why = "the old leader still leads at the deadline", "the old leader still led at the deadline of the handover"
    if phase.to_process not in draft.processes:
        because = why = f"process {phase.to_process}, which was to lead, ended"
    _stays(draft, group, phase, because, why)
    return None


def leader_stepped_down(draft: Draft, command: LeaderSteppedDown) -> Refused | None:
    """An engine that may have led follows now; if it was the leader itself, the group is vacant."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    if group is None or command.start_id not in group.suspects:
        return stale_fact(f"process {command.start_id} is not suspected of leading")
    if group.leader_process == command.start_id:
        if isinstance(group.phase, HandingOver) and group.phase.to_process in draft.processes:
            return stale_fact("its handover is not decided yet")
        group = vacate(draft, group, f"process {command.start_id}, its leader, was found following", 0)
    draft.put_group(group, suspects=tuple(s for s in group.suspects if s != command.start_id))
    return None


# Stopping and silence --------------------------------------------------------------------------------------------


def clean_stop_reached(draft: Draft, command: CleanStopReached) -> Refused | None:
    """Writes are fenced and these archives hold all the leader has: any of them can start the store again."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    if not draft.stopping(group.database) or group.clean_stop or isinstance(phase, HandingOver):
        return stale_fact(f"{group.database} is not being shut down, or {group.name} stopped already or hands over")
    in_sync = tuple(a for a in group.in_sync if a == phase.leader or a in command.reached)
    required = tuple(a for a in in_sync if a != phase.leader)
    draft.put_group(group, phase=replace(phase, joining=()), in_sync=in_sync, required=required, clean_stop=True)
    draft.note(
        "group.clean_stop",
        group.subject,
        f"writes are fenced and archives {list(in_sync)} reached the leader's position",
        database=group.database,
    )
    return None


def leader_silence(draft: Draft, command: LeaderSilence) -> Refused | None:
    """A follower received nothing from its leader for 3 s, or receives again."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    if group is None or group.term != command.term or process.archive_id is None:
        return stale_fact("the group has moved on")
    silent = set(group.silent) - {process.archive_id}
    if command.silent:
        silent.add(process.archive_id)
    changed = draft.put_group(group, silent=tuple(sorted(silent)), machine_answers=command.machine_answers)
    return stale_fact("nothing new") if changed == group else None
