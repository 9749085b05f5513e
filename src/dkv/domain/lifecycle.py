"""The life cycles, as tables: from, on, to, because. A move that has no row cannot be made.

docs/lifecycles.md is generated from here. The shape is tabled; the judgement (when) lives in rules/.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.decision import InvariantError

ANY = "*"
GONE = "(gone)"
NEW = "(new)"


@dataclass(frozen=True)
class Row:
    """One legal move. `source` may be ANY."""

    source: str
    on: str
    target: str
    because: str


PROCESS = (
    Row(NEW, "requested", "REQUESTED", "it was requested"),
    Row("REQUESTED", "taken", "STARTED", "its server's manager took the request"),
    Row("STARTED", "launched", "CONFIGURED", "its parameters are decided and its engine was launched"),
    Row("CONFIGURED", "loaded", "TRACKED", "its engine answers and has loaded its data"),
    Row("STARTED", "loaded", "TRACKED", "its engine answers and has loaded its data"),
    Row("TRACKED", "joined", "MONITORED", "it joined its group's leader"),
    Row("TRACKED", "leads", "MONITORED", "it leads its group"),
    Row("REQUESTED", "stop", "REQUESTED_SHUTDOWN", "it was asked to stop"),
    Row("STARTED", "stop", "REQUESTED_SHUTDOWN", "it was asked to stop"),
    Row("CONFIGURED", "stop", "REQUESTED_SHUTDOWN", "it was asked to stop"),
    Row("TRACKED", "stop", "REQUESTED_SHUTDOWN", "it was asked to stop"),
    Row("MONITORED", "stop", "REQUESTED_SHUTDOWN", "it was asked to stop"),
    Row(ANY, "exited", GONE, "it ended"),
)

ARCHIVE = (
    Row(NEW, "created", "PROVISIONED", "it was created and holds no data yet"),
    Row("PROVISIONED", "launched", "RUNNING", "its SM was configured"),
    Row("NOT_RUNNING", "launched", "RUNNING", "its SM was configured"),
    Row("RUNNING", "exited", "NOT_RUNNING", "its SM ended"),
    Row(ANY, "retired", GONE, "it was deleted, and its directory renamed if that was its own"),
)

GROUP = (
    Row(NEW, "created", "VACANT", "it was created"),
    Row("VACANT", "assigned", "ASSIGNED", "a member of the in-sync set was chosen to lead"),
    Row("ASSIGNED", "superseded", "VACANT", "its assigned leader made no progress or ended before its term opened"),
    Row("ASSIGNED", "opened", "OPEN", "its leader has loaded, is fenced and holds the newest term"),
    Row("OPEN", "vacated", "VACANT", "its leader is gone"),
    Row("OPEN", "handover", "HANDOVER", "a planned change of leader began"),
    Row("HANDOVER", "handed over", "OPEN", "the target of the handover leads"),
    Row("HANDOVER", "handover failed", "OPEN", "the old leader still leads at the deadline"),
    Row("HANDOVER", "vacated", "VACANT", "its leader is gone"),
)

DATABASE = (
    Row(NEW, "created", "NOT_RUNNING", "it was created"),
    Row("TOMBSTONE", "created", "NOT_RUNNING", "it was created again"),
    Row("NOT_RUNNING", "requested", "REQUESTED", "its first process was requested"),
    Row("NOT_RUNNING", "awaiting", "AWAITING_ARCHIVE_HISTORIES_MSG", "archives hold data and none of them runs"),
    Row("REQUESTED", "started", "STARTED", "a process of it was started"),
    Row("REQUESTED", "awaiting", "AWAITING_ARCHIVE_HISTORIES_MSG", "archives hold data and none of them runs"),
    Row("STARTED", "awaiting", "AWAITING_ARCHIVE_HISTORIES_MSG", "its leader is gone and a new one is being chosen"),
    Row("AWAITING_ARCHIVE_HISTORIES_MSG", "started", "STARTED", "its leader was assigned"),
    Row("AWAITING_ARCHIVE_HISTORIES_MSG", "requested", "REQUESTED", "no archive that holds data is left"),
    Row("STARTED", "requested", "REQUESTED", "no process of it is started"),
    Row("REQUESTED", "running", "RUNNING", "its first leader runs"),
    Row("STARTED", "running", "RUNNING", "its first leader runs"),
    Row("AWAITING_ARCHIVE_HISTORIES_MSG", "running", "RUNNING", "its first leader runs"),
    Row("REQUESTED", "degraded", "AWAITING_ARCHIVE_HISTORIES_INC", "it serves and an SM is missing"),
    Row("STARTED", "degraded", "AWAITING_ARCHIVE_HISTORIES_INC", "it serves and an SM is missing"),
    Row("AWAITING_ARCHIVE_HISTORIES_MSG", "degraded", "AWAITING_ARCHIVE_HISTORIES_INC", "it serves, an SM is missing"),
    Row("RUNNING", "degraded", "AWAITING_ARCHIVE_HISTORIES_INC", "it serves and an SM is missing"),
    Row("AWAITING_ARCHIVE_HISTORIES_INC", "running", "RUNNING", "every archive with data has its SM"),
    Row("RUNNING", "awaiting", "AWAITING_ARCHIVE_HISTORIES_MSG", "its leader is gone and a new one is being chosen"),
    Row("AWAITING_ARCHIVE_HISTORIES_INC", "awaiting", "AWAITING_ARCHIVE_HISTORIES_MSG", "its leader is gone"),
    Row("RUNNING", "started", "STARTED", "a new leader was assigned at once"),
    Row("AWAITING_ARCHIVE_HISTORIES_INC", "started", "STARTED", "a new leader was assigned at once"),
    Row(ANY, "stop tes", "REQUESTED_TE_SHUTDOWN", "its TEs are stopped first"),
    Row(ANY, "stop sms", "REQUESTED_SM_SHUTDOWN", "no TE is left and its SMs are stopped"),
    Row(ANY, "stopped", "NOT_RUNNING", "no process of it is left"),
    Row("NOT_RUNNING", "deleted", "TOMBSTONE", "it was deleted"),
)

HOT_COPY = (
    Row(NEW, "requested", "PREPARING", "it was asked for"),
    Row("PREPARING", "prepared", "PAUSING", "every directory it goes to is empty and has room"),
    Row("PAUSING", "paused", "CUTTING", "the writes of all its groups wait"),
    Row("CUTTING", "noted", "HOLDING", "every archive noted where its files end"),
    Row("HOLDING", "held", "COPYING", "nothing was written in any of its groups meanwhile: that is the cut"),
    Row("PAUSING", "void", "PAUSING", "the attempt to cut was not completed in time; the next one begins"),
    Row("CUTTING", "void", "PAUSING", "a leader changed or wrote before the cut was complete; the next attempt begins"),
    Row("HOLDING", "void", "PAUSING", "a leader changed or wrote before the cut was complete; the next attempt begins"),
    Row("COPYING", "copied", "COMPLETED", "every archive's copy is whole and on disk"),
    Row(ANY, "failed", "FAILED", "it cannot be completed"),
    Row(ANY, "cancelled", "CANCELLED", "an operator cancelled it"),
)

TABLES: dict[str, tuple[Row, ...]] = {
    "process": PROCESS,
    "archive": ARCHIVE,
    "group": GROUP,
    "database": DATABASE,
    "copy": HOT_COPY,
}


def row(table: str, source: str, on: str) -> Row:
    """The legal move from `source` on `on`. Raises InvariantError if the table has none."""
    for candidate in TABLES[table]:
        if candidate.on == on and candidate.source in (source, ANY):
            return candidate
    raise InvariantError(f"no {table} life cycle row from {source} on {on}")


def row_to(table: str, source: str, target: str) -> Row:
    """The legal move from `source` to `target`. Raises InvariantError if the table has none."""
    for candidate in TABLES[table]:
        if candidate.target == target and candidate.source in (source, ANY):
            return candidate
    raise InvariantError(f"no {table} life cycle row from {source} to {target}")
