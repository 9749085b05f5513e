"""What the kernel shows of this machine: its boot, the time since then, its processes (/proc), its ports and limits."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from dataclasses import dataclass

ARGUMENTS_BEGIN = 45  # of the fields that `stat` answers: the address of the first argument


def boot_id() -> str:
    """The kernel's name for this boot of the machine; a pid of another boot means nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def boottime() -> float:
    """Seconds since the machine started, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None when there is no such process, or it has ended (a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().decode("utf-8", "replace").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields


def started(pid: int) -> int:
    """When a living process was started, in clock ticks since boot; 0 when there is none."""
    fields = stat(pid)
    return 0 if fields is None else int(fields[19])


def is_alive(pid: int, start: int) -> bool:
    """Whether the process that was started then lives; the pid alone may belong to another one by now."""
    return start > 0 and started(pid) == start


def command_line(pid: int) -> str:
    """How a process was started, its arguments with blanks between; nothing when it is gone or not ours to look at."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def hide_argument(text: str) -> None:
    """Write stars over an argument of this process, which any user may read in /proc/PID/cmdline. Does nothing where the kernel
    does not let a process write its own memory by /proc.
    """
    fields, given = stat(os.getpid()), text.encode()
    with contextlib.suppress(OSError), open("/proc/self/cmdline", "rb") as file:
        at, begins = file.read().find(given), int(fields[ARGUMENTS_BEGIN]) if fields else 0
        if at >= 0 and begins:
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(begins + at)
                memory.write(b"*" * len(given))


def owner(pid: int) -> int:
    """The user of a process; -1 when there is none."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def bind_error(address: str, port: int) -> int:
    """Why no server of this process could listen there now, as an errno; 0 when one could."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.errno or -1
    return 0


def overcommit_memory() -> int:
    """vm.overcommit_memory, 0 to 2; -1 where it cannot be read."""
    try:
        with open("/proc/sys/vm/overcommit_memory", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return -1


def huge_pages() -> str:
    """Who gets transparent huge pages: always, madvise or never; "" where it cannot be read."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return ""


def open_files() -> int:
    """How many files and connections a process that this one starts may have open at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@dataclass(frozen=True)
class Usage:
    """What this process uses: processor time in s, memory in bytes, descriptors; `started` is s since 1970."""

    cpu_seconds: float
    resident_bytes: int
    virtual_bytes: int
    open_files: int
    most_files: int  # descriptors it may have
    started: float


def usage() -> Usage:
    """Of this process, now."""
    fields, ticks = stat(os.getpid()) or ["0"] * 22, os.sysconf("SC_CLK_TCK")
    return Usage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
        resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        virtual_bytes=int(fields[20]),
        open_files=len(os.listdir("/proc/self/fd")),
        most_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started=time.time() - boottime() + int(fields[19]) / ticks,
    )
