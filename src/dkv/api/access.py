"""API: access control in front of all routes: who asks, by what the connection or the request shows, and whether it may.

It stands between the guard and the application, so that a refused request's body is not read. Every request is for one route,
whose right stands in rights.py; the application refuses a route that was not judged, whatever address led to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dkv.access import certificates, principals, roles, tokens
from dkv.access.attempts import Attempts
from dkv.access.certificates import Owner
from dkv.access.passwords import LONGEST_HEADER, Credentials, Verifier, basic_credentials
from dkv.access.principals import Caller, Kind
from dkv.access.roles import Asked
from dkv.api.context import DRY_RUN, ManagerContext
from dkv.api.problems import Answer, one_line, refuse, waiting
from dkv.api.rights import match, names_in
from dkv.constants import PRINCIPAL_HEADER
from dkv.domain.access import MANAGERS
from dkv.domain.decision import Refused
from dkv.domain.identities import fingerprint_of_der, roles_of, user_named, user_with_certificate
from dkv.domain.model import State
from dkv.domain.refusals import no
from dkv.domain.rights import Right
from dkv.hints import action, hint
from dkv.peer import PEER, Peer
from dkv.store.contract import StoreError

log = logging.getLogger("dkv.access")

_PRINCIPAL = PRINCIPAL_HEADER.lower().encode()
CALLER, JUDGED = "dkv.caller", "dkv.judged"
"""Where a request's scope carries who was found to ask, and the route that was judged."""

VERIFICATIONS = 2  # passwords at once: each takes a core and 19 MiB for 40 ms
CHALLENGE = {"WWW-Authenticate": 'Basic realm="dkv", charset="UTF-8", Bearer realm="dkv"'}
HINT = hint("On the manager's machine be root (sudo) or the manager's user; anywhere ", action("showCredentials"), ".")


@dataclass(frozen=True)
class AccessControl:
    """What access control needs of its manager."""

    verifier: Verifier
    administrators: Collection[int] = ()  # uids
    attempts: Attempts = field(default_factory=Attempts)
    monotonic: Callable[[], float] = time.monotonic
    verifying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(VERIFICATIONS))


class Access:
    """ASGI middleware: finds out who asks, judges, and only then lets a request through."""

    def __init__(self, app: ASGIApp, manager: ManagerContext, control: AccessControl, answer: Answer) -> None:
        self._app = app
        self._manager = manager
        self._control = control
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = match(scope["path"])
        query = _query(scope)
        right = found.right(scope["method"], query) if found else None
        if right is Right.OPEN and found:
            await self._app({**scope, JUDGED: found.template}, receive, send)
            return
        try:
            state = (await self._manager_of(scope).submitter.view()).state
        except StoreError as error:
            await self._without_state(error, scope, receive, send)
            return
        caller = scope.get(CALLER) or _named(await self._caller(scope, state), scope)
        if isinstance(caller, Refused):
            await self._refuse(caller, scope, receive, send)
        elif found is None or right is None:
            await self._app({**scope, CALLER: caller}, receive, send)  # nothing is at that address, and the answer says so
        else:
            judged = {**scope, CALLER: caller, JUDGED: found.template}
            asked = Asked(right, scope["method"], scope["path"], query, found.parts)
            verdict, receive = await _judge(caller, asked, state, receive)
            if verdict is roles.ALLOWED:
                await self._app(judged, receive, send)
            else:
                assert isinstance(verdict, Refused)
                await self._refuse(verdict, scope, receive, send)

    def _manager_of(self, scope: Scope) -> ManagerContext:
        manager: ManagerContext = scope.get(DRY_RUN) or self._manager
        return manager

    async def _without_state(self, error: StoreError, scope: Scope, receive: Receive, send: Send) -> None:
        """Nobody but an administrator on this machine can be judged while the domain's state cannot be read."""
        caller = self._local(scope)
        if caller is None or not caller.grants[0]:
            await self._answer(waiting(error), {"Retry-After": "1"})(scope, receive, send)
            return
        found = match(scope["path"])
        await self._app({**scope, CALLER: caller, JUDGED: found.template if found else ""}, receive, send)

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        who = scope["client"][0] if scope.get("client") else "the local socket"
        if many := self._control.attempts.refused(who, refused.code, self._control.monotonic()):
            last = one_line(f"{scope['method']} {scope['path']}: {refused.message}")
            log.warning("%d requests of %s were refused, the last: %s", many, who, last)
        await self._answer(refused, CHALLENGE if refused.code == "unauthenticated" else None)(scope, receive, send)

    # Who asks ---------------------------------------------------------------------------------------------------------

    def _local(self, scope: Scope) -> Caller | None:
        peer: Peer = scope.get(PEER) or Peer()
        return principals.local(peer.uid, self._control.administrators) if peer.uid is not None else None

    async def _caller(self, scope: Scope, state: State) -> Caller | Refused:
        """By the header if there is one; else by the connection."""
        shown = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"]
        if len(shown) > 1:
            return no("unauthenticated", "The request has more than one Authorization header.", "Send one.")
        if shown:
            return await self._by_header(shown[0], state)
        if local := self._local(scope):
            return local
        peer: Peer = scope.get(PEER) or Peer()
        if peer.certificate is not None:
            return self._by_certificate(peer.certificate, state)
        return no("unauthenticated", "The request shows no credentials.", HINT)

    async def _by_header(self, header: str, state: State) -> Caller | Refused:
        scheme, _, rest = header.strip().partition(" ")
        if len(header) > LONGEST_HEADER:
            return no("unauthenticated", f"The Authorization header is {len(header)} characters long.", HINT)
        if scheme.lower() == "bearer":
            token = tokens.judge_token(rest.strip(), state.tokens, self._manager.clock())
            if isinstance(token, Refused):
                return token
            owner = user_named(state, token.user) if token.user else None
            return principals.token(token, {owner.name: owner} if owner else {})
        shown = basic_credentials(rest.strip()) if scheme.lower() == "basic" else None
        if shown is None:
            return no("unauthenticated", "The Authorization header is neither Basic nor Bearer as they are written.", HINT)
        return await self._by_password(shown, state)

    async def _by_password(self, shown: Credentials, state: State) -> Caller | Refused:
        known, verifier = user_named(state, shown.name), self._control.verifier
        fits = verifier.remembers(shown, known)
        if not fits:
            async with self._control.verifying:
                fits = await asyncio.to_thread(verifier.verify, shown, known)
        if not fits or known is None:
            return no("unauthenticated", "The user is not known, or the password is another one.", HINT)
        return principals.user(known)

    def _by_certificate(self, certificate: bytes, state: State) -> Caller | Refused:
        if user := user_with_certificate(state, fingerprint_of_der(certificate)):
            return principals.user(user)
        living = {server.uid for server in state.servers.values()}
        authority, now = state.authorities.get(MANAGERS), self._manager.clock()
        uid = certificates.judge_peer(certificate, authority.trusted if authority else (), Owner(state.uid), living, now)
        if isinstance(uid, Refused):
            return no("unauthenticated", uid.message, uid.hint)
        return principals.server(uid)


async def _judge(caller: Caller, asked: Asked, state: State, receive: Receive) -> tuple[roles.Judgement, Receive]:
    """The verdict, never that the body is needed: it is read then, and given again by the new `receive`."""
    made = roles_of(state)
    verdict = roles.judge(caller, asked, made)
    if verdict is not roles.NEEDS_PAYLOAD:
        return verdict, receive
    body = await _read(receive)
    return roles.judge(caller, _with_payload(asked, body), made), _again(body, receive)


def _named(caller: Caller | Refused, scope: Scope) -> Caller | Refused:
    """The principal in whose name a server passes a request on, with what a server may do: only its certificate gives that."""
    names = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _PRINCIPAL]
    if isinstance(caller, Refused) or not names:
        return caller
    principal = principals.named(unquote(names[0])) if len(names) == 1 else None
    if caller.principal.kind is not Kind.SERVER or principal is None:
        message = f"{caller.principal} may not say in whose name it asks."
        return no("not_allowed", message, f"Leave the header {PRINCIPAL_HEADER} out; it is for the managers of the domain.")
    return Caller(principal, caller.grants)


def refuse_unjudged(request: Request) -> None:
    """Refuse a route that access control did not judge: the template that was judged, filled with what the router found in the
    address, has to be the address.
    """
    template, parts = request.scope.get(JUDGED, ""), request.path_params
    if names_in(template) != set(parts) or template.format(**parts) != request.scope["path"]:
        message = f"Nobody may {request.method} {request.url.path[:200]}."
        raise refuse("not_allowed", message, "Use the address as it is described under /docs.")


# Requests -------------------------------------------------------------------------------------------------------------


def _query(scope: Scope) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


async def _read(receive: Receive) -> bytes:
    """The whole body; the guard bounds it."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for who reads it next."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_payload(asked: Asked, body: bytes) -> Asked:
    try:
        payload: Any = json.loads(body)
    except (ValueError, RecursionError):
        payload = {}
    fields = payload if isinstance(payload, dict) else {}
    return Asked(asked.right, asked.method, asked.path, asked.query, asked.path_parameters, fields)
