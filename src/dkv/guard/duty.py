"""What a guard goes by: a file in the run directory, which its manager writes anew whenever it changes."""

from __future__ import annotations

import json
import os
import stat
from typing import NamedTuple

FILE = "guard.json"


class GuardedEngine(NamedTuple):
    """An engine that may lead a group of which other machines have copies in sync. `pid` and `started` (clock ticks since boot)
    name its process; `socket` is the name of its administrative socket in its directory.
    """

    start_id: int
    directory: str
    socket: str
    pid: int
    started: int
    user: str
    password: str


class Duty(NamedTuple):
    """`manager` names the process that wrote it, `others` are the managers on other machines, `fence` is the command by which an
    engine refuses writes.
    """

    manager: str
    others: tuple[tuple[str, int], ...]
    engines: tuple[GuardedEngine, ...]
    fence: tuple[str, ...]

    @property
    def is_needed(self) -> bool:
        """Whether there is anything that other machines could lead instead."""
        return bool(self.others and self.engines)


def to_text(duty: Duty) -> str:
    """As the file has it."""
    return json.dumps(duty._asdict() | {"engines": [engine._asdict() for engine in duty.engines]}) + "\n"


def from_text(text: str) -> Duty:
    """The duty that a file says. Raises ValueError for one that is damaged."""
    try:
        fields = json.loads(text)
        return Duty(
            str(fields["manager"]),
            tuple((str(host), int(port)) for host, port in fields["others"]),
            tuple(GuardedEngine(**engine) for engine in fields["engines"]),
            tuple(str(word) for word in fields["fence"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__})") from None


def read(path: str) -> tuple[Duty, tuple[int, int]]:
    """The duty in a file of ours that nobody else can read or write, and which file that was. Raises OSError, ValueError."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError("it is no file that only this user can read and write")
        return from_text(file.read()), (status.st_ino, status.st_mtime_ns)


def which(path: str) -> tuple[int, int]:
    """Which file has that name now; (0, 0) for none."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns
