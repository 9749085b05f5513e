"""How far an archive got, and what one archive is given that another one has; nouns of model.py, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PositionReport:
    """How far an archive got, as its manager read it from disk (docs/reference/positions.md)."""

    term: int = 0  # of the newest marker; 0: no marker found
    sequence: int = 0
    nonce: str = ""
    bytes_after: int = 0  # addresses a place in this archive's files
    offset: int = 0  # replication offset of a living engine, 0 otherwise
    history: str = ""  # replication id of a living engine
    digest: str = ""  # of the bytes after the marker; "" unless its link was down and its files are large
    size: int = 0  # bytes of all its append-only files
    dataless_bytes: int = 0  # of the bytes after the marker: those of commands that change no data

    @property
    def data_bytes(self) -> int:
        """Bytes after the marker of commands that change data: what two archives are compared by."""
        return self.bytes_after - self.dataless_bytes

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key of a position on disk; higher is newer."""
        return (self.term, self.sequence, self.data_bytes)


@dataclass(frozen=True)
class TailRecipient:
    """A follower that is given a dead leader's tail: where its stream and its disk stood, at the same moment."""

    archive_id: int
    start_id: int
    offset: int  # of the dead leader's replication stream
    place: int  # bytes on its disk after the common marker
    digest: str  # of those bytes
    whole: bool = False  # its manager found all the bytes on its disk, and no others


@dataclass(frozen=True)
class TailTransfer:
    """What only a dead leader's disk has, on its way to the followers (docs/decisions/0011).

    Places are bytes after the common marker. In the stream that its manager continues, the offset of a byte is its
    place plus `shift`, for everybody.
    """

    source: int  # the dead leader's archive
    source_process: int  # which holds its lock and is not started meanwhile
    term: int  # of the common marker
    sequence: int
    nonce: str
    former: str  # the history the dead leader led
    fed: tuple[TailRecipient, ...]
    size: int = 0  # bytes the source has after the marker; known once it was measured
    digest: str = ""  # of those bytes
    history: str = ""  # the history in which it is fed; "": not measured yet

    @property
    def lowest(self) -> int:
        """The place furthest behind."""
        return min(recipient.place for recipient in self.fed)

    @property
    def shift(self) -> int:
        """Offset in the new history minus place; above every old offset, so that all get there by filling up."""
        return max(recipient.offset for recipient in self.fed) - self.lowest + 128

    @property
    def end(self) -> int:
        """The offset in the new history of a follower that has everything."""
        return self.size + self.shift

    def of(self, start_id: int) -> TailRecipient | None:
        """A process's part in it."""
        return next((recipient for recipient in self.fed if recipient.start_id == start_id), None)
