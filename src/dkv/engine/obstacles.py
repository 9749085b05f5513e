"""Engine: whether what an engine's end was for still stands in the way of the next one. Looks only, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dkv.engine.archive import IDENTITY_FILE, LOCK_FILE, lock_is_held
from dkv.engine.binary import find_binary
from dkv.engine.config_files import taken
from dkv.engine.contract import ArchiveRefused, Cause

ROOM_TO_START = 8 << 20  # bytes: with less an engine would start, and end at its clients' next writes


@dataclass(frozen=True)
class Place:
    """Where an engine is to run. `runs` is where its end is written down, `binary` a configured program."""

    directory: str
    runs: str
    address: str
    ports: Sequence[int]
    binary: str | None


def obstacle(cause: Cause, place: Place) -> str:
    """What is missing of what ended an engine for that cause, "" when nothing is. Raises OSError."""
    directory = place.directory
    if cause is Cause.DISK_FULL:
        return next((lack for path in (directory, place.runs) if (lack := _without_room(path))), "")
    if cause is Cause.PORT_TAKEN:
        return next((f"port {port} of {place.address} is taken" for port in place.ports if taken(place.address, port)), "")
    if cause in (Cause.DIRECTORY_UNUSABLE, Cause.DISK_ERROR):
        return _unusable(directory)
    if cause is Cause.ARCHIVE_MISSING:
        return "" if os.path.isfile(os.path.join(directory, IDENTITY_FILE)) else f"there is no {IDENTITY_FILE} in {directory}"
    if cause is Cause.ARCHIVE_LOCKED:
        return f"{directory}/{LOCK_FILE} is held" if lock_is_held(directory) else ""
    if cause is Cause.BINARY_MISSING:
        return _no_binary(place.binary)
    return ""


def _without_room(place: str) -> str:
    there = _nearest(Path(place))
    room = os.statvfs(there)
    free = (room.f_bavail if os.geteuid() else room.f_bfree) * room.f_frsize
    if free < min(ROOM_TO_START, room.f_blocks * room.f_frsize // 2) or (room.f_files > 0 and room.f_ffree == 0):
        return f"{free} bytes are free at {there}"
    return ""


def _nearest(path: Path) -> Path:
    """The path, or what there is of it."""
    return next((candidate for candidate in (path, *path.parents) if candidate.exists()), Path("/"))


def _unusable(directory: str) -> str:
    """One that is not there can be made where its parent can be written. A read-only file system shows as no access."""
    inside = os.path.join(directory, "appendonlydir")
    for path in (str(_nearest(Path(directory))), *([inside] if os.path.lexists(inside) else [])):
        if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
            return f"{path} is no directory that can be written"
    return ""


def _no_binary(binary: str | None) -> str:
    try:
        find_binary(binary)
    except ArchiveRefused as refused:
        return refused.detail
    return ""
