"""An archive's directory: its lock, its identity file, and how it is laid aside; never a byte of its data removed.

Rules (docs/reference/safety.md#starting-an-engine): no manager prepares or starts an archive without the exclusive lock
on `<archive>/LOCK`, and an archive that is foreign, missing or emptied is refused, never initialised over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from dkv import files
from dkv.engine.contract import ArchiveRefused, Cause, Identity

IDENTITY_FILE = "identity.json"
LOCK_FILE = "LOCK"
APPEND_ONLY_DIR = "appendonlydir"
_VERSION = 1
_UNFINISHED = re.compile(r"temp-(rewriteaof-(bg-)?)?[0-9]+(\.[0-9]+)?\.(aof|rdb)|temp[-_][^/]*appendonly\.aof[^/]*")
"""Names that Valkey gives to files it has not finished; it renames those that it has."""


@dataclass(frozen=True)
class IdentityFile:
    """What identity.json holds: who the archive is, and whether its first marker ever reached its disk."""

    identity: Identity
    initialised: bool


def secure(directory: str, make: bool) -> None:
    """Refuse a directory that another user could have made, could change or swap; one that is missing is made, or passed over.

    What passes stays safe: no other user may write in it or in any directory above. Raises ArchiveRefused.
    """
    try:
        with files.directory(directory, make=make) as fd:
            files.refuse_strange_contents(fd, directory)
    except FileNotFoundError as error:
        if make:
            raise unusable(directory, error) from error
    except OSError as error:
        raise unusable(directory, error) from error


def make_private(directory: str) -> None:
    """No other user may look into it. Only for a directory that is known to be the archive's. Raises ArchiveRefused."""
    with _opened(directory) as fd:
        files.make_private(fd)


@contextmanager
def _opened(directory: str, make: bool = False) -> Iterator[int]:
    try:
        with files.directory(directory, make=make) as fd:
            yield fd
    except OSError as error:
        raise unusable(directory, error) from error


def take_lock(directory: str) -> int | None:
    """The open, exclusively locked LOCK file, or None while another process holds it. Raises ArchiveRefused."""
    with _opened(directory) as folder:
        fd = files.open_file(LOCK_FILE, os.O_RDWR | os.O_CREAT, at=folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.sweep(folder)
            sweep_engine(folder)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)  # else this process holds the lock until it ends, and gets the archive never again
            raise
    sign_lock(fd, os.getpid())
    return fd


def sweep_engine(folder: int) -> None:
    """Remove what killed children of an engine left in its archive: unfinished rewrites, snapshots and downloads, each as
    large as the data. Only for who holds the archive's lock: no engine uses them, and none ever will.
    """
    _sweep(folder)
    with suppress(OSError):
        inner = os.open(APPEND_ONLY_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _sweep(inner)
        finally:
            os.close(inner)


def _sweep(folder: int) -> None:
    for name in os.listdir(folder):
        if _UNFINISHED.fullmatch(name):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)


def sign_lock(fd: int, pid: int) -> None:
    """Write into the lock file who holds it, for the sentence "in use by pid N". A full disk has no room for that: then it
    names no holder, and the lock is held all the same.
    """
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{pid}\n".encode(), 0)


def lock_holder(directory: str) -> str:
    """The pid that signed the lock, as text, "unknown" when it cannot be read."""
    try:
        return files.read_text(os.path.join(directory, LOCK_FILE), errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


def lock_is_held(directory: str) -> bool:
    """Whether a process holds the archive's lock now."""
    try:
        with _opened(directory) as folder:
            fd = files.open_file(LOCK_FILE, at=folder)
    except (OSError, ArchiveRefused):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def make_directory(directory: str) -> None:
    """Create a directory that is private to our user, with those above it. Raises ArchiveRefused."""
    with _opened(directory, make=True) as fd:
        files.make_private(fd)


def check_identity(directory: str, identity: Identity, fresh: bool, restored: bool = False) -> bool:
    """Whether the archive is ours; returns its `initialised`. Reads only. Raises ArchiveRefused.

    `fresh` is the first start of a PROVISIONED archive: there may be nothing yet, or our own file of a start that
    was interrupted, but never data of unknown origin. `restored`: it was a hot copy and has become ours already.
    """
    present = read_identity(directory)
    if present is None:
        if not fresh:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"there is no {IDENTITY_FILE} in {directory}")
        if has_data(directory):
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} holds append-only files of unknown origin")
        if others := strange_names(directory):
            hint = "give the archive an empty directory, or one that does not exist"
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} is not empty, it holds {others}; {hint}")
        return False
    if present.identity != identity:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, _difference(directory, present.identity, identity))
    if fresh and present.initialised and not restored:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} already holds data of this archive")
    if present.initialised and not has_data(directory):
        raise ArchiveRefused(Cause.ARCHIVE_UNINITIALISED, f"{directory} had data once and has no append-only files now")
    return present.initialised


def unfit(directory: str, restored: bool) -> str:
    """Why a directory can be no new archive's, in a clause; "" for nothing that can be seen without starting one.

    One that has an identity file is judged when it is started: only then it is known whose it has to be.
    """
    try:
        secure(directory, make=False)
        if restored or read_identity(directory) is not None:
            return ""
        others = strange_names(directory)
    except ArchiveRefused as refused:
        return refused.detail
    return f"{directory} is not empty, it holds {others}" if others else ""


def strange_names(directory: str) -> str:
    """What an empty archive's directory holds besides what a start that was interrupted may leave; "" for nothing."""
    try:
        names = files.names_in(directory)
    except OSError as error:
        raise unusable(directory, error) from error
    names = [name for name in names if name != LOCK_FILE and not name.startswith(files.FRESH)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def is_earlier_self(present: IdentityFile, identity: Identity) -> bool:
    """Whether this was the same archive, of the same group, of an earlier database of the same name, with data."""
    now = present.identity.incarnation_of_name
    return (
        present.initialised
        and now != identity.incarnation_of_name
        and (replace(present.identity, incarnation_of_name=identity.incarnation_of_name) == identity)
    )


def _difference(directory: str, present: Identity, wanted: Identity) -> str:
    mine, theirs = asdict(wanted), asdict(present)
    name = next(key for key in mine if mine[key] != theirs[key])
    return f"{directory} says {name.replace('_', ' ')} {theirs[name]!r}, expected {mine[name]!r}"


def read_identity(directory: str) -> IdentityFile | None:
    """The identity file, or None when the directory or the file is not there. Raises ArchiveRefused."""
    try:
        text = files.read_text(os.path.join(directory, IDENTITY_FILE), errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        fields = json.loads(text)
        identity = Identity(**fields["identity"])
        return IdentityFile(identity, bool(fields["initialised"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory}/{IDENTITY_FILE} cannot be understood") from error


def write_identity(directory: str, identity: Identity, initialised: bool) -> None:
    """Write identity.json so that after any crash either the old or the new one is whole. Raises ArchiveRefused."""
    fields = {"version": _VERSION, "initialised": initialised, "identity": asdict(identity)}
    with _opened(directory) as fd:
        files.write_new(IDENTITY_FILE, json.dumps(fields, indent=2) + "\n", at=fd)


def has_data(directory: str) -> bool:
    """Whether any append-only file is there."""
    try:
        return bool(files.names_in(os.path.join(directory, APPEND_ONLY_DIR)))
    except NotADirectoryError:
        return False
    except OSError as error:
        raise unusable(directory, error) from error


def retire(directory: str, identity: Identity) -> str | None:
    """Rename the directory to `<dir>.deleted-<UTC time>`; the new name, None if that archive's is not there.

    Whatever else has that name stays as it is: without the archive's identity file, or within another user's reach.
    Needs its lock free. Raises ArchiveRefused.
    """
    if not _is_of(directory, identity):
        return None
    lock = take_lock(directory)
    if lock is None:
        raise ArchiveRefused(Cause.ARCHIVE_LOCKED, f"{directory} is in use by pid {lock_holder(directory)}")
    try:
        return _rename_away(directory)
    finally:
        os.close(lock)


def _is_of(directory: str, identity: Identity) -> bool:
    """Whether that archive lives there, of whatever database: the domain gives an archive's number once."""
    try:
        with files.directory(directory):
            present = read_identity(directory)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError | files.Unsafe):
            return False
        raise unusable(directory, error) from error
    except ArchiveRefused as refused:
        if refused.cause in (Cause.ARCHIVE_FOREIGN, Cause.DIRECTORY_UNSAFE):
            return False
        raise
    who = (identity.domain_uid, identity.archive_id)
    return present is not None and (present.identity.domain_uid, present.identity.archive_id) == who


def _rename_away(directory: str) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    old = os.path.basename(os.path.normpath(directory))
    try:
        with files.parent_of(directory) as above:
            for attempt in range(1000):
                new = f"{old}.deleted-{stamp}" + (f"-{attempt}" if attempt else "")
                if not files.there(new, at=above):
                    os.rename(old, new, src_dir_fd=above, dst_dir_fd=above)
                    return os.path.join(os.path.dirname(os.path.normpath(directory)), new)
    except OSError as error:
        raise unusable(directory, error) from error
    raise ArchiveRefused(Cause.DIRECTORY_UNUSABLE, f"no free name beside {directory}")


def unusable(directory: str, error: OSError) -> ArchiveRefused:
    """The refusal for an operating system error on an archive's files."""
    words = error.strerror or str(error)
    if isinstance(error, files.Unsafe):
        return ArchiveRefused(Cause.DIRECTORY_UNSAFE, words)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArchiveRefused(Cause.DISK_FULL, f"{directory}: {words}")
    if error.errno == errno.EIO:
        return ArchiveRefused(Cause.DISK_ERROR, f"{directory}: {words}")
    return ArchiveRefused(Cause.DIRECTORY_UNUSABLE, f"{directory}: {words}")
