"""control: a dry run: what submit would answer to several commands one after the other, on a state that is not kept.

It stands where a Submitter stands and asks the same decide, but folds its answers over one view and never commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dkv.control.submit import RequestKey, View
from dkv.domain.command import Command
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Event, Refused
from dkv.domain.model import State
from dkv.domain.refusals import domain_changed, key_reused
from dkv.store import codec
from dkv.store.contract import Snapshot


@dataclass(frozen=True)
class DryRunResult:
    """One command and what it would make true, or why not."""

    command: Command
    events: tuple[Event, ...] = ()
    refused: Refused | None = None


class DryRun:
    """A submitter on a scratch state. `done` are the commands so far, in order."""

    def __init__(self, view: View, clock: Callable[[], int]) -> None:
        self._revision = view.revision
        self._state = view.state
        self._clock = clock
        self._answers: dict[str, tuple[RequestKey, Mapping[str, object]]] = {}
        self.done: list[DryRunResult] = []

    async def view(self) -> View:
        """The scratch state, at the revision it began with."""
        return View(self._revision, self._state)

    async def snapshot(self) -> Snapshot:
        """The same as records."""
        return Snapshot(self._revision, {k: v for k, v in codec.diff(State(), self._state).items() if v is not None})

    async def check(self, command: Command) -> Accepted | Refused:
        """What submit would answer now; the scratch state stays."""
        return decide(self._state, self._timed(command))

    async def answered(self, key: RequestKey | None) -> Accepted | Refused | None:
        """What was answered to the same `key`."""
        if key is None or key.name not in self._answers:
            return None
        known, answer = self._answers[key.name]
        return Accepted(self._state, (), answer) if known == key else key_reused()

    async def submit(
        self, command: Command, key: RequestKey | None = None, *, at_revision: int | None = None
    ) -> Accepted | Refused:
        """Decide and keep the answer in the scratch state only. The same `key` gets the same answer."""
        if answered := await self.answered(key):
            return answered
        if at_revision is not None and at_revision != self._revision:
            return domain_changed(at_revision, self._revision)
        command = self._timed(command)
        decision = decide(self._state, command)
        if isinstance(decision, Refused):
            self.done.append(DryRunResult(command, refused=decision))
            return decision
        self.done.append(DryRunResult(command, decision.events))
        self._state = decision.state
        if key:
            self._answers[key.name] = key, {**decision.answer, **key.beside}
        return decision

    def _timed(self, command: Command) -> Command:
        return replace(command, now=command.now or self._clock())
