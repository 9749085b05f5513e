"""Carries out the steps of the dead leader's tail. Holds no judgement but equal or not."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from dkv.domain.command import Command
from dkv.domain.facts import TailBroken, TailFed, TailMeasured
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, Engines
from dkv.machine.handlers import Handlers, on
from dkv.machine.observation import FactHeader
from dkv.machine.tail import steps


class TailHandlers:
    """Both ends. `prepared` and `serving` are archive directories: whose lock is held, and whose tail is sent."""

    def __init__(
        self,
        engines: Engines,
        submit: Callable[[Command], Awaitable[object]],
        header: FactHeader,
        *,
        token: Callable[[], str],
        prepared: set[str],
    ) -> None:
        self._engines = engines
        self._submit = submit
        self._header = header
        self._token = token
        self._prepared = prepared
        self.serving: set[str] = set()

    def table(self) -> Handlers:
        """What carries out each step of a tail."""
        return {
            **on(steps.MeasureTail, self._measure),
            **on(steps.ServeTail, self._serve),
            **on(steps.StopTail, self._stop),
            **on(steps.CheckTail, self._check),
        }

    async def _measure(self, step: steps.MeasureTail) -> None:
        """Read everything after the common marker; a follower whose bytes are not its beginning gets no tail."""
        try:
            if step.directory not in self._prepared:
                await self._engines.prepare(step.directory, step.identity, False)
                self._prepared.add(step.directory)
            tail = await self._engines.digest(step.directory, step.marker, step.upto)
        except ArchiveRefused as refused:
            await self._broken(step.start_id, step.term, refused.detail)
            return
        prefixes = [start_id for start_id, place, digest in step.followers if await self._begins(step, place, digest)]
        history = hashlib.sha1(self._token().encode(), usedforsecurity=False).hexdigest()
        await self._submit(
            TailMeasured(
                start_id=step.start_id,
                term=step.term,
                size=tail.size,
                digest=tail.digest,
                history=history,
                prefixes=tuple(prefixes),
                **self._header,
            )
        )

    async def _begins(self, step: steps.MeasureTail, place: int, digest: str) -> bool:
        try:
            return (await self._engines.digest(step.directory, step.marker, place)).digest == digest
        except ArchiveRefused:
            return False

    async def _serve(self, step: steps.ServeTail) -> None:
        """Begin to listen for the followers, or go on."""
        directory = step.plan.directory
        self.serving.add(directory)
        try:
            await self._engines.serve_tail(step.plan, step.identity)
            self._prepared.add(directory)
        except (ArchiveRefused, EngineRefused) as error:
            await self._broken(step.start_id, step.term, str(error))

    async def _stop(self, step: steps.StopTail) -> None:
        """Close the connections of the followers."""
        await self._engines.stop_tail(step.directory)
        self.serving.discard(step.directory)

    async def _check(self, step: steps.CheckTail) -> None:
        """Compare the follower's disk. One that differs must not live on with a history that says it does not. One that has
        rewritten its file meanwhile has no marker there any more, and can never be compared.
        """
        try:
            held = await self._engines.digest(step.directory, step.marker)
        except ArchiveRefused as refused:
            await self._broken(step.start_id, step.term, refused.detail)
            return
        if held == step.stretch:
            await self._submit(
                TailFed(start_id=step.start_id, term=step.term, size=held.size, digest=held.digest, **self._header)
            )
        elif held.size >= step.stretch.size:
            await self._engines.kill(step.start_id, Cause.FENCED_BY_MANAGER)
            await self._broken(step.start_id, step.term, "a follower's bytes differ from the dead leader's")

    async def _broken(self, start_id: int, term: int, reason: str) -> None:
        await self._submit(TailBroken(start_id=start_id, term=term, reason=reason, **self._header))
