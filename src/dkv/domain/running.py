"""Domain: facts about processes, from the request to the end, as the manager of each saw them."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import ManagerFact
from dkv.domain.model import PositionReport


@dataclass(frozen=True, kw_only=True)
class ProcessStarted(ManagerFact):
    """The manager took the request; an SM's archive is locked and its position was read from disk.

    `origin` names the data that a restored archive holds: the cut of a hot copy.
    """

    start_id: int
    report: PositionReport | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class LackEnded(ManagerFact):
    """What a held back process lacks is there again, as its manager saw who had seen it missing."""

    start_id: int


@dataclass(frozen=True, kw_only=True)
class ProcessConfigured(ManagerFact):
    """Its parameters are decided and its engine was launched."""

    start_id: int
    pid: int


@dataclass(frozen=True, kw_only=True)
class LoadingProgressed(ManagerFact):
    """The engine is loading its archive and got further."""

    start_id: int
    percent: int


@dataclass(frozen=True, kw_only=True)
class LeaderProgressed(ManagerFact):
    """Somebody for whom an assigned term waits is seen to work, although nothing else of it can be told: the assigned leader,
    whose engine reads, computes or takes memory, or whoever gives it a tail. `count` grows from one to the next: ms of its
    manager's clock.
    """

    start_id: int
    term: int
    count: int


@dataclass(frozen=True, kw_only=True)
class ProcessTracked(ManagerFact):
    """The engine answers and has loaded. The options are those it runs with, as in OptionsSeen."""

    start_id: int
    pid: int
    append_fsync: str = ""
    max_memory: int = 0


@dataclass(frozen=True, kw_only=True)
class OptionsSeen(ManagerFact):
    """A process runs with other options than were known. `max_memory` in bytes is 0 where the database sets none and the
    engines have their share; `append_fsync` is "" for a TE."""

    start_id: int
    append_fsync: str
    max_memory: int


@dataclass(frozen=True, kw_only=True)
class MemorySynced(ManagerFact):
    """A TE's engines hold what their leaders hold: all links are up and all data is loaded; or not any more."""

    start_id: int
    synced: bool


@dataclass(frozen=True, kw_only=True)
class ProcessExited(ManagerFact):
    """A process ended, or never came to be. `reaped`: nothing of it runs any more."""

    start_id: int
    cause: str
    detail: str
    exit_code: int
    wait_status: int | None = None
    last_words: tuple[str, ...] = ()
    planned: bool = False  # we ended it because the domain wanted it
    reaped: bool = True
