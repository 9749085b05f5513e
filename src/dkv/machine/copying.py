"""Carries the steps of hot copies out; a part of perform.py. Holds no judgement."""

from __future__ import annotations

from typing import Any

from dkv.domain.commands import (
    Command,
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
from dkv.domain.decision import Accepted, Refused
from dkv.domain.hotcopy import CopyStage
from dkv.engine.contract import EngineRefused, Engines
from dkv.machine import steps as s
from dkv.machine.observation import FactHeader
from dkv.machine.ports import Dropped, Submits
from dkv.store.contract import StoreError

NEWS = 5  # percent of progress worth a commit


class Copying:
    """What the performer does for hot copies."""

    _engines: Engines
    _submitter: Submits
    _told: FactHeader

    async def _tell(self, fact: Command) -> Accepted | Refused:
        raise NotImplementedError

    async def _recognise(self, step: s.Recognise) -> None:
        label = await self._engines.recognise(step.directory)
        held: dict[str, Any] = {"cut": label.cut, "group": label.identity.group, "slots": label.slots} if label else {}
        await self._tell(CopyRecognised(archive_id=step.archive_id, **held, **self._told))

    async def _claimtarget(self, step: s.ClaimTarget) -> None:
        who = {"copy_id": step.copy_id, "archive_id": step.archive_id}
        try:
            await self._engines.claim_target(step.directory, step.target, step.label)
        except EngineRefused as refused:
            await self._tell(CopyBroke(reason=str(refused), **who, **self._told))
            return
        await self._tell(CopyPrepared(**who, **self._told))

    async def _pausewrites(self, step: s.PauseWrites) -> None:
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
            **self._told,
        )
        if isinstance(await self._tell(fact), Refused):
            await self._engines.resume(step.start_id)

    async def _notecut(self, step: s.NoteCut) -> None:
        cut = await self._engines.note_cut(step.start_id, step.name, step.reached)
        fact = CutNoted(
            copy_id=step.copy_id,
            attempt=step.attempt,
            archive_id=step.archive_id,
            file=cut.file,
            length=cut.length,
            size=cut.size,
            **self._told,
        )
        await self._tell(fact)  # refused: the links go with the next attempt's, or at the copy's end

    async def _resumewrites(self, step: s.ResumeWrites) -> None:
        now, then = await self._engines.resume(step.start_id), step.noted
        held = (now.file, now.size, now.history) == (then.file, then.size, then.history)
        await self._tell(
            WritesResumed(
                database=step.database,
                group=step.group,
                term=step.term,
                copy_id=step.copy_id,
                attempt=step.attempt,
                start_id=step.start_id,
                held=held,
                **self._told,
            )
        )

    async def _liftpause(self, step: s.LiftPause) -> None:
        await self._engines.resume(step.start_id)

    async def _writecopy(self, step: s.WriteCopy) -> None:
        who = {"copy_id": step.copy_id, "archive_id": step.archive_id}
        told = 0

        async def tell(percent: int) -> None:
            nonlocal told
            await self._wanted(step)
            if percent >= told + NEWS:
                told = percent
                await self._tell(CopyProgressed(percent=percent, **who, **self._told))

        try:
            await self._engines.write_copy(step.directory, step.name, step.target, step.label, rate=step.rate, tell=tell)
        except EngineRefused as refused:
            await self._tell(CopyBroke(reason=str(refused), **who, **self._told))
            return
        await self._tell(CopyWritten(**who, **self._told))

    async def _wanted(self, step: s.WriteCopy) -> None:
        """A copy that was cancelled stops; one of which nothing can be read goes on."""
        try:
            copy = (await self._submitter.view()).state.copies.get(step.copy_id)
        except StoreError:
            return
        if copy is None or copy.stage is not CopyStage.COPYING:
            raise Dropped(step)

    async def _dropcut(self, step: s.DropCut) -> None:
        await self._engines.drop_cut(step.directory, "")
        await self._engines.abandon_target(step.target, step.label)
        await self._tell(CutDropped(copy_id=step.copy_id, archive_id=step.archive_id, **self._told))
