"""Machine: carries out the steps of the dead leader's tail (machine/tail.py). Holds no judgement but equal or not."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from dkv.domain.commands import Command, TailBroken, TailFed, TailMeasured
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, Engines
from dkv.machine import tail_steps as s
from dkv.machine.observation import FactHeader


class Feeding:
    """Both ends. `prepared` and `serving` are archive directories: whose lock is held, and what is being fed."""

    def __init__(
        self,
        engines: Engines,
        tell: Callable[[Command], Awaitable[object]],
        told: FactHeader,
        *,
        token: Callable[[], str],
        prepared: set[str],
    ) -> None:
        self._engines = engines
        self._tell = tell
        self._told = told
        self._token = token
        self._prepared = prepared
        self.serving: set[str] = set()

    async def measure(self, step: s.MeasureTail) -> None:
        """Read everything after the common marker; a follower whose bytes are not its beginning is not fed."""
        try:
            if step.directory not in self._prepared:
                await self._engines.prepare(step.directory, step.identity, False)
                self._prepared.add(step.directory)
            all_of_it = await self._engines.digest(step.directory, step.marker, step.upto)
        except ArchiveRefused as refused:
            await self._broken(step.start_id, step.term, refused.detail)
            return
        prefixes = [start_id for start_id, place, digest in step.followers if await self._begins(step, place, digest)]
        history = hashlib.sha1(self._token().encode(), usedforsecurity=False).hexdigest()
        await self._tell(
            TailMeasured(
                start_id=step.start_id,
                term=step.term,
                size=all_of_it.size,
                digest=all_of_it.digest,
                history=history,
                prefixes=tuple(prefixes),
                **self._told,
            )
        )

    async def _begins(self, step: s.MeasureTail, place: int, digest: str) -> bool:
        try:
            return (await self._engines.digest(step.directory, step.marker, place)).digest == digest
        except ArchiveRefused:
            return False

    async def serve(self, step: s.ServeTail) -> None:
        """Listen, or go on listening."""
        directory = step.plan.directory
        self.serving.add(directory)
        try:
            await self._engines.serve_tail(step.plan, step.identity)
            self._prepared.add(directory)
        except (ArchiveRefused, EngineRefused) as trouble:
            await self._broken(step.start_id, step.term, str(trouble))

    async def stop(self, step: s.StopTail) -> None:
        """Hang up."""
        await self._engines.stop_tail(step.directory)
        self.serving.discard(step.directory)

    async def check(self, step: s.CheckTail) -> None:
        """Compare the follower's disk. One that differs must not live on with a history that says it does not. One that has
        rewritten its file meanwhile has no marker there any more, and can never be compared.
        """
        try:
            found = await self._engines.digest(step.directory, step.marker)
        except ArchiveRefused as refused:
            await self._broken(step.start_id, step.term, refused.detail)
            return
        if found == step.stretch:
            await self._tell(TailFed(start_id=step.start_id, term=step.term, size=found.size, digest=found.digest, **self._told))
        elif found.size >= step.stretch.size:
            await self._engines.kill(step.start_id, Cause.FENCED_BY_MANAGER)
            await self._broken(step.start_id, step.term, "a follower's bytes differ from the dead leader's")

    async def _broken(self, start_id: int, term: int, reason: str) -> None:
        await self._tell(TailBroken(start_id=start_id, term=term, reason=reason, **self._told))
