"""What decide() answers: Accepted with the new state and its events, or Refused with a sentence and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dkv.domain.model import State
from dkv.hints import Hint


@dataclass(frozen=True)
class Refused:
    """No is a value. `code` is an entry of refusals.CATALOGUE; nothing was changed."""

    code: str
    message: str
    hint: Hint = Hint()


@dataclass(frozen=True)
class Event:
    """One thing that became true, with its reason. Stored with the commit, shown in log, CLI and console."""

    kind: str  # e.g. "process.started", "group.assigned", "in_sync.grown"
    subject: str  # e.g. "process 3", "group orders/g1"
    because: str  # one clause in plain words
    database: str = ""
    change: str = ""  # "FROM -> TO" where a life cycle moved
    command: str = ""  # the command that made it so
    actor: str = ""  # who asked
    entry: str = ""  # the entry point that it came by, and of which manager; "" for what a manager saw itself
    at: int = 0  # wall clock, ms
    start_id: int | None = None
    archive_id: int | None = None
    back: int = 0  # it follows from the event so many before it in the log; 0: a chain begins here


@dataclass(frozen=True)
class Accepted:
    """Yes: the state that is now true, the events of the decision, and the answer to the sender."""

    state: State
    events: tuple[Event, ...] = ()
    answer: Mapping[str, object] = field(default_factory=dict)


Decision = Accepted | Refused


class InvariantError(AssertionError):
    """An invariant does not hold: our own mistake, never the world's. Nothing is committed."""
