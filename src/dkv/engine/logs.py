"""Engine: the log of one engine, which may neither fill a disk nor fall silent on a full one.

An engine writes its log to its standard output, a file opened for appending. A script may log 150 MB a second (9.1.2,
measured), so the kernel reports every change of the file (inotify), and a log that is too long loses its beginning at once.
Blocks for the next lines are reserved beyond the end of the file, so that last words need no free byte of the disk.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dkv import files

LOG_MOST = 4 << 20  # bytes after which a log loses its beginning
LOG_KEPT = 256 << 10  # bytes of its end that stay
LOG_ROOM = 64 << 10  # bytes reserved beyond its end: a crash report takes some 30 KB
LOG_READ = 64 << 10  # bytes of its new lines that are looked at, at each change
RECORD_ROOM = 4096  # bytes reserved in each of the small files that record an end

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE: blocks beyond the end of the file, whose length stays
_MODIFIED = 2  # IN_MODIFY
_EVENT = struct.Struct("iIII")
_NONBLOCKING, _CLOSE_ON_EXEC = os.O_NONBLOCK, os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC are the same numbers

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def reserve(fd: int, size: int) -> bool:
    """Reserve blocks for `size` bytes beyond the end of a file; False where there is no room or the disk cannot do that."""
    return bool(_libc.fallocate(fd, _KEEP_SIZE, os.fstat(fd).st_size, size) == 0)


def reserve_file(path: Path, size: int) -> None:
    """Make a file, empty, that can take `size` bytes when the disk is full. Raises OSError if it cannot be made."""
    fd = files.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        reserve(fd, size)
    finally:
        os.close(fd)


class Log:
    """One engine's log, kept short and given room."""

    def __init__(self, path: Path, read: Callable[[bytes], None] | None = None) -> None:
        """`read` gets what is logged from now on; where that is much at once, its end. Raises OSError."""
        self._fd = files.open_file(path, os.O_RDWR | os.O_APPEND)
        self._reserved = 0  # up to this length it has blocks
        self._give = read
        self._read = os.fstat(self._fd).st_size  # up to this length it was read

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def tend(self) -> None:
        """Cut a long log, and keep room beyond its end. A look that finds nothing new costs one system call."""
        size = os.fstat(self._fd).st_size
        if self._give is not None and size > self._read:
            begin = max(self._read, size - LOG_READ)
            self._give(os.pread(self._fd, size - begin, begin))
        self._read = size
        if size > LOG_MOST:
            self._cut(size)
        elif size + LOG_ROOM // 2 > self._reserved:
            reserve(self._fd, LOG_ROOM)
            self._reserved = size + LOG_ROOM

    def _cut(self, size: int) -> None:
        """Drop all but the end. Lines that come between reading and cutting are lost, on a busy machine more of them.

        What is written back takes blocks that the cut has freed, so it needs no room. FALLOC_FL_COLLAPSE_RANGE would lose
        nothing, but waits until the file is on the disk, here where the manager's lease is renewed.
        """
        newest = os.pread(self._fd, LOG_KEPT, size - LOG_KEPT)
        os.ftruncate(self._fd, 0)
        self.say(f"{size - len(newest)} bytes of this log were dropped here, because it was longer than {LOG_MOST}")
        with suppress(OSError):
            os.write(self._fd, newest.partition(b"\n")[2])
        self._reserved, self._read = 0, os.fstat(self._fd).st_size

    def say(self, words: str) -> None:
        """Add a line of our own, marked as such."""
        with suppress(OSError):
            os.write(self._fd, f"--- dkv: {words} ---\n".encode())


class LogWatch:
    """Has the kernel report every line that engines log. Without inotify logs are only tended at each look."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(_NONBLOCKING | _CLOSE_ON_EXEC)
        self._logs: dict[int, Log] = {}  # by watch descriptor
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, path: Path, log: Log) -> None:
        """Tend that log at each change, from the running loop."""
        if self._fd < 0:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fd, self._changed)
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(path), _MODIFIED)
        if watch >= 0:
            self._logs[watch] = log

    def remove(self, log: Log) -> None:
        """Tend it no more."""
        for watch in [w for w, known in self._logs.items() if known is log]:
            del self._logs[watch]
            _libc.inotify_rm_watch(self._fd, watch)

    def close(self) -> None:
        """Let go of all. The logs stay open."""
        self._logs.clear()
        if self._fd < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _changed(self) -> None:
        try:
            events = os.read(self._fd, 4096)
        except OSError:
            return
        for watch in {_EVENT.unpack_from(events, at)[0] for at in range(0, len(events) - _EVENT.size + 1, _EVENT.size)}:
            log = self._logs.get(watch)
            if log is not None:
                with suppress(OSError):
                    log.tend()
