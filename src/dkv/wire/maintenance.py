"""Wire: what is under way in a store, and what is waited for, as JSON."""

from __future__ import annotations

from typing import Any

from dkv.database_options import TABLE
from dkv.domain import blocked, operations, options
from dkv.domain.model import Database, Group, State
from dkv.domain.operations import Operation
from dkv.wire import schemas
from dkv.wire.hints import parts_view


def switchover_view(state: State, group: Group) -> schemas.SwitchoverRequest | None:
    """A change of leader that was asked for and is not done; `to` is null for whichever copy is furthest."""
    request = group.switchover
    if request is None:
        return None
    target = state.processes.get(request.to_process) if request.to_process is not None else None
    archive = state.archive_of(target) if target else None
    return {"to": archive.name if archive else None, "since": request.at, "reason": request.reason}


def waiting_view(state: State, store: str | None = None, now: int = 0) -> list[schemas.BlockedItem]:
    """Everything that waits: for what, since when (null if it is not known), why, and what helps. Without `now`, the wall clock
    in ms, certificates are not judged."""
    return [
        {
            "kind": item.kind,
            "subject": item.subject,
            "store": item.database or None,
            "for": item.waits_for,
            "since": item.since,
            "reason": item.reason,
            "hint": str(item.hint),
            "hintParts": parts_view(item.hint),
            "blocksWrites": item.blocks,
        }
        for item in blocked.blocked(state, store, now)
    ]


def restart_view(state: State, database: Database) -> schemas.Restart | None:
    """How far a restart is, and what it does or waits for."""
    restart, operation = database.restart, operations.restart(state, database)
    if restart is None or operation is None:
        return None
    return {
        "rolling": restart.rolling,
        "force": restart.force,
        "since": restart.at,
        "processes": operation.total,
        "replaced": operation.done,
        "waitsFor": operation.waits_for,
        "reason": operation.reason,
        "hint": str(operation.hint),
        "hintParts": parts_view(operation.hint),
    }


def operation_view(operation: Operation) -> schemas.Operation:
    """A long operation: its stage, how far it is, what it waits for, and the order that ends it."""
    return {
        "kind": operation.kind,
        "subject": operation.subject,
        "stage": operation.stage,
        "stages": list(operation.stages),
        "done": operation.done,
        "total": operation.total,
        "since": operation.since or None,
        "waitsFor": operation.waits_for,
        "reason": operation.reason,
        "hint": str(operation.hint),
        "hintParts": parts_view(operation.hint),
        "cancel": type(operation.cancel).__name__ if operation.cancel else None,
    }


def options_view(state: State, database: Database) -> dict[str, Any]:
    """The options by the names people write: `wanted` as the domain goes by them, `kept` as they were written, and for each
    process that lacks one what it runs with; `needsRestart` if only a restart changes that."""
    return {
        "wanted": {option.name: getattr(database.options, option.field) for option in TABLE},
        "kept": dict(database.default_options),
        "lacking": [
            {
                "startId": process.start_id,
                "server": process.server_id,
                "option": lag.option,
                "runs": lag.runs,
                "wanted": lag.wanted,
                "needsRestart": lag.renews,
            }
            for process in state.processes_of(database.name)
            for lag in options.lags(database, process)
        ],
    }
