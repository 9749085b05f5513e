"""Store: which process holds SQLite's write lock on a file, as the kernel shows it (/proc/locks). No lock is touched.

SQLite in write-ahead mode takes POSIX locks on bytes of the `-shm` file; byte 120 is the writer's (SQLite's WAL-index format,
WAL_WRITE_LOCK). A process that reads, copies or backs the file up does not take it, and no reader ever keeps a writer waiting.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dkv import kernel

WRITER_BYTE = 120
LONGEST = 80  # characters of a command that are shown


@dataclass(frozen=True)
class Holder:
    """A process that holds the lock: its command as it was started, cut, "" if this user may not read it."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.command else f"pid {self.pid}"


def writer_of(path: Path) -> Holder | None:
    """The process, not this one, that holds the write lock of the database at `path`; None if none does, or the kernel
    does not show which (another process namespace).
    """
    try:
        inode = os.stat(f"{path}-shm").st_ino
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    pid = writer_in(table, inode)
    return None if pid in (None, 0, os.getpid()) else Holder(int(pid or 0), command_of(int(pid or 0)))


def writer_in(table: str, inode: int) -> int | None:
    """The pid that holds the writer's byte of that file by /proc/locks.

    Lines are `1: POSIX  ADVISORY  WRITE 4711 08:01:123 120 120`; one that only waits has `->` in its second place. The
    device is passed over: on stacked file systems it is not the one that stat tells.
    """
    for line in table.splitlines():
        words = line.split()
        posix = len(words) == 8 and words[1] in ("POSIX", "OFDLCK") and words[3] == "WRITE"
        if posix and words[5].rpartition(":")[2] == str(inode):
            first, last = int(words[6]), words[7]
            if first <= WRITER_BYTE and (last == "EOF" or int(last) >= WRITER_BYTE):
                return int(words[4])
    return None


def command_of(pid: int) -> str:
    """How a process was started, on one line of at most LONGEST characters."""
    text = "".join(char if char.isprintable() else " " for char in kernel.command_line(pid)).strip()
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
