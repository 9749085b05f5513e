"""The dead leader's tail: a large group fails over to a follower that is first given what only the dead leader's disk has.

Under load the dead leader's files are a little ahead of every follower, so the ordinary choice restarts it, which takes
as long as its files take to load. Above a size people may set (`tail_above`) the follower furthest ahead is assigned
instead, and its term may open only once its disk holds exactly the dead leader's bytes. Whatever is not exactly as
expected brings back the ordinary choice, the dead leader first (docs/decisions/0011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import TailBroken, TailFed, TailMeasured
from dkv.domain.model import Group, PositionReport, Process, ProcessState, TailTransfer
from dkv.domain.phases import Assigned, Vacant
from dkv.domain.positions import TailRecipient
from dkv.domain.refusals import stale_fact
from dkv.domain.rules.process_lifecycle import vacate
from dkv.domain.rules.processes import owned

WAIT_FOR_FOLLOWERS = 1_000  # ms the dead leader is not restarted while a living member of S did not answer yet
PARTS = 3  # of giving a tail: it is measured, given, and compared
SLOWEST = 5_000  # bytes a ms: one that is given more slowly takes longer than its leader's restart
ALWAYS_PAYS = 1 << 20  # bytes that are given in no time
PAYING_SHARE = 8  # a larger part of the files than one of so many: loading all of them is quicker than giving it


@dataclass(frozen=True)
class Successor:
    """The next leader, and the tail it is given before its term opens; no process: an answer is still awaited."""

    process: Process | None
    tail: TailTransfer | None = None


@dataclass(frozen=True)
class Opening:
    """What a term opens with: the members of S that stay beside its leader, its position, and the history it continues."""

    stay: tuple[int, ...]
    at: PositionReport | None
    history: str


# Whether and to whom ---------------------------------------------------------------------------------------------


def awaited(draft: Draft, group: Group) -> bool:
    """Whether it would pay, and a living follower has yet to say how far it got."""
    if source(draft, group) is None:
        return False
    waited = group.phase.waited(draft.clock) if isinstance(group.phase, Vacant) else 0
    return waited < WAIT_FOR_FOLLOWERS and any(p.report is None for p in _followers(draft, group))


def planned(draft: Draft, group: Group) -> tuple[Process, TailTransfer] | None:
    """The process that is to lead and the tail that followers are to receive; None for the ordinary choice."""
    holder = source(draft, group)
    fit = [(p, p.report) for p in _followers(draft, group) if p.report and p.report.digest and p.report.term]
    if holder is None or not fit:
        return None
    heir, first = max(fit, key=lambda pair: (pair[1].order, pair[1].offset, -(pair[0].archive_id or 0)))
    if not _pays(holder.report, _lacks(holder.report, first)):
        return None
    marker = (first.term, first.sequence, first.nonce)
    fed = tuple(
        TailRecipient(p.archive_id or 0, p.start_id, report.offset, report.bytes_after, report.digest)
        for p, report in fit
        if (report.term, report.sequence, report.nonce, report.history) == (*marker, first.history)
    )
    return heir, TailTransfer(holder.archive_id or 0, holder.start_id, *marker, first.history, fed)


def recipient(draft: Draft, group: Group) -> Successor | None:
    """The follower that is to lead once it has the dead leader's tail; None for the ordinary choice."""
    if awaited(draft, group):
        return Successor(None)
    plan = planned(draft, group)
    return Successor(*plan) if plan else None


def _lacks(held: PositionReport | None, first: PositionReport) -> int:
    """Bytes that the furthest follower lacks at least: more may lie between its marker and a newer one that it has not got."""
    if held is None:
        return 0
    same = (held.term, held.sequence, held.nonce) == (first.term, first.sequence, first.nonce)
    return held.bytes_after - first.bytes_after if same else held.bytes_after


def _pays(held: PositionReport | None, lacks: int) -> bool:
    """Whether what the furthest follower lacks is little beside what a restart would load. Each byte of it is read and digested
    twice, sent, and taken by an engine: 400 MB in one value took 9 s, and its leader loaded 1.2 GB of such values in 2 to 5 s.
    """
    return lacks <= max(ALWAYS_PAYS, held.size // PAYING_SHARE if held else 0)


def source(draft: Draft, group: Group) -> Process | None:
    """The process that holds the dead leader's archive, if its files are worth the trouble and their end is proven."""
    vacant = group.phase
    if not isinstance(vacant, Vacant) or group.last_leader not in group.in_sync:
        return None
    if vacant.tail_abandoned or vacant.enforced is not None or vacant.contested or group.suspects:
        return None
    options = draft.databases[group.database].options
    process = draft.process_on(group.last_leader) if group.last_leader is not None else None
    if options.tail_above < 0 or options.append_fsync != "always" or process is None or not _held(draft, process):
        return None
    large = process.report is not None and process.report.size >= options.tail_above
    return process if large and not group.clean_stop else None


def _held(draft: Draft, process: Process) -> bool:
    """Its manager has the archive's lock, and no engine runs on it."""
    stays = not process.kill and process.state is ProcessState.STARTED
    return stays and draft.server_alive(process.server_id)


def _followers(draft: Draft, group: Group) -> list[Process]:
    """Members of S whose engines live and followed the dead leader."""
    processes = (draft.process_on(a) for a in group.in_sync if a != group.last_leader)
    return [p for p in processes if p and not p.kill and p.state is ProcessState.MONITORED and draft.server_alive(p.server_id)]


# While it stands -------------------------------------------------------------------------------------------------


def obstacle(draft: Draft, group: Group) -> str | None:
    """Why an assignment with a tail cannot go on, or None. Its leader's own end is judged as any other's."""
    phase = group.phase
    tail = phase.tail if isinstance(phase, Assigned) else None
    if not isinstance(phase, Assigned) or tail is None:
        return None
    if draft.stopping(group.database):
        return "the database is being shut down"
    process = draft.processes.get(tail.source_process)
    if process is None or not _held(draft, process):
        return f"process {tail.source_process} no longer holds the dead leader's archive, or its server is away"
    heir = draft.processes.get(phase.leader_process)
    if heir and (heir.kill or heir.state is not ProcessState.MONITORED):
        return f"process {heir.start_id}, its assigned leader, is about to be stopped"
    return None


def longest(draft: Draft, tail: TailTransfer, grace: int) -> int:
    """ms that giving a tail may take altogether, however steadily it goes on; restarting the dead leader loses nothing either.

    `grace` is failoverGrace in ms, for each of the parts; the rest follows the tail's size.
    """
    held = draft.processes.get(tail.source_process)
    known = held.report.bytes_after if held and held.report else 0
    return PARTS * grace + max(tail.size, known) // SLOWEST


def is_whole(tail: TailTransfer, start_id: int) -> bool:
    """Whether a follower's disk was found to hold all of it."""
    fed = tail.of(start_id)
    return fed is not None and fed.whole


def whole_members(draft: Draft, group: Group, tail: TailTransfer) -> tuple[int, ...]:
    """The other members of S that have all of it: they continue the new leader's history and stay in S."""
    members = []
    for archive_id in group.in_sync:
        process = draft.process_on(archive_id)
        fed = tail.of(process.start_id) if process else None
        if fed and fed.whole and process and process.state is ProcessState.MONITORED and archive_id != group.leader:
            members.append(archive_id)
    return tuple(members)


def opening(draft: Draft, group: Group, leader_process: int, tail: TailTransfer) -> Opening | Refused:
    """How the term of a leader that was given the tail opens: where the dead leader ended, in the history of the transfer."""
    if not is_whole(tail, leader_process):
        return stale_fact(f"process {leader_process} was not given all of the dead leader's tail yet")
    holder = draft.processes.get(tail.source_process)
    return Opening(whole_members(draft, group, tail), holder.report if holder else None, tail.history)


# Facts -----------------------------------------------------------------------------------------------------------


def tail_measured(draft: Draft, command: TailMeasured) -> Refused | None:
    """The dead leader's manager has measured what there is to give, and whose bytes are the beginning of it."""
    standing = _standing(draft, command)
    if isinstance(standing, Refused):
        return standing
    group, tail = standing
    if tail.source_process != command.start_id or tail.history:
        return stale_fact(f"process {command.start_id} does not hold the tail, or it was measured already")
    fed = tuple(recipient for recipient in tail.fed if recipient.start_id in command.prefixes and recipient.place <= command.size)
    heir = next((recipient for recipient in fed if recipient.start_id == group.leader_process), None)
    if heir is None:
        vacate(draft, group, f"the bytes of archive {group.leader} are not the beginning of the dead leader's")
        return None
    lacks = command.size - heir.place
    if not _pays(draft.processes[command.start_id].report, lacks):
        vacate(
            draft,
            group,
            f"archive {group.leader} lacks {lacks} bytes, and archive {tail.source} loads all it has sooner than it gives them",
        )
        return None
    tail = replace(tail, fed=fed, size=command.size, digest=command.digest, history=command.history)
    draft.put_phase(group, tail=tail, stalled_since=None)
    behind = tail.size - tail.lowest
    draft.note(
        "group.tail_measured",
        f"group {group.database}/{group.name}",
        f"up to {behind} bytes that only archive {tail.source} has go to {_archives(tail)}",
        database=group.database,
        start_id=command.start_id,
        archive_id=tail.source,
    )
    return None


def _archives(tail: TailTransfer) -> str:
    ids = [str(recipient.archive_id) for recipient in tail.fed]
    return f"archive {ids[0]}" if len(ids) == 1 else f"archives {', '.join(ids)}"


def tail_fed(draft: Draft, command: TailFed) -> Refused | None:
    """A follower's disk was compared: equal, and it may lead or stay in S; anything else ends the attempt."""
    standing = _standing(draft, command)
    if isinstance(standing, Refused):
        return standing
    group, tail = standing
    fed = tail.of(command.start_id)
    if fed is None or fed.whole or not tail.history:
        return stale_fact(f"process {command.start_id} receives no tail, or has all of it already")
    if (command.size, command.digest) != (tail.size, tail.digest):
        _give_up(draft, group, tail, fed, "its bytes differ from the dead leader's")
        return None
    whole = tuple(replace(recipient, whole=True) if recipient is fed else recipient for recipient in tail.fed)
    draft.put_phase(group, tail=replace(tail, fed=whole), stalled_since=None)
    draft.note(
        "group.tail_fed",
        f"group {group.database}/{group.name}",
        f"archive {fed.archive_id} has the dead leader's {tail.size} bytes after the marker, compared by digest",
        database=group.database,
        start_id=command.start_id,
        archive_id=fed.archive_id,
    )
    return None


def tail_broken(draft: Draft, command: TailBroken) -> Refused | None:
    """Not exactly as expected: the ordinary choice is made again, unless it concerns another follower only."""
    standing = _standing(draft, command)
    if isinstance(standing, Refused):
        return standing
    group, tail = standing
    fed = tail.of(command.start_id)
    if fed is None and tail.source_process != command.start_id:
        return stale_fact(f"process {command.start_id} has no part in the tail of {group.name}")
    _give_up(draft, group, tail, fed, command.reason)
    return None


def _standing(draft: Draft, command: TailMeasured | TailFed | TailBroken) -> tuple[Group, TailTransfer] | Refused:
    """The group of that process and the tail that is given to it, or why the fact comes too late."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    tail = group.tail if group else None
    if group is None or tail is None or group.term != command.term:
        return stale_fact(f"no tail is transferred in term {command.term}")
    return group, tail


def _give_up(draft: Draft, group: Group, tail: TailTransfer, fed: TailRecipient | None, reason: str) -> None:
    """One follower less, or, if it is the one that is to lead or the source itself, the whole attempt.

    Its part stays in the sums, so that the numbers of the stream do not move under the others.
    """
    if fed is None or fed.start_id == group.leader_process:
        vacate(draft, group, f"the transfer of the dead leader's tail was given up: {reason}")
        return
    rest = tuple(replace(recipient, whole=False) if recipient is fed else recipient for recipient in tail.fed)
    draft.put_phase(group, tail=replace(tail, fed=rest))
    draft.note(
        "group.tail_fed_less",
        f"group {group.database}/{group.name}",
        reason,
        database=group.database,
        start_id=fed.start_id,
        archive_id=fed.archive_id,
    )
