"""Domain: what a user of a database may be, and which processes do not have their database's users yet. Pure.

Whom the engines of a database are to let in has a digest, so that a process can be known to have it with one short text.
"""

from __future__ import annotations

import hashlib
import json
import re

from dkv.domain.access import DatabaseUser, RotationPhase
from dkv.domain.admission import unfit_label
from dkv.domain.decision import Refused
from dkv.domain.model import Database, Process, ProcessState, Reader, State
from dkv.domain.refusals import no

MOST_USERS = 200  # of a database
MOST_PATTERNS = 20  # of a user's keys
LONGEST_PATTERN = 200  # characters
RESERVED = ("default",)
RESERVED_PREFIX = "dkv-"  # of the managers' own users on every engine
ALTERED = "altered"  # stands for the digest of a process whose engines let in others than they should


def unfit_user(user: DatabaseUser) -> Refused | None:
    """Refuse a user whom an engine cannot have, or who could not be named in a command or in a URL."""
    if refused := _unfit_name(user.name) or next(filter(None, map(_unfit_pattern, user.keys)), None):
        return refused
    if user.monitor and (user.read_only or user.keys or not user.scripting or user.importing):
        return no("bad_value", "A monitor uses no keys and no scripts at all.", "Give it no other limit.")
    if user.importing and (user.read_only or user.keys or not user.scripting):
        return no("bad_value", "A user who imports writes every key.", "Give it no limit.")
    if len(user.keys) > MOST_PATTERNS:
        return no("bad_value", f"There are {len(user.keys)} patterns of keys.", f"Give at most {MOST_PATTERNS}.")
    if not all(re.fullmatch("[0-9a-f]{64}", password) for password in user.passwords):
        return no("bad_value", "The hash of the password is no SHA-256 in hex.", "Let a manager make it.")
    return None


def _unfit_name(name: str) -> Refused | None:
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        return no("bad_value", f"The name {name} is one of the engines' own users.", "Choose another name.")
    if name and not re.search(r"[\s:/@]", name) and unfit_label("User", name) is None:
        return None
    return no(
        "bad_value",
        f"User {name[:60]!r} is not a valid name.",
        "Use up to 200 printable characters without blanks, slashes, colons and at signs.",
    )


def _unfit_pattern(pattern: str) -> Refused | None:
    if 0 < len(pattern) <= LONGEST_PATTERN and pattern.isprintable() and not re.search(r"\s", pattern):
        return None
    hint = f"Use up to {LONGEST_PATTERN} printable characters without blanks; `?` stands for any character."
    return no("bad_value", f"{pattern[:60]!r} is not a valid pattern of keys.", hint)


def users_digest(state: Reader, name: str) -> str:
    """Whom the engines of a database are to let in, managers too, as a digest; "" for every client and no user, unless the
    managers' password is being changed.
    """
    users, database = state.users_of(name), state.databases[name]
    is_open, change = database.access.open, database.secret_change
    if is_open and not users and change.phase is RotationPhase.DONE:
        return ""
    named = [
        [user.name, sorted(user.passwords), user.read_only, user.keys, user.scripting]
        + [kind for kind in ("monitor", "importing") if getattr(user, kind)]
        for user in users
    ]
    secrets = [change.phase, database.secret, change.other_secret] if change.phase is not RotationPhase.DONE else []
    return hashlib.sha256(json.dumps([is_open, named, secrets]).encode()).hexdigest()[:16]


def lacks_users(state: State, database: Database, process: Process) -> bool:
    """Whether a process does not let in whom it should. One that is not loaded was started with what is wanted; a change of the
    managers' password waits for it all the same.
    """
    changing = database.secret_change.phase is not RotationPhase.DONE and process.pid is not None
    loaded = process.state in (ProcessState.TRACKED, ProcessState.MONITORED)
    return (loaded or changing) and process.runs.users != state.memoized(users_digest, database.name)
