"""An archive's directory: its lock, its identity file, and how it is laid aside; never a byte of its data removed.

Rules of design.md section 5, "Starting an engine": nobody prepares or starts an archive without the exclusive lock
on `<archive>/LOCK`, and an archive that is foreign, missing or emptied is refused, never initialised over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dkv.engine.contract import ArchiveRefused, Cause, Identity

IDENTITY_FILE = "identity.json"
LOCK_FILE = "LOCK"
APPEND_ONLY_DIR = "appendonlydir"
_VERSION = 1


@dataclass(frozen=True)
class IdentityFile:
    """What identity.json holds: who the archive is, and whether its first marker ever reached its disk."""

    identity: Identity
    initialised: bool


def take_lock(directory: str) -> int | None:
    """The open, exclusively locked LOCK file, or None while somebody else holds it. Raises ArchiveRefused."""
    try:
        fd = os.open(os.path.join(directory, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    sign_lock(fd, os.getpid())
    return fd


def sign_lock(fd: int, pid: int) -> None:
    """Write into the lock file who holds it, for the sentence "in use by pid N"."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{pid}\n".encode(), 0)


def lock_holder(directory: str) -> str:
    """The pid that signed the lock, as text, "unknown" when it cannot be read."""
    try:
        return Path(directory, LOCK_FILE).read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def make_directory(directory: str) -> None:
    """Create the archive's directory, private to its user. Raises ArchiveRefused(DIRECTORY_UNUSABLE)."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise unusable(directory, error) from error


def check_identity(directory: str, identity: Identity, fresh: bool, restored: bool = False) -> bool:
    """Whether the archive is ours; returns its `initialised`. Reads only. Raises ArchiveRefused.

    `fresh` is the first start of a PROVISIONED archive: there may be nothing yet, or our own file of a start that
    was interrupted, but never data of unknown origin. `restored`: it was a hot copy and has become ours already.
    """
    found = read_identity(directory)
    if found is None:
        if not fresh:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"there is no {IDENTITY_FILE} in {directory}")
        if has_data(directory):
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} holds append-only files of unknown origin")
        return False
    if found.identity != identity:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, _difference(directory, found.identity, identity))
    if fresh and found.initialised and not restored:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} already holds data of this archive")
    if found.initialised and not has_data(directory):
        raise ArchiveRefused(Cause.ARCHIVE_UNINITIALISED, f"{directory} had data once and has no append-only files now")
    return found.initialised


def is_earlier_self(found: IdentityFile, identity: Identity) -> bool:
    """Whether this was the same archive, of the same group, of an earlier database of the same name, with data."""
    now = found.identity.incarnation_of_name
    return found.initialised and now != identity.incarnation_of_name and (
        replace(found.identity, incarnation_of_name=identity.incarnation_of_name) == identity
    )


def _difference(directory: str, found: Identity, wanted: Identity) -> str:
    mine, theirs = asdict(wanted), asdict(found)
    name = next(key for key in mine if mine[key] != theirs[key])
    return f"{directory} says {name.replace('_', ' ')} {theirs[name]!r}, expected {mine[name]!r}"


def read_identity(directory: str) -> IdentityFile | None:
    """The identity file, or None when the directory or the file is not there. Raises ArchiveRefused."""
    try:
        text = Path(directory, IDENTITY_FILE).read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        said = json.loads(text)
        identity = Identity(**said["identity"])
        return IdentityFile(identity, bool(said["initialised"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory}/{IDENTITY_FILE} cannot be understood") from error


def write_identity(directory: str, identity: Identity, initialised: bool) -> None:
    """Write identity.json so that after any crash either the old or the new one is whole. Raises ArchiveRefused."""
    said = {"version": _VERSION, "initialised": initialised, "identity": asdict(identity)}
    try:
        write_whole(Path(directory, IDENTITY_FILE), json.dumps(said, indent=2) + "\n")
    except OSError as error:
        raise unusable(directory, error) from error


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write, fsync, rename, fsync the folder. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def has_data(directory: str) -> bool:
    """Whether any append-only file is there."""
    try:
        with os.scandir(os.path.join(directory, APPEND_ONLY_DIR)) as entries:
            return any(entries)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unusable(directory, error) from error


def retire(directory: str) -> str | None:
    """Rename the directory to `<dir>.deleted-<UTC time>`; the new name, None if there is none. Needs its lock free."""
    if not os.path.isdir(directory):
        return None
    lock = take_lock(directory)
    if lock is None:
        raise ArchiveRefused(Cause.ARCHIVE_LOCKED, f"{directory} is in use by pid {lock_holder(directory)}")
    try:
        return _rename_away(directory)
    finally:
        os.close(lock)


def _rename_away(directory: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for attempt in range(1000):
        target = f"{directory.rstrip('/')}.deleted-{stamp}" + (f"-{attempt}" if attempt else "")
        if not os.path.lexists(target):
            os.rename(directory, target)
            return target
    raise ArchiveRefused(Cause.DIRECTORY_UNUSABLE, f"no free name beside {directory}")


def unusable(directory: str, error: OSError) -> ArchiveRefused:
    """The refusal for an operating system error on an archive's files."""
    words = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArchiveRefused(Cause.DISK_FULL, f"{directory}: {words}")
    if error.errno == errno.EIO:
        return ArchiveRefused(Cause.DISK_ERROR, f"{directory}: {words}")
    return ArchiveRefused(Cause.DIRECTORY_UNUSABLE, f"{directory}: {words}")
