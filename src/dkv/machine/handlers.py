"""What carries steps out: the table of step types and handlers, and what handlers need of the rest of a manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from dkv.control.submit import View
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.machine.steps import Step

StepT = TypeVar("StepT", bound=Step)
Handlers = dict[type[Step], Callable[[Any], Awaitable[object]]]


def on(step_type: type[StepT], handler: Callable[[StepT], Awaitable[object]]) -> Handlers:
    """One row of the table; the type checker compares the two."""
    return {step_type: handler}


class Submits(Protocol):
    """Submits commands to the domain and reads it."""

    async def submit(self, command: Command) -> Accepted | Refused:
        """Decide and commit."""
        ...

    async def view(self) -> View:
        """A linearizable read."""
        ...


class Dropped(Exception):
    """A fresh read of the domain does not call for this guarded step any more."""
