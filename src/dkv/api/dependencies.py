"""API: what every changing route does: name things, submit one command, answer with the store as it is then."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Header, Request

from dkv.api.context import ManagerContext
from dkv.api.origin import CALLER, origin_of
from dkv.api.problems import Refusal, refuse
from dkv.control.submit import RequestKey, View
from dkv.domain import status
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import Archive, Database, State
from dkv.domain.refusals import living_database, nearest
from dkv.wire import schemas, views


async def idempotency_key(
    request: Request, key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = ""
) -> RequestKey | None:
    """The caller's key, bound to this request: its method, its address with the query, its body; None without one.

    The digests are made with the key, which is written nowhere: a body may hold a password, and whoever reads the state is not
    to try passwords against a digest that takes no time to make.
    """
    if not key:
        return None
    scope, secret = request.scope, key.encode()
    content = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], await request.body())
    caller = scope.get(CALLER)
    principal = str(caller.principal).encode() if caller else b""
    return RequestKey(hashlib.sha256(secret).hexdigest()[:32], _digest(secret, *content), _digest(secret, principal))


def _digest(secret: bytes, *parts: bytes) -> str:
    """32 hex digits."""
    return hmac.new(secret, b"".join(b"%d:%b" % (len(part), part) for part in parts), hashlib.sha256).hexdigest()[:32]


async def actor_of(request: Request) -> str:
    """Who asked, for the log of a manager and for one that an order is passed on to. Commands get theirs in origin.py."""
    return origin_of(request.scope, "").actor


async def is_judged(request: Request) -> bool:
    """Whether the manager has access control."""
    return request.scope.get(CALLER) is not None


Judged = Annotated[bool, Depends(is_judged)]
Key = Annotated[RequestKey | None, Depends(idempotency_key)]
Actor = Annotated[str, Depends(actor_of)]


def accepted(decision: Accepted | Refused) -> Accepted:
    """The decision, if it is a yes. Raises Refusal."""
    if isinstance(decision, Refused):
        raise Refusal(decision)
    return decision


async def repeated(manager: ManagerContext, key: RequestKey | None) -> Accepted | None:
    """What this very request was answered already, under its key; None for a new one. Raises Refusal for another one's key.

    A route that judges before it submits asks this first: what was true then need not be true any more.
    """
    answered = await manager.submitter.answered(key)
    return accepted(answered) if answered else None


def database_of(state: State, name: str) -> Database:
    """The store of that name. Raises Refusal."""
    database = living_database(state.databases, name)
    if isinstance(database, Refused):
        raise Refusal(database)
    return database


def find_instance(state: State, store: str, name: str) -> Archive | None:
    """The instance of that name, if there is one."""
    return next((a for a in status.instances(state, store) if a.name == name), None)


def unknown_instance(state: State, store: str, name: str) -> Refusal:
    """No instance of that name."""
    known = [a.name for a in status.instances(state, store)]
    return refuse("unknown_archive", f"{store} has no instance {name}.", nearest(name, known))


def instance_of(state: State, store: str, name: str) -> Archive:
    """The instance of that name. Raises Refusal."""
    database_of(state, store)
    archive = find_instance(state, store, name)
    if archive is None:
        raise unknown_instance(state, store, name)
    return archive


def store_json(view: View, name: str, judged: bool) -> schemas.Store:
    """The store as JSON. Raises Refusal."""
    return views.store_view(view.state, database_of(view.state, name), view.revision, judged=judged)


async def store_now(manager: ManagerContext, name: str, judged: bool) -> schemas.Store:
    """The store as it is now, read after the change. Raises Refusal."""
    return store_json(await manager.submitter.view(), name, judged)
