"""API: users of a store, and whom its engines let in. A password comes in a body and is kept nowhere: only its SHA-256 is."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field

from dkv.api.bodies import Body
from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Key, accepted, database_of
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.control.submit import RequestKey
from dkv.domain.access import DatabaseUser
from dkv.domain.command import Command
from dkv.domain.orders import (
    AddUserPassword,
    CreateDatabaseUser,
    DeleteDatabaseUser,
    DropUserPassword,
    RotateSecret,
    SetDatabaseAccess,
)
from dkv.domain.refusals import nearest
from dkv.wire import schemas

router = Router(prefix="/admin/v1/stores/{name}", tags=["access"])

LONGEST_PASSWORD = 1_024  # bytes in UTF-8

Password = Annotated[str, Field(min_length=1)]


class DatabaseUserBody(Body):
    """A new user: its name, its password, and what it may. `keys` are patterns of the keys it may use; none: all. A `monitor`
    sees numbers, connections and the logs of slow commands, and no key. One that is `importing` also writes values as another
    server has them (`RESTORE`), and loads functions."""

    name: str
    password: Password
    read_only: bool = False
    keys: Annotated[list[str], Field(default_factory=list)]
    scripting: bool = True
    monitor: bool = False
    importing: bool = False


class PasswordBody(Body):
    """A new password of a user; the old one is taken beside it until it is dropped."""

    password: Password


class AccessBody(Body):
    """Whether the store's engines let in every client, without a password."""

    open: bool


@router.get("/users")
async def get_users(name: str, context: Context) -> schemas.DatabaseUsers:
    """The users of a store and what each may; never a password or its hash."""
    database_of(context.state, name)
    return {"users": [_view(user) for user in context.state.users_of(name)]}


@router.post("/users", status_code=201)
async def create_user(name: str, body: DatabaseUserBody, manager: Manager, key: Key) -> schemas.DatabaseUserChanged:
    """Make a user whom all engines of the store let in, those that start later too."""
    command = CreateDatabaseUser(
        database=name,
        name=body.name,
        hashed_password=hashed(body.password),
        read_only=body.read_only,
        keys=tuple(body.keys),
        scripting=body.scripting,
        monitor=body.monitor,
        importing=body.importing,
    )
    return await _changed(manager, name, body.name, command, key)


@router.post("/users/{user}/passwords")
async def add_password(name: str, user: str, body: PasswordBody, manager: Manager, key: Key) -> schemas.DatabaseUserChanged:
    """Give a user a new password, which is taken beside the old one."""
    command = AddUserPassword(database=name, name=user, hashed_password=hashed(body.password))
    return await _changed(manager, name, user, command, key)


@router.delete("/users/{user}/passwords")
async def drop_password(name: str, user: str, manager: Manager, key: Key) -> schemas.DatabaseUserChanged:
    """Take the newest password of a user only. Connections that the old one opened stay."""
    return await _changed(manager, name, user, DropUserPassword(database=name, name=user), key)


@router.delete("/users/{user}")
async def delete_user(name: str, user: str, manager: Manager, key: Key) -> schemas.DatabaseUserDeleted:
    """Let a user in no more, and end its connections."""
    accepted(await manager.submitter.submit(DeleteDatabaseUser(database=name, name=user), key))
    return {"result": "Deleted", "name": user}


@router.post("/access")
async def set_access(name: str, body: AccessBody, manager: Manager, key: Key) -> schemas.AccessSet:
    """Have the engines of a store let in every client, or its users only."""
    accepted(await manager.submitter.submit(SetDatabaseAccess(database=name, open=body.open), key))
    return {"result": "Set", "open": body.open}


@router.post("/secret")
async def rotate_secret(name: str, manager: Manager, key: Key) -> schemas.SecretRotating:
    """Change the managers' own password on the engines of a store, while everything runs; its view says what it waits for."""
    done = accepted(await manager.submitter.submit(RotateSecret(database=name, secret=manager.new_id()), key))
    return {"result": "Rotating", "phase": done.state.databases[name].secret_change.phase.value}


async def _changed(
    manager: ManagerContext, store: str, name: str, command: Command, key: RequestKey | None
) -> schemas.DatabaseUserChanged:
    done = accepted(await manager.submitter.submit(command, key))
    user = done.state.database_users.get((store, name))
    if user is None:  # a repeated request whose user was deleted since then
        raise refuse("unknown_record", f"{store} has no user named {name} any more.", nearest(name, ()))
    return {"result": "Set", "user": _view(user)}


def hashed(password: str) -> str:
    """What an engine keeps of a password. Raises Refusal for one that is too long, or is no text."""
    try:
        content = password.encode()
    except UnicodeEncodeError as error:
        raise refuse("bad_value", "The password is no text.", "Write it in UTF-8.") from error
    if len(content) > LONGEST_PASSWORD:
        raise refuse("bad_value", f"The password has {len(content)} bytes.", f"Give one of at most {LONGEST_PASSWORD}.")
    return hashlib.sha256(content).hexdigest()


def _view(user: DatabaseUser) -> schemas.DatabaseUser:
    return {
        "name": user.name,
        "readOnly": user.read_only,
        "keys": list(user.keys),
        "scripting": user.scripting,
        "monitor": user.monitor,
        "importing": user.importing,
        "passwords": len(user.passwords),
        "madeBy": user.made_by,
        "madeAt": user.made_at,
        "changedAt": user.changed_at,
    }
