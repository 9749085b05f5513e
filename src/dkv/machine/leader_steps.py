"""What the manager of a group's leader does: open, lead, grow and shrink the in-sync set, fence, rewrite. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.constants import SERVER_TTL
from dkv.domain.facts import (
    CleanStopReached,
    InSyncShrunk,
    JoinAborted,
    JoinAnnounced,
    JoinCompleted,
    LeaderSteppedDown,
    OpenTerm,
)
from dkv.domain.model import ARCHIVES_IN, Archive, Group, JoinStage, ProcessState, State
from dkv.domain.phases import HandingOver, Joining
from dkv.domain.table import items_of
from dkv.engine.contract import EngineSeen
from dkv.machine.client_port import close_client_port, open_client_port
from dkv.machine.conditions import SILENT, unheard
from dkv.machine.engine_upkeep import rewrite_steps, table_steps
from dkv.machine.handover import handover_steps_of_leader, switchover_steps
from dkv.machine.hot_copy_steps import at_the_cut
from dkv.machine.intrusion import intrusion_steps, robbed
from dkv.machine.observation import PlanInput, acknowledges, next_sequence, node_id, replica_of, stopping
from dkv.machine.steps import Admit, AskFollowers, Fence, Lead, Mark, MarkJoiner, Step, SubmitFact, Unfence

SENT_AWAY_WITHIN = 1_000  # ms into a whole stop after which writes are refused, whichever clients are still connected
CLEAN_STOP_PATIENCE = 5_000  # ms a whole stop waits for its followers
MARK_AGAIN = 3_000  # ms after which a joiner gets another marker
MARK_EVERY = 256 << 10  # bytes of writes between markers: a copy that rewrote has no position until the next one


def opening_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """The assigned leader: its term opens once its engine has loaded and is fenced."""
    if not engine.writes.fenced:
        yield Fence(engine.directory, engine.start_id)
    else:
        yield SubmitFact(engine.directory, OpenTerm(start_id=engine.start_id, **inputs.group_header(group)))


def leader_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """The leader of an open term: TAKEOVER and all else come after the open (model: takeover_after_open)."""
    if not group.serving:
        yield from cut_off_steps(inputs, group, engine)
        yield from _lead(inputs.state, group, engine)
        return
    if isinstance(group.phase, HandingOver):
        if robbed(group, engine) and not engine.writes.fenced:
            yield Fence(f"fence {engine.start_id}", engine.start_id)
        yield from cut_off_steps(inputs, group, engine)
        yield from handover_steps_of_leader(inputs, group, group.phase, engine)
        return
    if engine.role != "leader":
        fact = LeaderSteppedDown(**inputs.fact_header, start_id=engine.start_id)
        yield SubmitFact(engine.directory, fact)
        return
    if (group.intrusion or robbed(group, engine)) and not stopping(inputs.state, group):
        yield from intrusion_steps(inputs, group, engine)
        return
    yield from fence_steps(inputs, group, engine)
    if not engine.admits_replicas:
        yield Admit(f"admit {engine.start_id}", engine.start_id)
    if stopping(inputs.state, group):
        yield from _clean_stop(inputs, group, engine)
        return
    yield from open_client_port(engine)
    yield from switchover_steps(inputs, group, engine)
    for archive in items_of(inputs.state.archives, ARCHIVES_IN, group.key):
        if archive.archive_id != group.leader and not archive.removed:
            yield from _copy_steps(inputs, group, engine, archive)
    if not at_the_cut(inputs.state, group):
        yield from upkeep_steps(inputs, group, engine)


def _mark(group: Group, engine: EngineSeen) -> Step:
    return Mark(f"mark {engine.start_id}", engine.start_id, group.term, next_sequence(group, engine))


def _lead(state: State, group: Group, engine: EngineSeen) -> Iterator[Step]:
    yield Lead(
        engine.directory,
        engine.start_id,
        engine.directory,
        group.database,
        group.name,
        group.term,
        next_sequence(group, engine),
        takeover=engine.role != "leader",
        unfence=_may_write(state, group),
    )


# Fencing -----------------------------------------------------------------------------------------------------------


def _may_write(state: State, group: Group) -> bool:
    enough = len(group.in_sync) >= state.databases[group.database].options.min_in_sync
    return enough and not stopping(state, group) and group.intrusion is None


def fence_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Fence the leader below minInSync, in a whole stop, when shrinking below minInSync, when cut off from the domain, and when
    its files are gone: what it acknowledged then would be on no disk.
    """
    writes = _may_write(inputs.state, group) and not engine.files.lost and not _cut_off(inputs, group, engine)
    if not writes and not engine.writes.fenced:
        yield from _stop_taking_writes(inputs, group, engine)
    if writes and engine.writes.fenced and not _about_to_fall_below(inputs, group, engine):
        yield Unfence(f"fence {engine.start_id}", engine.start_id)


def _stop_taking_writes(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """In a whole stop clients are sent away first, because no library repeats what a fence refuses; not for long, though."""
    calmly = stopping(inputs.state, group) and not engine.files.lost and not _cut_off(inputs, group, engine)
    if calmly and engine.takes_clients and inputs.lasted(("stopping", group.key)) < SENT_AWAY_WITHIN:
        yield from close_client_port(engine)
    else:
        yield Fence(f"fence {engine.start_id}", engine.start_id)


def cut_off_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Fence an engine that leads before another may lead, whatever else is going on."""
    if engine.role == "leader" and not engine.writes.fenced and _cut_off(inputs, group, engine):
        yield Fence(f"fence {engine.start_id}", engine.start_id)


def _cut_off(inputs: PlanInput, group: Group, engine: EngineSeen) -> bool:
    """The lease cannot be renewed and another member of S has not acknowledged for 1 s: others may soon lead.

    (model: fenced_by_own_clock)
    """
    if inputs.seen.lease_left > SERVER_TTL / 2:
        return False
    others = [a for a in group.in_sync if node_id(inputs.state.uid, a) != engine.node_id]
    return not all(acknowledges(inputs.state, engine, a, within_ms=1_000) for a in others)


def _about_to_fall_below(inputs: PlanInput, group: Group, engine: EngineSeen) -> bool:
    minimum = inputs.state.databases[group.database].options.min_in_sync
    leaving = [a for a in group.in_sync if a != group.leader and _why_out(inputs, group, engine, a)]
    return bool(leaving) and len(group.in_sync) - len(leaving) < minimum


# The in-sync set -----------------------------------------------------------------------------------------------------


def _copy_steps(inputs: PlanInput, group: Group, engine: EngineSeen, archive: Archive) -> Iterator[Step]:
    key = _copy_key(group, archive.archive_id)
    if archive.archive_id in group.in_sync:
        because = _why_out(inputs, group, engine, archive.archive_id)
        if because and _about_to_fall_below(inputs, group, engine) and not engine.writes.fenced:
            yield Fence(f"fence {engine.start_id}", engine.start_id)
        elif because:
            yield SubmitFact(key, InSyncShrunk(archive_id=archive.archive_id, reason=because, **inputs.group_header(group)))
        return
    process = inputs.state.process_on(archive.archive_id)
    joining = next((j for j in group.joining if j.archive_id == archive.archive_id), None)
    if process and not process.kill and process.state in (ProcessState.TRACKED, ProcessState.MONITORED):
        yield from _join_steps(inputs, group, engine, archive, joining)
    elif joining:  # its server may be lost: no confirmation may wait for its end
        because = _why_out(inputs, group, engine, archive.archive_id)
        yield SubmitFact(key, JoinAborted(archive_id=archive.archive_id, reason=because, **inputs.group_header(group)))


def _copy_key(group: Group, archive_id: int) -> str:
    return f"copy {group.database}/{group.name}/{archive_id}"


def _why_out(inputs: PlanInput, group: Group, engine: EngineSeen, archive_id: int) -> str:
    """Why a follower must leave the in-sync set, or is not to join it, or nothing."""
    process = inputs.state.process_on(archive_id)
    if process is None:
        return "its process is gone"
    if process.kill or process.state is ProcessState.REQUESTED_SHUTDOWN:
        return "it is about to be stopped"
    if process.state is not ProcessState.MONITORED:
        return "its engine was restarted and has to resync"
    if unheard(inputs.seen.conditions, engine, archive_id):
        return "the leader received nothing from it for 3 s"
    return ""


def _join_steps(inputs: PlanInput, group: Group, engine: EngineSeen, archive: Archive, joining: Joining | None) -> Iterator[Step]:
    archive_id = archive.archive_id
    key = _copy_key(group, archive_id)
    acknowledged = acknowledges(inputs.state, engine, archive_id, within_ms=SILENT)
    if joining is None:
        yield SubmitFact(key, JoinAnnounced(archive_id=archive_id, **inputs.group_header(group)))
    elif joining.stage is JoinStage.ANNOUNCED or _marker_lost(inputs, group, joining):
        if acknowledged and (engine.writes.fenced or not at_the_cut(inputs.state, group)):
            yield MarkJoiner(  # a fenced leader pauses nothing, and may be fenced for the want of this very copy
                key, engine.start_id, group.database, group.name, group.term, next_sequence(group, engine), archive_id
            )
    elif unheard(inputs.seen.conditions, engine, archive_id):
        yield SubmitFact(key, JoinAborted(archive_id=archive_id, **inputs.group_header(group)))
    elif joining.stage is JoinStage.REQUIRED and _caught_up(inputs, group, engine, joining):
        yield SubmitFact(key, JoinCompleted(archive_id=archive_id, **inputs.group_header(group)))
    elif joining.stage is JoinStage.REQUIRED and acknowledged and _noted(inputs, group, joining) is not None:
        yield _ask(engine)


def _marker_lost(inputs: PlanInput, group: Group, joining: Joining) -> bool:
    """A rewrite or resync may have swallowed the marker; write another."""
    waited = inputs.lasted(("joining", group.key, group.term, joining))
    return joining.stage is JoinStage.MARKED and waited > MARK_AGAIN


def _caught_up(inputs: PlanInput, group: Group, engine: EngineSeen, joining: Joining) -> bool:
    """Past the leader's offset that was noted after `required` had stood for 1 s (model: caught_up_before_growing)."""
    noted = _noted(inputs, group, joining)
    replica = replica_of(inputs.state, engine, joining.archive_id)
    known = node_id(inputs.state.uid, joining.archive_id) in {node.node_id for node in engine.cluster.nodes if not node.handshake}
    return known and noted is not None and replica is not None and replica.online and replica.offset >= noted


def _noted(inputs: PlanInput, group: Group, joining: Joining) -> int | None:
    return inputs.seen.conditions.notes.get(("joining", group.key, group.term, joining))


def _ask(engine: EngineSeen) -> Step:
    """Waiting for an acknowledgement is safe however long it takes, and asking for it changes nothing in what it proves:
    a follower acknowledges after its fsync whether it is asked or does so by itself (docs/reference/valkey.md#durability).
    """
    return AskFollowers(f"ask {engine.start_id}", engine.start_id)


def _clean_stop(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Writes are fenced; once all of S holds what the leader has, everything may stop without handover."""
    if not engine.writes.fenced or group.clean_stop:
        return
    others = [a for a in group.in_sync if a != group.leader]
    reached = tuple(a for a in others if _holds_all(inputs, group, engine, a))
    waited = inputs.lasted(("stopping", group.key))
    if len(reached) == len(others) or waited > CLEAN_STOP_PATIENCE:
        yield SubmitFact(f"stop {group.database}/{group.name}", CleanStopReached(reached=reached, **inputs.group_header(group)))
    elif any(acknowledges(inputs.state, engine, a, within_ms=SILENT) for a in others if a not in reached):
        yield _ask(engine)


def _holds_all(inputs: PlanInput, group: Group, engine: EngineSeen, archive_id: int) -> bool:
    """Past the offset noted when the leader was first seen fenced: what comes after that are pings, never writes."""
    noted = inputs.seen.conditions.notes.get(("stopping", group.key))
    replica = replica_of(inputs.state, engine, archive_id)
    return noted is not None and replica is not None and replica.online and replica.offset >= noted


# Upkeep ----------------------------------------------------------------------------------------------------------------


def upkeep_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Markers, rewrites, and a node table that says what the domain says."""
    marker = engine.files.marker
    if marker and marker.term == group.term:
        at = inputs.seen.conditions.notes.get(
            ("marked", engine.start_id, marker.term, marker.sequence), engine.files.incremental_bytes
        )
        if engine.files.incremental_bytes - at >= MARK_EVERY:
            yield _mark(group, engine)
    elif group.leader_process == engine.start_id:
        yield _mark(group, engine)
    yield from rewrite_steps(inputs.seen, group, engine, leads=True)
    yield from table_steps(inputs, group, engine)
