"""Users of databases: made, given passwords, deleted; and whom running engines let in, when their managers say so.

The domain never sees a password: it keeps the SHA-256 that an engine compares with.
"""

from __future__ import annotations

from dkv.domain.access import DatabaseUser
from dkv.domain.database_users import ALTERED, MOST_USERS, unfit_user
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import UsersSeen
from dkv.domain.model import Database, evolve
from dkv.domain.orders import AddUserPassword, CreateDatabaseUser, DeleteDatabaseUser, DropUserPassword, SetDatabaseAccess
from dkv.domain.refusals import living_database, nearest, no, stale_fact
from dkv.domain.rules.processes import owned
from dkv.hints import action


def create_database_user(draft: Draft, command: CreateDatabaseUser) -> Refused | None:
    """Keep a new user; the same one again is answered, not refused."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    made = DatabaseUser(
        command.database,
        command.name,
        (command.hashed_password,),
        read_only=command.read_only,
        keys=() if "*" in command.keys else tuple(dict.fromkeys(command.keys)),
        scripting=command.scripting,
        monitor=command.monitor,
        importing=command.importing,
        made_by=command.actor,
        made_at=command.now,
        changed_at=command.now,
    )
    if refused := unfit_user(made):
        return refused
    known = draft.database_users.get((made.database, made.name))
    if known:
        again = evolve(made, made_by=known.made_by, made_at=known.made_at, changed_at=known.changed_at) == known
        return None if again else _exists(made)
    if len(draft.users_of(database.name)) >= MOST_USERS:
        return no("records_full", f"{database.name} has {MOST_USERS} users already.", "Delete some that nobody uses any more.")
    draft.put(made)
    _note(draft, database, "created", made.name, f"it was asked for, with {limits(made)}")
    return None


def limits(user: DatabaseUser) -> str:
    """What a user may, as a clause: `full access`, `read-only access to keys orders:*, without scripts`."""
    if user.monitor:
        return "access to numbers and logs, to no keys"
    if user.importing:
        return "full access, to write values of another server"
    access = "read-only access" if user.read_only else "full access" if not user.keys and user.scripting else "access"
    keys = f" to keys {', '.join(user.keys)}" if user.keys else ""
    return f"{access}{keys}{'' if user.scripting else ', without scripts'}"


def _exists(user: DatabaseUser) -> Refused:
    return no(
        "record_exists",
        f"{user.database} has another user named {user.name} already.",
        "Choose another name, give that user a new password, or delete it first.",
    )


def add_user_password(draft: Draft, command: AddUserPassword) -> Refused | None:
    """The new password is taken beside the one there is. The same one again is answered."""
    database, user = _found(draft, command)
    if isinstance(user, Refused) or isinstance(database, Refused):
        return user if isinstance(user, Refused) else None
    if command.hashed_password == user.passwords[0]:
        return None
    if len(user.passwords) > 1:
        return no(
            "record_in_use",
            f"User {user.name} of {database.name} has two passwords already.",
            "Have every client use the newer one, then drop the old one: ",
            action("dropOldPassword", store=database.name, user=user.name),
            ".",
        )
    changed = evolve(user, passwords=(command.hashed_password, *user.passwords), changed_at=command.now)
    if refused := unfit_user(changed):
        return refused
    draft.put(changed)
    _note(draft, database, "password_added", user.name, "a new password was given; the old one is taken until it is dropped")
    return None


def drop_user_password(draft: Draft, command: DropUserPassword) -> Refused | None:
    """Keep the newest password only."""
    database, user = _found(draft, command)
    if isinstance(user, Refused) or isinstance(database, Refused):
        return user if isinstance(user, Refused) else None
    if len(user.passwords) > 1:
        draft.put(evolve(user, passwords=user.passwords[:1]))
        _note(draft, database, "password_dropped", user.name, "only its newest password is taken from now on")
    return None


def delete_database_user(draft: Draft, command: DeleteDatabaseUser) -> Refused | None:
    """Forget a user."""
    database, user = _found(draft, command)
    if isinstance(user, Refused) or isinstance(database, Refused):
        return user if isinstance(user, Refused) else None
    draft.drop(user)
    _note(draft, database, "deleted", user.name, "it was deleted: it is let in no more, and its connections end")
    return None


def set_database_access(draft: Draft, command: SetDatabaseAccess) -> Refused | None:
    """Let in everybody, or the users only. Nobody is locked out by mistake: a database without users stays open."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    if database.access.open == command.open:
        return None
    if not command.open and not draft.users_of(database.name):
        return no(
            "bad_value",
            f"{database.name} has no users: nobody could use it any more.",
            "Create one first: ",
            action("createDatabaseUser", store=database.name),
            ".",
        )
    why = "an operator had it let in every client" if command.open else "an operator had it let in its users only"
    changed = draft.put_database(database, access=evolve(database.access, open=command.open, changed_at=command.now))
    draft.note("database.access", f"database {changed.name}", why, database=changed.name)
    return None


def _found(
    draft: Draft, command: AddUserPassword | DropUserPassword | DeleteDatabaseUser
) -> tuple[Database | Refused, DatabaseUser | Refused]:
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database, database
    user = draft.database_users.get((command.database, command.name))
    names = [user.name for user in draft.users_of(database.name)]
    missing = f"{database.name} has no user named {command.name[:60]}."
    return database, user or no("unknown_record", missing, nearest(command.name, names))


def _note(draft: Draft, database: Database, what: str, user: str, because: str) -> None:
    draft.put_database(database, access=evolve(database.access, changed_at=draft.command.now))
    draft.note(f"user.{what}", f"user {database.name}/{user}", because, database=database.name)


def users_seen(draft: Draft, command: UsersSeen) -> Refused | None:
    """A manager saw that the engines of a process let in whom they should, or that they were altered and no longer do."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    users = ALTERED if command.altered else command.users
    if process.runs.users == users:
        return stale_fact(f"that is known of process {process.start_id}")
    process = draft.put_process(process, runs=evolve(process.runs, users=users))
    if command.altered:
        draft.note(
            "process.users_altered",
            f"process {process.start_id}",
            f"users were changed on its engine, and not by its manager: {', '.join(command.altered)}; they are set again",
            database=process.database,
            start_id=process.start_id,
            archive_id=process.archive_id,
        )
    return None
