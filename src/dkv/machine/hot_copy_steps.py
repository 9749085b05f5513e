"""What a manager does for a hot copy: claim the target, pause, note, resume, copy, clean up. Pure (rules/copies.py)."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.hotcopy import CopyPart, CopyStage, GroupCut, HotCopy, cutting
from dkv.domain.model import Archive, Group, State
from dkv.domain.phases import Open
from dkv.engine.contract import CopyLabel, EngineSeen, QuiescePoint
from dkv.machine.observation import PlanInput, directory_of
from dkv.machine.spec import identity_of
from dkv.machine.steps import ClaimTarget, DropCut, LiftPause, NoteCut, PauseWrites, ResumeWrites, Step, WriteCopy

PAUSE = 1_000  # ms after which a pause ends by itself, so that no death of a manager stops writes for long


def at_the_cut(state: State, group: Group) -> bool:
    """Whether a hot copy is about to cut through a group: its leader's manager writes no markers meanwhile."""
    return cutting(state.copies.values(), group.database, group.name) is not None


def copy_steps(inputs: PlanInput) -> Iterator[Step]:
    """What every hot copy requires of this server now; and the end of pauses that none requires any more."""
    for _, copy in sorted(inputs.state.copies.items()):
        yield from _cut_steps(inputs, copy)
        for part in copy.parts:
            archive = inputs.state.archives.get(part.archive_id)
            if part.server_id == inputs.server.server_id and archive is not None and not archive.removed:
                yield from _part_steps(inputs, copy, part, archive)
    for engine in inputs.seen.survey.engines:
        if not engine.writes.paused:
            continue
        process = inputs.state.processes.get(engine.start_id)
        group = inputs.state.groups.get((process.database, process.group)) if process else None
        if group is None or not at_the_cut(inputs.state, group):
            yield LiftPause(f"pause {engine.start_id}", engine.start_id)


def _cut_steps(inputs: PlanInput, copy: HotCopy) -> Iterator[Step]:
    for cut in copy.cuts if copy.stage in (CopyStage.PAUSING, CopyStage.HOLDING) else ():
        group = inputs.state.groups.get((copy.database, cut.group))
        engine = _leading_here(inputs, group) if group else None
        if group is None or engine is None:
            continue
        if copy.stage is CopyStage.PAUSING and not cut.paused and not engine.writes.fenced:
            yield PauseWrites(
                f"pause {engine.start_id}",
                engine.start_id,
                copy.copy_id,
                copy.attempt,
                group.database,
                group.name,
                group.term,
                PAUSE,
            )
        elif copy.stage is CopyStage.HOLDING and not cut.held and engine.start_id == cut.start_id:
            yield ResumeWrites(
                f"pause {engine.start_id}",
                engine.start_id,
                copy.copy_id,
                copy.attempt,
                group.database,
                group.name,
                group.term,
                _quiesce_point(cut),
            )


def _leading_here(inputs: PlanInput, group: Group) -> EngineSeen | None:
    """The engine of this server that leads the group steadily."""
    phase = group.phase
    if not isinstance(phase, Open) or not phase.serving:
        return None
    engine = inputs.seen.engine(phase.leader_process)
    return engine if engine and engine.answering and engine.role == "leader" else None


def _quiesce_point(cut: GroupCut) -> QuiescePoint:
    return QuiescePoint(cut.offset, cut.history, cut.file, cut.size)


def _part_steps(inputs: PlanInput, copy: HotCopy, part: CopyPart, archive: Archive) -> Iterator[Step]:
    directory = directory_of(inputs.server.data_dir, archive)
    key, name = f"hot copy {part.archive_id}", f"{copy.copy_id}-{copy.attempt}"
    if copy.stage is CopyStage.PREPARING and not part.prepared:
        yield ClaimTarget(key, copy.copy_id, part.archive_id, directory, part.path, label_of(inputs.state, copy, archive))
    elif copy.stage is CopyStage.CUTTING and not part.noted:
        process, cut = inputs.state.process_on(part.archive_id), copy.cut(part.group)
        engine = inputs.seen.engine(process.start_id) if process else None
        if engine and engine.answering and not engine.loading and cut:
            yield NoteCut(key, engine.start_id, copy.copy_id, copy.attempt, part.archive_id, name, _quiesce_point(cut))
    elif copy.stage is CopyStage.COPYING and not part.copied:
        label = label_of(inputs.state, copy, archive)
        yield WriteCopy(key, copy.copy_id, part.archive_id, directory, name, part.path, label, copy.max_rate)
    elif part.left_over(copy.over):
        yield DropCut(key, copy.copy_id, part.archive_id, directory, part.path, label_of(inputs.state, copy, archive))


def label_of(state: State, copy: HotCopy, archive: Archive) -> CopyLabel:
    """What the copy of an archive says of itself."""
    group = state.groups.get((archive.database, archive.group))
    slots = group.slots if group else ()
    return CopyLabel(f"{state.uid}/{copy.copy_id}", identity_of(state, archive), slots, copy.begun_at)
