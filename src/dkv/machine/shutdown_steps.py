"""How an engine leaves: handover before a leader, shrinking before a follower, then a graceful end. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.elections import LASTS
from dkv.domain.model import Group, Process, State
from dkv.domain.phases import HandingOver
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.client_port import close_client_port
from dkv.machine.conditions import redirects_key, turn_key
from dkv.machine.handover import (
    ACKNOWLEDGED_WITHIN,
    KILL_PATIENCE,
    begin,
    handover_steps_of_leader,
    handover_steps_of_target,
    successor,
    waits_for_turn,
)
from dkv.machine.leader_steps import cut_off_steps, leader_steps
from dkv.machine.observation import PlanInput, acknowledges, knows_as_follower, stopping
from dkv.machine.steps import Fence, Kill, ShutDown, Step

HANDOVER_PATIENCE = 30_000  # ms a graceful stop of a leader tries to hand over
LONGEST_KILL = LASTS + KILL_PATIENCE  # ms a kill waits, with the time until it is this group's turn
REDIRECTS = 500  # ms a former leader goes on after its handover: valkey-py tries a command four times within milliseconds
SHRINK_PATIENCE = 10_000  # ms a graceful stop of a follower waits to be taken out of S


def leaving_steps(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """The steps for an engine whose process was asked to leave, gracefully or at once."""
    group = inputs.state.groups[(process.database, process.group)]
    leads = group.open and group.leader_process == process.start_id
    since = inputs.lasted(("leaving", process.start_id))
    if process.verdict:
        yield Kill(engine.directory, process.start_id, Cause.OPERATOR_KILL)
    elif engine.busy and leads and not process.kill:
        return  # inside a script there is no handover and no shutdown
    elif leads and not stopping(inputs.state, group) and _may_hand_over_yet(inputs, group, process, since):
        yield from _leader_leaves(inputs, group, process, engine)
    elif process.kill:
        yield Kill(engine.directory, process.start_id, Cause.OPERATOR_KILL)
    elif isinstance(group.phase, HandingOver) and group.phase.to_process == process.start_id:
        yield from handover_steps_of_target(inputs, group, group.phase, engine)
    elif not leads and _still_required(inputs.state, group, process) and since < SHRINK_PATIENCE:
        return  # the leader's manager takes it out of S first
    elif redirects_key(process) in inputs.seen.conditions.since and inputs.lasted(redirects_key(process)) < REDIRECTS:
        return  # a client that was not told of the new leader yet is redirected, not refused a connection
    else:
        yield from _end(engine, leads)


def _may_hand_over_yet(inputs: PlanInput, group: Group, process: Process, since: float) -> bool:
    """Whether a leader that is to leave is given time for a handover. A kill takes little, from its turn among the groups on."""
    if not process.kill:
        return since < HANDOVER_PATIENCE
    return since < KILL_PATIENCE or (
        (waits_for_turn(inputs, group) or inputs.lasted(turn_key(group)) < KILL_PATIENCE) and since < LONGEST_KILL
    )


def lost_files_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """The files of its archive were deleted. A follower ends, so that it leaves S; a leader, whose memory may be the last copy,
    hands over first, and goes on fenced while no copy can take over.
    """
    handover = group.phase if isinstance(group.phase, HandingOver) else None
    if handover and handover.to_process == process.start_id:  # it may lead any moment: not killed while this stands
        if engine.role == "leader":
            yield from handover_steps_of_target(inputs, group, handover, engine)
        return
    if group.leader_process != process.start_id:
        yield Kill(engine.directory, process.start_id, Cause.ARCHIVE_MISSING)
        return
    waits = handover or stopping(inputs.state, group) or waits_for_turn(inputs, group)
    target = None if waits else successor(inputs.state, group, engine)
    if target is None:
        yield from leader_steps(inputs, group, engine)
    else:
        yield begin(inputs, group, engine, target)


def _end(engine: EngineSeen, leads: bool) -> Iterator[Step]:
    """Close the client port before writes are refused: every client library understands a closed connection, none NOREPLICAS."""
    if leads and not engine.writes.fenced and engine.takes_clients:
        yield from close_client_port(engine)
    elif leads and not engine.writes.fenced:
        yield Fence(engine.directory, engine.start_id)
    else:
        yield ShutDown(engine.directory, engine.start_id)


def _still_required(state: State, group: Group, process: Process) -> bool:
    leader = state.leader_of(group)
    if not group.open or leader is None or stopping(state, group) or group.leader_process == process.start_id:
        return False
    return process.archive_id in group.in_sync and state.server_alive(leader.server_id)


def _leader_leaves(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """Hand over first; end when no copy can take over, not even soon."""
    if engine.busy or (not engine.answering and not process.kill):
        return  # busy is not dead; an engine that never answers again is killed elsewhere
    if isinstance(group.phase, HandingOver):
        yield from cut_off_steps(inputs, group, engine)
        yield from handover_steps_of_leader(inputs, group, group.phase, engine)
        return
    if not group.serving or (engine.answering and waits_for_turn(inputs, group)):
        yield from leader_steps(inputs, group, engine)
        return
    target = successor(inputs.state, group, engine) if engine.answering else None
    if target is not None:
        yield begin(inputs, group, engine, target, immediate=process.kill)
    elif engine.answering and _a_member_lags(inputs, group, engine):
        yield from leader_steps(inputs, group, engine)
    elif process.kill:
        yield Kill(engine.directory, process.start_id, Cause.OPERATOR_KILL)
    else:
        yield from _end(engine, leads=True)


def _a_member_lags(inputs: PlanInput, group: Group, engine: EngineSeen) -> bool:
    """Whether a member of S does not acknowledge (it is restarted, away, or in a full resync) or joined so recently that the
    leader's engine does not know it yet, and would ignore its request to fail over.

    It catches up or is out of S within 3 s. If the leader ended before that, it would lead without what only the leader has.
    """
    state, others = inputs.state, [a for a in group.in_sync if a != group.leader]
    return not all(acknowledges(state, engine, a, ACKNOWLEDGED_WITHIN) and knows_as_follower(state, engine, a) for a in others)
