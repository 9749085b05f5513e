"""What the performer needs of the rest of a manager, and how a step ends that is not called for any more."""

from __future__ import annotations

from typing import Protocol

from dkv.control.submit import View
from dkv.domain.commands import Command
from dkv.domain.decision import Accepted, Refused


class Submits(Protocol):
    """The door commands go through."""

    async def submit(self, command: Command) -> Accepted | Refused:
        """Decide and commit."""
        ...

    async def view(self) -> View:
        """A linearizable read."""
        ...


class Dropped(Exception):
    """A guarded step that a fresh look does not call for any more."""
