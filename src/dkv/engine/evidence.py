"""Reading what the kernel records about ends: the memory cgroup's out-of-memory counter and the kernel's log."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COUNTER = re.compile(r"^oom_kill (\d+)$", re.M)


@dataclass(frozen=True)
class Readers:
    """Where evidence is read; tests put in files and lines of their own."""

    oom_file: str = ""  # path of the cgroup's event file, empty when there is none
    kernel_log: str = "/dev/kmsg"

    def oom_kills(self) -> int | None:
        """The counter now, None when there is no such file."""
        try:
            return parse_oom(Path(self.oom_file).read_text()) if self.oom_file else None
        except OSError:
            return None

    def kernel_lines(self) -> tuple[str, ...] | None:
        """The kernel's messages about killing for want of memory; None when its log may not be read."""
        try:
            fd = os.open(self.kernel_log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return tuple(line for line in _records(fd) if "oom" in line.lower() or "Killed process" in line)
        except OSError:
            return None
        finally:
            os.close(fd)


def _records(fd: int) -> Sequence[str]:
    """One read per record, as /dev/kmsg gives them; "continued" records start with a space and are left out."""
    lines: list[str] = []
    while True:
        try:
            record = os.read(fd, 8192)
        except BlockingIOError:
            return lines
        except BrokenPipeError:  # overwritten while we read: the next read continues
            continue
        if not record:
            return lines
        lines += [line.partition(";")[2] or line for line in record.decode("utf-8", "replace").splitlines()[:1]]


_ROOM_FOR_A_WRITE = 64 << 10  # bytes: with less an engine cannot append what one round of its clients wrote


def is_full(directory: str) -> bool:
    """Whether the file system of a directory has no room for an engine's next write, or no file left to give."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    free = room.f_bavail if os.geteuid() else room.f_bfree
    return free * room.f_frsize < _ROOM_FOR_A_WRITE or (room.f_files > 0 and room.f_ffree == 0)


def parse_oom(text: str) -> int | None:
    """The value of `oom_kill` in memory.events (cgroup 2) or memory.oom_control (cgroup 1)."""
    match = _COUNTER.search(text)
    return int(match[1]) if match else None


def own_oom_file(proc: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> str:
    """The event file of the memory cgroup this process, and so every engine it starts, lives in; "" if none."""
    try:
        lines = Path(proc).read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            candidate = f"{root}/memory{path}/memory.oom_control"
        elif controllers == "":
            candidate = f"{root}{path.rstrip('/')}/memory.events"
        else:
            continue
        if os.access(candidate, os.R_OK):
            return candidate
    return ""
