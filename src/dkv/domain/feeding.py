"""Facts about the tail of a dead leader, as values (rules/tail.py); among the others in commands.py."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import ManagerFact


@dataclass(frozen=True, kw_only=True)
class TailMeasured(ManagerFact):
    """The dead leader's manager read what its disk has after the common marker, and compared the followers' part."""

    start_id: int  # the process that holds the dead leader's archive
    term: int
    size: int
    digest: str
    history: str  # under which it is going to be fed; never used before
    prefixes: tuple[int, ...]  # processes whose bytes are the beginning of the dead leader's


@dataclass(frozen=True, kw_only=True)
class TailFed(ManagerFact):
    """A follower's manager found these bytes after the common marker on its disk, all of them."""

    start_id: int
    term: int
    size: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class TailBroken(ManagerFact):
    """Something about feeding a dead leader's tail was not exactly as expected."""

    start_id: int
    term: int
    reason: str
