"""Carries out the steps of hot copies. Holds no judgement."""

from __future__ import annotations

from typing import Any

from dkv.domain.facts import (
    CopyBroke,
    CopyPrepared,
    CopyProgressed,
    CopyRecognised,
    CopyWritten,
    CutDropped,
    CutNoted,
    WritesPaused,
    WritesResumed,
)
from dkv.domain.hotcopy import CopyStage
from dkv.engine.contract import EngineRefused, Engines
from dkv.machine import steps
from dkv.machine.handlers import Dropped, Handlers, Submits, on
from dkv.machine.observation import FactHeader
from dkv.store.contract import StoreError

NEWS = 5  # percent of progress worth a commit


class HotCopyHandlers:
    """Carries out the steps of hot copies."""

    def __init__(self, engines: Engines, submitter: Submits, header: FactHeader) -> None:
        self._engines = engines
        self._submitter = submitter
        self._header = header

    def table(self) -> Handlers:
        """What carries out each step of a hot copy."""
        return {
            **on(steps.Recognise, self._recognise),
            **on(steps.ClaimTarget, self._claim_target),
            **on(steps.PauseWrites, self._pause_writes),
            **on(steps.NoteCut, self._note_cut),
            **on(steps.ResumeWrites, self._resume_writes),
            **on(steps.LiftPause, lambda step: self._engines.resume(step.start_id)),
            **on(steps.WriteCopy, self._write_copy),
            **on(steps.DropCut, self._drop_cut),
        }

    async def _recognise(self, step: steps.Recognise) -> None:
        label = await self._engines.recognise(step.directory)
        held: dict[str, Any] = {"cut": label.cut, "group": label.identity.group, "slots": label.slots} if label else {}
        await self._submitter.submit(CopyRecognised(archive_id=step.archive_id, **held, **self._header))

    async def _claim_target(self, step: steps.ClaimTarget) -> None:
        who: dict[str, Any] = {"copy_id": step.copy_id, "archive_id": step.archive_id}
        try:
            await self._engines.claim_target(step.directory, step.target, step.label)
        except EngineRefused as refused:
            await self._submitter.submit(CopyBroke(reason=str(refused), **who, **self._header))
            return
        await self._submitter.submit(CopyPrepared(**who, **self._header))

    async def _pause_writes(self, step: steps.PauseWrites) -> None:
        now = await self._engines.pause(step.start_id, step.ms)
        fact = WritesPaused(
            database=step.database,
            group=step.group,
            term=step.term,
            copy_id=step.copy_id,
            attempt=step.attempt,
            start_id=step.start_id,
            offset=now.offset,
            history=now.history,
            file=now.file,
            size=now.size,
            **self._header,
        )
        try:
            await self._submitter.submit(fact)  # a copy that went on refuses it; a pause that none needs is lifted by plan()
        except StoreError:
            await self._engines.resume(step.start_id)  # nothing can go on for now; a copy that does sees that it was lifted
            raise

    async def _note_cut(self, step: steps.NoteCut) -> None:
        cut = await self._engines.note_cut(step.start_id, step.name, step.reached)
        fact = CutNoted(
            copy_id=step.copy_id,
            attempt=step.attempt,
            archive_id=step.archive_id,
            file=cut.file,
            length=cut.length,
            size=cut.size,
            **self._header,
        )
        await self._submitter.submit(fact)  # refused: the links go with the next attempt's, or at the copy's end

    async def _resume_writes(self, step: steps.ResumeWrites) -> None:
        now, then = await self._engines.resume(step.start_id), step.noted
        held = (now.file, now.size, now.history) == (then.file, then.size, then.history)
        await self._submitter.submit(
            WritesResumed(
                database=step.database,
                group=step.group,
                term=step.term,
                copy_id=step.copy_id,
                attempt=step.attempt,
                start_id=step.start_id,
                held=held,
                **self._header,
            )
        )

    async def _write_copy(self, step: steps.WriteCopy) -> None:
        who: dict[str, Any] = {"copy_id": step.copy_id, "archive_id": step.archive_id}
        reported = 0

        async def report(percent: int) -> None:
            nonlocal reported
            await self._wanted(step)
            if percent >= reported + NEWS:
                reported = percent
                await self._submitter.submit(CopyProgressed(percent=percent, **who, **self._header))

        try:
            await self._engines.write_copy(step.directory, step.name, step.target, step.label, rate=step.rate, report=report)
        except EngineRefused as refused:
            await self._submitter.submit(CopyBroke(reason=str(refused), **who, **self._header))
            return
        await self._submitter.submit(CopyWritten(**who, **self._header))

    async def _wanted(self, step: steps.WriteCopy) -> None:
        """Raise Dropped if the copy was cancelled; while the domain cannot be read the copy goes on."""
        try:
            copy = (await self._submitter.view()).state.copies.get(step.copy_id)
        except StoreError:
            return
        if copy is None or copy.stage is not CopyStage.COPYING:
            raise Dropped(step)

    async def _drop_cut(self, step: steps.DropCut) -> None:
        await self._engines.drop_cut(step.directory, "")
        await self._engines.abandon_target(step.target, step.label)
        await self._submitter.submit(CutDropped(copy_id=step.copy_id, archive_id=step.archive_id, **self._header))
