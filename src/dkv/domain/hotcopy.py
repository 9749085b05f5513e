"""Domain: the nouns of a hot copy, a copy of archives at one moment of a database that goes on serving.

One cut goes through all groups of the copy: their leaders make writes wait, every archive notes where its files end,
and the leaders prove that nothing was written in between. What lies before the cut is copied afterwards, in peace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class CopyStage(StrEnum):
    """How far a hot copy is. The last three are its ends."""

    PREPARING = "PREPARING"  # each archive's manager looks at the place its copy is to go to
    PAUSING = "PAUSING"  # each group's leader makes its clients' writes wait
    CUTTING = "CUTTING"  # all writes wait: each archive notes where its files end
    HOLDING = "HOLDING"  # each leader shows that nothing was written since, and lets the writes go on
    COPYING = "COPYING"  # the files are copied up to the cut
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDS = (CopyStage.COMPLETED, CopyStage.FAILED, CopyStage.CANCELLED)
AT_THE_CUT = (CopyStage.PAUSING, CopyStage.CUTTING, CopyStage.HOLDING)


@dataclass(frozen=True)
class CopyPart:
    """One archive of a hot copy."""

    archive_id: int
    server_id: str
    group: str
    path: str  # directory of the copy, on the archive's server
    prepared: bool = False
    noted: bool = False  # where its files end, in the present attempt
    linked: bool = False  # links keep its files from being rewritten away; dropped at the end
    size: int = 0  # bytes to copy
    percent: int = 0
    copied: bool = False

    def left_over(self, over: bool) -> bool:
        """Whether something of it is to be tidied up; `over`: the hot copy has ended."""
        return (self.linked and (over or self.copied)) or (over and self.prepared and not self.copied)


@dataclass(frozen=True)
class GroupCut:
    """One storage group of a hot copy, in the present attempt: who paused its writes, and what was written by then."""

    group: str
    term: int = 0
    start_id: int | None = None  # the leader that paused
    offset: int = 0  # replication offset; a follower's files are whole once it is there
    history: str = ""  # replication id
    file: str = ""  # the leader's incremental file ...
    size: int = 0  # ... and its length: the same again later means that nothing was written
    held: bool = False

    @property
    def paused(self) -> bool:
        """Whether its writes wait, as far as its leader's manager reported."""
        return self.start_id is not None


@dataclass(frozen=True)
class HotCopy:
    """One hot copy. Finished ones are kept for a while, so that who asked can look."""

    copy_id: int
    database: str
    database_uid: str
    coordinator: int  # start id of the first group's leader; how nuocmd names a hot copy, with its id
    parts: tuple[CopyPart, ...]
    cuts: tuple[GroupCut, ...]
    stage: CopyStage = CopyStage.PREPARING
    attempt: int = 1
    max_rate: int = 0  # bytes per second and archive; 0: as fast as it goes
    since: int | None = None  # domain clock at which the stage was first seen to last
    begun_at: int = 0  # wall clock, ms, to be shown
    cut_at: int = 0
    ended_at: int = 0
    message: str = ""
    last_event: int = 0  # number of the newest event about it

    @property
    def over(self) -> bool:
        """Whether it ended, one way or another."""
        return self.stage in ENDS

    @property
    def percent(self) -> int:
        """How much of the archive that is furthest behind is copied."""
        return min(part.percent for part in self.parts)

    @property
    def doing(self) -> str:
        """What it does, or how it ended, in one clause."""
        doing = {
            CopyStage.PREPARING: "the directories it goes to are looked at",
            CopyStage.PAUSING: f"writes are about to wait for the cut, attempt {self.attempt}",
            CopyStage.CUTTING: f"writes wait and the archives note where they end, attempt {self.attempt}",
            CopyStage.HOLDING: f"the cut is verified and writes go on, attempt {self.attempt}",
            CopyStage.COPYING: f"{self.percent} % are copied",
        }
        return doing.get(self.stage, self.message)

    def part(self, archive_id: int) -> CopyPart | None:
        """The part of an archive."""
        return next((p for p in self.parts if p.archive_id == archive_id), None)

    def cut(self, group: str) -> GroupCut | None:
        """The cut through a group."""
        return next((c for c in self.cuts if c.group == group), None)


def cutting(copies: Iterable[HotCopy], database: str, group: str) -> HotCopy | None:
    """The hot copy that cuts through a group now, or is about to; None if there is none."""
    return next((c for c in copies if c.stage in AT_THE_CUT and c.database == database and c.cut(group)), None)
