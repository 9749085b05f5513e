"""Since when conditions hold on this machine, on the manager's own monotonic clock. Pure: the time is an argument.

A condition is a name that plan() asks for by its key. What stopped holding is forgotten; nothing here is written to the domain.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from dkv.database_options import FSYNC
from dkv.domain.elections import electing_elsewhere
from dkv.domain.model import ARCHIVES_IN, Group, JoinStage, Process, State
from dkv.domain.phases import Assigned, HandingOver, Leadership, Open, SwitchoverRequest, Vacant
from dkv.domain.table import items_of
from dkv.engine.contract import EngineSeen, Survey, TeSeen
from dkv.machine.intrusion import epoch_conditions
from dkv.machine.observation import ConditionHistory, LocalServer, node_id, replica_of, stopping
from dkv.machine.tail.conditions import tail_conditions

REQUIRED_BEFORE_GROWING = 1_000  # ms `required` stands before S grows (model: required_before_growing)
SILENT = 3_000  # ms after which a follower is out of sync, or its leader silent
WHOLE_SECONDS = 1_000  # ms by which a silence may look too long: engines count whole seconds
AWAY_FIRST = 1_500  # ms a lease has ended before its leader falls silent, where not the whole machine was lost
QUIET = 2_000  # ms of silence of an attached follower worth watching; engines count whole seconds


def update_history(
    history: ConditionHistory,
    state: State,
    server: LocalServer,
    survey: Survey,
    now: float,
    *,
    handled: Mapping[str, int] | None = None,
) -> ConditionHistory:
    """The history after one more observation at `now` (ms): conditions that go on keep their start, new ones start now, those
    that ended are dropped. `handled` as in Observation.
    """
    holding = {*_conditions(state, server, survey)}
    holding |= {*tail_conditions(state, server.server_id, server.data_dir, survey, handled or {})}
    holding |= {("inherited", condition) for condition in holding if _inherited(history, condition)}
    known = history.since
    since = {c: known[c] if c in known else _start(c, history, now) for c in holding}
    updated = ConditionHistory(now, since, {})
    return ConditionHistory(now, since, dict(_notes(history, updated, state, survey)))


def _inherited(history: ConditionHistory, condition: Hashable) -> bool:
    """A handover that stood before this manager's first observation: its age is not known here."""
    if not isinstance(condition, tuple) or condition[0] != "handover":
        return False
    return not history.now or ("inherited", condition) in history.since


def _start(condition: Hashable, history: ConditionHistory, now: float) -> float:
    """A handover may be as old as the last observation that did not show it; everything else starts now."""
    if isinstance(condition, tuple) and condition[0] == "handover" and history.now:
        return history.now
    return now


# Keys ------------------------------------------------------------------------------------------------------------------


def handover_key(group: Group, handover: HandingOver) -> Hashable:
    """Names one handover."""
    return ("handover", group.key, group.term, handover.to_process, handover.at)


def target_gone_key(group: Group, handover: HandingOver) -> Hashable:
    """Holds while the process that a handover is to has ended."""
    return ("target gone", group.key, group.term, handover.to_process, handover.at)


def redirects_key(process: Process) -> Hashable:
    """Holds while a process that is to leave follows, in a term that began with a handover: clients may still ask it."""
    return ("redirects", process.start_id)


def switchover_key(group: Group, request: SwitchoverRequest) -> Hashable:
    """Names one request for another leader."""
    return ("switchover", group.key, group.term, request.to_process, request.at)


def turn_key(group: Group) -> Hashable:
    """Holds while a group whose leadership is to be handed over waits for no other group's handover."""
    return ("turn", group.key)


def unresponsive_key(engine: EngineSeen) -> Hashable:
    """Holds while something keeps an engine from answering: it is silent at first, and says BUSY after ten seconds."""
    return ("unresponsive", engine.start_id)


def write_refusal_key(engine: EngineSeen) -> Hashable:
    """Holds while an engine refuses writes, or lets them wait, for one reason."""
    return ("refuses", engine.start_id, why_refused(engine))


# What holds ------------------------------------------------------------------------------------------------------------


def is_awaited(group: Group, process: Process) -> bool:
    """Whether an assigned term waits for this process, and another choice would be made if it did nothing."""
    phase = group.phase
    if not isinstance(phase, Assigned):
        return False
    if phase.tail is not None:
        return process.start_id in (phase.leader_process, phase.tail.source_process)
    return process.start_id == phase.leader_process and len(group.in_sync) > 1 and phase.enforced != phase.leader


def away_key(process: Process, leader: Process) -> Hashable:
    """Holds while the lease of the leader's server has ended, as the manager of another member of its group sees it."""
    return ("away", process.start_id, leader.start_id)


def in_a_script(engine: EngineSeen) -> bool:
    """Whether a script or function keeps it, so that it answers BUSY to all."""
    return engine.answering and engine.writes.refuses == "BUSY"


def why_refused(engine: EngineSeen) -> str:
    """Why the engine of a leader takes no client's write, by domain/writes_refused.py; "" if it does."""
    return engine.writes.refuses or ("PAUSED" if engine.writes.paused else "" if engine.takes_clients else "CLOSED")


def unheard(history: ConditionHistory, engine: EngineSeen, archive_id: int) -> bool:
    """Whether a follower is gone for 3 s, or attached and silent as long.

    A leader that was busy receives its followers' acknowledgements a moment after it answers again, so the silence has to last.
    """
    if history.lasted(("gone", engine.start_id, archive_id)) > SILENT:
        return True
    return history.lasted(("quiet", engine.start_id, archive_id)) > SILENT - QUIET


def _conditions(state: State, server: LocalServer, survey: Survey) -> Iterable[Hashable]:
    engines = {engine.start_id: engine for engine in survey.engines}
    tes = {te.start_id: te for te in survey.memory}
    yield from (("ended", exit.start_id) for exit in survey.exits)
    for process in state.processes_on(server.server_id):
        if process.start_id in tes:
            yield from _te_conditions(state, process, tes[process.start_id])
        else:
            yield from _process_conditions(process, engines.get(process.start_id))
            yield from _stale_leader(state, process, engines.get(process.start_id))
            yield from _option_conditions(state, process, engines.get(process.start_id))
            yield from _redirecting(state, process, engines.get(process.start_id))
            yield from _leader_away(state, process)
    for group in state.groups.values():
        yield from _group_conditions(state, group)
        engine = engines.get(group.leader_process) if group.leader_process is not None else None
        if engine:
            yield from _leader_conditions(state, group, engine)
            if why_refused(engine):
                yield write_refusal_key(engine)


def _group_conditions(state: State, group: Group) -> Iterable[Hashable]:
    if stopping(state, group):
        yield ("stopping", group.key)
    phase = group.phase
    if isinstance(phase, Vacant):
        yield ("vacant", group.key)
    if isinstance(phase, HandingOver):
        yield handover_key(group, phase)
        if phase.to_process not in state.processes:
            yield target_gone_key(group, phase)
    if isinstance(phase, Leadership):
        if phase.switchover:
            yield switchover_key(group, phase.switchover)
        leader = state.leader_of(group)
        if (phase.switchover or (leader and leader.leaving)) and not electing_elsewhere(state, group):
            yield turn_key(group)
        for joining in phase.joining:
            yield ("joining", group.key, group.term, joining)


def _process_conditions(process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    if process.leaving:
        yield ("leaving", process.start_id)
    if engine is None:
        if process.pid is not None:
            yield ("no engine", process.start_id)
        return
    if in_a_script(engine) or not engine.answering:
        yield unresponsive_key(engine)
    if engine.loading:
        yield ("loads", process.start_id)
        yield ("loading", process.start_id, process.loading_percent)
    if engine.answering and not engine.loading and not engine.cluster.state_ok:
        yield ("not ok", process.start_id)
    if engine.role == "follower" and not engine.replication.link_up:
        yield ("link down", process.start_id)
    yield from epoch_conditions(engine)


def _stale_leader(state: State, process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    group = state.groups.get((process.database, process.group))
    if engine and engine.role == "leader" and group and group.open and group.leader_process != process.start_id:
        yield ("stale leader", process.start_id)


def _redirecting(state: State, process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    group = state.groups.get((process.database, process.group))
    if not process.leaving or engine is None or engine.role != "follower" or not engine.takes_clients or group is None:
        return
    began_with_handover = isinstance(group.phase, Open) and group.opened_at is None
    if began_with_handover and group.leader_process != process.start_id and not stopping(state, group):
        yield redirects_key(process)


def _leader_away(state: State, process: Process) -> Iterable[Hashable]:
    group = state.groups.get((process.database, process.group))
    leader = state.leader_of(group) if group else None
    if leader is not None and leader is not process and not state.server_alive(leader.server_id):
        yield away_key(process, leader)


def _option_conditions(state: State, process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    wanted = state.databases[process.database].options.append_fsync
    if engine and engine.options.append_fsync and FSYNC.index(wanted) > FSYNC.index(engine.options.append_fsync):
        yield ("weaker", process.start_id)


def _te_conditions(state: State, process: Process, te: TeSeen) -> Iterable[Hashable]:
    for engine in te.engines:
        yield from epoch_conditions(engine)
        leader = state.groups[(process.database, engine.group)].leader
        if not engine.replication.link_up or (leader is not None and engine.follows != node_id(state.uid, leader)):
            yield ("detached", process.start_id, engine.group)


def _leader_conditions(state: State, group: Group, engine: EngineSeen) -> Iterable[Hashable]:
    for archive in items_of(state.archives, ARCHIVES_IN, group.key):
        if archive.archive_id == group.leader:
            continue
        replica = replica_of(state, engine, archive.archive_id)
        if replica is None or not replica.online:
            yield ("gone", engine.start_id, archive.archive_id)
        elif replica.silent_ms > QUIET:
            yield ("quiet", engine.start_id, archive.archive_id)


def _notes(history: ConditionHistory, updated: ConditionHistory, state: State, survey: Survey) -> Iterable[tuple[Hashable, int]]:
    """The leader's offset, noted once a joiner was required long enough, or once it is fenced in a whole stop;
    file sizes at the last marker.
    """
    engines = {engine.start_id: engine for engine in survey.engines}
    for group in state.groups.values():
        engine = engines.get(group.leader_process) if group.leader_process is not None else None
        if engine is None or not engine.answering or engine.busy:  # an old offset proves nothing
            continue
        if engine.writes.fenced and stopping(state, group):
            key: Hashable = ("stopping", group.key)
            yield key, history.notes.get(key, engine.replication.offset)
        for joining in group.joining:
            key = ("joining", group.key, group.term, joining)
            if joining.stage is JoinStage.REQUIRED and updated.lasted(key) >= REQUIRED_BEFORE_GROWING:
                yield key, history.notes.get(key, engine.replication.offset)
        marker = engine.files.marker
        if marker:
            key = ("marked", engine.start_id, marker.term, marker.sequence)
            yield key, min(history.notes.get(key, engine.files.incremental_bytes), engine.files.incremental_bytes)
