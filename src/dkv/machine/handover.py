"""A planned change of leader, seen from both ends (docs/reference/safety.md#handover). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.elections import LASTS, electing_elsewhere, lack_of_votes
from dkv.domain.facts import HandoverBegun, HandoverDeclined, HandoverDone, HandoverFailed, HandoverWithdrawn, LeaderSteppedDown
from dkv.domain.model import EngineState, Group, ProcessState, State
from dkv.domain.phases import HandingOver, Open, SwitchoverRequest
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.conditions import handover_key, switchover_key, target_gone_key, turn_key
from dkv.machine.observation import PlanInput, acknowledges, knows_as_follower, next_sequence, node_id, replica_of
from dkv.machine.steps import Failover, HandOver, Kill, Step, SubmitFact

DEADLINE = LASTS  # ms after which the leader's manager gives a handover up
IN_TIME = 4_000  # ms after which CLUSTER FAILOVER is not sent any more: see `_asks_in_time`
ACKNOWLEDGED_WITHIN = 1_500  # ms within which the copy that is to take over must have acknowledged
KILL_PATIENCE = 2_000  # ms an operator's kill waits for a handover, once no other group of the database is handed over
TARGET_GONE = 1_000  # ms after the target's end was seen
UNKNOWN_EXIT = 255  # of a process whose end nobody waited for
UNMARKED = 500  # ms into a handover after which its target may be one that lacks a marker
WITHDRAWN = 1_300  # ms after which a target that does not answer is given up, if it was not asked to take over
DECLINED = 1_300  # ms after which an operator sees that a handover cannot begin: the command answers within 3 s

IN_A_SCRIPT = (
    "its leader is inside a script or function and answers BUSY: wait until it ends, or end it with SCRIPT KILL or "
    "FUNCTION KILL, which Valkey refuses once it has written; a kill of its process ends it too"
)
NO_ANSWER = "its leader's engine does not answer now: it runs a script or another long command, or is frozen; try again later"
NOT_KNOWN = (
    "its leader's engine has not learned yet on the cluster bus which engines follow it, and would ignore a request to fail "
    "over: try again in some seconds; if it lasts, look whether engines reach each other's cluster ports"
)


def _done(inputs: PlanInput, group: Group, start_id: int, epoch: int, history: str) -> HandoverDone:
    return HandoverDone(
        **inputs.fact_header,
        database=group.database,
        group=group.name,
        term=group.term,
        start_id=start_id,
        epoch=epoch,
        history=history,
    )


def begin(inputs: PlanInput, group: Group, engine: EngineSeen, target: int, immediate: bool = False) -> Step:
    """Have this leader hand over to that archive."""
    sequence = next_sequence(group, engine) - 1
    fact = HandoverBegun(to_archive=target, immediate=immediate, sequence=sequence, **inputs.group_header(group))
    return SubmitFact(f"handover {group.database}/{group.name}", fact)


def switchover_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Another copy is requested to lead: the handover begins as soon as one is ready. An operator soon sees why it cannot;
    in a restart of the whole database the request stays.
    """
    request = group.switchover
    if request is None or isinstance(group.phase, HandingOver) or waits_for_turn(inputs, group):
        return
    target = successor(inputs.state, group, engine, only=request.to_process)
    if target is not None:
        yield begin(inputs, group, engine, target)
    elif _may_be_declined(inputs, group, request):
        fact = HandoverDeclined(reason=_obstacle(inputs.state, group, engine, request), **inputs.group_header(group))
        yield SubmitFact(f"handover {group.database}/{group.name}", fact)


def _may_be_declined(inputs: PlanInput, group: Group, request: SwitchoverRequest) -> bool:
    """Whether an operator is to be shown now why it cannot begin: it had its turn for a while, or another group's never ends."""
    turn = inputs.lasted(turn_key(group)) if electing_elsewhere(inputs.state, group) is None else DECLINED
    waited = min(inputs.lasted(switchover_key(group, request)), turn)
    return waited >= DECLINED and inputs.state.databases[group.database].restart is None


def waits_for_turn(inputs: PlanInput, group: Group) -> bool:
    """Whether another group of the database is handed over now. One that has taken too long is not waited for."""
    for other in inputs.state.groups_of(group.database):
        phase = other.phase
        if isinstance(phase, HandingOver) and other.name != group.name and inputs.lasted(handover_key(other, phase)) < DEADLINE:
            return True
    return False


def _obstacle(state: State, group: Group, engine: EngineSeen, request: SwitchoverRequest) -> str:
    """Why no copy can be handed over to now."""
    if not engine.answering:
        return NO_ANSWER
    if engine.busy:
        return IN_A_SCRIPT if engine.writes.refuses == "BUSY" else NO_ANSWER
    no_votes = lack_of_votes(state, group)
    if no_votes:
        return no_votes
    if _fit(state, group, engine, request.to_process):
        return NOT_KNOWN
    who = "no other copy acknowledges" if request.to_process is None else f"process {request.to_process} does not acknowledge"
    return f"{who} what its leader wrote: its engine or its machine stands still, or the link between them is down"


def unanswering_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Report what cannot happen while this engine does not answer."""
    phase = group.phase
    if not isinstance(phase, Open | HandingOver):
        return
    if phase.leader_process == engine.start_id:
        yield from switchover_steps(inputs, group, engine)
    elif isinstance(phase, HandingOver) and phase.to_process == engine.start_id:
        yield from _withdraw(inputs, group, phase, engine)


def _withdraw(inputs: PlanInput, group: Group, handover: HandingOver, engine: EngineSeen) -> Iterator[Step]:
    """Withdraw a handover whose target was never asked to take over. A target that was asked may lead however late it is."""
    key = handover_key(group, handover)
    ordered = inputs.seen.failovers.get(engine.start_id, 0) >= inputs.seen.conditions.since.get(key, 0)
    soon = IN_TIME if engine.answering else WITHDRAWN
    if ordered or ("inherited", key) in inputs.seen.conditions.since or inputs.lasted(key) < soon:
        return
    what = "did not get what its leader wrote last" if engine.answering else "does not answer"
    reason = f"the engine of process {engine.start_id}, which was to lead, {what}"
    fact = HandoverWithdrawn(
        **inputs.fact_header, database=group.database, group=group.name, term=group.term, start_id=engine.start_id, reason=reason
    )
    yield SubmitFact(engine.directory, fact)


def handover_steps_of_target(inputs: PlanInput, group: Group, handover: HandingOver, engine: EngineSeen) -> Iterator[Step]:
    """Fail over while there is time; say so once this engine leads."""
    if engine.role == "leader":
        yield SubmitFact(
            engine.directory, _done(inputs, group, engine.start_id, engine.cluster.epoch, engine.replication.history)
        )
        return
    age = inputs.lasted(handover_key(group, handover))
    if ("inherited", handover_key(group, handover)) in inputs.seen.conditions.since:
        return  # a manager that was restarted meanwhile cannot know that there is time left
    ready = engine.replication.link_up and not engine.replication.resyncing and not engine.files.rewriting
    if ready and _asks_in_time(group, engine, handover, age):
        yield Failover(engine.directory, engine.start_id, engine.directory, group.term, handover.sequence)
    else:
        yield from _withdraw(inputs, group, handover, engine)


def _asks_in_time(group: Group, engine: EngineSeen, handover: HandingOver, age: float) -> bool:
    """A marker written after the handover began is here, and that is not long ago.

    So no script runs on the leader that began before the handover did, and one that began later answers BUSY after ten
    seconds (`busy-reply-threshold`): not before the five in which a failover has to succeed are over. Only an engine that
    answers BUSY takes part in failovers and votes while its script goes on; where its role changed there, the script's half
    stayed in its memory and file, at the offset of those who lack it (measured on 9.1.2, tests/contract).
    """
    marker = engine.files.marker
    return marker is not None and marker.term == group.term and marker.sequence > handover.sequence and age < IN_TIME


def handover_steps_of_leader(inputs: PlanInput, group: Group, handover: HandingOver, engine: EngineSeen) -> Iterator[Step]:
    """Wait for the target, and say so if it leads; give up at the deadline, or when the target's process is gone: where this
    engine followed it, no other manager will ever say which archive has the newest data.
    """
    age = inputs.lasted(handover_key(group, handover))
    if engine.role == "leader":
        if engine.busy:
            return  # what it was before its script says nothing of what it is
        if engine.answering and (age >= DEADLINE or _target_ended(inputs, group, handover)):
            fact = HandoverFailed(**inputs.fact_header, database=group.database, group=group.name, term=group.term)
            yield SubmitFact(engine.directory, fact)
        elif handover.immediate and age >= KILL_PATIENCE:
            yield Kill(engine.directory, engine.start_id, Cause.OPERATOR_KILL)
        elif age < IN_TIME and (_lacks_marker(handover, engine) or age >= UNMARKED):
            sequence = max(next_sequence(group, engine), handover.sequence + 1)
            yield HandOver(f"mark {engine.start_id}", engine.start_id, group.term, sequence)
    elif engine.replication.torn:
        yield Kill(engine.directory, engine.start_id, Cause.TORN)
    elif handover.to_process not in inputs.state.processes and engine.role == "follower":
        yield SubmitFact(engine.directory, LeaderSteppedDown(**inputs.fact_header, start_id=engine.start_id))
    elif engine.follows == node_id(inputs.state.uid, handover.to_archive) and (engine.replication.link_up or age >= DEADLINE):
        history = engine.replication.history if engine.replication.link_up else ""
        yield SubmitFact(engine.directory, _done(inputs, group, handover.to_process, engine.cluster.epoch, history))
    elif age >= DEADLINE and engine.role == "follower":
        yield SubmitFact(engine.directory, LeaderSteppedDown(**inputs.fact_header, start_id=engine.start_id))


def _target_ended(inputs: PlanInput, group: Group, handover: HandingOver) -> bool:
    """Whether the target is known to have ended, long enough for its last word on the cluster bus, that it leads, to be here.

    A process that was given up without proof may run on, and lead: the deadline counts for that.
    """
    tombstone = inputs.state.tombstones.get(handover.to_process)
    is_proven = tombstone is not None and tombstone.exit_code != UNKNOWN_EXIT
    return is_proven and inputs.lasted(target_gone_key(group, handover)) >= TARGET_GONE


def _lacks_marker(handover: HandingOver, engine: EngineSeen) -> bool:
    """Whether nothing was written yet that shows the leader to be in no script."""
    return engine.files.marker is None or engine.files.marker.sequence <= handover.sequence


def successor(state: State, group: Group, engine: EngineSeen, only: int | None = None) -> int | None:
    """The member of S to hand over to: linked, running, not leaving, known to the leader's engine as its follower; the
    furthest, then the lowest id. `only` is the start id of the requested one. None while the leader is inside a
    script, and while too few leaders could vote for it."""
    if engine.busy or not engine.answering or lack_of_votes(state, group):
        return None
    known = [a for a in _fit(state, group, engine, only) if knows_as_follower(state, engine, a)]
    return min(known, key=lambda archive_id: (-_reached(state, engine, archive_id), archive_id), default=None)


def _fit(state: State, group: Group, engine: EngineSeen, only: int | None) -> list[int]:
    """The members of S that could lead next, whether or not the leader's engine is connected with them."""
    fit = []
    for archive_id in group.in_sync:
        process = state.process_on(archive_id)
        if archive_id == group.leader or process is None or process.kill or only not in (None, process.start_id):
            continue
        running = process.state is ProcessState.MONITORED and process.engine_state is EngineState.RUNNING
        if running and state.server_alive(process.server_id) and acknowledges(state, engine, archive_id, ACKNOWLEDGED_WITHIN):
            fit.append(archive_id)
    return fit


def _reached(state: State, engine: EngineSeen, archive_id: int) -> int:
    """The offset that the leader knows of a follower, in bytes."""
    replica = replica_of(state, engine, archive_id)
    return replica.offset if replica else 0
