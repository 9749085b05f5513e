"""When a manager looks at its machine again if nothing wakes it before, and whether it has to plan again then. Pure.

The kernel reports the ends of engines and the store reports changes, so an idle machine is looked at once a second. What happens
inside an engine has to be looked for: the more urgent it is, the sooner.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.hotcopy import AT_THE_CUT, CopyStage, HotCopy
from dkv.domain.model import EngineState, Group, JoinStage, Process, ProcessRole, ProcessState, State
from dkv.domain.phases import HandingOver, Joining
from dkv.machine.conditions import REQUIRED_BEFORE_GROWING, is_awaited
from dkv.machine.engine_upkeep import just_had_its_turn
from dkv.machine.observation import ConditionHistory, PlanInput, stopping

IDLE_INTERVAL = 1.0  # s between two looks while nothing goes on
WAITING_INTERVAL = 0.25  # s while something waits for another manager, whose commit wakes this one
HURRY_INTERVAL = 0.05  # s while something is about to happen in an engine
SOON = 0.02  # s: clients may be waiting, or a step has just begun
CUT_OFF_INTERVAL = 0.1  # s while the lease is not renewed: a leader may have to be fenced in time
LOADING_SHARE = 0.05  # of the time an engine loads already: the next look comes so much later, at most LOADING_LATEST
LOADING_LATEST = 0.25  # s


def next_look(inputs: PlanInput) -> float:
    """In how many seconds to look again."""
    soonest = min((inputs.state.memoized(_steady_interval, inputs.server.server_id), *_lasting_intervals(inputs)))
    return soonest if inputs.seen.lease_is_fresh else min(soonest, CUT_OFF_INTERVAL)


def lasts(inputs: PlanInput) -> bool:
    """Whether a plan without steps stays one however late it is made: the lease is fresh, no condition holds, no engine had its
    turn at rewriting a moment ago, and no term waits for a process of this server to prove that it works.
    """
    state, seen = inputs.state, inputs.seen
    if not seen.lease_is_fresh or seen.conditions.since or any(just_had_its_turn(seen, e) for e in seen.survey.engines):
        return False
    return not state.memoized(_any_awaited, inputs.server.server_id)


def _any_awaited(state: State, server_id: str) -> bool:
    processes = [p for p in state.processes_on(server_id) if p.archive_id is not None]
    return any(is_awaited(state.groups[(p.database, p.group)], p) for p in processes)


def _lasting_intervals(inputs: PlanInput) -> Iterator[float]:
    """The intervals that depend on how long something has lasted."""
    state, history = inputs.state, inputs.seen.conditions
    processes = state.processes_on(inputs.server.server_id)
    if any(("stale leader", process.start_id) in history.since for process in processes):
        yield HURRY_INTERVAL
    yield from (_loading_interval(process, history) for process in processes if process.state is ProcessState.CONFIGURED)
    joined = [group for group in state.memoized(_watched, inputs.server.server_id) if group.joining]
    if joined:
        start_ids = {process.start_id for process in processes}
        yield from (_joining_interval(history, group, join, start_ids) for group in joined for join in group.joining)


def _steady_interval(state: State, server_id: str) -> float:
    """The soonest of the intervals that are the same for as long as the domain is the same."""
    return min(_intervals(state, state.processes_on(server_id), state.memoized(_watched, server_id)))


def _watched(state: State, server_id: str) -> list[Group]:
    """The groups that a server has a process of."""
    keys = {(p.database, p.group) for p in state.processes_on(server_id) if p.archive_id is not None}
    return [state.groups[key] for key in keys]


def _intervals(state: State, processes: list[Process], watched: list[Group]) -> Iterator[float]:
    databases = {process.database for process in processes}
    cut = [copy for copy in state.copies.values() if copy.stage in AT_THE_CUT and copy.database in databases]
    yield from (SOON if _clients_wait(copy) else HURRY_INTERVAL for copy in cut)
    moving = any(group.tail or isinstance(group.phase, HandingOver) for group in watched)
    if moving or any(_owes_report(state, process) for process in processes):
        yield SOON
    if any(group.switchover or stopping(state, group) for group in watched) or any(_hurries(process) for process in processes):
        yield HURRY_INTERVAL
    if any(process.state is not ProcessState.MONITORED for process in processes) or not all(g.serving for g in watched):
        yield WAITING_INTERVAL
    yield IDLE_INTERVAL


def _loading_interval(process: Process, history: ConditionHistory) -> float:
    """Often at first; a twentieth of a long load does not matter."""
    return min(LOADING_LATEST, max(SOON, LOADING_SHARE * history.lasted(("loads", process.start_id)) / 1000))


def _joining_interval(history: ConditionHistory, group: Group, joining: Joining, start_ids: set[int]) -> float:
    """Soon where a joiner's next step is to be taken."""
    leads = group.leader_process in start_ids
    if joining.stage is not JoinStage.REQUIRED:
        return HURRY_INTERVAL if leads or joining.start_id in start_ids else IDLE_INTERVAL
    required_ms = history.lasted(("joining", group.key, group.term, joining))  # from then on every write is on one disk more
    return max(SOON, (REQUIRED_BEFORE_GROWING - required_ms) / 1000) if leads else IDLE_INTERVAL


def _clients_wait(copy: HotCopy) -> bool:
    """Whether a hot copy at its cut makes writes wait, as far as the domain knows."""
    return copy.stage is not CopyStage.PAUSING or any(cut.paused for cut in copy.cuts)


def _owes_report(state: State, process: Process) -> bool:
    """Whether its group has no leader, and it has not reported its position."""
    group = state.groups.get((process.database, process.group))
    vacant = group is not None and group.leader is None and process.archive_id is not None
    return vacant and process.report is None and process.state is ProcessState.MONITORED


def _hurries(process: Process) -> bool:
    """Whether it leaves, or is a TE that joined and does not hold everything yet."""
    joined = process.role is ProcessRole.TE and process.state is ProcessState.MONITORED
    return process.leaving or (joined and process.engine_state is EngineState.SYNCING)
