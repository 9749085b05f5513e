"""A node that the domain does not know took a group's hash slots over the cluster bus: reported, undone, over.

The engine deletes the keys of slots that it lost, and its followers with it. So no copy but the leader's own files, which
are set right by its manager, counts as in sync until they have joined again.
"""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import DeletionsKept, LeaderFact, SlotsLost, SlotsOwned
from dkv.domain.model import EngineState, Group, Intrusion, ProcessState
from dkv.domain.phases import HandingOver
from dkv.domain.refusals import stale_fact
from dkv.domain.rules.groups import serving


def slots_lost(draft: Draft, command: SlotsLost) -> Refused | None:
    """Its leader's engine does not own its slots any more: S is its archive alone."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, phase = group_and_phase
    if phase.leader_process != command.start_id or isinstance(phase, HandingOver):
        return stale_fact(f"process {command.start_id} is not the leader of {group.name}, or hands over")
    if group.intrusion and group.intrusion.start_id == command.start_id:
        return stale_fact(f"that process {command.start_id} lost its slots is known")
    for archive_id in group.in_sync:
        process = draft.process_on(archive_id)
        if archive_id != phase.leader and process and process.state is ProcessState.MONITORED:
            draft.put_process(process, engine_state=EngineState.SYNCING)
    draft.put_group(
        group,
        phase=replace(phase, joining=()),
        in_sync=(phase.leader,),
        required=(),
        clean_stop=False,
        intrusion=Intrusion(max(1, command.now), command.start_id, command.by, command.all),
    )
    draft.note(
        "group.slots_lost",
        group.subject,
        f"{command.by} took its hash slots over the cluster bus; the engine and "
        "its followers deleted the keys in them, writes are refused, and no follower counts as in sync",
        database=group.database,
        start_id=command.start_id,
        archive_id=phase.leader,
    )
    return None


def deletions_kept(draft: Draft, command: DeletionsKept) -> Refused | None:
    """What the engine deleted was looked for in its file. Where it lost all slots its manager starts it from that copy."""
    group = _intruded(draft, command, command.start_id)
    if isinstance(group, Refused):
        return group
    intrusion = group.intrusion
    assert intrusion is not None
    if intrusion.looked:
        return stale_fact("that was looked for already")
    back = intrusion.all and bool(command.path)
    draft.put_group(
        group, intrusion=Intrusion(intrusion.at, intrusion.start_id, intrusion.by, intrusion.all, True, command.path, back)
    )
    draft.note(
        "group.deletions_kept",
        group.subject,
        _because(command, back),
        database=group.database,
        start_id=command.start_id,
        archive_id=group.leader,
    )
    return None


def _because(command: DeletionsKept, back: bool) -> str:
    if not command.path:
        return f"nothing of what the engine deleted was kept: {command.trouble or 'its file does not end in deletions'}"
    text = f"its files as they were before {command.keys} deletions at their end are in {command.path}"
    if not back:
        return f"{text}; writes may have come after them, so its manager does not put them back"
    return f"{text}; its engine is started from them. Deletions that clients asked for in the last instant may be undone"


def slots_owned(draft: Draft, command: SlotsOwned) -> Refused | None:
    """The leader owns its slots again, and no other node claims them."""
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, _ = group_and_phase
    if not group.intrusion or group.leader_process != command.start_id:
        return stale_fact(f"{group.name} has its slots")
    draft.put_group(group, intrusion=None, epoch=max(group.epoch, command.epoch))
    draft.note(
        "group.slots_owned",
        group.subject,
        "its leader owns its hash slots again, and no other node claims them",
        database=group.database,
        start_id=command.start_id,
        archive_id=group.leader,
    )
    return None


def _intruded(draft: Draft, command: LeaderFact, start_id: int) -> Group | Refused:
    group_and_phase = serving(draft, command)
    if isinstance(group_and_phase, Refused):
        return group_and_phase
    group, _ = group_and_phase
    if not group.intrusion or group.intrusion.start_id != start_id:
        return stale_fact(f"process {start_id} has its slots")
    return group
