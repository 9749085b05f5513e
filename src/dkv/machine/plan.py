"""plan(wanted, seen) -> steps: the one pure function that says what a manager does next on its machine.

It compares levels and never replays: whatever the domain wants and this glance does not show becomes a step.
Nothing differs, no step. The leader's duties are in lead.py, the followers' in follow.py, those of processes without
archive in memory.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.commands import EngineSilent, LoadingProgressed, ProcessConfigured, ProcessTracked
from dkv.domain.constants import SERVER_TTL
from dkv.domain.hotcopy import AT_THE_CUT, CopyStage, HotCopy
from dkv.domain.model import Archive, ArchiveState, EngineState, Group, Process, ProcessRole, ProcessState, State
from dkv.domain.resting import LACKS, resting
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.engine_upkeep import just_had_its_turn
from dkv.machine.follower_steps import follower_steps, vacancy_steps
from dkv.machine.handover import unanswering_steps
from dkv.machine.hot_copy_steps import copy_steps
from dkv.machine.intrusion import expel_steps
from dkv.machine.leader_steps import joining_pace, leader_steps, opening_steps
from dkv.machine.observation import HANG_TIMEOUT as HANG_TIMEOUT
from dkv.machine.observation import (
    OK_PATIENCE,
    SILENT,
    ConditionHistory,
    LocalServer,
    Observation,
    PlanInput,
    archives_on,
    directory_of,
    processes_on,
    stopping,
)
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
    Retire,
    Step,
    SubmitFact,
    Vanished,
)
from dkv.machine.tail import plan as tail
from dkv.machine.transaction_engines import memory_steps

IDLE_INTERVAL = 1.0  # s between two looks while nothing goes on
LOADING_NEWS = 500  # ms between two commits of how far loading is, or a quarter of failoverGrace: time without news
SOON = 0.02  # s: clients may be waiting
LOADING_SHARE = 0.05  # of the time an engine loads already: the next look comes so much later, at most LOADING_LATEST
LOADING_LATEST = 0.25  # s


def plan(state: State, me: LocalServer, seen: Observation) -> list[Step]:
    """The steps to take now. Equal inputs give equal steps; a settled machine gives none."""
    return list(_steps(PlanInput(state, me, seen)))


def _steps(scene: PlanInput) -> Iterator[Step]:
    yield from _stranger_steps(scene)  # first: one that still holds an archive would keep its new process waiting for ever
    for process in scene.state.memoized(processes_on, scene.server.server_id):
        yield from process_steps(scene, process)
    yield from _archive_steps(scene)
    yield from copy_steps(scene)
    yield from tail.unwanted_steps(scene)


def _stranger_steps(scene: PlanInput) -> Iterator[Step]:
    """Engines and ends that the domain does not know, or no longer."""
    for ended in scene.seen.survey.exits:
        if ended.start_id not in scene.state.processes:
            yield ForgetExit(f"exit {ended.start_id}", ended.start_id)
    for engine in scene.seen.survey.engines:
        process = scene.state.processes.get(engine.start_id)
        if process is None or process.server_id != scene.server.server_id:
            yield Kill(engine.directory, engine.start_id, Cause.FENCED_BY_MANAGER)
    for memory in scene.seen.survey.memory:
        process = scene.state.processes.get(memory.start_id)
        if process is None or process.server_id != scene.server.server_id:
            yield Kill(memory.directory, memory.start_id, Cause.FENCED_BY_MANAGER)


def _archive_steps(scene: PlanInput) -> Iterator[Step]:
    me, state = scene.server, scene.state
    for archive in state.memoized(_idle_on, me.server_id):
        directory = directory_of(me.data_dir, archive)
        if archive.removed and not archive.kept:
            if any(engine.directory == directory for engine in scene.seen.survey.engines):
                continue  # an engine the domain knows no longer: it is killed first
            yield Retire(directory, archive.archive_id, directory, identity_of(state, archive))
        elif archive.unread:
            yield Recognise(directory, archive.archive_id, directory)
    for directory in sorted(scene.seen.prepared):
        if directory not in state.memoized(_in_use_on, me):
            yield Release(directory, directory)


def _idle_on(state: State, server_id: str) -> list[Archive]:
    """The archives of a server without a process."""
    return [a for a in archives_on(state, server_id) if state.process_on(a.archive_id) is None]


def _in_use_on(state: State, me: LocalServer) -> set[str]:
    """The directories of the archives with one."""
    return {directory_of(me.data_dir, a) for a in archives_on(state, me.server_id) if state.process_on(a.archive_id)}


# One process ---------------------------------------------------------------------------------------------------------


def process_steps(scene: PlanInput, process: Process) -> Iterator[Step]:
    """What one process of this server needs next."""
    if process.role is ProcessRole.TE or process.archive_id is None:
        yield from memory_steps(scene, process)
        return
    archive = scene.state.archives[process.archive_id]
    directory = directory_of(scene.server.data_dir, archive)
    engine = scene.seen.engine(process.start_id)
    ended = scene.seen.exit(process.start_id)
    if ended:
        if ended.reaped or scene.lasted(("ended", process.start_id)) > REAP_PATIENCE:
            yield ReportExit(directory, ended)
    elif engine is None:
        yield from _without_engine(scene, process, archive)
    elif hangs(scene, process, engine):
        yield Kill(directory, process.start_id, Cause.NEVER_ANSWERED)
    else:
        yield from refusing_steps(scene, process, engine)
        yield from script_steps(scene, process, engine)
        yield from _silence_steps(scene, process, engine)
        yield from option_steps(scene, process, (engine,))
        yield from _with_engine(scene, process, engine)


def _silence_steps(scene: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """People hear of an engine that hangs long before it is ended for it."""
    silent = not engine.answering and engine.silent_ms >= SILENT
    if silent != bool(process.silent_at) and (silent or engine.answering):
        yield SubmitFact(
            f"silent {process.start_id}", EngineSilent(start_id=process.start_id, silent=silent, **scene.fact_header)
        )


def _without_engine(scene: PlanInput, process: Process, archive: Archive) -> Iterator[Step]:
    directory = directory_of(scene.server.data_dir, archive)
    group = scene.state.groups[(archive.database, archive.group)]
    fresh = archive.state is ArchiveState.PROVISIONED
    restored = group.slots if fresh and archive.restored else None
    if process.pid is not None:  # it had an engine, whose end may take a moment to be known
        if scene.lasted(("no engine", process.start_id)) > VANISHED:
            yield Vanished(directory, process.start_id, directory, identity_of(scene.state, archive))
    elif process.leaving:
        yield CancelProcess(directory, process.start_id, directory, process.kill)
    elif stopping(scene.state, group):
        return  # nothing is started in a whole stop; it will be asked to leave
    elif resting(process):
        yield from _held_back(scene, process, archive)
    elif process.state is ProcessState.REQUESTED:
        yield PrepareArchive(directory, process.start_id, directory, identity_of(scene.state, archive), fresh, restored)
    elif tail.sends(group, process):
        yield from progress_steps(scene, group, process, None)
        yield from tail.source_steps(scene, group, process, archive)
    elif process.state is ProcessState.STARTED and group.leader is not None:
        yield Launch(directory, engine_spec(scene.state, scene.server, process, archive), fresh, restored)


def _held_back(scene: PlanInput, process: Process, archive: Archive) -> Iterator[Step]:
    """What it lacks is looked for; else it waits for time to pass."""
    rest = resting(process)
    lack = LACKS.get(rest.lacks) if rest else None
    if rest and lack and lack.seen:
        directory = directory_of(scene.server.data_dir, archive)
        ports = (archive.client_port, archive.cluster_port)
        yield LookForLack(directory, process.start_id, directory, Cause(rest.lacks), scene.server.host, ports)


def _with_engine(scene: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    group = scene.state.groups[(process.database, process.group)]
    yield from progress_steps(scene, group, process, engine)
    yield from expel_steps(scene, process.database, engine)
    if process.leaving:
        yield from leaving_steps(scene, process, engine)
    elif process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        yield SubmitFact(engine.directory, ProcessConfigured(start_id=process.start_id, pid=engine.pid, **scene.fact_header))
    elif not engine.answering or not engine.role:
        # busy is not dead; one that was busy from this manager's first glance on may be anything
        yield from unanswering_steps(scene, group, engine)
    elif engine.held and not begins_to_lead(group, process, engine):
        yield Fence(engine.directory, engine.start_id)
    elif process.state is ProcessState.CONFIGURED:
        yield from _loading_steps(scene, process, engine)
    elif engine.files_lost and group.serving:
        yield from lost_files_steps(scene, group, process, engine)
    elif tail.receives(group, process):
        yield from tail.recipient_steps(scene, group, process, engine)
    elif group.leader_process == process.start_id:
        yield from leader_steps(scene, group, engine) if group.open else opening_steps(scene, group, engine)
    elif group.open:
        yield from follower_steps(scene, group, process, engine)
    else:
        yield from vacancy_steps(scene, group, process, engine)


def begins_to_lead(group: Group, process: Process, engine: EngineSeen) -> bool:
    """Whether Lead is under way, in which writes may wait. After it, or when nothing came of it, nobody would let them go
    on: clients are to hear that, and an engine that follows takes nothing from its leader while it is held.
    """
    named = group.open and not group.serving and group.leader_process == process.start_id
    return named and engine.role == "leader"


def _loading_steps(scene: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    patient = scene.lasted(("not ok", process.start_id)) < OK_PATIENCE
    if engine.loading:
        news = min(LOADING_NEWS, scene.state.databases[process.database].options.failover_grace / 4)
        waited = scene.lasted(("loading", process.start_id, process.loading_percent))
        if engine.loading_percent > process.loading_percent and waited > news:
            fact = LoadingProgressed(start_id=process.start_id, percent=engine.loading_percent, **scene.fact_header)
            yield SubmitFact(engine.directory, fact)
    elif engine.cluster_ok or not patient:
        runs = running_options(scene, process, (engine,))
        yield SubmitFact(engine.directory, ProcessTracked(start_id=process.start_id, pid=engine.pid, **runs, **scene.fact_header))


# Pace ------------------------------------------------------------------------------------------------------------------


def poll_interval(state: State, me: LocalServer, steps: list[Step], memory: ConditionHistory | None = None) -> float:
    """How soon to look again, in seconds, if nothing wakes the manager before."""
    if steps:
        return SOON
    return min((state.memoized(_longest_interval, me.server_id), *_lasting_intervals(state, me, memory or ConditionHistory())))


def timeless(seen: Observation) -> bool:
    """Whether plan() and pace() answer as now however late they are asked, for as long as the lease is renewed: no condition
    lasts, and no turn at rewriting is recent.
    """
    waits = seen.conditions.since or any(just_had_its_turn(seen, engine) for engine in seen.survey.engines)
    return seen.lease_left > SERVER_TTL / 2 and not waits


def _lasting_intervals(state: State, me: LocalServer, memory: ConditionHistory) -> Iterator[float]:
    """What those ask for who are looked at more seldom, or sooner, the longer they take."""
    mine = state.memoized(processes_on, me.server_id)
    if any(("usurps", p.start_id) in memory.since for p in mine):
        yield 0.05
    yield from (_loading_pace(p, memory) for p in mine if p.state is ProcessState.CONFIGURED)
    joined = [group for group in state.memoized(_watched, me.server_id) if group.joining]
    if joined:
        ids = {p.start_id for p in mine}
        yield from (joining_pace(memory, group, joining, ids) for group in joined for joining in group.joining)


def _watched(state: State, server_id: str) -> list[Group]:
    """The groups that a server has a process of."""
    keys = {(p.database, p.group) for p in state.memoized(processes_on, server_id) if p.archive_id is not None}
    return [state.groups[key] for key in keys]


def _longest_interval(state: State, server_id: str) -> float:
    """What everything else that is waited for asks for: the same as long as the domain is the same."""
    return min(_intervals(state, state.memoized(processes_on, server_id), state.memoized(_watched, server_id)))


def _intervals(state: State, mine: list[Process], watched: list[Group]) -> Iterator[float]:
    cut = [c for c in state.copies.values() if c.stage in AT_THE_CUT and any(p.database == c.database for p in mine)]
    yield from (SOON if _clients_wait(copy) else 0.05 for copy in cut)
    if any(g.tail or g.handover for g in watched) or any(_asked(state, p) for p in mine):
        yield SOON  # what is waited for here happens in an engine, and clients wait for it
    if any(g.switchover or stopping(state, g) for g in watched) or any(_hurries(p) for p in mine):
        yield 0.05
    if any(p.state is not ProcessState.MONITORED for p in mine) or not all(g.serving for g in watched):
        yield 0.25  # it waits for somebody else, who wakes it
    yield IDLE_INTERVAL  # the kernel tells of ends, the store of changes; what must be looked for here lasts seconds


def _loading_pace(process: Process, memory: ConditionHistory) -> float:
    """Often at first; nobody minds a twentieth of a long load."""
    return min(LOADING_LATEST, max(SOON, LOADING_SHARE * memory.lasted(("loads", process.start_id)) / 1000))


def _clients_wait(copy: HotCopy) -> bool:
    """Whether a hot copy at its cut makes writes wait, as far as the domain was told."""
    return copy.stage is not CopyStage.PAUSING or any(cut.paused for cut in copy.cuts)


def _asked(state: State, process: Process) -> bool:
    """Its group has no leader, and it has not said how far it got."""
    group = state.groups.get((process.database, process.group))
    vacant = group is not None and group.leader is None and process.archive_id is not None
    return vacant and process.report is None and process.state is ProcessState.MONITORED


def _hurries(process: Process) -> bool:
    """One that leaves, or a TE that joined and does not hold everything yet."""
    joined = process.role is ProcessRole.TE and process.state is ProcessState.MONITORED
    return process.leaving or (joined and process.engine_state is EngineState.SYNCING)
