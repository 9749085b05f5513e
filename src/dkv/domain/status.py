"""Domain: what is shown of a state, derived from it alone and never stored.

The status of a store, the state of an instance in the cmdlets' words, why an instance does not run, for what a group
waits for, and how many servers may still be lost. Every function is pure; times are wall-clock ms, only shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dkv.domain.actions import remove_instance, start_instance
from dkv.domain.held_back import lack_of, rest_of, why_held_back
from dkv.domain.hotcopy import cutting
from dkv.domain.model import (
    TOMBSTONES_OF_ARCHIVE,
    Archive,
    ArchiveState,
    EngineState,
    Group,
    JoinStage,
    Process,
    ProcessState,
    Reader,
    Rest,
    State,
    TailTransfer,
    Tombstone,
)
from dkv.domain.phases import Assigned, HandingOver, Open, Vacant
from dkv.domain.states import RESTING, STOPPING
from dkv.domain.table import keys_of
from dkv.domain.unwritten import AsOf
from dkv.domain.writes_refused import takes_writes
from dkv.hints import Hint, action, hint, sentences

WANTED_ENDS = ("graceful stop", "operator kill")
"""Causes of a requested end (engine contract, Cause)."""

STAGES = {
    JoinStage.ANNOUNCED: "it copies the data of its leader",
    JoinStage.MARKED: "its copy is complete and is being proved on its disk",
    JoinStage.REQUIRED: "its copy is on its disk and it enters the in-sync set in about a second",
}


def how_it_joins(state: Reader, group: Group, stage: JoinStage) -> tuple[str, str]:
    """For what a joiner waits, "" for its leader alone; and how far it is."""
    copy = cutting(state.copies.values(), group.database, group.name)
    fenced = len(group.in_sync) < state.databases[group.database].options.min_in_sync  # then no copy waits for a hot copy
    if copy is None or stage is not JoinStage.ANNOUNCED or fenced:
        return "", STAGES[stage]
    return f"hot copy {copy.copy_id}", f"it enters the in-sync set after hot copy {copy.copy_id} has made its cut"


@dataclass(frozen=True)
class Waiting:
    """The instances for which a group waits, by name; since when (wall-clock ms, None if unknown); and what would help."""

    archives: tuple[str, ...]
    at: int | None
    reason: str
    hint: Hint = Hint()


# Stores and instances ----------------------------------------------------------------------------------------


def instances(state: Reader, database: str) -> list[Archive]:
    """The archives people still see: a deleted one disappears at once, though its directory is renamed later."""
    return [a for a in state.archives_of(database) if not a.removed]


def path_of(state: Reader, archive: Archive) -> str:
    """Where an archive lies on its server; one without a path of its own is below its manager's data directory."""
    server = state.servers.get(archive.server_id)
    return archive.directory_in(server.data_dir if server else "")


def hint_of(state: Reader, archive: Archive, rest: Rest) -> Hint:
    """What a person can do about an archive whose process is held back, and how to have it begun now."""
    lack = lack_of(archive, path_of(state, archive), rest)
    now = (lack.hint if lack else "Cure the cause", "; it starts at once with: ", start_instance(archive))
    if not rest.spent:
        return hint(*now, ".")
    replaced = (remove_instance(archive), ", then ", action("addInstance", store=archive.database))
    return hint(*now, "; or, while another copy is in sync, replace it: ", *replaced, ".")


def store_status(state: State, database: str) -> str:
    """NoInstances, Running, Stopped or Partial. Created and Failed count as stopped.

    Running is only said when every group takes writes as well, and what is shown is not out of date.
    """
    states = {instance_state(state, archive) for archive in instances(state, database)}
    if not states:
        return "NoInstances"
    writable = all(takes_writes(state, group) for group in state.groups_of(database))
    if states == {"Running"} and writable and not isinstance(state, AsOf):
        return "Running"
    return "Stopped" if states <= {"Created", "Stopped", "Failed"} else "Partial"


def instance_state(state: Reader, archive: Archive) -> str:
    """Created, Starting, Running, Stopping, Stopped, Failed, or Unreachable while its server's manager is away and it is
    unknown what its engine does.
    """
    process = state.process_on(archive.archive_id)
    if process is None:
        return _state_at_rest(archive, last_tombstone(state, archive.archive_id))
    if _is_leaving(state, process):
        return "Stopping"
    if not state.server_alive(archive.server_id):
        return "Unreachable"
    if rest_of(process):
        return "Failed"
    runs = process.state is ProcessState.MONITORED and process.engine_state is EngineState.RUNNING
    return "Running" if runs else "Starting"


def role(state: State, archive: Archive) -> str | None:
    """`leader` or `follower` once it takes part in its group, None before. Only an opened leader leads."""
    process = state.process_on(archive.archive_id)
    if process is None:
        return None
    group = state.group_of_archive(archive.archive_id)
    if group.leader == archive.archive_id and group.open:
        return "leader"
    return "follower" if process.state is ProcessState.MONITORED else None


def last_tombstone(state: Reader, archive_id: int) -> Tombstone | None:
    """The newest tombstone of an archive; start ids only grow."""
    start_ids = keys_of(state.tombstones, TOMBSTONES_OF_ARCHIVE, archive_id)
    return state.tombstones[start_ids[-1]] if start_ids else None


def why_not_running(state: Reader, archive: Archive) -> str | None:
    """One clause that says why an instance does not run (yet); None while it runs."""
    process = state.process_on(archive.archive_id)
    if process is None:
        return _why_at_rest(archive, last_tombstone(state, archive.archive_id))
    if _is_leaving(state, process):
        return _why_leaving(process)
    if instance_state(state, archive) == "Running":
        return None
    if not state.server_alive(archive.server_id):
        return f"its server {archive.server_id} is away"
    return _why_starting(state, archive, process)


def instance_hint(state: Reader, archive: Archive) -> Hint:
    """What helps an instance that does not run and does not come up by itself."""
    process = state.process_on(archive.archive_id)
    if process is None:
        return hint("Start it: ", start_instance(archive), ".")
    if _is_leaving(state, process):
        return Hint()
    rest = rest_of(process)
    if rest:
        return hint_of(state, archive, rest)
    group = state.group_of_archive(archive.archive_id)
    waiting = None if group.open and group.serving else waits_for(state, group)
    return waiting.hint if waiting else Hint()


def _state_at_rest(archive: Archive, tombstone: Tombstone | None) -> str:
    if _ended_badly(archive, tombstone):
        return "Failed"
    if archive.state is ArchiveState.PROVISIONED and tombstone is None:
        return "Created"
    return "Stopped"


def _ended_badly(archive: Archive, tombstone: Tombstone | None) -> bool:
    if tombstone is None or archive.stopped_by_operator:
        return False
    return tombstone.process.verdict is not None or tombstone.cause not in WANTED_ENDS


def _is_leaving(state: Reader, process: Process) -> bool:
    if process.leaving or process.verdict is not None:
        return True
    return state.databases[process.database].state in STOPPING


def _why_at_rest(archive: Archive, tombstone: Tombstone | None) -> str:
    if tombstone is not None and _ended_badly(archive, tombstone):
        return tombstone.reason or tombstone.cause
    if archive.stopped_by_operator:
        return "it was stopped by an operator"
    return "it was stopped" if tombstone is not None else "it was not started yet"


def _why_leaving(process: Process) -> str:
    if process.verdict is not None:
        return process.verdict.reason
    return "it is being killed" if process.kill else "it is being stopped"


def _why_starting(state: Reader, archive: Archive, process: Process) -> str:
    group = state.group_of_archive(archive.archive_id)
    rest = rest_of(process)
    if rest:
        return why_held_back(rest)
    if process.state is ProcessState.REQUESTED:
        return f"the manager of {archive.server_id} has not taken the request yet"
    if process.state is ProcessState.CONFIGURED:
        return f"it is loading its data, {process.loading_percent} %"
    if process.state is ProcessState.MONITORED:
        stage = next((j.stage for j in group.joining if j.archive_id == archive.archive_id), None)
        return how_it_joins(state, group, stage)[1] if stage else "it waits for its leader's manager to let it join"
    waiting = None if group.open and group.serving else waits_for(state, group)
    if waiting is None:
        return "it has loaded and joins its leader" if process.state is ProcessState.TRACKED else "it is being launched"
    others = [name for name in waiting.archives if name != archive.name]
    return f"it waits for {_list(others)}: {waiting.reason}" if others else waiting.reason


# Groups ------------------------------------------------------------------------------------------------------


def waits_for(state: Reader, group: Group) -> Waiting | None:
    """For what a group waits before it accepts writes; None if it waits for nothing or is not to run."""
    database = state.databases.get(group.database)
    if database is None or database.state in (*RESTING, *STOPPING):
        return None
    match group.phase:
        case Vacant() as phase:
            return _vacant(state, group, phase)
        case Assigned() as phase:
            return _assigned(state, group, phase)
        case Open() | HandingOver() as phase:
            return _open(state, group, phase, database.options.min_in_sync)


def can_lose(state: State, group: Group) -> tuple[int, int]:
    """How many more servers may be lost (without losing confirmed data, without losing the ability to write).

    A confirmed write is on the disk of every member of the in-sync set, so all their servers but one may go; a
    server that is away already is counted as lost. Writes go on while `minInSync` members with a process are left
    (at least one), whichever servers go first. Acknowledged, unconfirmed writes are safe from neither.
    """
    if group.intrusion:
        return 0, 0
    members = [state.archives[i] for i in group.in_sync if i in state.archives]
    holders = [a for a in members if state.server_alive(a.server_id)]
    confirmed = max(0, len({a.server_id for a in holders}) - 1)
    running = [a for a in holders if _can_serve(state, a)]
    least = max(1, state.databases[group.database].options.min_in_sync)
    return confirmed, _losable(Counter(a.server_id for a in running), least) if _may_write(state, group) else 0


def _may_write(state: State, group: Group) -> bool:
    """Whether nothing keeps an open group from taking writes, or its next leader from being chosen; one without a leader
    will take them when it has one.
    """
    return not isinstance(state, AsOf) and (not group.serving or takes_writes(state, group))


def _can_serve(state: State, archive: Archive) -> bool:
    process = state.process_on(archive.archive_id)
    return process is not None and not _is_leaving(state, process)


def _losable(per_server: Counter[str], least: int) -> int:
    left = per_server.total()
    for lost, (_, count) in enumerate(per_server.most_common()):
        left -= count
        if left < least:
            return lost
    return 0


def _vacant(state: Reader, group: Group, phase: Vacant) -> Waiting:
    since = phase.since.wall or None if phase.since else None
    members = _candidates(state, group)
    lacks = [(a, lack) for a in members if (lack := _lack(state, a))]
    if lacks:
        reason = "; ".join(f"{archive.name} {what}" for archive, (what, _) in lacks)
        helpful = {str(lacking): lacking for _, (_, lacking) in lacks if lacking}
        cures = sentences([lacking for _, lacking in sorted(helpful.items())])
        return Waiting(tuple(a.name for a, _ in lacks), since, reason, cures)
    doubtful = _suspects(state, group)
    if doubtful:
        reason = f"{_list(doubtful)} may still lead and is not proven stopped"
        return Waiting(doubtful, since, reason, hint("Bring its server back, or wait until its time is over."))
    return Waiting((), since, "its next leader is being chosen")


def _candidates(state: Reader, group: Group) -> list[Archive]:
    """Who may lead: the enforced archive, else the in-sync set, else (nothing was ever opened) any of the group."""
    if group.enforced is not None:
        return [state.archives[group.enforced]] if group.enforced in state.archives else []
    if group.last_leader is not None:
        return [state.archives[i] for i in group.in_sync if i in state.archives]
    mine = [a for a in instances(state, group.database) if a.group == group.name]
    return [a for a in mine if a.restored] or mine


def _lack(state: Reader, archive: Archive) -> tuple[str, Hint] | None:
    """What keeps an archive from being chosen to lead, and what would help; None if nothing does."""
    process = state.process_on(archive.archive_id)
    if not state.server_alive(archive.server_id):
        return f"is on server {archive.server_id}, which is away", hint(f"Bring server {archive.server_id} back.")
    if process is None:
        return _lack_at_rest(archive, last_tombstone(state, archive.archive_id))
    if _is_leaving(state, process):
        return "is stopping", hint("Start it again when it has stopped: ", start_instance(archive), ".")
    rest = rest_of(process)
    if rest:
        return f"is held back: {why_held_back(rest)}", hint_of(state, archive, rest)
    if process.state is ProcessState.REQUESTED:
        return f"was requested, and the manager of {archive.server_id} has not taken the request yet", Hint()
    if process.state is ProcessState.CONFIGURED:
        return f"is loading its data, {process.loading_percent} %", Hint()
    if process.report is None:
        return "has not reported its position yet", Hint()
    return None


def _lack_at_rest(archive: Archive, tombstone: Tombstone | None) -> tuple[str, Hint]:
    start = hint("Start it: ", start_instance(archive), ".")
    if archive.stopped_by_operator:
        return "was stopped by an operator", start
    return f"does not run: {_why_at_rest(archive, tombstone)}", start


def _suspects(state: Reader, group: Group) -> tuple[str, ...]:
    known = {**{s: t.process for s, t in state.tombstones.items()}, **state.processes}
    ids = [known[s].archive_id for s in group.suspects if s in known]
    return tuple(state.archives[i].name for i in ids if i is not None and i in state.archives)


def _assigned(state: Reader, group: Group, phase: Assigned) -> Waiting | None:
    leader = state.archives.get(phase.leader)
    if leader is None:
        return None
    since = phase.since.wall or None if phase.since else None
    doing = _progress(state, leader) if phase.tail is None else _given(state, phase.tail)
    what = f"{leader.name} was chosen to lead in term {group.term} and {doing}"
    return Waiting((leader.name,), since, what, hint(_help_for_assigned(state, group, phase, leader)))


def _given(state: Reader, tail: TailTransfer) -> str:
    return f"first receives the writes that only the disk of {state.name_of(tail.source)} has"


def _progress(state: Reader, leader: Archive) -> str:
    process = state.process_on(leader.archive_id)
    if not state.server_alive(leader.server_id):
        return f"its server {leader.server_id} is away"
    if process is None:
        return "its process ended"
    if process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        return "is being launched"
    if process.state is ProcessState.CONFIGURED:
        return f"is loading its data, {process.loading_percent} %"
    return "has loaded and takes over now"


def _help_for_assigned(state: Reader, group: Group, phase: Assigned, leader: Archive) -> str:
    if not [i for i in group.in_sync if i != leader.archive_id]:
        return "No other instance is in sync, so this one has to finish."
    grace = state.databases[group.database].options.failover_grace
    if phase.tail:
        return (
            f"Nothing to do: after {grace / 1000:g} s without progress {state.name_of(phase.tail.source)} is restarted instead."
        )
    return f"After {grace / 1000:g} s without progress another instance is chosen."


def _open(state: Reader, group: Group, phase: Open | HandingOver, min_in_sync: int) -> Waiting | None:
    leader = state.archives.get(phase.leader)
    if leader is None:
        return None
    if not group.serving:
        return Waiting((leader.name,), None, f"{leader.name} takes over in term {group.term}")
    if group.intrusion:
        why = (
            f"writes are refused, because {group.intrusion.by} took its hash slots over the cluster bus; "
            "its manager removes that node and takes the slots back"
        )
        return Waiting(
            (leader.name,),
            group.intrusion.at,
            why,
            hint("Let only servers of the domain reach its cluster port: docs/operations.md, Unknown nodes on the cluster bus."),
        )
    if not state.server_alive(leader.server_id):
        away = f"the manager of {leader.name} is away: while its engine leads the in-sync set cannot change"
        return Waiting((leader.name,), None, away, hint(f"Start the manager of server {leader.server_id}."))
    if len(group.in_sync) < min_in_sync:
        return _too_few(state, group, min_in_sync)
    return None


def _too_few(state: Reader, group: Group, min_in_sync: int) -> Waiting:
    outside = [a for a in instances(state, group.database) if a.group == group.name]
    outside = [a for a in outside if a.archive_id not in group.in_sync]
    reason = f"{len(group.in_sync)} of {min_in_sync} copies are in sync, so writes are refused"
    whys = [f"{a.name}: {why}" for a in outside if (why := why_not_running(state, a))]
    return Waiting(tuple(a.name for a in outside), None, "; ".join([reason, *whys]), _more_copies(state, group, outside))


def _more_copies(state: Reader, group: Group, outside: Sequence[Archive]) -> Hint:
    """How a group gets more copies in sync; `outside` are those that are not."""
    if not outside:
        return hint("Have one copy more: ", action("addInstance", store=group.database), ".")
    cures = [cure for archive in outside if (cure := instance_hint(state, archive))]
    return sentences(cures) if cures else hint("Writes are accepted again when enough of them have joined.")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
