"""What the manager of a TE does: launch it, let its engines follow their leaders, say whether they do, end it. Pure.

A TE keeps no archive, so nothing about it is worth a fence, a lock or a marker. Its engines never lead: one that is
seen leading is ended with its process.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.facts import MemorySynced, ProcessConfigured, ProcessExited, ProcessStarted, ProcessTracked
from dkv.domain.model import EngineState, Group, Process, ProcessState
from dkv.domain.phases import HandingOver
from dkv.engine.contract import Cause, EngineSeen, TeSeen
from dkv.machine.client_port import open_client_port
from dkv.machine.conditions import SILENT
from dkv.machine.engine_certificates import certificate_steps
from dkv.machine.engine_upkeep import table_steps
from dkv.machine.intrusion import epoch_steps, expel_steps
from dkv.machine.observation import REAP_PATIENCE, VANISHED, PlanInput, node_id, peer, te_directory
from dkv.machine.options import option_steps, running_options
from dkv.machine.progress import hangs
from dkv.machine.spec import te_spec
from dkv.machine.steps import CancelProcess, Kill, LaunchTe, Replicate, ReportExit, ShutDown, Step, SubmitFact
from dkv.machine.users import running_users, user_steps

LINK_PATIENCE = 1_000  # ms an engine that was attached may take to find its leader again by itself


def te_steps(inputs: PlanInput, process: Process) -> Iterator[Step]:
    """What one TE of this server needs next."""
    directory = te_directory(inputs.server.data_dir, process.start_id)
    seen = inputs.seen.te(process.start_id)
    ended = inputs.seen.exit(process.start_id)
    if ended:
        if ended.reaped or inputs.lasted(("ended", process.start_id)) > REAP_PATIENCE:
            yield ReportExit(directory, ended)
    elif seen is None:
        yield from _without_engines(inputs, process, directory)
    elif any(hangs(inputs, process, engine) for engine in seen.engines):
        yield Kill(directory, process.start_id, Cause.NEVER_ANSWERED)
    elif process.kill or process.verdict:
        yield Kill(directory, process.start_id, Cause.OPERATOR_KILL)
    elif process.state is ProcessState.REQUESTED_SHUTDOWN:
        yield ShutDown(directory, process.start_id)
    else:
        yield from option_steps(inputs, process, seen.engines)
        yield from user_steps(inputs, process, seen.engines)
        yield from certificate_steps(inputs, process, seen.engines)
        yield from _with_engines(inputs, process, seen)


def _without_engines(inputs: PlanInput, process: Process, directory: str) -> Iterator[Step]:
    if process.pid is not None:  # it had engines, whose end may take a moment to be known
        if inputs.lasted(("no engine", process.start_id)) > VANISHED:
            yield SubmitFact(directory, _report_vanished(inputs, process))
    elif process.leaving:
        yield CancelProcess(directory, process.start_id, directory, process.kill)
    elif process.state is ProcessState.REQUESTED:
        yield SubmitFact(directory, ProcessStarted(start_id=process.start_id, **inputs.fact_header))
    elif process.state is ProcessState.STARTED and process.endpoints:
        yield LaunchTe(directory, te_spec(inputs.state, inputs.server, process))


def _report_vanished(inputs: PlanInput, process: Process) -> ProcessExited:
    return ProcessExited(
        start_id=process.start_id,
        cause=Cause.EXITED,
        detail="Its engines are gone, and nothing is known of their end.",
        exit_code=1,
        **inputs.fact_header,
    )


def _with_engines(inputs: PlanInput, process: Process, seen: TeSeen) -> Iterator[Step]:
    if any(e.role == "leader" for e in seen.engines):
        yield Kill(seen.directory, process.start_id, Cause.FENCED_BY_MANAGER)
    elif process.state in (ProcessState.REQUESTED, ProcessState.STARTED):
        yield SubmitFact(seen.directory, ProcessConfigured(start_id=process.start_id, pid=seen.pid, **inputs.fact_header))
    elif process.state is ProcessState.CONFIGURED:
        if all(e.answering and not e.loading and e.role for e in seen.engines):
            runs = running_options(inputs, process, seen.engines)
            users = running_users(inputs, process, seen.engines)
            yield SubmitFact(
                seen.directory, ProcessTracked(start_id=process.start_id, pid=seen.pid, users=users, **runs, **inputs.fact_header)
            )
    else:
        yield from _following_steps(inputs, process, seen)


def _following_steps(inputs: PlanInput, process: Process, seen: TeSeen) -> Iterator[Step]:
    """Attach each engine to its group's leader; once all are, say so, and keep their tables as those of archives."""
    for engine in seen.engines:
        yield from epoch_steps(inputs, process.database, engine)
        yield from expel_steps(inputs, process.database, engine)
    pairs = [(inputs.state.groups[(process.database, e.group)], e) for e in seen.engines]
    for group, engine in pairs:
        if _wants_leader(inputs, process, group, engine):
            leader = peer(inputs.state, inputs.state.archives[group.leader or 0])
            yield Replicate(engine.directory, process.start_id, leader)
        if _synced(inputs, group, engine):
            yield from open_client_port(engine)
    if process.state is not ProcessState.MONITORED:
        return
    synced = all(_synced(inputs, group, engine) for group, engine in pairs)
    if synced and process.engine_state is not EngineState.RUNNING:
        yield SubmitFact(seen.directory, MemorySynced(start_id=process.start_id, synced=True, **inputs.fact_header))
    elif process.engine_state is EngineState.RUNNING and _lost_touch(inputs, seen):
        yield SubmitFact(seen.directory, MemorySynced(start_id=process.start_id, synced=False, **inputs.fact_header))
    elif synced:
        yield from (step for group, engine in pairs for step in table_steps(inputs, group, engine))


def _wants_leader(inputs: PlanInput, process: Process, group: Group, engine: EngineSeen) -> bool:
    """At once when it never followed a leader, a moment later when it may find its leader again by itself."""
    usable = engine.answering and bool(engine.role) and not engine.loading and not engine.replication.resyncing
    if not usable or not group.serving or isinstance(group.phase, HandingOver) or _synced(inputs, group, engine):
        return False
    return process.running_at == 0 or inputs.lasted(("detached", process.start_id, engine.group)) > LINK_PATIENCE


def _synced(inputs: PlanInput, group: Group, engine: EngineSeen) -> bool:
    """Whether it holds what its leader holds, but for what is on its way."""
    if not group.serving or group.leader is None or engine.loading or engine.replication.resyncing:
        return False
    return engine.replication.link_up and engine.follows == node_id(inputs.state.uid, group.leader)


def _lost_touch(inputs: PlanInput, seen: TeSeen) -> bool:
    return any(inputs.lasted(("detached", seen.start_id, e.group)) > SILENT for e in seen.engines)
