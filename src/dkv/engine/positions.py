"""How far an archive got, read from its disk: beside a running engine, or with no engine at all.

Position = the newest marker in the incremental files and the bytes after it (docs/reference/positions.md).
An archive whose marker went into its base (rewritten or re-synced) has no position until the next marker.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dkv.engine import aof
from dkv.engine.archive import APPEND_ONLY_DIR, IDENTITY_FILE, read_identity, unusable
from dkv.engine.contract import ArchiveRefused, ByteRangeDigest, Cause, FilesSeen, Position
from dkv.files import open_file, read_text

_MANIFEST = "appendonly.aof.manifest"


def read_position(directory: str) -> Position:
    """The position of the archive's files as they are. Reads only. Raises ArchiveRefused when they cannot be read."""
    identity = read_identity(directory)
    initialised = identity is not None and identity.initialised
    try:
        with _opened(directory) as files:
            position = _position(directory, files)
            return replace(position, initialised=initialised, size=_total(directory, files))
    except OSError as error:
        raise unusable(directory, error) from error


def _total(directory: str, files: list[_File]) -> int:
    """Bytes of base and incremental files."""
    bases = [file.name for file in manifest(directory) if file.kind == "b"]
    sizes = (os.path.getsize(os.path.join(directory, APPEND_ONLY_DIR, name)) for name in bases)
    return sum(file.size for file in files) + sum(sizes)


def _nobody(size: int) -> None:
    """For callers that do not count the bytes that are read."""


def stretch(
    directory: str, marker: tuple[int, int, str], upto: int | None, handled: Callable[[int], None] = _nobody
) -> tuple[ByteRangeDigest, AfterMarker]:
    """See `Engines.digest`; and where to read those bytes again. `handled` is called with how many bytes each read brought, those
    of the search for the marker too: behind large values it is as long as the rest.
    """
    try:
        with _opened(directory, handled) as files:
            index, offset = _locate(files, Position(*marker))
            valid = None if (index, offset) == (0, 0) else _end(files, index, offset) if upto is None else upto
            if valid is None or sum(file.size for file in files[index:]) - offset < valid:
                raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory} lacks the bytes asked for after {marker}")
            digest, size = hashlib.blake2b(digest_size=16), 0
            for block in _between(files, index, offset, (0, valid)):
                digest.update(block)
                size += len(block)
            return ByteRangeDigest(size, digest.hexdigest()), AfterMarker(directory, index, offset, handled)
    except OSError as error:
        raise unusable(directory, error) from error


@dataclass(frozen=True)
class AfterMarker:
    """The bytes after a marker in the files of an archive to which no engine writes. Holds nothing open, and none of them."""

    directory: str
    index: int  # of the incremental file in which the marker ends
    offset: int  # where in it
    handled: Callable[[int], None]  # is called with how many bytes each read brought

    def read(self, start: int, end: int) -> bytes:
        """From place `start` to place `end` after the marker. Raises ArchiveRefused when they are not all there."""
        try:
            with _opened(self.directory, self.handled) as files:
                content = b"".join(_between(files, self.index, self.offset, (start, end)))
        except OSError as error:
            raise unusable(self.directory, error) from error
        if len(content) != end - start:
            raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{self.directory} lost bytes while they were read")
        return content


def _between(files: list[_File], index: int, offset: int, places: tuple[int, int]) -> Iterator[bytes]:
    index, offset = _advance(files, index, offset + places[0])
    left = places[1] - places[0]
    for file in files[index:]:
        while left > 0 and (block := file.read(offset, min(1 << 20, left))):
            yield block
            offset, left = offset + len(block), left - len(block)
        offset = 0


def bytes_after(directory: str, keep: Position) -> Iterator[bytes]:
    """The bytes of the incremental files after `keep`; all of them when its marker is not there. Raises OSError."""
    with _opened(directory) as files:
        skip_files, offset = _locate(files, keep)
        for index, file in enumerate(files[skip_files:]):
            position = offset if index == 0 else 0
            while block := file.read(position, 1 << 20):
                yield block
                position += len(block)


@dataclass
class _File:
    fd: int
    size: int
    handled: Callable[[int], None]

    def read(self, offset: int, size: int) -> bytes:
        block = os.pread(self.fd, size, offset)
        self.handled(len(block))
        return block


@contextmanager
def _opened(directory: str, handled: Callable[[int], None] = _nobody) -> Iterator[list[_File]]:
    """The incremental files, oldest first. A file that the manifest names and that is gone is a corrupt archive."""
    files: list[_File] = []
    try:
        for name in _open_names(directory, files, handled):
            raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory}: the manifest names {name}, which is not there")
        yield files
    finally:
        _close(files)


def _open_names(directory: str, files: list[_File], handled: Callable[[int], None]) -> list[str]:
    """Open all into `files`; the names missing. A running engine may end a rewrite between manifest and files."""
    names = incremental_files(directory)
    while True:
        missing = []
        for name in names:
            try:
                fd = open_file(os.path.join(directory, APPEND_ONLY_DIR, name))
                files.append(_File(fd, os.fstat(fd).st_size, handled))
            except FileNotFoundError:
                missing.append(name)
        before, names = names, incremental_files(directory)
        if before == names:
            return missing
        _close(files)


def _close(files: list[_File]) -> None:
    while files:
        os.close(files.pop().fd)


def incremental_files(directory: str) -> list[str]:
    """Names of the incremental files, oldest first; empty without a manifest. Raises ArchiveRefused, OSError."""
    return [file.name for file in manifest(directory) if file.kind == "i"]


def manifest(directory: str) -> list[aof.ManifestFile]:
    """The manifest's files; empty when there is none. Raises ArchiveRefused(CORRUPT_ARCHIVE), OSError."""
    try:
        text = read_text(os.path.join(directory, APPEND_ONLY_DIR, _MANIFEST), errors="replace")
    except FileNotFoundError:
        return []
    try:
        return aof.parse_manifest(text)
    except ValueError as error:
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory}: {error}") from error


def _position(directory: str, files: list[_File]) -> Position:
    """The newest marker whose following bytes are commands; a look-alike inside a value is passed over."""
    seen = False
    for index in range(len(files) - 1, -1, -1):
        below = files[index].size
        while (marker := aof.find_marker(files[index].read, below)) is not None:
            seen = True
            span = _after(files, index, marker.end)
            if span is not None:
                after, dataless = span
                return Position(marker.term, marker.sequence, marker.nonce, after, dataless_bytes=dataless)
            below = marker.start
    if seen:
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory}: the bytes after its marker are not commands")
    return Position()


def _after(files: list[_File], index: int, offset: int) -> tuple[int, int] | None:
    """Bytes from there to where the engine would truncate the last file, and how many of them are of commands that change
    no data; None when they are not commands.
    """
    total = dataless = 0
    for number, file in enumerate(files[index:]):
        start = offset if number == 0 else 0
        tail = aof.walk(file.read, start, file.size)
        if tail.broken:
            return None
        total += tail.valid - start
        dataless += tail.dataless
    return total, dataless


def _end(files: list[_File], index: int, offset: int) -> int | None:
    """Bytes from there to where the engine would truncate the last file; None when they are not commands."""
    after = _after(files, index, offset)
    return after[0] if after else None


def _locate(files: list[_File], keep: Position) -> tuple[int, int]:
    """File index and offset where `keep` ends; the very beginning when its marker is in none of them."""
    for index in range(len(files) - 1, -1, -1):
        below = files[index].size
        while (marker := aof.find_marker(files[index].read, below)) is not None:
            if (marker.term, marker.sequence, marker.nonce) == (keep.term, keep.sequence, keep.nonce):
                return _advance(files, index, marker.end + keep.bytes_after)
            below = marker.start
    return 0, 0


def _advance(files: list[_File], index: int, offset: int) -> tuple[int, int]:
    while index < len(files) - 1 and offset >= files[index].size:
        offset -= files[index].size
        index += 1
    return index, offset


def free_bytes(directory: str) -> int:
    """Free bytes of a directory's filesystem, a 64th too few at most: what others write there every moment is no news."""
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    grain = max(0, free.bit_length() - 7)
    return free >> grain << grain


class DiskWatch:
    """Glances at one archive's files, reading only what was appended since the last glance."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._identity = os.path.join(directory, IDENTITY_FILE)
        self._appended = os.path.join(directory, APPEND_ONLY_DIR, "")
        self._manifest = self._appended + _MANIFEST
        self._known: tuple[int, int, int] | None = None
        self._files: list[aof.ManifestFile] = []
        self._searched = 0
        self._marker: tuple[str, aof.Marker] | None = None

    def unread(self) -> int:
        """Bytes that the next look may have to read: what was appended since the last one, or all of a file's."""
        try:
            self._read_manifest()
            name = self._last(self._files)
            return max(0, self._size(name) - self._searched) if name is not None else 0
        except (OSError, ArchiveRefused):
            return 0

    def look(self) -> FilesSeen:
        """The files now. A directory that cannot be read shows as empty, because a glance refuses nothing."""
        try:
            os.stat(self._identity)
        except (FileNotFoundError, NotADirectoryError):
            return FilesSeen(lost=True)
        except OSError:
            return FilesSeen()
        try:
            self._read_manifest()
            return self._measure()
        except (OSError, ArchiveRefused):
            return FilesSeen()

    def _read_manifest(self) -> None:
        try:
            stat = os.stat(self._manifest)
        except FileNotFoundError:
            self._known, self._files = None, []
            return
        known = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if known != self._known:
            files = manifest(self._directory)
            if self._last(files) != self._last(self._files):
                self._searched = 0
            self._known, self._files = known, files

    @staticmethod
    def _last(files: list[aof.ManifestFile]) -> str | None:
        return next((file.name for file in reversed(files) if file.kind == "i"), None)

    def _measure(self) -> FilesSeen:
        sizes = {file.name: self._size(file.name) for file in self._files}
        incremental = [file.name for file in self._files if file.kind == "i"]
        if incremental:
            self._search(incremental, sizes)
        return FilesSeen(
            marker=self._as_position(incremental, sizes),
            base_bytes=sum(sizes[file.name] for file in self._files if file.kind == "b"),
            incremental_bytes=sum(sizes[name] for name in incremental),
            free_bytes=free_bytes(self._directory),
        )

    def _size(self, name: str) -> int:
        return os.stat(self._appended + name).st_size

    def _search(self, incremental: list[str], sizes: dict[str, int]) -> None:
        """Look for a newer marker: in the new bytes of the last file, and once in the files before it."""
        if self._marker is not None and self._marker[0] not in incremental:
            self._marker = None
        first = self._searched == 0
        newest = incremental[-1]
        if not first and sizes[newest] == self._searched:
            return
        marker = self._find(newest, sizes[newest], max(0, self._searched - aof.LONGEST))
        if marker is not None:
            self._marker = (newest, marker)
        self._searched = sizes[newest]
        for name in reversed(incremental[:-1]) if first and self._marker is None else ():
            marker = self._find(name, sizes[name], 0)
            if marker is not None:
                self._marker = (name, marker)
                return

    def _find(self, name: str, size: int, lowest: int) -> aof.Marker | None:
        if size <= lowest:
            return None
        fd = open_file(self._appended + name)
        try:
            return aof.find_marker(lambda offset, count: os.pread(fd, count, offset), size, lowest)
        finally:
            os.close(fd)

    def _as_position(self, incremental: list[str], sizes: dict[str, int]) -> Position | None:
        if self._marker is None or self._marker[0] not in incremental:
            return None
        name, marker = self._marker
        later = incremental[incremental.index(name) :]
        after = sum(sizes[file] for file in later) - marker.end
        return Position(marker.term, marker.sequence, marker.nonce, after, True)
