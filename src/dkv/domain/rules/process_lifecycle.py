"""How a process ends: its tombstone, what its end means for its group, and whether the domain starts it again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dkv.domain.draft import Draft
from dkv.domain.held_back import next_begin, next_rest
from dkv.domain.lifecycle import row
from dkv.domain.model import (
    PROCESSES_OF,
    TES_OF,
    TOMBSTONES_IN,
    TOMBSTONES_OF,
    Archive,
    ArchiveState,
    Database,
    DatabaseState,
    EngineState,
    Group,
    Process,
    ProcessRole,
    ProcessState,
    Requester,
    Rest,
    Tombstone,
    evolve,
)
from dkv.domain.phases import Assigned, HandingOver, Leadership, Open, Phase, Vacant
from dkv.domain.rules.archives import endpoints
from dkv.domain.rules.switchover import note_failure
from dkv.domain.table import keys_of

EARLY = 10_000  # an exit before or within this many ms of RUNNING uses the restart budget (docs/reference/safety.md#restarts)
TOMBSTONES_KEPT = 1_000  # per database and incarnation (its major)
TOMBSTONES_IN_ALL = 5_000  # per database


@dataclass(frozen=True)
class Ending:
    """What is known of an end. `planned`: its manager ended it because the domain wanted it."""

    cause: str
    detail: str
    exit_code: int
    wait_status: int | None = None
    last_words: tuple[str, ...] = ()
    planned: bool = False
    reaped: bool = True
    budget: bool = True


def end(draft: Draft, process: Process, ending: Ending) -> None:
    """Turn a process into a tombstone; exit and restart are one decision."""
    orphan = terminate(draft, process, ending)
    rest = _rest(draft, process, ending)
    renewed = process.restarted and not process.kill and not draft.stopping(process.database)
    if renewed and (orphan or process.archive_id is None):
        request_again(draft, process)
    elif orphan:
        restart(draft, orphan, process, rest)
    if process.role is ProcessRole.SM:
        stop_memory_only(draft, process.database)


def terminate(draft: Draft, process: Process, ending: Ending) -> Archive | None:
    """The tombstone and what it means for archive and group; the archive if the domain should request it again."""
    database = draft.databases[process.database]
    archive = draft.archive_of(process)
    wanted = _wanted(draft, process, archive, ending)
    _emit_exit(draft, process, ending)
    draft.drop(process)
    database = draft.put_database(database, minor=database.minor + 1)
    if archive and archive.state is ArchiveState.RUNNING:
        archive = draft.move_archive(archive, "exited") or archive
    _add_tombstone(draft, database, process, ending)
    group = draft.group_of(process)
    if group:
        _leave_group(draft, group, process, ending)
    return archive if wanted else None


def _emit_exit(draft: Draft, process: Process, ending: Ending) -> None:
    """First of all that it ended: everything else follows from that."""
    move = row("process", process.state, "exited")
    reason = process.verdict.reason if process.verdict else ending.detail
    draft.note(
        "process.exited",
        f"process {process.start_id}",
        f"{move.because}: {reason}",
        database=process.database,
        change=f"{process.state} -> (gone)",
        start_id=process.start_id,
        archive_id=process.archive_id,
    )


def _wanted(draft: Draft, process: Process, archive: Archive | None, ending: Ending) -> bool:
    """Whether its end was not requested, so that the domain requests it again."""
    if archive is None or archive.removed or archive.stopped_by_operator:
        return False
    if process.restarted:
        return not process.kill and not draft.stopping(process.database)
    if ending.planned or process.leaving or process.verdict:
        return False
    return not draft.stopping(process.database)


def _is_early(draft: Draft, process: Process, ending: Ending) -> bool:
    """Whether it ended so soon that starting it again may be of no use."""
    early = process.running_at == 0 or draft.command.now - process.running_at < EARLY
    return early and ending.budget


def _rest(draft: Draft, process: Process, ending: Ending) -> Rest | None:
    """How the process that is requested instead is to wait."""
    if not _is_early(draft, process, ending):
        return None
    options = draft.databases[process.database].options
    return next_rest(options, process, ending.cause, ending.detail, draft.command.now)


def _add_tombstone(draft: Draft, database: Database, process: Process, ending: Ending) -> None:
    verdict = process.verdict
    tombstone = Tombstone(
        process=replace(process, report=None, waiting_since=None),
        major=database.major,
        minor=database.minor,
        reason=verdict.reason if verdict else ending.detail,
        cause=ending.cause,
        exit_code=verdict.exit_code if verdict else ending.exit_code,
        wait_status=ending.wait_status,
        at=draft.command.now,
        last_words=ending.last_words,
    )
    draft.put(tombstone)
    _trim(draft, database)


def _trim(draft: Draft, database: Database) -> None:
    """Drop the oldest tombstones beyond what is kept, and say so once per incarnation. One whose process is still
    suspected of leading is kept: it is what that suspicion is about.
    """
    in_all = keys_of(draft.tombstones, TOMBSTONES_OF, database.name)
    of_this = keys_of(draft.tombstones, TOMBSTONES_IN, (database.name, database.major))
    if len(in_all) <= TOMBSTONES_IN_ALL and len(of_this) <= TOMBSTONES_KEPT:
        return
    oldest_first = (draft.tombstones[start_id] for start_id in (in_all if len(in_all) > TOMBSTONES_IN_ALL else of_this))
    oldest = next((tombstone for tombstone in oldest_first if not _suspected(draft, tombstone.process)), None)
    if oldest is None:
        return
    draft.drop(oldest)
    if database.trimmed_in != database.major:
        draft.note(
            "database.tombstones_trimmed",
            f"database {database.name}",
            f"it has more than {TOMBSTONES_KEPT} ended processes in incarnation {database.major}, or more than "
            f"{TOMBSTONES_IN_ALL} in all; only the newest are kept from now on",
            database=database.name,
        )
    draft.put_database(database, trimmed=database.trimmed + 1, trimmed_in=database.major)


def _suspected(draft: Draft, process: Process) -> bool:
    """Whether a process that ended may still lead its group."""
    group = draft.group_of(process)
    return group is not None and process.start_id in group.suspects


def _leave_group(draft: Draft, group: Group, process: Process, ending: Ending) -> None:
    archive_id = process.archive_id
    phase, dropped = group.phase, set()
    if isinstance(phase, Leadership):
        dropped = {j.archive_id for j in phase.joining if j.start_id == process.start_id}
        phase = replace(phase, joining=tuple(j for j in phase.joining if j.start_id != process.start_id))
    group = draft.put_group(
        group,
        phase=phase,
        required=tuple(a for a in group.required if a not in dropped),
        silent=tuple(a for a in group.silent if a != archive_id),
        suspects=tuple(s for s in group.suspects if s != process.start_id or not ending.reaped),
    )
    if group.leader_process == process.start_id:
        because = f"process {process.start_id}, its leader, ended: {ending.detail}"
        vacate(draft, group, because, draft.last(f"process {process.start_id}"))


def vacate(draft: Draft, group: Group, because: str, after: int | None = None) -> Group:
    """The group has no leader any more; S and `required` stay what they are until a new term opens.

    So does what its members said of their silence: it is the proof that lets another archive lead. `after`: the number
    of the event that made it so, where that is not the newest about the group.
    """
    phase = group.phase
    may_lead = {phase.to_process} & draft.processes.keys() if isinstance(phase, HandingOver) else set()
    if isinstance(phase, Leadership):  # what was answered before a term that never opened still holds
        for process in draft.processes_in(group):
            if process.pid is not None:
                draft.put_process(process, report=None)
    for fed in phase.tail.fed if isinstance(phase, Assigned) and phase.tail else ():  # it may have moved them since they answered
        follower = draft.processes.get(fed.start_id)
        if follower:
            draft.put_process(follower, report=None)
    on = "superseded" if isinstance(phase, Assigned) else "vacated"
    suspects = tuple(sorted({*group.suspects, *may_lead}))
    group = draft.move_group(group, on, _vacancy(phase), because, after=after, suspects=suspects)
    if isinstance(phase, Leadership) and phase.switchover:
        note_failure(draft, group, "its leader is gone")
    return group


def _vacancy(phase: Phase) -> Vacant:
    """The phase after that one if its leader is gone."""
    match phase:
        case HandingOver():
            return Vacant(contested=(phase.leader, phase.to_archive))
        case Assigned():
            abandoned = phase.tail_abandoned or phase.tail is not None
            return Vacant(contested=phase.contested, enforced=phase.enforced, tail_abandoned=abandoned)
        case Open() | Vacant():
            return Vacant()


def restart(draft: Draft, archive: Archive, ended: Process, rest: Rest | None = None, because: str = "") -> Process:
    """Request an SM on an archive instead of one that ended, with its labels and options; `rest` may hold it back."""
    return new_process(
        draft,
        Process(
            start_id=draft.next_start_id,
            database=archive.database,
            role=ProcessRole.SM,
            server_id=archive.server_id,
            archive_id=archive.archive_id,
            group=archive.group,
            request=evolve(ended.request, requester=Requester.DOMAIN, restart_of=ended.start_id),
            rest=rest,
        ),
        because,
    )


def request_again(draft: Draft, old: Process) -> Process:
    """Request what an old process was requested as once more, for a requested restart."""
    return new_process(
        draft,
        Process(
            start_id=draft.next_start_id,
            database=old.database,
            role=old.role,
            server_id=old.server_id,
            archive_id=old.archive_id,
            group=old.group,
            request=evolve(old.request, requester=Requester.DOMAIN, restart_of=old.start_id),
            endpoints=endpoints(draft, old.database, old.server_id) if old.archive_id is None else (),
        ),
        f"it replaces process {old.start_id} in the restart of its database",
    )


def open_incarnation(draft: Draft, name: str) -> None:
    """A cold start: without any live process left the next request begins a new major."""
    if draft.has_processes(name):
        return
    database = draft.databases[name]
    draft.put_database(database, major=database.major + 1, minor=0, numbered=False, next_node_id=1)
    draft.note(
        "database.incarnation", f"database {name}", f"its cold start number {database.major + 1} was requested", database=name
    )


def new_process(draft: Draft, process: Process, because: str = "") -> Process:
    """Record a requested process; its start id is the domain's next and is never used again."""
    database = draft.databases[process.database]
    node_id = database.next_node_id if database.numbered else None
    if node_id is not None:
        database = draft.put_database(database, next_node_id=node_id + 1)
    draft.next_start_id = process.start_id + 1
    if not because and process.request.restart_of is not None:
        because = f"process {process.request.restart_of} ended unexpectedly"
        because += f"; {next_begin(process.rest)}" if process.rest and not process.rest.over else ""
    draft.note(
        "process.requested",
        f"process {process.start_id}",
        because or "it was requested",
        _replaced(draft, process),
        database=process.database,
        change="(new) -> REQUESTED",
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    now = draft.command.now
    return draft.put_process(process, node_id=node_id, request=evolve(process.request, at=now), state_at=now)


def _replaced(draft: Draft, process: Process) -> int:
    """The number of the event that made the domain request it: the end of the one before it, or what all of its database
    waited for; 0: it was ordered.
    """
    replaced = process.request.restart_of
    if replaced is None:
        return 0
    return draft.last(f"process {replaced}") or draft.last(f"database {process.database}")


def stop_memory_only(draft: Draft, name: str) -> None:
    """TEs of a database without any durable process are shut down (docs/reference/nuodb.md#life-cycles)."""
    live, memory_only = keys_of(draft.processes, PROCESSES_OF, name), keys_of(draft.processes, TES_OF, name)
    if not live or len(live) > len(memory_only) or draft.stopping(name):
        return
    draft.move_database(draft.databases[name], DatabaseState.REQUESTED_TE_SHUTDOWN, "no SM of its database is left")
    for process in draft.processes_of(name):
        if process.state is not ProcessState.REQUESTED_SHUTDOWN:
            draft.move_process(process, "stop", engine_state=EngineState.SHUTTING_DOWN)
