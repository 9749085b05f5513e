"""Simulation: what one archive's directory holds, and how far it got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from dkv.engine.contract import Cause, Identity, Position

Marker = tuple[int, int, str]

NO_MARKER: Marker = (0, 0, "")
MARKER_SIZE = 90
PING_SIZE = 14
GETACK_SIZE = 37


@dataclass(frozen=True)
class Entry:
    """One record of the replication stream. Pings and questions for acknowledgements never reach a disk."""

    size: int
    key: str = ""
    value: str = ""
    marker: Marker | None = None
    asks: bool = False
    wipes: bool = False  # deletes every key
    dataless: bool = False  # PFCOUNT: what it writes changes no data
    rises: bool = False  # written by a script that compares first: a number that never falls

    @property
    def durable(self) -> bool:
        """Whether an append-only file holds it."""
        return bool(self.key) or self.marker is not None or self.wipes


PING = Entry(PING_SIZE)  # in the replication offset, not in the file (docs/reference/positions.md#bytes-after-a-marker)
GETACK = Entry(GETACK_SIZE, asks=True)  # what WAIT sends down the stream


@lru_cache(maxsize=4096)
def _position(marker: Marker, after: int, initialised: bool, size: int, dataless: int) -> Position:
    """Equal positions are the same object."""
    return Position(*marker, after, initialised, size=size, dataless_bytes=dataless)


@dataclass
class Drive:
    """The device under all archives of one machine. `slow` is in seconds per fsync at most."""

    slow: float = 0.0
    trouble: Cause | None = None  # what each write to it ends with: full, or failing


@dataclass
class Disk:
    """Base and incremental files of one archive. Survives every process."""

    directory: str
    identity: Identity | None = None
    initialised: bool = False
    has_data: bool = False
    base: dict[str, str] = field(default_factory=dict)
    files: list[list[Entry]] = field(default_factory=lambda: [[]])
    _marker: Marker | None = None
    _after: int = 0
    _dataless: int = 0
    incremental_bytes: int = 0
    drive: Drive = field(default_factory=Drive)
    unsynced: int = 0  # records of the last file that no fsync has reached; 0 with `appendfsync always`
    generation: int = 1  # of the newest incremental file

    def position(self) -> Position:
        """The newest marker of the incremental files and the bytes after it; no marker counts lowest."""
        after, dataless = (self._after, self._dataless) if self._marker else (0, 0)
        return _position(self._marker or NO_MARKER, after, self.initialised, self.incremental_bytes, dataless)

    def append(self, entry: Entry, synced: bool = True) -> None:
        """One record more, if it is of the kind that files keep; on the device at once, or at the next fsync."""
        if entry.durable:
            self.files[-1].append(entry)
            self._count(entry)
            self.unsynced = 0 if synced else self.unsynced + 1

    def lose(self, count: int) -> None:
        """The last records were never on the device."""
        del self.files[-1][len(self.files[-1]) - min(count, self.unsynced) :]
        self.unsynced = 0
        self.recount()

    def entries(self) -> Iterator[Entry]:
        """The incremental files' records, oldest first."""
        for file in self.files:
            yield from file

    def after(self, marker: Marker, count: int) -> list[Entry]:
        """The records that begin `count` bytes after a marker or later; empty when the marker is not there."""
        entries: list[Entry] = []
        seen, inside = 0, False
        for entry in self.entries():
            if entry.marker == marker:
                entries, seen, inside = [], 0, True
            elif inside:
                if seen >= count:
                    entries.append(entry)
                seen += entry.size
        return entries

    def load(self) -> dict[str, str]:
        """The data as an engine reads it at its start."""
        data = dict(self.base)
        for entry in self.entries():
            if entry.wipes:
                data.clear()
            elif entry.key:
                data[entry.key] = entry.value
        return data

    def replace(self, snapshot: dict[str, str]) -> None:
        """A full resync ended: its RDB is the new base, and every marker is gone."""
        self.base = dict(snapshot)
        self.files, self.unsynced = [[]], 0
        self.generation += 1
        self.recount()

    def begin_rewrite(self) -> dict[str, str]:
        """From here on records go to a new incremental file; the data the new base will hold."""
        snapshot = self.load()
        self.files.append([])
        self.generation += 1
        self.unsynced = 0
        return snapshot

    def end_rewrite(self, snapshot: dict[str, str]) -> None:
        """The new base is in the manifest; the older files are not any more."""
        self.base = snapshot
        self.files = [self.files[-1]]
        self.recount()

    def tear(self) -> Entry | None:
        """Lose the last record, as if a kill had cut it in two; what was lost."""
        if not self.files[-1]:
            return None
        lost = self.files[-1].pop()
        self.recount()
        return lost

    def newest(self) -> tuple[str, int]:
        """The incremental file that is written to, and its length."""
        return f"{self.generation}.incr.aof", sum(entry.size for entry in self.files[-1])

    def recount(self) -> None:
        """Find the newest marker again, after the files changed."""
        self._marker, self._after, self._dataless, self.incremental_bytes = None, 0, 0, 0
        for entry in self.entries():
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        self.incremental_bytes += entry.size
        if entry.marker is not None:
            self._marker, self._after, self._dataless = entry.marker, 0, 0
        else:
            self._after += entry.size
            self._dataless += entry.size if entry.dataless else 0
