"""plan(state, server, observation): the one pure function that says what a manager does next on its machine.

It compares levels and never replays: whatever the domain wants and the observation does not show becomes a step. Nothing
differs, no step. What it is divided into: leader_steps, follower_steps, shutdown_steps, handover, transaction_engines and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dkv.domain.facts import EngineSilent, LoadingProgressed, ProcessConfigured, ProcessTracked
from dkv.domain.held_back import LACKS, rest_of
from dkv.domain.model import Archive, ArchiveState, Group, Process, ProcessRole, ProcessState, State
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.conditions import SILENT
from dkv.machine.engine_certificates import certificate_steps
from dkv.machine.follower_steps import follower_steps, vacancy_steps
from dkv.machine.handover import unanswering_steps
from dkv.machine.hot_copy_steps import copy_steps
from dkv.machine.intrusion import epoch_steps, expel_steps
from dkv.machine.leader_steps import leader_steps, opening_steps
from dkv.machine.next_look import lasts, next_look
from dkv.machine.observation import HANG_TIMEOUT as HANG_TIMEOUT
from dkv.machine.observation import OK_PATIENCE, LocalServer, Observation, PlanInput, directory_of, stopping
from dkv.machine.observation import REAP_PATIENCE as REAP_PATIENCE
from dkv.machine.observation import VANISHED as VANISHED
from dkv.machine.options import option_steps, running_options
from dkv.machine.progress import hangs, progress_steps
from dkv.machine.refusing import refusing_steps, script_steps
from dkv.machine.shutdown_steps import leaving_steps, lost_files_steps
from dkv.machine.spec import engine_spec, identity_of
from dkv.machine.steps import (
    CancelProcess,
    Fence,
    ForgetExit,
    Kill,
    Launch,
    LookForLack,
    PrepareArchive,
    Recognise,
    Release,
    ReportExit,
    ReportVanished,
    Retire,
    Step,
    SubmitFact,
)
from dkv.machine.tail import plan as tail
from dkv.machine.transaction_engines import te_steps
from dkv.machine.users import running_users, user_steps

LOADING_NEWS = 500  # ms between two commits of how far loading is, or a quarter of failoverGrace: time without news


@dataclass(frozen=True)
class Plan:
    """What to do, and in how many seconds to look again if nothing wakes the manager before.

    `lasts`: there is nothing to do until the domain's revision or the observation differs.
    """

    steps: tuple[Step, ...]
    next_look: float
    lasts: bool


def plan(state: State, server: LocalServer, seen: Observation) -> Plan:
    """The steps to take now and the time of the next look. Equal inputs give equal plans; a settled machine gives no step."""
    inputs = PlanInput(state, server, seen)
    steps = tuple(_steps(inputs))
    return Plan(steps, next_look(inputs), not steps and lasts(inputs))


def _steps(inputs: PlanInput) -> Iterator[Step]:
    yield from _unknown_engine_steps(inputs)  # first: an engine that still holds an archive blocks its new process
    for process in inputs.state.processes_on(inputs.server.server_id):
        yield from process_steps(inputs, process)
    yield from _archive_steps(inputs)
    yield from copy_steps(inputs)
    yield from tail.unwanted_steps(inputs)


def _unknown_engine_steps(inputs: PlanInput) -> Iterator[Step]:
    """Engines and ends that the domain does not know, or no longer."""
    for ended in inputs.seen.survey.exits:
        if ended.start_id not in inputs.state.processes:
            yield ForgetExit(f"exit {ended.start_id}", ended.start_id)
    running = [(engine.start_id, engine.directory) for engine in inputs.seen.survey.engines]
    running += [(te.start_id, te.directory) for te in inputs.seen.survey.memory]
    for start_id, directory in running:
        process = inputs.state.processes.get(start_id)
        if process is None or process.server_id != inputs.server.server_id:
            yield Kill(directory, start_id, Cause.FENCED_BY_MANAGER)


def _archive_steps(inputs: PlanInput) -> Iterator[Step]:
    server, state = inputs.server, inputs.state
    for archive in state.memoized(_idle_on, server.server_id):
        directory = directory_of(server.data_dir, archive)
        if archive.removed and not archive.kept:
            if any(engine.directory == directory for engine in inputs.seen.survey.engines):
                continue  # of a process that the domain has dropped: it is killed first
            yield Retire(directory, archive.archive_id, directory, identity_of(state, archive))
        elif archive.unread:
            yield Recognise(directory, archive.archive_id, directory)
    for directory in sorted(inputs.seen.prepared):
        if directory not in state.memoized(_in_use_on, server):
            yield Release(directory, directory)


def _idle_on(state: State, server_id: str) -> list[Archive]:
    """The archives of a server without a process."""
    return [a for a in state.archives_on(server_id) if state.process_on(a.archive_id) is None]


def _in_use_on(state: State, server: LocalServer) -> set[str]:
    """The directories of the archives of a server that have a process."""
    return {directory_of(server.data_dir, a) for a in state.archives_on(server.server_id) if state.process_on(a.archive_id)}


# One process ---------------------------------------------------------------------------------------------------------


def process_steps(inputs: PlanInput, process: Process) -> Iterator[Step]:
    """What one process of this server needs next."""
    if process.role is ProcessRole.TE or process.archive_id is None:
        yield from te_steps(inputs, process)
        return
    archive = inputs.state.archives[process.archive_id]
    directory = directory_of(inputs.server.data_dir, archive)
    engine = inputs.seen.engine(process.start_id)
    ended = inputs.seen.exit(process.start_id)
    if ended:
        if ended.reaped or inputs.lasted(("ended", process.start_id)) > REAP_PATIENCE:
            yield ReportExit(directory, ended)
    elif engine is None:
        yield from _without_engine(inputs, process, archive)
    elif hangs(inputs, process, engine):
        yield Kill(directory, process.start_id, Cause.NEVER_ANSWERED)
    else:
        yield from refusing_steps(inputs, process, engine)
        yield from script_steps(inputs, process, engine)
        yield from _silence_steps(inputs, process, engine)
        yield from option_steps(inputs, process, (engine,))
        yield from user_steps(inputs, process, (engine,))
        yield from certificate_steps(inputs, process, (engine,))
        yield from _with_engine(inputs, process, engine)


def _silence_steps(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """Report an engine that answers nothing long before it is ended for it."""
    silent = not engine.answering and engine.silent_ms >= SILENT
    if silent != bool(process.health.silent_at) and (silent or engine.answering):
        yield SubmitFact(
            f"silent {process.start_id}", EngineSilent(start_id=process.start_id, silent=silent, **inputs.fact_header)
        )


def _without_engine(inputs: PlanInput, process: Process, archive: Archive) -> Iterator[Step]:
    directory = directory_of(inputs.server.data_dir, archive)
    group = inputs.state.groups[(archive.database, archive.group)]
    fresh = archive.state is ArchiveState.PROVISIONED
    restored = group.slots if fresh and archive.restored else None
    if process.pid is not None:  # it had an engine, whose end may be known in a moment
        if inputs.lasted(("no engine", process.start_id)) > VANISHED:
            yield ReportVanished(directory, process.start_id, directory, identity_of(inputs.state, archive))
    elif process.leaving:
        yield CancelProcess(directory, process.start_id, directory, process.kill)
    elif stopping(inputs.state, group):
        return  # nothing is started in a whole stop; the process will be asked to leave
    elif rest_of(process):
        yield from _held_back(inputs, process, archive)
    elif process.state is ProcessState.REQUESTED:
        yield PrepareArchive(directory, process.start_id, directory, identity_of(inputs.state, archive), fresh, restored)
    elif tail.sends(group, process):
        yield from progress_steps(inputs, group, process, None)
        yield from tail.source_steps(inputs, group, process, archive)
    elif process.state is ProcessState.STARTED and group.leader is not None:
        yield Launch(directory, engine_spec(inputs.state, inputs.server, process, archive), fresh, restored)


def _held_back(inputs: PlanInput, process: Process, archive: Archive) -> Iterator[Step]:
    """Look for what the process lacks; if it lacks nothing it waits for its next try."""
    rest = rest_of(process)
    lack = LACKS.get(rest.lacks) if rest else None
    if rest and lack and lack.seen:
        directory = directory_of(inputs.server.data_dir, archive)
        ports = (archive.client_port, archive.cluster_port)
        yield LookForLack(directory, process.start_id, directory, Cause(rest.lacks), inputs.server.host, ports)


def _with_engine(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    group = inputs.state.groups[(process.database, process.group)]
    yield from progress_steps(inputs, group, process, engine)
    if engine.answering and engine.role:
        yield from epoch_steps(inputs, process.database, engine)
    yield from expel_steps(inputs, process.database, engine)
    if process.leaving:
        yield from leaving_steps(inputs, process, engine)
    elif process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        yield SubmitFact(engine.directory, ProcessConfigured(start_id=process.start_id, pid=engine.pid, **inputs.fact_header))
    elif not engine.answering or not engine.role:
        # busy is not dead; what it is was not seen if it was busy from the first observation on
        yield from unanswering_steps(inputs, group, engine)
    elif engine.writes.held and not begins_to_lead(group, process, engine):
        yield Fence(engine.directory, engine.start_id)
    elif process.state is ProcessState.CONFIGURED:
        yield from _loading_steps(inputs, process, engine)
    elif engine.files.lost and group.serving:
        yield from lost_files_steps(inputs, group, process, engine)
    elif tail.receives(group, process):
        yield from tail.recipient_steps(inputs, group, process, engine)
    elif group.leader_process == process.start_id:
        yield from leader_steps(inputs, group, engine) if group.open else opening_steps(inputs, group, engine)
    elif group.open:
        yield from follower_steps(inputs, group, process, engine)
    else:
        yield from vacancy_steps(inputs, group, process, engine)


def begins_to_lead(group: Group, process: Process, engine: EngineSeen) -> bool:
    """Whether Lead is under way, in which writes may wait. After it, or if it failed, nothing would end the wait: clients have to
    get an error, and an engine that follows takes nothing from its leader while it is held.
    """
    named = group.open and not group.serving and group.leader_process == process.start_id
    return named and engine.role == "leader"


def _loading_steps(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    patient = inputs.lasted(("not ok", process.start_id)) < OK_PATIENCE
    if engine.loading:
        news = min(LOADING_NEWS, inputs.state.databases[process.database].options.failover_grace / 4)
        waited = inputs.lasted(("loading", process.start_id, process.loading_percent))
        if engine.loading_percent > process.loading_percent and waited > news:
            fact = LoadingProgressed(start_id=process.start_id, percent=engine.loading_percent, **inputs.fact_header)
            yield SubmitFact(engine.directory, fact)
    elif engine.cluster.state_ok or not patient:
        runs = running_options(inputs, process, (engine,))
        users = running_users(inputs, process, (engine,))
        yield SubmitFact(
            engine.directory, ProcessTracked(start_id=process.start_id, pid=engine.pid, users=users, **runs, **inputs.fact_header)
        )
