"""Store: the SQLite file of leases, beside the state so that a renewal never moves or waits for a revision.

`expires` is on the machine's boot-time clock: one clock for all processes, which no clock setting moves and which
counts while the machine sleeps. After a reboot it restarts, so the leases of another boot are void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dkv.kernel import boot_id, boottime
from dkv.store.contract import Lease
from dkv.store.sqlite_file import Format, SqliteFile

SWEEP_AFTER = 3600.0

LEASE_FILE = Format(
    name="lease file",
    application_id=0x646B766C,  # "dkvl"
    version=1,
    durable=False,
    schema="""
CREATE TABLE boot (boot_id TEXT NOT NULL);
CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL, value TEXT NOT NULL)
""",
)


class Leases:
    """Leases in a file. Every time is taken inside the transaction, so waiting for it never shortens a claim."""

    def __init__(self, file: SqliteFile, clock: Callable[[], float] = boottime, boot: str | None = None) -> None:
        self._file = file
        self._clock = clock
        self._file.write(lambda: self._void_other_boots(boot if boot is not None else boot_id()))

    def acquire(self, name: str, holder: str, ttl: float, value: str) -> bool:
        """Take it if it is free, expired or ours."""
        return self._file.write(lambda: self._acquire(name, holder, ttl, value))

    def release(self, name: str, holder: str) -> None:
        """Give it up if it is ours."""
        self._file.write(lambda: self._file.rows("DELETE FROM lease WHERE name = ? AND holder = ?", (name, holder)))

    def all(self) -> Sequence[Lease]:
        """Every lease, by name."""
        sql = "SELECT name, holder, expires, value FROM lease WHERE expires >= ? ORDER BY name"
        rows: list[Any] = self._file.read(lambda: self._file.rows(sql, (self._clock() - SWEEP_AFTER,)))
        now = self._clock()
        return tuple(Lease(name, holder, expires - now, value) for name, holder, expires, value in rows)

    def _acquire(self, name: str, holder: str, ttl: float, value: str) -> bool:
        rows, now = self._file.rows, self._clock()
        ours = "UPDATE lease SET expires = ?, value = ? WHERE name = ? AND holder = ? RETURNING 1"
        if rows(ours, (now + ttl, value, name, holder)):
            return True
        rows("DELETE FROM lease WHERE expires < ?", (now - SWEEP_AFTER,))
        if rows("SELECT 1 FROM lease WHERE name = ? AND expires > ?", (name, now)):
            return False
        rows("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", (name, holder, now + ttl, value))
        return True

    def _void_other_boots(self, boot: str) -> None:
        if self._file.rows("SELECT boot_id FROM boot") != [(boot,)]:
            for table in ("lease", "boot"):
                self._file.rows(f"DELETE FROM {table}")
            self._file.rows("INSERT INTO boot VALUES (?)", (boot,))
