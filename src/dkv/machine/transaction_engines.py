"""What the manager of a TE does: launch it, let its engines follow their leaders, say whether they do, end it. Pure.

A TE keeps no archive, so nothing about it is worth a fence, a lock or a marker. Its engines never lead: one that is
seen leading is ended with its process.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.commands import MemorySynced, ProcessConfigured, ProcessExited, ProcessStarted, ProcessTracked
from dkv.domain.model import EngineState, Group, Process, ProcessState
from dkv.engine.contract import Cause, EngineSeen, TeSeen
from dkv.machine.clients import opening_to_clients
from dkv.machine.engine_upkeep import table_steps
from dkv.machine.intrusion import expel_steps
from dkv.machine.observation import REAP_PATIENCE, SILENT, VANISHED, PlanInput, memory_directory, node_id, peer
from dkv.machine.options import option_steps, running_options
from dkv.machine.progress import hangs
from dkv.machine.spec import memory_spec
from dkv.machine.steps import CancelProcess, Kill, LaunchMemory, Replicate, ReportExit, ShutDown, Step, SubmitFact

LINK_PATIENCE = 1_000  # ms an engine that was attached may take to find its leader again by itself


def memory_steps(scene: PlanInput, process: Process) -> Iterator[Step]:
    """What one TE of this server needs next."""
    directory = memory_directory(scene.server.data_dir, process.start_id)
    seen = scene.seen.memory_only(process.start_id)
    ended = scene.seen.exit(process.start_id)
    if ended:
        if ended.reaped or scene.lasted(("ended", process.start_id)) > REAP_PATIENCE:
            yield ReportExit(directory, ended)
    elif seen is None:
        yield from _without_engines(scene, process, directory)
    elif any(hangs(scene, process, one) for one in seen.engines):
        yield Kill(directory, process.start_id, Cause.NEVER_ANSWERED)
    elif process.kill or process.verdict:
        yield Kill(directory, process.start_id, Cause.OPERATOR_KILL)
    elif process.state is ProcessState.REQUESTED_SHUTDOWN:
        yield ShutDown(directory, process.start_id)
    else:
        yield from option_steps(scene, process, seen.engines)
        yield from _with_engines(scene, process, seen)


def _without_engines(scene: PlanInput, process: Process, directory: str) -> Iterator[Step]:
    if process.pid is not None:  # it had engines, whose end may take a moment to be known
        if scene.lasted(("no engine", process.start_id)) > VANISHED:
            yield SubmitFact(directory, _vanished(scene, process))
    elif process.leaving:
        yield CancelProcess(directory, process.start_id, directory, process.kill)
    elif process.state is ProcessState.REQUESTED:
        yield SubmitFact(directory, ProcessStarted(start_id=process.start_id, **scene.fact_header))
    elif process.state is ProcessState.STARTED and process.endpoints:
        yield LaunchMemory(directory, memory_spec(scene.state, scene.server, process))


def _vanished(scene: PlanInput, process: Process) -> ProcessExited:
    return ProcessExited(
        start_id=process.start_id,
        cause=Cause.EXITED,
        detail="Its engines are gone, and nothing is known of their end.",
        exit_code=1,
        **scene.fact_header,
    )


def _with_engines(scene: PlanInput, process: Process, seen: TeSeen) -> Iterator[Step]:
    if any(e.role == "leader" for e in seen.engines):
        yield Kill(seen.directory, process.start_id, Cause.FENCED_BY_MANAGER)
    elif process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        yield SubmitFact(seen.directory, ProcessConfigured(start_id=process.start_id, pid=seen.pid, **scene.fact_header))
    elif process.state is ProcessState.CONFIGURED:
        if all(e.answering and not e.loading and e.role for e in seen.engines):
            runs = running_options(scene, process, seen.engines)
            yield SubmitFact(seen.directory, ProcessTracked(start_id=process.start_id, pid=seen.pid, **runs, **scene.fact_header))
    else:
        yield from _following_steps(scene, process, seen)


def _following_steps(scene: PlanInput, process: Process, seen: TeSeen) -> Iterator[Step]:
    """Attach each engine to its group's leader; once all are, say so, and keep their tables like everybody's."""
    for engine in seen.engines:
        yield from expel_steps(scene, process.database, engine)
    pairs = [(scene.state.groups[(process.database, e.group)], e) for e in seen.engines]
    for group, engine in pairs:
        if _wants_leader(scene, process, group, engine):
            leader = peer(scene.state, scene.state.archives[group.leader or 0])
            yield Replicate(engine.directory, process.start_id, leader)
        if _synced(scene, group, engine):
            yield from opening_to_clients(engine)
    if process.state is not ProcessState.MONITORED:
        return
    synced = all(_synced(scene, group, engine) for group, engine in pairs)
    if synced and process.engine_state is not EngineState.RUNNING:
        yield SubmitFact(seen.directory, MemorySynced(start_id=process.start_id, synced=True, **scene.fact_header))
    elif process.engine_state is EngineState.RUNNING and _lost_touch(scene, seen):
        yield SubmitFact(seen.directory, MemorySynced(start_id=process.start_id, synced=False, **scene.fact_header))
    elif synced:
        yield from (step for group, engine in pairs for step in table_steps(scene, group, engine))


def _wants_leader(scene: PlanInput, process: Process, group: Group, engine: EngineSeen) -> bool:
    """At once when it never followed anybody, a moment later when it may find its leader again by itself."""
    usable = engine.answering and bool(engine.role) and not engine.loading and not engine.resyncing
    if not usable or not group.serving or group.handover or _synced(scene, group, engine):
        return False
    return process.running_at == 0 or scene.lasted(("astray", process.start_id, engine.group)) > LINK_PATIENCE


def _synced(scene: PlanInput, group: Group, engine: EngineSeen) -> bool:
    """Whether it holds what its leader holds, but for what is on its way."""
    if not group.serving or group.leader is None or engine.loading or engine.resyncing:
        return False
    return engine.link_up and engine.follows == node_id(scene.state.uid, group.leader)


def _lost_touch(scene: PlanInput, seen: TeSeen) -> bool:
    return any(scene.lasted(("astray", seen.start_id, e.group)) > SILENT for e in seen.engines)
