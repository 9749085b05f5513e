"""The steps by which a dead leader's tail reaches its followers as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkv.engine.contract import ByteRangeDigest, Identity, TailPlan
from dkv.machine.steps import Step


@dataclass(frozen=True)
class MeasureTail(Step):
    """Read what a dead leader's disk has after the common marker, compare the followers' part of it, and say so.

    `upto` is where its bytes end, if that is known; `followers` are (start id, place, digest).
    """

    guarded: ClassVar[bool] = True
    start_id: int
    term: int
    directory: str
    identity: Identity
    marker: tuple[int, int, str]
    upto: int | None
    followers: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class ServeTail(Step):
    """Continue the dead leader's stream for its followers, from its disk; repeated for as long as it is wanted."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 300
    start_id: int
    term: int
    plan: TailPlan
    identity: Identity


@dataclass(frozen=True)
class StopTail(Step):
    """Stop sending the tail of this archive."""

    blindly: ClassVar[bool] = True
    directory: str


@dataclass(frozen=True)
class CheckTail(Step):
    """Compare this follower's disk with what the dead leader's has after the common marker, and say that it is the same."""

    rest_ms: ClassVar[int] = 50
    start_id: int
    term: int
    directory: str
    marker: tuple[int, int, str]
    stretch: ByteRangeDigest
