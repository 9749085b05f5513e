"""Domain: the states that the nouns of model.py can be in, as words; the moves between them are in lifecycle.py."""

from __future__ import annotations

from enum import StrEnum


class ProcessRole(StrEnum):
    """SM keeps an archive and may lead; TE is memory only, serves clients, never leads, never counts as a copy."""

    SM = "SM"
    TE = "TE"


class ProcessState(StrEnum):
    """How far one run of one engine got (docs/reference/nuodb.md#life-cycles)."""

    REQUESTED = "REQUESTED"
    STARTED = "STARTED"
    CONFIGURED = "CONFIGURED"
    TRACKED = "TRACKED"
    MONITORED = "MONITORED"
    REQUESTED_SHUTDOWN = "REQUESTED_SHUTDOWN"


class EngineState(StrEnum):
    """What the engine says of itself. RUNNING of an SM means: leader, or member of the in-sync set."""

    UNKNOWN = "UNKNOWN"
    SYNCING = "SYNCING"
    RUNNING = "RUNNING"
    SHUTTING_DOWN = "SHUTTING_DOWN"


class ArchiveState(StrEnum):
    """PROVISIONED holds no data yet; RUNNING has an SM past STARTED; NOT_RUNNING holds data and has none."""

    PROVISIONED = "PROVISIONED"
    RUNNING = "RUNNING"
    NOT_RUNNING = "NOT_RUNNING"


class DatabaseState(StrEnum):
    """What a database is doing (docs/reference/nuodb.md#life-cycles)."""

    NOT_RUNNING = "NOT_RUNNING"
    AWAITING_ARCHIVE_HISTORIES_MSG = "AWAITING_ARCHIVE_HISTORIES_MSG"
    REQUESTED = "REQUESTED"
    STARTED = "STARTED"
    RUNNING = "RUNNING"
    AWAITING_ARCHIVE_HISTORIES_INC = "AWAITING_ARCHIVE_HISTORIES_INC"
    REQUESTED_TE_SHUTDOWN = "REQUESTED_TE_SHUTDOWN"
    REQUESTED_SM_SHUTDOWN = "REQUESTED_SM_SHUTDOWN"
    TOMBSTONE = "TOMBSTONE"


RESTING = (DatabaseState.NOT_RUNNING, DatabaseState.TOMBSTONE)
"""Nothing of it runs."""

STOPPING = (DatabaseState.REQUESTED_TE_SHUTDOWN, DatabaseState.REQUESTED_SM_SHUTDOWN)
"""It is being shut down as a whole."""


class JoinStage(StrEnum):
    """How far an archive is on its way into the in-sync set (docs/reference/safety.md#growing-s)."""

    ANNOUNCED = "ANNOUNCED"  # its manager may REPLICATE
    MARKED = "MARKED"  # link up; a fresh marker was written through the leader
    REQUIRED = "REQUIRED"  # the marker is on its disk; confirmations wait for it; S grows after 1 s


class Requester(StrEnum):
    """Who asked for a process. What the domain requested waits without limit."""

    OPERATOR = "operator"
    DOMAIN = "domain"
