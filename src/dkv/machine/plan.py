"""plan(wanted, seen) -> steps: the one pure function that says what a manager does next on its machine.

It compares levels and never replays: whatever the domain wants and this glance does not show becomes a step.
Nothing differs, no step. The leader's duties are in lead.py, the followers' in follow.py, those of processes without
archive in memory.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.commands import EngineSilent, LoadingProgressed, ProcessConfigured, ProcessTracked
from dkv.domain.hotcopy import AT_THE_CUT
from dkv.domain.model import (
    Archive,
    ArchiveState,
    EngineState,
    EngineType,
    JoinStage,
    Process,
    ProcessState,
    State,
)
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.copy import copy_steps
from dkv.machine.follow import follower_steps, vacancy_steps
from dkv.machine.lead import leader_steps, stopping
from dkv.machine.leave import leaving_steps, lost_files_steps
from dkv.machine.memory import memory_steps
from dkv.machine.options import option_steps, running_options
from dkv.machine.seen import HANG_TIMEOUT as HANG_TIMEOUT
from dkv.machine.seen import REAP_PATIENCE as REAP_PATIENCE
from dkv.machine.seen import SILENT, Me, Scene, Seen, directory_of
from dkv.machine.seen import VANISHED as VANISHED
from dkv.machine.spec import engine_spec, identity_of
from dkv.machine.steps import (
    Dismiss,
    ForgetExit,
    Kill,
    Launch,
    Recognise,
    Release,
    ReportExit,
    Retire,
    Step,
    Take,
    Tell,
    Vanished,
)
from dkv.machine.tail import feeding_steps, feeds, idle_feeds_steps

OK_PATIENCE = 3_000        # ms a loaded engine is given to call its cluster ok
LOADING_STEP = 5           # percent of loading worth a commit at once
LOADING_NEWS = 500         # ms after which less is worth one: failoverGrace is time without progress


def plan(state: State, me: Me, seen: Seen) -> list[Step]:
    """The steps to take now. Equal inputs give equal steps; a settled machine gives none."""
    return list(_steps(Scene(state, me, seen)))


def _steps(scene: Scene) -> Iterator[Step]:
    yield from _stranger_steps(scene)  # first: one that still holds an archive would keep its new process waiting for ever
    mine = [p for p in scene.state.processes.values() if p.server_id == scene.me.server_id]
    for process in sorted(mine, key=lambda p: p.start_id):
        yield from process_steps(scene, process)
    yield from _archive_steps(scene)
    yield from copy_steps(scene)
    yield from idle_feeds_steps(scene)


def _stranger_steps(scene: Scene) -> Iterator[Step]:
    """Engines and ends that the domain does not know, or no longer."""
    for ended in scene.seen.survey.exits:
        if ended.start_id not in scene.state.processes:
            yield ForgetExit(f"exit {ended.start_id}", ended.start_id)
    for engine in scene.seen.survey.engines:
        process = scene.state.processes.get(engine.start_id)
        if process is None or process.server_id != scene.me.server_id:
            yield Kill(engine.directory, engine.start_id, Cause.FENCED_BY_MANAGER)
    for memory in scene.seen.survey.memory:
        process = scene.state.processes.get(memory.start_id)
        if process is None or process.server_id != scene.me.server_id:
            yield Kill(memory.directory, memory.start_id, Cause.FENCED_BY_MANAGER)


def _archive_steps(scene: Scene) -> Iterator[Step]:
    wanted = set()
    used = {engine.directory for engine in scene.seen.survey.engines}
    for archive in scene.state.archives.values():
        if archive.server_id != scene.me.server_id:
            continue
        directory = directory_of(scene.me.data_dir, archive)
        if scene.state.process_on(archive.archive_id):
            wanted.add(directory)
        elif archive.removed and not archive.kept:
            if directory in used:
                continue  # an engine the domain knows no longer: it is killed first
            yield Retire(directory, archive.archive_id, directory)
        elif archive.unread:
            yield Recognise(directory, archive.archive_id, directory)
    for directory in sorted(scene.seen.prepared - wanted):
        yield Release(directory, directory)


# One process ---------------------------------------------------------------------------------------------------------


def process_steps(scene: Scene, process: Process) -> Iterator[Step]:
    """What one process of this server needs next."""
    if process.engine_type is EngineType.TE or process.archive_id is None:
        yield from memory_steps(scene, process)
        return
    archive = scene.state.archives[process.archive_id]
    directory = directory_of(scene.me.data_dir, archive)
    engine = scene.seen.engine(process.start_id)
    ended = scene.seen.exit(process.start_id)
    if ended:
        if ended.reaped or scene.lasted(("ended", process.start_id)) > REAP_PATIENCE:
            yield ReportExit(directory, ended)
    elif engine is None:
        yield from _without_engine(scene, process, archive)
    elif not engine.answering and engine.silent_ms >= scene.me.hang_timeout:
        yield Kill(directory, process.start_id, Cause.NEVER_ANSWERED)
    else:
        yield from _silence_steps(scene, process, engine)
        yield from option_steps(scene, process, (engine,))
        yield from _with_engine(scene, process, engine)


def _silence_steps(scene: Scene, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """People hear of an engine that hangs long before it is ended for it."""
    silent = not engine.answering and engine.silent_ms >= SILENT
    if silent != bool(process.silent_at) and (silent or engine.answering):
        yield Tell(f"silent {process.start_id}", EngineSilent(start_id=process.start_id, silent=silent, **scene.told))


def _without_engine(scene: Scene, process: Process, archive: Archive) -> Iterator[Step]:
    directory = directory_of(scene.me.data_dir, archive)
    group = scene.state.groups[(archive.database, archive.group)]
    fresh = archive.state is ArchiveState.PROVISIONED
    restored = group.slots if fresh and archive.restored else None
    if process.pid is not None:  # it had an engine, whose end may take a moment to be known
        if scene.lasted(("no engine", process.start_id)) > VANISHED:
            yield Vanished(directory, process.start_id, directory, identity_of(scene.state, archive))
    elif process.leaving:
        yield Dismiss(directory, process.start_id, directory, process.kill)
    elif stopping(scene.state, group):
        return  # nothing is started in a whole stop; it will be asked to leave
    elif process.state is ProcessState.REQUESTED:
        yield Take(directory, process.start_id, directory, identity_of(scene.state, archive), fresh, restored)
    elif feeds(group, process):
        yield from feeding_steps(scene, group, process, archive, identity_of(scene.state, archive))
    elif process.state is ProcessState.STARTED and group.leader is not None:
        yield Launch(directory, engine_spec(scene.state, scene.me, process, archive), fresh, restored)


def _with_engine(scene: Scene, process: Process, engine: EngineSeen) -> Iterator[Step]:
    group = scene.state.groups[(process.database, process.group)]
    if process.leaving:
        yield from leaving_steps(scene, process, engine)
    elif process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        yield Tell(engine.directory, ProcessConfigured(start_id=process.start_id, pid=engine.pid, **scene.told))
    elif not engine.answering or not engine.role:
        return  # busy is not dead; one that was busy from this manager's first glance on may be anything
    elif process.state is ProcessState.CONFIGURED:
        yield from _loading_steps(scene, process, engine)
    elif engine.files_lost and group.serving:
        yield from lost_files_steps(scene, group, process, engine)
    elif group.open and group.leader_process == process.start_id:
        yield from leader_steps(scene, group, engine)
    elif group.open:
        yield from follower_steps(scene, group, process, engine)
    else:
        yield from vacancy_steps(scene, group, process, engine)


def _loading_steps(scene: Scene, process: Process, engine: EngineSeen) -> Iterator[Step]:
    patient = scene.lasted(("not ok", process.start_id)) < OK_PATIENCE
    if engine.loading:
        gain = engine.loading_percent - process.loading_percent
        waited = scene.lasted(("loading", process.start_id, process.loading_percent))
        if gain >= LOADING_STEP or (gain > 0 and waited > LOADING_NEWS):
            fact = LoadingProgressed(start_id=process.start_id, percent=engine.loading_percent, **scene.told)
            yield Tell(engine.directory, fact)
    elif engine.cluster_ok or not patient:
        runs = running_options(scene, process, (engine,))
        yield Tell(engine.directory, ProcessTracked(start_id=process.start_id, pid=engine.pid, **runs, **scene.told))


# Pace ------------------------------------------------------------------------------------------------------------------


def pace(state: State, me: Me, steps: list[Step]) -> float:
    """How soon to look again, in seconds, if nothing wakes the manager before."""
    mine = [p for p in state.processes.values() if p.server_id == me.server_id]
    if steps or any(p.state is ProcessState.CONFIGURED for p in mine):
        return 0.02  # an engine loads, or something is being done: clients may be waiting
    if any(c.stage in AT_THE_CUT for c in state.copies.values()) and mine:
        return 0.02  # clients wait
    groups = {state.groups[(p.database, p.group)].key for p in mine if p.archive_id is not None}
    watched = [state.groups[key] for key in groups]
    if any(g.tail for g in watched) or any(_asked(state, p) for p in mine):
        return 0.02  # what is waited for here happens in an engine, and clients wait for it
    if any(j.stage is JoinStage.REQUIRED for g in watched for j in g.joining):
        return 0.02  # for about a second: then every write of the group is on one disk more
    if any(g.joining or g.handover or g.wish or stopping(state, g) for g in watched) or any(_hurries(p) for p in mine):
        return 0.05
    if any(p.state is not ProcessState.MONITORED for p in mine) or not all(g.serving for g in watched):
        return 0.25  # it waits for somebody else, who wakes it
    return 1.0  # the kernel tells of ends, the store of changes; what must be looked for here lasts seconds


def _asked(state: State, process: Process) -> bool:
    """Its group has no leader, and it has not said how far it got."""
    group = state.groups.get((process.database, process.group))
    vacant = group is not None and group.leader is None and process.archive_id is not None
    return vacant and process.report is None and process.state is ProcessState.MONITORED


def _hurries(process: Process) -> bool:
    """One that leaves, or a TE that joined and does not hold everything yet."""
    joined = process.engine_type is EngineType.TE and process.state is ProcessState.MONITORED
    return process.leaving or (joined and process.engine_state is EngineState.SYNCING)
