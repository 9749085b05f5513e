"""Store: what the main SQLite file holds: the records, the revision, the attempts and the event log.

Everything here runs inside one transaction on one thread. Each record keeps the revision of its last change and a
deleted one stays for a while without its text, so a reader that knows an older revision fetches only what changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dkv.store.changes import ChangeLog
from dkv.store.contract import Conflict, Moved, Snapshot, StoredEvent, Unusable
from dkv.store.sqlite_file import Format, SqliteFile

KEEP_EVENTS = 100_000
MOVED = "moved"  # the table that a state has which is somewhere else by now
KEEP_ATTEMPTS = 10_000
KEEP_DELETED = 1_000
TRIM_STEP = 64

STATE_FILE = Format(
    name="state file",
    application_id=0x646B7631,  # "dkv1"
    version=2,  # 1: a group's phase was given by which of its fields are null
    durable=True,
    schema="""
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL,
                   forgotten INTEGER NOT NULL, sequence INTEGER NOT NULL);
INSERT INTO head VALUES (1, 0, 0, 0);
CREATE TABLE record (key TEXT PRIMARY KEY, text TEXT, revision INTEGER NOT NULL);
CREATE INDEX record_by_revision ON record (revision);
CREATE INDEX deleted_by_revision ON record (revision) WHERE text IS NULL;
CREATE TABLE attempt (revision INTEGER PRIMARY KEY, token TEXT NOT NULL);
CREATE TABLE event (sequence INTEGER PRIMARY KEY, revision INTEGER NOT NULL, text TEXT NOT NULL)
""",
)
"""`forgotten`: the newest revision whose deletions may be missing. `sequence`: of the newest event."""


class StateWriter:
    """Commits. `keep_events` bounds the event log."""

    def __init__(self, file: SqliteFile, keep_events: int = KEEP_EVENTS) -> None:
        self._file = file
        self._keep_events = keep_events

    def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str, asked_at: float) -> int:
        """The guarded write of the contract. `asked_at` is when the caller came, on the monotonic clock."""
        return self._file.write(lambda: self._commit(base, writes, events, token), asked_at)

    def probe(self, asked_at: float) -> None:
        """A commit that changes nothing: the lock, the journal and its disk are used as by any other."""
        self._file.write(lambda: self._file.rows("UPDATE head SET revision = revision"), asked_at)

    def seal(self, place: str) -> str:
        """Have this state say that it moved, and to which place, which is the answer: nothing is committed here any more, and
        nothing read. What was said first stays, and is the answer to whoever comes second.
        """

        def work() -> str:
            if not moved_to(self._file):
                self._file.rows(f"CREATE TABLE IF NOT EXISTS {MOVED} (place TEXT NOT NULL, copied INTEGER NOT NULL)")
                self._file.rows(f"INSERT INTO {MOVED} VALUES (?, 0)", (place,))
            return moved_to(self._file)

        return self._file.write(work)

    def set_copied(self) -> None:
        """Have a sealed state say that all of it is where it went: it is never copied again."""
        self._file.write(lambda: self._file.rows(f"UPDATE {MOVED} SET copied = 1"))

    def _commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        refuse_moved(self._file)
        rows = self._file.rows
        present, sequence = numbers(self._file, "SELECT revision, sequence FROM head")
        revision = base + 1
        if present != base:
            # Whatever was written on `base` got the next revision, so that is where a repeated attempt finds itself.
            if rows("SELECT 1 FROM attempt WHERE revision = ? AND token = ?", (revision, token)):
                return revision
            raise Conflict(f"the state is at revision {present}, not {base}")
        for key, text in writes.items():
            rows("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (key, text, revision))
        for number, text in enumerate(events, sequence + 1):
            rows("INSERT INTO event VALUES (?, ?, ?)", (number, revision, text))
        rows("INSERT INTO attempt VALUES (?, ?)", (revision, token))
        rows("UPDATE head SET revision = ?, sequence = ?", (revision, sequence + len(events)))
        self._trim(revision, sequence + len(events), len(events))
        return revision

    def _trim(self, revision: int, sequence: int, added: int) -> None:
        """Forget the oldest, a little more than came in, so that no commit ever has much to do."""
        rows = self._file.rows
        rows("DELETE FROM attempt WHERE revision <= ?", (revision - KEEP_ATTEMPTS,))
        first = rows("SELECT sequence FROM event ORDER BY sequence LIMIT 1")
        if first and (limit := sequence - self._keep_events) >= int(first[0][0] or 0):
            step = int(first[0][0] or 0) + added + TRIM_STEP
            rows("DELETE FROM event WHERE sequence <= ? AND sequence < ?", (limit, step))
        old = rows("SELECT revision FROM record WHERE text IS NULL ORDER BY revision LIMIT 1")
        if old and int(old[0][0] or 0) <= revision - KEEP_DELETED:
            rows("DELETE FROM record WHERE text IS NULL AND revision = ?", old[0])
            rows("UPDATE head SET forgotten = ?", old[0])


class StateReader:
    """Reads on a connection of its own, which never writes: every commit is another connection's to it."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._version = -1
        self._cached: Snapshot | None = None
        self._records: dict[str, str] = {}  # of that snapshot

    def snapshot(self) -> Snapshot:
        """The newest snapshot. The same object as last time if nothing changed; unchanged texts are the same too."""
        if self._cached is not None and self._file.version() == self._version:
            return self._cached
        self._version, self._cached = self._file.read(self._fresh)
        return self._cached

    def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events with a sequence above `after`, oldest first, `limit` at most."""
        sql = "SELECT sequence, revision, text FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?"
        rows: list[Any] = self._file.read(lambda: self._file.rows(sql, (after, max(0, limit))))
        return tuple(StoredEvent(*row) for row in rows)

    def newest(self) -> int:
        """The sequence of the newest event."""
        return self._file.read(lambda: numbers(self._file, "SELECT revision, sequence FROM head")[1])

    def _fresh(self) -> tuple[int, Snapshot]:
        refuse_moved(self._file)
        version = self._file.version()
        revision, forgotten = numbers(self._file, "SELECT revision, forgotten FROM head")
        known = self._cached
        if known is not None and revision < known.revision:
            raise Unusable(
                f"the state file {self._file.path} went back from revision {known.revision} to {revision}",
                "Stop all managers on this machine before putting an old copy back.",
            )
        if known is not None and revision == known.revision:
            return version, known
        return version, self._changed(known, revision, forgotten)

    def _changed(self, known: Snapshot | None, revision: int, forgotten: int) -> Snapshot:
        """The snapshot of a revision, read from the one before it as far as what was deleted since is still known."""
        follows = known is not None and known.revision >= forgotten
        records = self._records.copy() if follows else {}
        after = known.revision if known is not None and follows else -1
        rows: list[Any] = self._file.rows("SELECT key, text FROM record WHERE revision > ?", (after,))
        for key, text in rows:
            if text is None:
                records.pop(key, None)
            else:
                records[key] = text
        self._records = records
        changes = known.changes if known is not None and follows else ChangeLog()
        if follows:
            changes.add(after, revision, (key for key, _ in rows))
        return Snapshot(revision, MappingProxyType(records), changes)


def moved_to(file: SqliteFile) -> str:
    """The place that the state moved to; "" while it is here. Only inside `read` or `write`."""
    if not file.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (MOVED,)):
        return ""
    return str(file.rows(f"SELECT place FROM {MOVED}")[0][0])


def was_copied(file: SqliteFile) -> bool:
    """Whether a sealed state is whole where it went. Only inside `read` or `write`."""
    return bool(moved_to(file)) and bool(file.rows(f"SELECT copied FROM {MOVED}")[0][0])


def refuse_moved(file: SqliteFile) -> None:
    """Raises Moved for a state that is somewhere else by now."""
    if place := moved_to(file):
        raise Moved(str(file.path), place)


@dataclass(frozen=True)
class WholeState:
    """A whole state, to be moved: its records at one revision, the sequence of its newest event, and the newest events."""

    revision: int
    records: Mapping[str, str]
    sequence: int
    events: Sequence[str]


def whole(file: SqliteFile, most_events: int) -> WholeState:
    """All of a state, sealed or not, with so many events at most."""

    def work() -> WholeState:
        revision, sequence = numbers(file, "SELECT revision, sequence FROM head")
        records = {str(key): str(text) for key, text in file.rows("SELECT key, text FROM record WHERE text IS NOT NULL")}
        newest = file.rows("SELECT text FROM event WHERE sequence > ? ORDER BY sequence", (sequence - most_events,))
        return WholeState(revision, records, sequence, [str(text) for (text,) in newest])

    return file.read(work)


def numbers(file: SqliteFile, sql: str) -> tuple[int, int]:
    """The two numbers of a one-row answer. Raises Unusable if there is no such row."""
    rows: list[Any] = file.rows(sql)
    if len(rows) != 1:
        raise Unusable(f"the state file {file.path} is damaged (no head)", "Put a good copy back.")
    return int(rows[0][0]), int(rows[0][1])
