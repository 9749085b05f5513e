"""Processes: requested by people or the domain, then reported on by the manager of their server."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import (
    LeaderProgressed,
    LoadingProgressed,
    MemorySynced,
    PositionReported,
    ProcessConfigured,
    ProcessExited,
    ProcessStarted,
    ProcessTracked,
    TailSetAside,
)
from dkv.domain.held_back import rest_of
from dkv.domain.model import (
    GROUPS_NOT_SERVING,
    TES_HELD,
    Archive,
    Database,
    EngineState,
    Process,
    ProcessRequest,
    ProcessRole,
    ProcessState,
    Requester,
    RunsWith,
)
from dkv.domain.options import for_one_process
from dkv.domain.orders import ShutdownProcess, StartProcess
from dkv.domain.phases import Assigned
from dkv.domain.refusals import living_database, no, stale_fact, unknown_archive, unknown_process, unknown_server
from dkv.domain.rules.archives import endpoints, nothing_runs_on
from dkv.domain.rules.process_lifecycle import Ending, end, new_process, open_incarnation
from dkv.domain.table import items_of, keys_of
from dkv.domain.transport import misfit
from dkv.hints import action

EVICTED = "An operator evicted it from the domain; it is not proven to have stopped"

# Orders --------------------------------------------------------------------------------------------------------


def start_process(draft: Draft, command: StartProcess) -> Refused | None:
    """Request a process. The first one on a database that does not run opens a new incarnation."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    refused = _may_start(draft, database, command)
    if refused:
        return refused
    archive = draft.archives[command.archive_id] if command.archive_id is not None else None
    held = draft.process_on(archive.archive_id) if archive else None
    if held:
        _try_now(draft, held)
        return None
    if archive:
        draft.put_archive(archive, stopped_by_operator=False)
    open_incarnation(draft, database.name)
    process = new_process(draft, _requested(draft, command, archive))
    draft.answer.update(startId=process.start_id)
    return None


def _try_now(draft: Draft, process: Process) -> None:
    """One that is held back is begun at once, with its budget whole again."""
    assert process.archive_id is not None
    draft.put_process(process, rest=None)
    draft.note(
        "process.begun",
        f"process {process.start_id}",
        "an operator requested it again",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    draft.answer.update(startId=process.start_id)


def _may_start(draft: Draft, database: Database, command: StartProcess) -> Refused | None:
    if draft.stopping(database.name):
        return no("database_stopping", f"{database.name} is being shut down.", "Start it again once it has stopped.")
    opens = not draft.has_processes(database.name)  # a cold start's plan quotes the incarnation it opens
    incarnation = (database.major + 1, 0) if opens else (database.major, database.minor)
    if command.expected is not None and not _expects(command.expected, incarnation):
        major, minor = command.expected
        return no(
            "incarnation_changed",
            f"{database.name} would start in incarnation {incarnation}, not {major if minor is None else (major, minor)}.",
            "A process started or ended meanwhile; get a new start plan.",
        )
    options = for_one_process(database, command.options)
    if options:
        return options
    if command.role is ProcessRole.TE:
        server = draft.servers.get(command.server_id)
        return misfit(database, server) if server else unknown_server(command.server_id, draft.servers)
    return _may_start_archive(draft, command)


def _expects(expected: tuple[int, int | None], incarnation: tuple[int, int]) -> bool:
    major, minor = expected
    return major == incarnation[0] and minor in (None, incarnation[1])


def _may_start_archive(draft: Draft, command: StartProcess) -> Refused | None:
    archive = draft.archives.get(command.archive_id) if command.archive_id is not None else None
    if archive is None or archive.removed or archive.database != command.database:
        return unknown_archive(command.archive_id)
    if command.server_id and command.server_id != archive.server_id:
        return no(
            "wrong_server",
            f"Archive {archive.archive_id} ({archive.name}) is on {archive.server_id}, not {command.server_id}.",
            "Use ",
            action("useServer", server=archive.server_id),
            ".",
        )
    process = draft.process_on(archive.archive_id)
    if process and (process.leaving or not rest_of(process)):
        draft.answer.update(startId=process.start_id)
        return no("already_running", f"{archive.name} has process {process.start_id} already.", "Nothing to do.")
    return None


def _requested(draft: Draft, command: StartProcess, archive: Archive | None) -> Process:
    return Process(
        start_id=draft.next_start_id,
        database=command.database,
        role=command.role,
        server_id=archive.server_id if archive else command.server_id,
        archive_id=archive.archive_id if archive else None,
        group=archive.group if archive else "",
        request=ProcessRequest(Requester.OPERATOR, labels=command.labels, options=command.options),
        endpoints=() if archive else endpoints(draft, command.database, command.server_id),
    )


def shutdown_process(draft: Draft, command: ShutdownProcess) -> Refused | None:
    """Ask one process to leave; `kill` does not wait for a graceful end."""
    process = draft.processes.get(command.start_id)
    if process is None:
        return unknown_process(command.start_id)
    if command.evict:
        _evict(draft, process)
        return None
    # In a whole stop every SM leaves by itself once its group reached a clean stop; asking one does not hurry it.
    leaving = process.state is ProcessState.REQUESTED_SHUTDOWN or draft.stopping(process.database)
    comes_back = process.restarted and not process.kill and not draft.stopping(process.database)
    if comes_back and not command.kill:
        _stay_away(draft, process)
        return None
    if process.kill or (leaving and not command.kill):
        return no(
            "already_stopping", f"Process {process.start_id} is stopping already.", "Wait, or repeat with ", action("force"), "."
        )
    below = None if command.force or command.kill else _below_min_in_sync(draft, process)
    if below:
        return below
    archive = draft.archive_of(process)
    if archive:
        draft.put_archive(archive, stopped_by_operator=True)
    if command.kill:
        draft.put_process(process, kill=True)
        draft.note(
            "process.kill",
            f"process {process.start_id}",
            "an operator asked for its end at once",
            database=process.database,
            start_id=process.start_id,
            archive_id=process.archive_id,
        )
    else:
        draft.move_process(process, "stop", engine_state=EngineState.SHUTTING_DOWN)
    return None


def _evict(draft: Draft, process: Process) -> None:
    """Forget a process that no manager can reach. It may run on, so it stays a suspect of its group until that is disproved."""
    archive = draft.archive_of(process)
    if archive:
        draft.put_archive(archive, stopped_by_operator=True)
    process = draft.put_process(process, restarted=False)
    end(draft, process, Ending("evicted", EVICTED, 255, planned=True, reaped=False))


def _stay_away(draft: Draft, process: Process) -> None:
    """It is leaving to be requested again; now it leaves for good."""
    draft.put_process(process, restarted=False)
    if process.archive_id is not None:
        draft.put_archive(draft.archives[process.archive_id], stopped_by_operator=True)
    draft.note(
        "process.stays_away",
        f"process {process.start_id}",
        "an operator stopped it while it was being restarted",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )


def _below_min_in_sync(draft: Draft, process: Process) -> Refused | None:
    group = draft.group_of(process)
    if group is None or process.archive_id not in group.in_sync or len(group.in_sync) < 2:
        return None
    wanted = draft.databases[process.database].options.min_in_sync
    members = [draft.process_on(a) for a in group.in_sync]
    staying = [p for p in members if p and not p.leaving]
    if len(staying) - 1 >= wanted:
        return None
    return no(
        "below_min_in_sync",
        f"Group {group.name} would keep {len(staying)} copies in sync and needs {wanted}: writes would stop.",
        "Wait for another copy to be in sync, or repeat with ",
        action("force"),
        ".",
    )


# Facts ---------------------------------------------------------------------------------------------------------


def owned(draft: Draft, start_id: int, server_id: str) -> Process | Refused:
    """The live process of that manager, or why not."""
    process = draft.processes.get(start_id)
    if process is None or process.server_id != server_id:
        return stale_fact(f"process {start_id} is not a live process of {server_id}")
    return process


def process_started(draft: Draft, command: ProcessStarted) -> Refused | None:
    """Its manager took it; an SM answers with its archive's position."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if process.state is not ProcessState.REQUESTED:
        return stale_fact(f"process {process.start_id} was started already")
    rest = replace(process.rest, over=True) if process.rest else None
    process = draft.move_process(process, "taken", report=command.report, rest=rest)
    if process.archive_id is not None:
        archive = draft.archives[process.archive_id]
        nothing_runs_on(draft, archive)
        if command.origin:
            _restored_from(draft, process, archive, command.origin)
    return None


def _restored_from(draft: Draft, process: Process, archive: Archive, origin: str) -> None:
    """A database is restored from one cut; groups of two cuts would not fit together."""
    others = [a for a in draft.archives_of(archive.database) if a.origin and not a.removed]
    other = next((a for a in others if a.origin != origin and a.archive_id != archive.archive_id), None)
    if other is None:
        draft.put_archive(archive, origin=origin)
        return
    detail = f"{archive.name} and {other.name} hold different hot copies; a database is restored from one"
    end(draft, process, Ending("other hot copy", detail, 1, planned=True))


def process_configured(draft: Draft, command: ProcessConfigured) -> Refused | None:
    """Its engine was launched; its archive runs."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if process.state is ProcessState.REQUESTED_SHUTDOWN:
        draft.put_process(process, pid=command.pid)
        return None
    if process.state is not ProcessState.STARTED:
        return stale_fact(f"process {process.start_id} was configured already")
    archive = draft.archive_of(process)
    draft.move_process(process, "launched", pid=command.pid, port=_client_port(process, archive), waiting_since=None)
    if archive:
        draft.move_archive(archive, "launched")
    _progress(draft, process)
    return None


def _client_port(process: Process, archive: Archive | None) -> int:
    """Where clients reach it: its archive's port, or that of a TE's first engine."""
    if archive:
        return archive.client_port
    return process.endpoints[0].client_port if process.endpoints else 0


def loading_progressed(draft: Draft, command: LoadingProgressed) -> Refused | None:
    """Its engine got further with loading: the clock of failoverGrace starts again."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if process.state is not ProcessState.CONFIGURED or command.percent <= process.loading_percent:
        return stale_fact(f"process {process.start_id} is past {command.percent} %")
    draft.put_process(process, loading_percent=command.percent)
    _progress(draft, process)
    return None


def leader_progressed(draft: Draft, command: LeaderProgressed) -> Refused | None:
    """The assigned leader, or the sender of its tail, works: the clock of failoverGrace starts again."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    phase = group.phase if group else None
    if group is None or group.term != command.term or not isinstance(phase, Assigned):
        return stale_fact(f"no leader is assigned in term {command.term}")
    if process.start_id not in (phase.leader_process, phase.tail.source_process if phase.tail else None):
        return stale_fact(f"term {command.term} does not wait for process {process.start_id}")
    if command.count <= process.progress:
        return stale_fact(f"process {process.start_id} was seen to work after that")
    draft.put_process(process, progress=command.count)
    draft.put_phase(group, stalled_since=None)
    return None


def process_tracked(draft: Draft, command: ProcessTracked) -> Refused | None:
    """Its engine answers and has loaded; it waits for its group's leader."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if process.state not in (ProcessState.STARTED, ProcessState.CONFIGURED):
        return stale_fact(f"process {process.start_id} was loaded already")
    was_started = process.state is ProcessState.STARTED
    archive = draft.archive_of(process)
    port = _client_port(process, archive)
    process = draft.move_process(
        process,
        "loaded",
        pid=command.pid,
        port=port,
        loading_percent=100,
        runs=RunsWith(
            command.append_fsync,
            command.max_memory,
            command.users,
            maxmemory_policy=command.maxmemory_policy,
            notify_keyspace_events=command.notify_keyspace_events,
            max_clients=command.max_clients,
        ),
    )
    if archive and was_started:
        draft.move_archive(archive, "launched")
    _progress(draft, process)
    return None


def settle_memory_only(draft: Draft, database: str) -> None:
    """TEs are held in TRACKED until every group of their database is led; then they join, and run once they are synced."""
    if keys_of(draft.groups, GROUPS_NOT_SERVING, database):
        return
    for process in items_of(draft.processes, TES_HELD, database):
        draft.move_process(process, "joined", engine_state=EngineState.SYNCING, waiting_since=None)


def memory_synced(draft: Draft, command: MemorySynced) -> Refused | None:
    """A TE that joined has everything its leaders have, or lost touch with one of them."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    now = EngineState.RUNNING if command.synced else EngineState.SYNCING
    if process.role is not ProcessRole.TE or process.state is not ProcessState.MONITORED or process.engine_state is now:
        return stale_fact(f"process {process.start_id} is no TE that could be {now} now")
    draft.put_process(process, engine_state=now, running_at=process.running_at or (draft.command.now if command.synced else 0))
    because = "it holds what its leaders hold" if command.synced else "its link to a leader is down"
    draft.note(
        f"process.{now.lower()}", f"process {process.start_id}", because, database=process.database, start_id=process.start_id
    )
    return None


def _progress(draft: Draft, process: Process) -> None:
    group = draft.group_of(process)
    if group and isinstance(group.phase, Assigned) and group.phase.leader_process == process.start_id:
        draft.put_phase(group, stalled_since=None)


def position_reported(draft: Draft, command: PositionReported) -> Refused | None:
    """An engine that runs answers in a vacancy, or while its group's assigned leader is not open yet."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    group = draft.group_of(process)
    if group is None or group.term != command.term or group.open:
        return stale_fact("the group is not looking for a leader in that term")
    if process.report == command.report:
        return stale_fact("the position is known")
    draft.put_process(process, report=command.report)
    return None


def process_exited(draft: Draft, command: ProcessExited) -> Refused | None:
    """It ended. Refused when the domain does not know it: its manager forgets it then."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    ending = Ending(
        cause=command.cause,
        detail=command.detail,
        exit_code=command.exit_code,
        wait_status=command.wait_status,
        last_words=command.last_words,
        planned=command.planned,
        reaped=command.reaped,
    )
    end(draft, process, ending)
    return None


def tail_set_aside(draft: Draft, command: TailSetAside) -> Refused | None:
    """An old leader's unconfirmed tail was copied to a file before it resynced; an operator may look at it."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    draft.note(
        "archive.tail_set_aside",
        f"archive {process.archive_id}",
        f"it held writes its group's new leader does not have; they were copied to {command.path}",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None
