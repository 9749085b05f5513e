"""A planned change of leader, seen from both ends (design section 5, handover). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.commands import HandoverDone, HandoverFailed, LeaderSteppedDown
from dkv.domain.model import EngineState, Group, ProcessState, State
from dkv.engine.contract import Cause, EngineSeen
from dkv.machine.seen import Scene, acknowledges, handover_key, node_id, replica_of
from dkv.machine.steps import Failover, Kill, Step, Tell

DEADLINE = 12_000       # ms after which the leader's manager gives a handover up
IN_TIME = 6_000         # ms after which CLUSTER FAILOVER is not sent any more: it may take five seconds
HEARD = 1_500           # ms within which whoever is to take over must have acknowledged
HASTY = 2_000           # ms an operator's kill waits for a handover


def _done(scene: Scene, group: Group, start_id: int, epoch: int, history: str) -> HandoverDone:
    return HandoverDone(
        **scene.told, database=group.database, group=group.name, term=group.term,
        start_id=start_id, epoch=epoch, history=history,
    )  # fmt: skip


def handover_steps_of_target(scene: Scene, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Fail over while there is time; say so once this engine leads."""
    handover = group.handover
    assert handover is not None
    if engine.role == "leader":
        yield Tell(engine.directory, _done(scene, group, engine.start_id, engine.epoch, engine.history))
        return
    age = scene.lasted(handover_key(group, handover))
    if ("inherited", handover_key(group, handover)) in scene.seen.memory.since:
        return  # a manager that was restarted meanwhile cannot know that there is time left
    ready = engine.link_up and not engine.resyncing and not engine.rewriting
    marked = engine.marker is not None and engine.marker.term == group.term
    if ready and marked and age < IN_TIME:
        yield Failover(engine.directory, engine.start_id, engine.directory, group.term)


def handover_steps_of_leader(scene: Scene, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Wait for the target, and say so if it leads; give up at the deadline, or when the target's process is gone after
    this engine followed it: nobody else will ever say who has the newest data.
    """
    handover = group.handover
    assert handover is not None
    age = scene.lasted(handover_key(group, handover))
    if engine.role == "leader":
        if age >= DEADLINE and engine.answering:
            fact = HandoverFailed(
                **scene.told, database=group.database, group=group.name, term=group.term
            )
            yield Tell(engine.directory, fact)
        elif handover.hasty and age >= HASTY:
            yield Kill(engine.directory, engine.start_id, Cause.OPERATOR_KILL)
    elif handover.to_process not in scene.state.processes and engine.role == "follower":
        yield Tell(engine.directory, LeaderSteppedDown(**scene.told, start_id=engine.start_id))
    elif engine.follows == node_id(scene.state.uid, handover.to_archive) and (engine.link_up or age >= DEADLINE):
        history = engine.history if engine.link_up else ""
        yield Tell(engine.directory, _done(scene, group, handover.to_process, engine.epoch, history))
    elif age >= DEADLINE and engine.role == "follower":
        yield Tell(engine.directory, LeaderSteppedDown(**scene.told, start_id=engine.start_id))


def successor(state: State, group: Group, engine: EngineSeen, only: int | None = None) -> int | None:
    """The member of S to hand over to: linked, running, not leaving; the furthest, then the lowest id. `only` is the start
    id of the one that was wished for."""
    fit = []
    for archive_id in group.in_sync:
        process = state.process_on(archive_id)
        if archive_id == group.leader or process is None or process.kill or only not in (None, process.start_id):
            continue
        running = process.state is ProcessState.MONITORED and process.engine_state is EngineState.RUNNING
        if running and state.server_alive(process.server_id) and acknowledges(state, engine, archive_id, HEARD):
            replica = replica_of(state, engine, archive_id)
            fit.append((-(replica.offset if replica else 0), archive_id))
    return min(fit)[1] if fit else None

