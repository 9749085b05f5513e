"""Who leads: the order of choice (docs/reference/safety.md#order-of-choice), applied once its conditions are met.

A position chooses, it never forbids; the in-sync set decides who may. The order: the last opened leader's
archive (fsync precedes streaming, so it is never behind), a living member of S by replication offset, then
the newest position on disk, last the lowest archive id.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain import losses
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.held_back import is_uncertain
from dkv.domain.model import Archive, ArchiveState, Enforcement, Group, Process, ProcessState, TailTransfer
from dkv.domain.orders import EnforceLeader
from dkv.domain.phases import Assigned, Election, Vacant
from dkv.domain.refusals import no, unknown_archive
from dkv.domain.rules import tail
from dkv.domain.rules.process_lifecycle import vacate
from dkv.domain.rules.switchover import remember_home
from dkv.domain.spread import first_leader
from dkv.hints import action

WAIT_FOR_MEMBER = 2_000  # ms a silent member of S is waited for before it is skipped
WAIT_FOR_LEADER = 10_000  # ms the dead leader's archive is waited for while its machine answers


@dataclass(frozen=True)
class Standing:
    """One archive's part in a vacancy: its process, and whether that process may be assigned now."""

    archive_id: int
    process: Process | None
    ready: bool
    pending: bool


def settle_group(draft: Draft, group: Group) -> None:
    """Vacate what is provably without a leader; assign what may have one."""
    if not isinstance(group.phase, Vacant):
        because = _lost(draft, group)
        if because is None:
            return
        leader = draft.leader_of(group)
        if leader and group.open and not draft.server_alive(leader.server_id):
            remember_home(draft, group, leader)
        gone = f"server {leader.server_id}" if leader else f"process {group.leader_process}"
        group = vacate(draft, group, because, draft.last(gone))
    if draft.stopping(group.database):
        return
    successor = tail.recipient(draft, group)  # of a large group: it is first given what only the dead leader's disk has
    if successor is None:
        successor = tail.Successor(choose(draft, group))
    if successor.process:
        assign(draft, group, successor.process, successor.tail)


def _lost(draft: Draft, group: Group) -> str | None:
    """Why a group with a leader has none any more, or None."""
    leader = draft.leader_of(group)
    if leader is None:
        return "its leader's process is gone"
    unfed = tail.obstacle(draft, group)
    if unfed:
        return unfed
    if draft.server_alive(leader.server_id):
        return None
    if not group.open:
        return f"the server of its assigned leader, {leader.server_id}, lost its lease"
    living = living_followers(draft, group)
    if living and all(p.archive_id in group.silent for p in living):
        return f"{leader.server_id} lost its lease, and no living member of the in-sync set has a link to the leader"
    return None


def living_followers(draft: Draft, group: Group) -> list[Process]:
    """Members of S but the leader whose engines answer on servers that are alive: they can report what they observe."""
    processes = (draft.process_on(a) for a in group.in_sync if a != group.leader)
    answering = (ProcessState.TRACKED, ProcessState.MONITORED)
    return [p for p in processes if p and p.state in answering and draft.server_alive(p.server_id)]


# The choice --------------------------------------------------------------------------------------------------------


def choose(draft: Draft, group: Group) -> Process | None:
    """The process to assign now, or None while the group waits for one or none may lead."""
    if group.enforced is not None:
        forced = standing(draft, group.enforced)
        return forced.process if forced.ready and _proven(draft, group, forced, enforced=True) else None
    if group.last_leader is None:
        return _bootstrap(draft, group)
    members = [standing(draft, a) for a in group.in_sync]
    if _must_wait(draft, group, members):
        return None
    return _best(draft, group, members)


def next_in_order(draft: Draft, group: Group) -> Process | None:
    """The process that would lead instead of the assigned leader, if one can."""
    return _best(draft, group, [standing(draft, a) for a in group.in_sync if a != group.leader])


def _best(draft: Draft, group: Group, members: list[Standing]) -> Process | None:
    ready = [m for m in members if m.ready and _proven(draft, group, m)]
    return max(ready, key=lambda m: _rank(group, m)).process if ready else None


def standing(draft: Draft, archive_id: int) -> Standing:
    """How an archive stands in the present vacancy."""
    process = draft.process_on(archive_id)
    if process is None or process.leaving:
        return Standing(archive_id, process, ready=False, pending=False)
    alive = draft.server_alive(process.server_id)
    loaded = process.state in (ProcessState.TRACKED, ProcessState.MONITORED)
    ready = alive and process.report is not None and (process.state is ProcessState.STARTED or loaded)
    return Standing(archive_id, process, ready, pending=alive and not ready and not is_uncertain(process))


def _bootstrap(draft: Draft, group: Group) -> Process | None:
    """A group in which no term was ever opened never admitted a write: any started archive may lead. The one that spreads leaders
    over servers is waited for a moment, then the lowest leads. If it is to begin with restored data, only an archive that holds
    that may: the newest of those that are started."""
    archives = draft.archives_in(group)
    restored = [a for a in archives if a.restored]
    members = [standing(draft, a.archive_id) for a in restored or archives]
    ready = [m for m in members if m.ready and _proven(draft, group, m)]
    if not ready or (restored and any(m.pending for m in members)):
        return None
    if restored:
        return max(ready, key=lambda m: _rank(group, m)).process
    first = first_leader(draft, group)
    preferred = next((m for m in ready if first and m.archive_id == first.archive_id), None)
    if preferred is None and first and _is_awaited(draft, group, first):
        return None
    return (preferred or ready[0]).process


def _is_awaited(draft: Draft, group: Group, first: Archive) -> bool:
    """Whether the archive that should lead first may be started a moment later. A database of one group takes whichever comes."""
    waited = group.phase.waited(draft.clock) if isinstance(group.phase, Vacant) else 0
    alone = len(draft.groups_of(group.database)) == 1
    member = standing(draft, first.archive_id)
    return not alone and waited < WAIT_FOR_MEMBER and (member.pending or _may_come(draft, member))


def _must_wait(draft: Draft, group: Group, members: list[Standing]) -> bool:
    """Whether an answer is still awaited that could change the choice (model: last_leader_first, model: contested_are_asked)."""
    waited = group.phase.waited(draft.clock) if isinstance(group.phase, Vacant) else 0
    first = group.contested or ((group.last_leader,) if group.last_leader is not None else ())
    unskipped = [m for m in members if m.archive_id in first and not m.ready and _awaitable(draft, group, m)]
    if unskipped and waited < WAIT_FOR_LEADER:
        return True
    if not group.contested and any(m.ready for m in members if m.archive_id == group.last_leader):
        return False
    absent = [] if group.clean_stop or _any_living(draft, group) else [m for m in members if _may_come(draft, m)]
    return waited < WAIT_FOR_MEMBER and (bool(absent) or any(m.pending for m in members))


def _any_living(draft: Draft, group: Group) -> bool:
    return any(p.state is ProcessState.MONITORED for p in draft.processes_in(group))


def _may_come(draft: Draft, member: Standing) -> bool:
    """In a cold start an archive without a process may be requested a moment later, and may be newer."""
    archive = draft.archives.get(member.archive_id)
    return member.process is None and archive is not None and draft.server_alive(archive.server_id)


def _awaitable(draft: Draft, group: Group, member: Standing) -> bool:
    """A dead leader is waited for while its server's lease lives, or its machine still answers."""
    process = member.process
    if process is None or process.leaving or is_uncertain(process):
        return False
    return draft.server_alive(process.server_id) or group.machine_answers


def _proven(draft: Draft, group: Group, member: Standing, enforced: bool = False) -> bool:
    """Whether each other process that may still lead is proven stopped, or cut off beyond its fence time
    (model: proven_before_assign).
    """
    for start_id in group.suspects:
        tombstone = draft.tombstones.get(start_id)  # of one that ended without proof that nothing of it runs
        process = draft.processes.get(start_id) or (tombstone.process if tombstone else None)
        if process is None or process is member.process:
            continue
        if draft.server_alive(process.server_id):
            return False
        if process.archive_id not in (group.last_leader, *group.contested):
            continue  # its silence was proven before a later term opened; it cannot be proven again
        living = (p for p in living_followers(draft, group) if p is not process)
        if not enforced and not all(p.archive_id in group.silent for p in living):
            return False
    return True


def _rank(group: Group, member: Standing) -> tuple[bool, bool, int, tuple[int, int, int], int]:
    """Sort key of a ready member; the highest leads (model: positions_after_a_handover)."""
    process = member.process
    assert process is not None and process.report is not None
    report = process.report
    first = not group.contested and member.archive_id == group.last_leader
    abandoned = isinstance(group.phase, Election) and group.phase.tail_abandoned
    moved = bool(group.contested) or abandoned  # what was fed has a history of its own, and is further
    same_history = bool(report.history) and report.history == group.history and not moved
    return (first, same_history, report.offset if same_history else 0, report.order, -member.archive_id)


# The assignment ------------------------------------------------------------------------------------------------------


def assign(draft: Draft, group: Group, process: Process, given: TailTransfer | None = None) -> None:
    """Commit one of two: a new term with its leader. S stays; it may be superseded until it opens.

    `given` is what the leader has to be given first, from the disk of the one before it. S and `required` are kept
    (model: in_sync_kept_at_assign).
    """
    bootstrap = group.last_leader is None
    archive_id = process.archive_id
    assert archive_id is not None
    report = process.report
    vacant = group.phase
    assert isinstance(vacant, Vacant)
    because = _first(draft, archive_id) if bootstrap else _reason(group, process)
    if given:
        because = f"archive {archive_id} is in sync and loaded, and first receives what only archive {given.source} has"
    draft.move_group(
        group,
        "assigned",
        Assigned(
            leader=archive_id,
            leader_process=process.start_id,
            tail=given,
            contested=vacant.contested,
            enforced=vacant.enforced,
            tail_abandoned=vacant.tail_abandoned,
        ),
        because,
        term=group.term + 1,
        in_sync=(archive_id,) if bootstrap else group.in_sync,
        clean_stop=False,
    )
    assert report is not None
    _number(draft, process)


def _first(draft: Draft, archive_id: int) -> str:
    restored = draft.archives[archive_id].restored
    return f"archive {archive_id} {'holds the data to restore' if restored else 'is the first to lead its group'}"


def _reason(group: Group, process: Process) -> str:
    report = process.report
    assert report is not None
    if process.archive_id == group.enforced:
        return f"an operator enforced archive {process.archive_id}"
    if process.archive_id == group.last_leader and not group.contested:
        return f"archive {process.archive_id} led last, so no archive has newer data"
    place = f"marker {report.term}-{report.sequence} and {report.data_bytes} bytes after it"
    if not report.term:
        place = "no marker was found"
    return f"archive {process.archive_id} is in sync and has the newest reported position: {place}"


def _number(draft: Draft, leader: Process) -> None:
    """At an incarnation's first assignment node ids are given out: leader 1, other SMs by start id, then TEs."""
    database = draft.databases[leader.database]
    if database.numbered:
        return
    others = [p for p in draft.processes_of(database.name) if p.start_id != leader.start_id]
    others.sort(key=lambda p: (p.role.value, p.start_id))
    for node_id, process in enumerate([draft.processes[leader.start_id], *others], start=1):
        draft.put_process(process, node_id=node_id)
    draft.put_database(database, numbered=True, next_node_id=len(others) + 2)


# The override --------------------------------------------------------------------------------------------------------


def enforce_leader(draft: Draft, command: EnforceLeader) -> Refused | None:
    """An operator makes an archive lead although it may lack writes; said first, recorded for ever."""
    group = draft.groups.get((command.database, command.group))
    archive = draft.archives.get(command.archive_id)
    if group is None or archive is None or archive.removed or (archive.database, archive.group) != group.key:
        return unknown_archive(command.archive_id)
    if not command.allow_data_loss or not command.reason.strip():
        return no(
            "data_loss_not_allowed",
            f"Archive {archive.archive_id} may lack confirmed writes of {group.name}.",
            "If they may be lost, repeat with ",
            action("allowDataLoss"),
            ".",
        )
    leader = draft.leader_of(group)
    if group.serving and leader and draft.server_alive(leader.server_id):
        return no(
            "bad_value",
            f"Group {group.name} has a serving leader, archive {group.leader}.",
            "Nothing to enforce; use a switchover.",
        )
    if archive.state is ArchiveState.PROVISIONED and group.last_leader is not None:
        return no("bad_value", f"Archive {archive.archive_id} holds no data at all.", "Name an archive with data.")
    bound = losses.bound(draft, group, archive)
    draft.note(
        "group.enforced",
        group.subject,
        f"an operator allowed data loss: {command.reason}",
        database=group.database,
        archive_id=archive.archive_id,
    )
    record = Enforcement(archive.archive_id, group.term, bound.in_sync, bound.verdict, command.reason, command.actor, command.now)
    group = draft.put_group(group, enforcements=(*group.enforcements, record))
    if not isinstance(group.phase, Vacant):
        group = vacate(draft, group, "an operator enforced another leader")
    group = draft.put_phase(group, enforced=archive.archive_id)
    draft.put_group(group, in_sync=tuple(sorted({*group.in_sync, archive.archive_id})))
    return None
