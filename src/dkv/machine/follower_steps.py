"""What the manager of a follower does: answer in a vacancy, attach, find its marker, report silence. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.facts import LeaderSilence, LeaderSteppedDown
from dkv.domain.model import Group, JoinStage, Process, ProcessState
from dkv.domain.phases import HandingOver, Open
from dkv.engine.contract import Cause, EngineSeen, Position
from dkv.machine.client_port import linked, open_client_port
from dkv.machine.conditions import AWAY_FIRST, QUIET, SILENT, WHOLE_SECONDS, away_key
from dkv.machine.engine_upkeep import rewrite_steps, table_steps
from dkv.machine.handover import handover_steps_of_target
from dkv.machine.leader_steps import cut_off_steps
from dkv.machine.observation import PlanInput, node_id, peer
from dkv.machine.steps import CheckMarker, Fence, Kill, ProbePeer, Replicate, ReportPosition, Step, SubmitFact
from dkv.machine.tail import plan as tail

LINK_PATIENCE = 1_000  # ms a member of S may take to find its leader again by itself
PROBED_EARLY = 10_000  # ms of silence up to which a machine is probed that may be about to lose its lease
PROBE_LASTS = 2_000  # ms for which the result of a probe is believed
STEP_DOWN = 2_000  # ms an old leader may take to learn of the new one, whose epoch is higher


def vacancy_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """No term is open, and another archive may be assigned: report the position, so that a leader can be chosen."""
    if process.start_id in group.suspects and engine.replication.torn:
        yield Kill(engine.directory, engine.start_id, Cause.TORN)
        return
    if process.start_id in group.suspects and engine.role == "follower":
        yield SubmitFact(engine.directory, LeaderSteppedDown(**inputs.fact_header, start_id=process.start_id))
        return
    if process.start_id in group.suspects and not _may_be_chosen(group, process):
        yield Kill(engine.directory, engine.start_id, Cause.FENCED_BY_MANAGER)  # or all would wait for it to step down
        return
    if process.report is None:
        digest = tail.report_digest(inputs, group, engine)
        if digest is None:
            return
        yield ReportPosition(
            engine.directory,
            process.start_id,
            engine.directory,
            group.term,
            engine.role == "leader",
            engine.replication.offset,
            engine.replication.history,
            digest,
        )
    elif engine.role == "leader" and not engine.writes.fenced:
        yield Fence(engine.directory, engine.start_id)


def _may_be_chosen(group: Group, process: Process) -> bool:
    """Whether the domain may name it in this vacancy; where an operator enforced an archive, no other."""
    if group.enforced is not None:
        return process.archive_id == group.enforced
    return process.archive_id in (*group.in_sync, *group.contested, group.last_leader)


def follower_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """A term is open and another archive leads it."""
    phase = group.phase
    if isinstance(phase, HandingOver) and process.start_id == phase.to_process:
        yield from cut_off_steps(inputs, group, engine)  # it may lead before anybody else knows
        yield from handover_steps_of_target(inputs, group, phase, engine)
        if engine.role == "follower":  # or no report would ever say that the old leader's machine was lost meanwhile
            yield from _silence_steps(inputs, group, process, engine)
        return
    if engine.role == "leader":
        yield from _stale_leader_steps(inputs, group, engine)
        return
    if process.start_id in group.suspects and engine.replication.torn:
        yield Kill(engine.directory, engine.start_id, Cause.TORN)
        return
    if process.start_id in group.suspects:
        fact = LeaderSteppedDown(**inputs.fact_header, start_id=process.start_id)
        yield SubmitFact(f"suspect {process.start_id}", fact)
    yield from _attach_steps(inputs, group, process, engine)
    yield from _silence_steps(inputs, group, process, engine)
    if engine.replication.link_up and process.archive_id in group.in_sync and isinstance(phase, Open) and not group.intrusion:
        yield from rewrite_steps(inputs.seen, group, engine, leads=False)
        yield from table_steps(inputs, group, engine)


def _stale_leader_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """An engine that leads without being the leader: fenced, then killed; with a lower epoch than the leader's it may step down.

    One that just handed over makes its clients wait, and does not know yet that its successor leads: a fence would refuse
    them what they only have to ask of the other.
    """
    outbid = engine.cluster.epoch < group.epoch and inputs.lasted(("stale leader", engine.start_id)) <= STEP_DOWN
    if outbid and engine.writes.yields:
        return
    if not engine.writes.fenced:
        yield Fence(engine.directory, engine.start_id)
    elif not outbid:
        yield Kill(engine.directory, engine.start_id, Cause.FENCED_BY_MANAGER)


def _attach_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """A joiner's marker is looked for in the files its manifest names: where a rewrite after its resync failed they lack it,
    so how the last rewrite ended need not be asked; and a rewrite that failed long ago must not keep a whole copy out.
    """
    assert group.leader is not None
    leader = node_id(inputs.state.uid, group.leader)
    attached = engine.replication.link_up and engine.follows == leader
    if linked(group, engine, leader):
        yield from open_client_port(engine)
    joining = next((j for j in group.joining if j.start_id == process.start_id), None)
    if (
        joining
        and joining.stage is JoinStage.MARKED
        and attached
        and not engine.replication.resyncing
        and not engine.files.rewriting
    ):
        yield CheckMarker(engine.directory, process.start_id, engine.directory, group.term, joining.sequence, joining.nonce)
    elif not attached and group.serving and not engine.replication.resyncing and _may_attach(inputs, group, process):
        yield Replicate(
            engine.directory,
            process.start_id,
            peer(inputs.state, inputs.state.archives[group.leader]),
            _kept_position(group, process),
        )


def _may_attach(inputs: PlanInput, group: Group, process: Process) -> bool:
    """An announced joiner at once; a member of S whose engine shares the history, if it does not find its leader
    itself. One whose engine was restarted would resync in full: its leader takes it out of S first (model: attach_by_order).
    """
    if any(j.start_id == process.start_id for j in group.joining):
        return True
    member = process.archive_id in group.in_sync and process.state is ProcessState.MONITORED
    return member and inputs.lasted(("link down", process.start_id)) > LINK_PATIENCE


def _kept_position(group: Group, process: Process) -> Position | None:
    """What the leader held when its term opened, if this archive comes from an older term and holds more.

    Where either wrote commands that change no data, a place in its files is none in the other's: keep all after the marker then.
    """
    cut, own = group.opened_at, process.report
    if cut is None or own is None or own.term >= group.term or own.order <= cut.order:
        return None
    same_places = not cut.dataless_bytes and not own.dataless_bytes
    return Position(cut.term, cut.sequence, cut.nonce, cut.bytes_after if same_places else 0, initialised=True)


def _silence_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """Report the leader's silence, only while its server has lost its lease: then it decides whether the group is vacant.

    An engine that never attached has no link that could be silent; its manager probes the leader's engine, and a port that
    accepts connections is not silence (model: silence_is_probed). The machine of a link that has just become silent is probed
    before its lease ends: one that is gone takes a second to give no answer. Where the lease ended first, a manager ended alone
    and left a guard, which is given the second by which the silence may look too long (decision 0092).
    """
    state = inputs.state
    leader = state.processes.get(group.leader_process) if group.leader_process is not None else None
    if leader is None or process.archive_id not in group.in_sync:
        return
    manager_first = process.archive_id not in group.silent and inputs.lasted(away_key(process, leader)) > AWAY_FIRST
    enough = SILENT + (WHOLE_SECONDS if manager_first else 0)
    silent = engine.replication.link_silent_ms >= enough and not state.server_alive(leader.server_id)
    reports = silent or process.archive_id in group.silent
    begins = process.state is ProcessState.MONITORED and QUIET <= engine.replication.link_silent_ms < PROBED_EARLY
    if not (reports or begins):
        return
    server = state.servers[leader.server_id]
    engine_port = 0 if process.state is ProcessState.MONITORED else state.archives[group.leader or 0].client_port
    yield ProbePeer(f"probe {process.start_id}", server.host, server.port, engine_port)
    probe = inputs.seen.probes.get((server.host, server.port, engine_port))
    if not reports or probe is None or inputs.seen.conditions.now - probe.at > PROBE_LASTS:
        return
    silent = silent and not probe.accepts
    if (silent, probe.answers) != (process.archive_id in group.silent, group.machine_answers):
        fact = LeaderSilence(
            start_id=process.start_id, term=group.term, silent=silent, machine_answers=probe.answers, **inputs.fact_header
        )
        yield SubmitFact(f"silence {process.start_id}", fact)
