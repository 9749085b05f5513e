"""The managers' own password on the engines of a database: changed while everything runs, in steps that each engine reports.

PREPARED: every engine is to take the new one beside the old one, and the old one is used. SWITCHED: every engine takes both, so
the new one is used. DONE: every engine uses the new one, so the old one is dropped. An engine that starts meanwhile starts so.
"""

from __future__ import annotations

from typing import Any

from dkv.domain.access import RotationPhase, hash_seed
from dkv.domain.database_users import users_digest
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Database, evolve
from dkv.domain.orders import RotateSecret
from dkv.domain.refusals import living_database, no
from dkv.hints import action


def rotate_secret(draft: Draft, command: RotateSecret) -> Refused | None:
    """Put a new password beside the present one."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    change = database.secret_change
    if change.phase is not RotationPhase.DONE:
        return no(
            "rotation_running",
            f"The secret of {database.name} is being changed already: its phase is {change.phase}.",
            "Wait for it. The processes that it waits for: ",
            action("showWaiting"),
            ".",
        )
    if len(command.secret) < SHORTEST:
        return no("bad_value", "The new secret is too short.", "Let a manager make it.")
    seed, why = change.hash_seed or hash_seed(database.secret), "a new one was asked for: engines take it beside the old one"
    _move(draft, database, why, phase=RotationPhase.PREPARED, other_secret=command.secret, hash_seed=seed)
    return None


SHORTEST = 32  # characters


def settle_secret(draft: Draft, name: str) -> None:
    """Go on as soon as every process that has an engine reported the present phase."""
    database = draft.databases[name]
    change = database.secret_change
    if change.phase is RotationPhase.DONE:
        return
    digest = users_digest(draft, name)
    if any(process.pid is not None and process.runs.users != digest for process in draft.processes_of(name)):
        return
    if change.phase is RotationPhase.PREPARED:
        switched = draft.put_database(database, secret=change.other_secret)
        why = "every engine takes both: managers and followers use the new one"
        _move(draft, switched, why, phase=RotationPhase.SWITCHED, other_secret=database.secret)
    else:
        why = "every engine uses the new one: the old one is dropped"
        _move(draft, database, why, phase=RotationPhase.DONE, other_secret="")


def _move(draft: Draft, database: Database, because: str, **changes: Any) -> None:
    change = evolve(database.secret_change, at=draft.command.now, **changes)
    draft.put_database(database, secret_change=change)
    draft.note("database.secret", f"database {database.name}", because, database=database.name)
