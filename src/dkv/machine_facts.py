"""What a manager reads of its machine for `dkv check machines`: the time of a write, and limits of the kernel."""

from __future__ import annotations

import os
import statistics
import time

from dkv import files, kernel
from dkv.domain.machine_checks import MachineFacts

PROBE = ".fsync-probe"
TIMES = 5
SIZE = 4096  # bytes


def facts_of(data_dir: str, *, founds_none: bool) -> MachineFacts:
    """Of this machine; takes as long as five writes. `founds_none`: whether the manager's setting `domain` is set."""
    fsync, why = -1.0, ""
    try:
        fsync = fsync_ms(data_dir)
    except OSError as error:
        why = str(error)
    limits = kernel.open_files(), kernel.overcommit_memory(), kernel.huge_pages()
    return MachineFacts(fsync, *limits, why, free_bytes(data_dir), founds_none)


def free_bytes(directory: str) -> int:
    """Bytes left on the disk of a directory for this user; -1 where that cannot be told."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return -1
    return disk.f_bavail * disk.f_frsize


def fsync_ms(directory: str) -> float:
    """How long a small write takes to be on a disk, as each acknowledged one does: the median of some, in ms. Raises OSError."""
    with files.directory(directory) as folder:
        fd = files.open_file(PROBE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, at=folder)
        try:
            return statistics.median(_one_write(fd) for _ in range(TIMES))
        finally:
            os.close(fd)
            os.unlink(PROBE, dir_fd=folder)


def _one_write(fd: int) -> float:
    began = time.monotonic()
    os.write(fd, bytes(SIZE))
    os.fdatasync(fd)
    return (time.monotonic() - began) * 1000
