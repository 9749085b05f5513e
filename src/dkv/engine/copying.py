"""The part of the contract that copies archives (engine/contract.py has the rest and hands these names on)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Identity:
    """What an archive directory says of itself (file `identity.json`). Written before the first start."""

    domain_uid: str
    database: str
    archive_id: int
    incarnation_of_name: str  # uid of the database object, so that a re-created name is another database
    group: str


@dataclass(frozen=True)
class QuiescePoint:
    """What a leader held at a moment. Equal file and size at two moments: nothing was written in between.

    The offset is no such proof, because pings move it.
    """

    offset: int  # replication offset
    history: str  # replication id
    file: str  # its incremental file ...
    size: int  # ... and how long that is


@dataclass(frozen=True)
class CutSeen:
    """Where an archive's files ended when they were linked: the newest one's name and length, and bytes in all."""

    file: str
    length: int
    size: int


@dataclass(frozen=True)
class CopyLabel:
    """What a hot copy says of itself (file `hot-copy.json`): which cut, of which archive, when (wall clock, ms)."""

    cut: str
    identity: Identity
    slots: tuple[tuple[int, int], ...]
    at: int


class CopyEngines(Protocol):
    """How a copy of archives is made at one moment while their engines run."""

    async def pause(self, start_id: int, ms: int) -> QuiescePoint:
        """Make the writes of a leader's clients wait, for at most `ms`; what it holds then, all of it in its files.

        Clients see no error, reads go on, nothing expires meanwhile; the pause ends by itself. Scripts that may write,
        transactions, and the managers' own markers wait too. Refused for a follower and for a fenced leader.
        """
        ...

    async def resume(self, start_id: int) -> QuiescePoint:
        """Look what it holds, then let its clients' writes go on."""
        ...

    async def note_cut(self, start_id: int, name: str, reached: QuiescePoint) -> CutSeen:
        """Link the engine's files as they are, with their lengths, once they hold all that `reached` tells.

        A follower is waited for a moment. A cut of that name that was noted already stays as it is and is answered; those
        of other names are dropped.
        """
        ...

    async def recognise(self, directory: str) -> CopyLabel | None:
        """What the whole hot copy in a directory says of itself; None when there is none. Reads only."""
        ...

    async def drop_cut(self, directory: str, name: str) -> None:
        """Remove the links of a cut."""
        ...

    async def claim_target(self, directory: str, target: str, label: CopyLabel) -> None:
        """Make and sign the directory that the copy of an archive goes to. Refused unless it is empty and has room."""
        ...

    async def write_copy(
        self, directory: str, name: str, target: str, label: CopyLabel, *, rate: int, tell: Callable[[int], Awaitable[None]]
    ) -> None:
        """Copy the files of a cut into the claimed directory, at most `rate` bytes per second (0: no limit), synced.

        `tell` is told percentages twice a second, and ends the copy by raising. One that is whole already is left alone.
        """
        ...

    async def abandon_target(self, target: str, label: CopyLabel) -> None:
        """Remove what an unfinished copy left."""
        ...
