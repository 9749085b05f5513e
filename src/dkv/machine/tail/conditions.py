"""Conditions of a tail (machine/conditions.py): since when it is complete, and since when nothing of it moved. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from dkv.domain.model import Group, Process, State
from dkv.domain.phases import Assigned
from dkv.engine.contract import EngineSeen, Survey


def tail_moved_key(process: Process, engine: EngineSeen | None, handled: int) -> Hashable:
    """Holds since a tail last moved where this process is: `handled` bytes by its manager, or more taken by its engine."""
    return (
        "tail moved",
        process.start_id,
        handled + (engine.replication.offset + engine.files.incremental_bytes if engine is not None else 0),
    )


def tail_complete_key(group: Group) -> Hashable:
    """Holds while a group's assigned leader has all of the dead leader's tail."""
    return ("tail complete", group.key, group.term)


def tail_conditions(
    state: State, server_id: str, data_dir: str, survey: Survey, handled: Mapping[str, int]
) -> Iterable[Hashable]:
    """What holds of the tails of all groups, and at the processes of this server that send or receive one."""
    for group in state.groups.values():
        phase = group.phase
        if not isinstance(phase, Assigned) or phase.tail is None:
            continue
        recipient = phase.tail.of(phase.leader_process)
        if recipient and recipient.whole:
            yield tail_complete_key(group)
        for start_id in (phase.leader_process, phase.tail.source_process):
            process = state.processes.get(start_id)
            if process and process.server_id == server_id and process.archive_id is not None:
                engine = next((e for e in survey.engines if e.start_id == start_id), None)
                directory = state.archives[process.archive_id].directory_in(data_dir)
                yield tail_moved_key(process, engine, handled.get(directory, 0))
