"""The managers' own password on the engines of a database: changed while everything runs, in steps that each engine reports.

PREPARED: every engine is to take the new one beside the old one, and the old one is used. SWITCHED: every engine takes both, so
the new one is used. DONE: every engine uses the new one, so the old one is dropped. An engine that starts meanwhile starts so.
"""

from __future__ import annotations

import hashlib

from dkv.domain.access import RotationPhase
from dkv.domain.commands import RotateSecret
from dkv.domain.database_users import users_digest
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Database, evolve
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
    seed = change.hash_seed or hash_seed_of(database.secret)
    _move(
        draft,
        database,
        RotationPhase.PREPARED,
        "a new one was asked for: engines take it beside the old one",
        command.secret,
        seed,
    )
    return None


SHORTEST = 32  # characters


def hash_seed_of(secret: str) -> str:
    """What the engines of a database hash with for as long as it lives, 64 hex: of its first secret."""
    return hashlib.sha256(f"dkv-hash-seed:{secret}".encode()).hexdigest()


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
        _move(draft, switched, RotationPhase.SWITCHED, why, database.secret, change.hash_seed)
    else:
        _move(draft, database, RotationPhase.DONE, "every engine uses the new one: the old one is dropped", "", change.hash_seed)


def _move(draft: Draft, database: Database, phase: RotationPhase, because: str, other: str, seed: str) -> None:
    change = evolve(database.secret_change, other_secret=other, phase=phase, at=draft.command.now, hash_seed=seed)
    draft.put_database(database, secret_change=change)
    draft.note("database.secret", f"database {database.name}", because, database=database.name)
