"""Directories and files on a machine that has other users, opened so that no other user can have put something in the way.

A directory that the domain names is opened component by component: no symbolic link, every directory above it root's or
ours and writable by no other user, itself ours. A user who may neither write in a directory nor in any above it cannot swap what
lies below, so a place that passed once stays what it was. Files are opened through the directory's descriptor and made
under names that cannot be guessed. Only operating system calls are in here; what a place means is its caller's matter.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

PRIVATE = 0o700
FRESH = ".new-"  # how the names of files begin that are being written; left behind only by a crash
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40

Place = str | Path


class Unsafe(OSError):
    """Another user could have made this place or could change it; nothing was touched. `strerror` is a sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EPERM, sentence)


# Directories ---------------------------------------------------------------------------------------------------------


@contextmanager
def directory(path: Place, *, make: bool = False) -> Iterator[int]:
    """The descriptor of a directory of ours. `make` creates what is missing, mode 0700. Raises Unsafe, OSError."""
    with parent_of(path, make=make) as above:
        name = os.path.basename(os.path.normpath(path))
        fd = _enter(above, name, str(path), make) if name else os.dup(above)
    try:
        _refuse_stranger(os.fstat(fd), str(path))
        again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        yield again
    finally:
        os.close(again)


@contextmanager
def parent_of(path: Place, *, make: bool = False) -> Iterator[int]:
    """The descriptor (O_PATH) of the directory above: one in which only root and we can rename. Raises Unsafe, OSError."""
    names = _names(str(path))[:-1]
    fd = os.open("/", _LOOK)
    try:
        for count, name in enumerate(["", *names]):
            here = "/" + "/".join(names[:count])
            if name:
                above, fd = fd, _enter(fd, name, here, make)
                os.close(above)
            _refuse_open(os.fstat(fd), here)
        yield fd
    finally:
        os.close(fd)


def _names(path: str) -> list[str]:
    if not path.startswith("/"):
        raise Unsafe(f"{path} does not begin with /")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise Unsafe(f"{path} leads upwards; write it without ..")
    return names


def _enter(above: int, name: str, path: str, make: bool) -> int:
    try:
        return os.open(name, _LOOK, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, PRIVATE, dir_fd=above)
        return os.open(name, _LOOK, dir_fd=above)
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise Unsafe(f"{path} is a symbolic link; give the directory it leads to") from None
        raise


def _refuse_open(status: os.stat_result, path: str) -> None:
    """A directory above one of ours: only root and our user may rename what is in it."""
    if not _trusted(status.st_uid):
        raise Unsafe(f"{path} belongs to {user(status.st_uid)}, who could put something else in its place; choose another place")
    if not status.st_mode & stat.S_ISVTX and _others_write(status):
        raise Unsafe(f"others may write in {path} (mode {_mode(status)}); chmod go-w it, or choose another place")


def _refuse_stranger(status: os.stat_result, path: str) -> None:
    if status.st_uid != os.geteuid():
        raise Unsafe(f"{path} belongs to {user(status.st_uid)}, not to {user(os.geteuid())}; run as that user, or chown it")
    if _others_write(status):
        raise Unsafe(f"others may write in {path} (mode {_mode(status)}); see what is in it, then chmod 700 it")


def _others_write(status: os.stat_result) -> bool:
    alone = status.st_gid == os.getegid() and _only_member(os.geteuid(), status.st_gid)
    return bool(status.st_mode & (stat.S_IWOTH if alone else stat.S_IWOTH | stat.S_IWGRP))


@lru_cache(maxsize=16)
def _only_member(uid: int, gid: int) -> bool:
    """Whether a group is a user's private one, as many systems give each user; those make directories 0775."""
    try:
        name = pwd.getpwuid(uid).pw_name
        others = {account.pw_uid for account in pwd.getpwall() if account.pw_gid == gid} - {uid}
        return not others and not set(grp.getgrgid(gid).gr_mem) - {name}
    except KeyError:
        return False


@lru_cache(maxsize=1)
def _owner_of_root() -> int:
    return os.stat("/").st_uid


def _trusted(uid: int) -> bool:
    """Root, our user, and the owner of / (in a user namespace root has another number)."""
    return uid in (0, os.geteuid(), _owner_of_root())


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def user(uid: int) -> str:
    """A user as people know them."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def hold(path: Place) -> int:
    """A descriptor (O_PATH) of a directory of ours, by which a socket in it has a short name. Raises Unsafe, OSError."""
    fd = os.open(path, _LOOK)
    if os.fstat(fd).st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise Unsafe(f"{path} is not a directory of {user(os.geteuid())}")


def names_in(path: Place) -> list[str]:
    """Names in a directory, sorted; none if it is not there. Raises OSError."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def make_private(fd: int) -> None:
    """Close a directory of ours to all other users. Raises OSError."""
    if stat.S_IMODE(os.fstat(fd).st_mode) != PRIVATE:
        os.fchmod(fd, PRIVATE)


def refuse_strange_contents(fd: int, path: Place) -> None:
    """Every file below a directory of ours is one: no link, and no other user's. Raises Unsafe, OSError."""
    with os.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        with suppress(FileNotFoundError):  # a process of ours may be renaming and removing there
            _refuse_strange(fd, name, os.path.join(path, name))


def _refuse_strange(fd: int, name: str, where: str) -> None:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        raise Unsafe(f"{where} is a symbolic link; put the file or directory itself there")
    if not _trusted(status.st_uid):
        raise Unsafe(f"{where} belongs to {user(status.st_uid)}, not to {user(os.geteuid())}; run as that user, or chown it")
    if stat.S_ISDIR(status.st_mode):
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            refuse_strange_contents(below, where)
        finally:
            os.close(below)


def without_links(path: Place) -> Path:
    """A place that the person who starts us named, without the links on the way, which must be root's or theirs.

    What does not exist yet keeps its name. Raises Unsafe, OSError.
    """
    left, done, links = [name for name in os.path.abspath(path).split("/") if name], [""], 0
    while left:
        here = "/".join([*done, left.pop(0)])
        try:
            status = os.lstat(here)
        except FileNotFoundError:
            return Path(here, *left)
        if not stat.S_ISLNK(status.st_mode):
            done = here.split("/")
            continue
        links += 1
        if not _trusted(status.st_uid) or links > _MOST_LINKS:
            raise Unsafe(f"{here} is a symbolic link of {user(status.st_uid)}; give the directory it leads to")
        target = os.path.normpath(os.path.join("/".join(done) or "/", os.readlink(here)))
        left, done = [name for name in target.split("/") if name] + left, [""]
    return Path("/".join(done) or "/")


# Files ---------------------------------------------------------------------------------------------------------------


def open_file(name: Place, flags: int = os.O_RDONLY, *, at: int | None = None, any_owner: bool = False) -> int:
    """The descriptor of a regular file, ours or root's (`any_owner`: any user's); no link, no pipe. Raises Unsafe, OSError."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=at)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and (any_owner or _trusted(status.st_uid)):
        return fd
    os.close(fd)
    raise Unsafe(f"{name} is no file of {user(os.geteuid())}")


def opened(name: Place, *, at: int | None = None) -> IO[bytes]:
    """A file of ours to read from. Raises Unsafe, OSError."""
    return os.fdopen(open_file(name, at=at), "rb")


@contextmanager
def proven(path: Place) -> Iterator[IO[bytes]]:
    """A file to read from, in a directory that is ours by `directory`. Raises Unsafe, OSError."""
    above, name = os.path.split(os.fspath(path))
    with directory(above) as fd, opened(name, at=fd) as file:
        yield file


def read_text(name: Place, *, at: int | None = None, errors: str = "strict") -> str:
    """The text of a file of ours. Raises Unsafe, OSError, UnicodeDecodeError."""
    with os.fdopen(open_file(name, at=at), encoding="utf-8", errors=errors) as file:
        return file.read()


def make_file(name: Place, *, at: int | None = None) -> int:
    """The descriptor of a file that was not there, for our user only. Raises FileExistsError, OSError."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)


def write_new(name: str, text: str, *, at: int, lasting: bool = True) -> None:
    """Put a file in the place of whatever has that name in a directory, whole or not at all; `lasting`: also after the
    loss of power. Raises OSError."""
    fresh = f"{FRESH}{secrets.token_hex(12)}"
    fd = make_file(fresh, at=at)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.rename(fresh, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh, dir_fd=at)
        raise
    if lasting:
        os.fsync(at)


def write_once(name: str, text: str, *, at: int) -> bool:
    """Make a lasting file, whole or not at all; False: there is something of that name, which stays. Raises OSError."""
    fresh = f"{FRESH}{secrets.token_hex(12)}"
    write_new(fresh, text, at=at)
    try:
        os.link(fresh, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        os.unlink(fresh, dir_fd=at)
    os.fsync(at)
    return True


def write_whole(path: Place, text: str) -> None:
    """As `write_new`, in a directory that its caller vouches for. Raises OSError."""
    above, name = os.path.split(os.fspath(path))
    fd = os.open(above or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_new(name, text, at=fd)
    finally:
        os.close(fd)


def there(name: str, *, at: int) -> bool:
    """Whether a directory has anything of that name, a link that leads nowhere too. Raises OSError."""
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def sweep(fd: int) -> None:
    """Remove what crashes left of files that were being written. Only for who holds the directory's lock."""
    for name in os.listdir(fd):
        if name.startswith(FRESH):
            with suppress(OSError):
                os.unlink(name, dir_fd=fd)


def remove_tree(name: str, *, at: int) -> None:
    """Remove a directory and what is below it, following no link; what is not there is removed already."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=at)
