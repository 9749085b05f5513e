"""A disk for each host of a chaos run: a small ext4 file system on a loop device, seen by this process and its children only.

It can be filled, and frozen for moments, which is a disk whose writes and fsync take long. Only root can mount one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SIZE_MB = 400
FILLER = "filler"
FROZEN, THAWED = 0.4, 0.15  # s in turn, while a disk is slow
MOUNT_NAMESPACE = 0x20000  # CLONE_NEWNS


@dataclass
class Disk:
    """One mounted disk."""

    place: Path
    _slow: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def fill(self) -> None:
        """Leave no room on it."""
        with contextlib.suppress(OSError), (self.place / FILLER).open("wb") as file:
            statistics = os.statvfs(self.place)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, (statistics.f_bavail - 16) * statistics.f_frsize)
            while True:
                os.write(file.fileno(), b"0" * 4096)

    def empty(self) -> None:
        """Give the room back."""
        (self.place / FILLER).unlink(missing_ok=True)

    def slow_down(self) -> None:
        """Hold up its writes again and again, until `speed_up`."""
        if self._thread is None:
            self._slow.clear()
            self._thread = threading.Thread(target=self._stutter)
            self._thread.start()

    def speed_up(self) -> None:
        """Hold up nothing any more."""
        self._slow.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _stutter(self) -> None:
        while not self._slow.is_set():
            if _run("fsfreeze", "--freeze", str(self.place)).returncode == 0:
                self._slow.wait(FROZEN)
                _run("fsfreeze", "--unfreeze", str(self.place))
            self._slow.wait(THAWED)


@contextlib.contextmanager
def disks(places: Sequence[Path], images: Path) -> Iterator[dict[Path, Disk]]:
    """A disk at each of these places, which are made; unmounted at the end. Raises OSError where the machine cannot mount one."""
    if ctypes.CDLL(None, use_errno=True).unshare(MOUNT_NAMESPACE) != 0:
        raise OSError(ctypes.get_errno(), "no mounts of its own")
    _run("mount", "--make-rslave", "/")
    images.mkdir(parents=True, exist_ok=True)
    made: dict[Path, Disk] = {}
    try:
        for number, place in enumerate(places):
            _mount(place, images / f"disk-{number}")
            made[place] = Disk(place)
        yield made
    finally:
        for place, disk in made.items():
            disk.speed_up()
            _run("umount", "--lazy", str(place))


def _mount(place: Path, image: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(SIZE_MB << 20)
    for command in (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        done = _run(*command)
        if done.returncode:
            raise OSError(done.returncode, f"{command[0]}: {done.stderr.strip()}")
    with contextlib.suppress(OSError):
        (place / "lost+found").rmdir()  # a data directory begins empty
    place.chmod(0o700)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
