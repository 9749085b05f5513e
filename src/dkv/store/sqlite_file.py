"""Store: one SQLite file and one connection to it; the only door to apsw.

Knows how a file is made, what makes it ours, and what each of SQLite's failures means in the contract's words. It
does not know what the tables mean (sqlite_state.py, sqlite_leases.py). A `SqliteFile` belongs to one thread. Nothing
else in a process may open such a file: closing it there would drop SQLite's locks (they are the process's, by POSIX).
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from dkv import files
from dkv.hints import Hint, action, hint
from dkv.store.contract import Unavailable, Unusable
from dkv.store.holders import Holder, writer_of

T = TypeVar("T")
Value = str | int | float | None

OLDEST_LIBRARY = (3, 51, 3)
"""Before it, several processes on one write-ahead log could corrupt the file (docs/reference/state-backends.md#sqlite)."""

PATIENCE = 1.5
"""Seconds to wait for another process's transaction before saying Unavailable."""


@dataclass(frozen=True)
class Format:
    """What a file of ours is: how to call it, the number in its header, its version and its tables."""

    name: str
    application_id: int
    version: int
    schema: str
    durable: bool  # False: the newest commits may be lost with the machine (never with a process)


class SqliteFile:
    """One connection to one file of ours, in write-ahead mode."""

    def __init__(self, path: Path, form: Format, patience: float = PATIENCE, *, thorough: bool = False) -> None:
        """Open the file, making it if there is none. `thorough` reads every page. Raises Unusable, Unavailable."""
        self.path = path
        self._form = form
        self._patience = patience
        self._give_up_at = 0.0
        refuse_old_library(apsw.sqlite_lib_version())
        refuse_place(path, form)
        with self._failures(written=False):
            if not path.exists():
                create(path, form)
            self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                self._db.set_busy_handler(self._keep_waiting)
                self._begin_waiting()
                self._refuse_strangers()
                self._db.pragma("synchronous", "FULL" if form.durable else "NORMAL")
                if thorough and (finding := self._db.execute("PRAGMA quick_check(1)").get) != "ok":
                    raise damaged(path, form, str(finding))
            except BaseException:
                self._db.close()
                raise
        self._inode = os.stat(path).st_ino

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Run one statement and return all its rows. Only inside `read` or `write`."""
        return self._db.execute(sql, tuple(values)).fetchall()

    def write(self, work: Callable[[], T], asked_at: float | None = None) -> T:
        """Run `work` as one transaction that no other overlaps; all of it is kept or nothing.

        `asked_at`, on the monotonic clock, is when waiting began if that was before now.
        """
        self._refuse_replaced()
        with self._failures(written=False):
            self._begin_waiting(asked_at)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work()
            except BaseException:
                self._roll_back()
                raise
        with self._failures(written=None):
            try:
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        return result

    def read(self, work: Callable[[], T]) -> T:
        """Run `work` on one unmoving view of the file."""
        self._refuse_replaced()
        with self._failures(written=False):
            self._begin_waiting()
            self._db.execute("BEGIN")
            try:
                return work()
            finally:
                self._roll_back()

    def version(self) -> int:
        """A number that changes whenever another connection committed; about 5 microseconds."""
        self._refuse_replaced()
        with self._failures(written=False):
            self._begin_waiting()
            return int(self._db.pragma("data_version"))

    def close(self) -> None:
        """Let go of the file."""
        self._begin_waiting()
        self._db.close()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _begin_waiting(self, since: float | None = None) -> None:
        self._give_up_at = (time.monotonic() if since is None else since) + self._patience

    def _keep_waiting(self, _tries: int) -> bool:
        # Short random naps: SQLite's own handler naps ever longer and lets a busy neighbour win for 300 ms.
        time.sleep(random.uniform(0.0005, 0.003))
        return time.monotonic() < self._give_up_at

    def _refuse_strangers(self) -> None:
        application_id = self._db.pragma("application_id") % 2**32
        version = self._db.pragma("user_version")
        if application_id != self._form.application_id:
            raise foreign(self.path, self._form)
        if version < self._form.version:
            raise Unusable(
                f"the {self._form.name} {self.path} was written by an older dkv (version {version}, this dkv reads "
                f"{self._form.version})",
                hint(
                    "Run the dkv that wrote it, or move it away with its -wal file and make a new one from the archives: ",
                    action("rebuildState", state=f"sqlite:{self.path}"),
                    ".",
                ),
            )
        if version > self._form.version:
            raise Unusable(
                f"the {self._form.name} {self.path} was written by a newer dkv (version {version}, this dkv knows "
                f"{self._form.version})",
                "Run the newer dkv, or give another path.",
            )

    def _refuse_replaced(self) -> None:
        try:
            if os.stat(self.path).st_ino == self._inode:
                return
        except OSError:
            pass
        raise Unusable(
            f"the {self._form.name} {self.path} was removed or replaced while in use",
            "Stop all managers on this machine, put the file back together with its -wal file, start them.",
        )

    def _held(self, where: str) -> tuple[str, Hint]:
        return held(where, writer_of(self.path), self._patience)

    @contextmanager
    def _failures(self, *, written: bool | None) -> Iterator[None]:
        """Say SQLite's failures in the contract's words."""
        where = f"{self._form.name} {self.path}"
        try:
            yield
        except apsw.BusyError:
            raise Unavailable(*self._held(where), written=False) from None
        except apsw.FullError:
            raise Unavailable(f"no space is left for the {where}", "Free space there.", written=written) from None
        except apsw.NotADBError:
            raise foreign(self.path, self._form) from None
        except (apsw.CorruptError, apsw.FormatError, apsw.SQLError) as error:
            raise damaged(self.path, self._form, str(error)) from error
        except (apsw.Error, OSError) as error:
            detail = f"the {where} cannot be read or written ({error})"
            raise Unavailable(detail, "Check the directory and its disk.", written=written) from error


def held(where: str, holder: Holder | None, seconds: float) -> tuple[str, Hint]:
    """The process that keeps others from writing, and a hint. Never a reader: those hold up no writer."""
    lasted = f"has held the write lock of the {where} for over {seconds} s"
    if holder is None:
        return f"another process {lasted}", hint("Is a manager frozen?")
    if " manager run" in holder.command:
        return (
            f"{holder} {lasted}",
            hint(
                f"That manager is frozen or its disk hangs: let it go on, kill -CONT {holder.pid}; or "
                f"end it, its engines serve on: kill -KILL {holder.pid}"
            ),
        )
    return (
        f"{holder} {lasted}",
        hint(
            f"Commit, roll back or close it there, or end it: kill {holder.pid}; to copy the state without holding up writers: ",
            action("backUpState"),
            ".",
        ),
    )


def refuse_old_library(version: str) -> None:
    """Raises Unusable for a SQLite library that several processes must not share."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_LIBRARY:
        wanted = ".".join(str(part) for part in OLDEST_LIBRARY)
        raise Unusable(f"the SQLite library {version} is older than {wanted}", "Install apsw 3.53 or newer.")


def refuse_place(path: Path, form: Format) -> None:
    """Raises Unusable if no file of ours can be at this path, with the reason."""
    parent = path.parent
    if not parent.is_dir():
        raise Unusable(f"the {form.name} {path} has no directory {parent}", "Create it, or correct the path.")
    try:
        with files.directory(files.without_links(parent)):
            pass
    except files.Unsafe as unsafe:
        sentence = f"the {form.name} {path} is within the reach of others"
        raise Unusable(f"{sentence}: {unsafe.strerror}", "Cure that, or give another path.") from None
    except OSError:
        pass  # said below
    if path.is_dir():
        raise Unusable(f"the {form.name} {path} is a directory", "Give the path of a file.")
    if not os.access(parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise Unusable(f"the {form.name} {path} may not be written", f"Check the owner and mode of {parent}.")
    if path.exists() and path.stat().st_size == 0:
        raise damaged(path, form, "it is empty")
    if not path.exists() and Path(f"{path}-wal").exists():
        raise Unusable(
            f"the {form.name} {path} is gone but its journal {path}-wal is still there",
            "Put the file back, or move the journal away to begin anew.",
        )


def create(path: Path, form: Format) -> None:
    """Make the file whole beside its place and link it in, so that no process ever meets a half-made one."""
    draft = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        db = apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.pragma("synchronous", "FULL")
            db.execute(f"BEGIN; {form.schema}; COMMIT")
            db.pragma("application_id", signed(form.application_id))
            db.pragma("user_version", form.version)
            db.pragma("journal_mode", "WAL")
        finally:
            db.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another manager was faster; its file is as good
        sync_directory(path.parent)
    finally:
        for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm"), Path(f"{draft}-journal")):
            leftover.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make a new name survive the loss of power."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def signed(number: int) -> int:
    """The application id as SQLite keeps it: 32 bits with a sign."""
    return number - 2**32 if number >= 2**31 else number


def foreign(path: Path, form: Format) -> Unusable:
    """The refusal of a file that is not ours."""
    return Unusable(f"{path} is not a dkv {form.name}", "Give another path; this file was left untouched.")


def damaged(path: Path, form: Format, finding: str) -> Unusable:
    """The refusal of a file of ours that lost its sense."""
    return Unusable(
        f"the {form.name} {path} is damaged ({' '.join(finding.split())})",
        "Put a good copy back, or move it away together with its -wal file to begin anew.",
    )
