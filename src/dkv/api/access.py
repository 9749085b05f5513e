"""API: access control in front of all routes: who asks, by what the connection or the request shows, and whether it may.

It stands between the guard and the application, so that a refused request's body is not read. Every request is for one route,
whose right stands in rights.py; the application refuses a route that was not judged, whatever address led to it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dkv.access import certificates, passed_on, principals, roles, tokens
from dkv.access.attempts import Attempts
from dkv.access.certificates import Owner
from dkv.access.domain_key import DomainKey
from dkv.access.passwords import LONGEST_HEADER, Credentials, Verifier, basic_credentials
from dkv.access.principals import Caller, Kind, Principal
from dkv.access.roles import AccessRequest
from dkv.access.turns import Crowded, Turns
from dkv.api.context import DRY_RUN, ManagerContext
from dkv.api.guard import LOOKING
from dkv.api.origin import CALLER
from dkv.api.problems import Answer, one_line, refuse, refused, waiting
from dkv.api.rights import SHORTENED, Matched, match, names_in
from dkv.constants import OPEN_TO_ALL, PRINCIPAL_HEADER, WARNING_HEADER
from dkv.domain.access import MANAGERS, Token
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
JUDGED, STILL_ALLOWED, READER = "dkv.judged", "dkv.still_allowed", "dkv.reader"
"""Where a request's scope carries the route that was judged, a question whether it would be allowed now, which an endless answer
asks from time to time, and whether the sender of an open request may read more than strangers.
"""

LONGEST_PATH = 200  # characters that are told of a refused request's address
HEADERS = {
    "unauthenticated": {"WWW-Authenticate": 'Basic realm="dkv", charset="UTF-8", Bearer realm="dkv"'},
    "too_many_passwords": {"Retry-After": "1"},
}
"""What a refusal has beside its sentence, by its code."""
HINT = hint("On the manager's machine be root (sudo) or the manager's user; anywhere ", action("showCredentials"), ".")


async def unreported(peer: str, count: int, last: str) -> None:
    """Requests that were refused are no event of any domain."""


@dataclass(frozen=True)
class AccessControl:
    """What access control needs of its manager."""

    verifier: Verifier
    administrators: Collection[int] = ()  # uids
    attempts: Attempts = field(default_factory=Attempts)
    used: dict[str, int] = field(default_factory=dict)  # wall clock in ms when each token was last taken here, by its id
    domain_key: Callable[[], DomainKey] | None = None
    report: Callable[[str, int, str], Awaitable[None]] = unreported  # of a peer so many refused requests, and the last of them
    judged_every: float = 10.0  # s after which an answer without an end is judged again: what was revoked ends
    monotonic: Callable[[], float] = time.monotonic
    turns: Turns = field(default_factory=Turns)


class Reporter:
    """Tells the log and the domain of what was refused, when it is time; a task runs only while there is something to tell."""

    def __init__(self, control: AccessControl) -> None:
        self._control = control
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    def refused(self, peer: str, code: str, last: str, count: int = 1) -> None:
        """Count it, as Attempts.refused; what there is to tell is told in time."""
        if self._control.attempts.refused(peer, code, last, count):
            self.wake()

    def wake(self) -> None:
        """There is something new to tell."""
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._report())
            self._task.add_done_callback(_say_why)

    async def close(self) -> None:
        """Tell nothing any more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _report(self) -> None:
        attempts, clock = self._control.attempts, self._control.monotonic
        while (at := attempts.next_at()) is not None:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, at - clock())):
                    await self._woken.wait()
            for report in attempts.due(clock()):
                log.warning("requests of %s were refused: %d, the last: %s", report.peer, report.count, report.last)
                await self._control.report(report.peer, report.count, report.last)


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("telling of refused requests failed", exc_info=task.exception())


class Access:
    """ASGI middleware: finds out who asks, judges, and only then lets a request through."""

    def __init__(self, app: ASGIApp, manager: ManagerContext, control: AccessControl, reporter: Reporter, answer: Answer) -> None:
        self._app = app
        self._manager = manager
        self._control = control
        self._reporter = reporter
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = match(scope["path"], scope["method"])
        query = _query(scope)
        right = route.right(scope["method"], query) if route else None
        if right is Right.OPEN and route:
            judged = {**scope, JUDGED: route.template, READER: await self._reads(route, scope, query)}
            await self._app(judged, receive, send if scope["method"] in LOOKING else self._counting(scope, send))
            return
        try:
            state = (await self._manager_of(scope).submitter.view()).state
        except StoreError as error:
            await self._without_state(error, scope, receive, send)
            return
        caller = scope.get(CALLER) or self._named(await self._caller(scope, state), scope)
        if isinstance(caller, Refused):
            await self._refuse(caller, scope, receive, send)
        elif route is None or right is None:
            await self._app({**scope, CALLER: caller}, receive, send)  # nothing is at that address, and the answer says so
        else:
            access_request = AccessRequest(right, scope["method"], scope["path"], query, route.parts)
            judged = {
                **scope,
                CALLER: caller,
                JUDGED: route.template,
                STILL_ALLOWED: partial(self._is_still_allowed, scope, access_request),
            }
            verdict, receive = await _judge(caller, access_request, state, receive)
            if verdict is roles.ALLOWED:
                await self._app(judged, receive, send)
            else:
                assert isinstance(verdict, Refused)
                await self._refuse(verdict, scope, receive, send)

    async def _is_still_allowed(self, scope: Scope, access_request: AccessRequest) -> bool:
        """Whether a request that is being answered would be allowed now: what cannot be read was not revoked."""
        try:
            state = (await self._manager.submitter.view()).state
        except StoreError:
            return True
        caller = await self._caller(scope, state)
        return isinstance(caller, Caller) and roles.judge(caller, access_request, roles_of(state)) is roles.ALLOWED

    async def _reads(self, route: Matched, scope: Scope, query: Mapping[str, Sequence[str]]) -> bool:
        """Whether who sends an open request may also see what only readers see there. With a bad credential it is a stranger, and
        is counted: else passwords could be tried here unseen, by the length of the answer.
        """
        if route.template not in SHORTENED:
            return False
        try:
            state = (await self._manager.submitter.view()).state
        except StoreError:
            local = self._local(scope)
            return local is not None and bool(local.grants[0])
        caller = await self._caller(scope, state)
        if isinstance(caller, Refused):
            if _shows_credentials(scope):
                self._count(scope, caller.code, caller.message)
            return False
        access_request = AccessRequest(Right.READ, scope["method"], scope["path"], query)
        return roles.judge(caller, access_request, roles_of(state)) is roles.ALLOWED

    def _manager_of(self, scope: Scope) -> ManagerContext:
        manager: ManagerContext = scope.get(DRY_RUN) or self._manager
        return manager

    async def _without_state(self, error: StoreError, scope: Scope, receive: Receive, send: Send) -> None:
        """Nobody but an administrator on this machine can be judged while the domain's state cannot be read."""
        caller = self._local(scope)
        if caller is None or not caller.grants[0]:
            await self._answer(waiting(error), {"Retry-After": "1"})(scope, receive, send)
            return
        route = match(scope["path"], scope["method"])
        await self._app({**scope, CALLER: caller, JUDGED: route.template if route else ""}, receive, send)

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        self._count(scope, refused.code, refused.message)
        await self._answer(refused, HEADERS.get(refused.code))(scope, receive, send)

    def _count(self, scope: Scope, code: str, why: str) -> None:
        path = scope["path"][:LONGEST_PATH]
        self._reporter.refused(_address_of(scope), code, one_line(f"{scope['method']} {path}: {why}"))

    def _counting(self, scope: Scope, send: Send) -> Send:
        """Count the refusal of what everybody may ask for and whose body a route judges: the request of a server that joins."""

        status = 0

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif 400 <= status < 500:
                self._count(scope, *_refusal(message.get("body", b"")))
                status = 0  # counted
            await send(message)

        return counting

    # Who asks ---------------------------------------------------------------------------------------------------------

    def _named(self, caller: Caller | Refused, scope: Scope) -> Caller | Refused:
        """The principal in whose name a manager passes a request on, with what that manager may do: a server's certificate gives
        that, and over a manager's socket the domain's key.
        """
        names = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _PRINCIPAL]
        if isinstance(caller, Refused) or not names:
            return caller
        principal = self._named_by(caller, names[0], scope) if len(names) == 1 else None
        if principal is None:
            message = f"{caller.principal} may not say in whose name it asks."
            return no("not_allowed", message, f"Leave the header {PRINCIPAL_HEADER} out; it is for the managers of the domain.")
        return Caller(principal, caller.grants)

    def _named_by(self, caller: Caller, text: str, scope: Scope) -> Principal | None:
        if caller.principal.kind is Kind.SERVER:
            return principals.named(unquote(text))
        if caller.principal.kind is not Kind.LOCAL or self._control.domain_key is None:
            return None
        query = scope["query_string"].decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        return passed_on.opened(self._control.domain_key(), text, scope["method"], target, self._manager.clock())

    def _local(self, scope: Scope) -> Caller | None:
        peer: Peer = scope.get(PEER) or Peer()
        return principals.local(peer.uid, self._control.administrators) if peer.uid is not None else None

    async def _caller(self, scope: Scope, state: State) -> Caller | Refused:
        """By the header if there is one; else by the connection."""
        shown = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"]
        if len(shown) > 1:
            return no("unauthenticated", "The request has more than one Authorization header.", "Send one.")
        if shown:
            return await self._by_header(shown[0], scope, state)
        if local := self._local(scope):
            return local
        peer: Peer = scope.get(PEER) or Peer()
        if peer.certificate is not None:
            return self._by_certificate(peer.certificate, state)
        return no("unauthenticated", "The request shows no credentials.", HINT)

    async def _by_header(self, header: str, scope: Scope, state: State) -> Caller | Refused:
        scheme, _, rest = header.strip().partition(" ")
        if len(header) > LONGEST_HEADER:
            return no("unauthenticated", f"The Authorization header is {len(header)} characters long.", HINT)
        if scheme.lower() == "bearer":
            token = tokens.judge_token(rest.strip(), state.tokens, self._manager.clock())
            if isinstance(token, Refused):
                return token
            self._used(token, state)
            owner = user_named(state, token.user) if token.user else None
            return principals.token(token, {owner.name: owner} if owner else {})
        shown = basic_credentials(rest.strip()) if scheme.lower() == "basic" else None
        if shown is None:
            return no("unauthenticated", "The Authorization header is neither Basic nor Bearer as they are written.", HINT)
        return await self._by_password(shown, _address_of(scope), state)

    def _used(self, token: Token, state: State) -> None:
        used = self._control.used
        if token.token_id not in used:  # those that were deleted make room
            for gone in [known for known in used if known not in state.tokens]:
                del used[gone]
        used[token.token_id] = self._manager.clock()

    async def _by_password(self, shown: Credentials, address: str, state: State) -> Caller | Refused:
        known, verifier = user_named(state, shown.name), self._control.verifier
        fits = verifier.remembers(shown, known)
        if not fits:
            try:
                async with self._control.turns.of(
                    address
                ):  # of those that waited with one password only the first takes the time
                    fits = verifier.remembers(shown, known) or await asyncio.to_thread(verifier.verify, shown, known)
            except Crowded:
                message = f"This manager has more passwords to verify than it can, many of them from {address}."
                return refused("too_many_passwords", message, "Ask again, another manager, or with a token.")
        if not fits or known is None:
            return no("unauthenticated", "The user is not known, or the password is another one.", HINT)
        return principals.user(known)

    def _by_certificate(self, certificate: bytes, state: State) -> Caller | Refused:
        now = self._manager.clock()
        if user := user_with_certificate(state, fingerprint_of_der(certificate)):
            if refused := certificates.out_of_date(certificate, now):  # the handshake of a standing connection may be long ago
                return no("unauthenticated", refused.message, refused.hint)
            return principals.user(user)
        living = {server.uid for server in state.servers.values()}
        authority = state.authorities.get(MANAGERS)
        uid = certificates.judge_peer(certificate, authority.trusted if authority else (), Owner(state.uid), living, now)
        if isinstance(uid, Refused):
            return no("unauthenticated", uid.message, uid.hint)
        return principals.server(uid)


async def _judge(
    caller: Caller, access_request: AccessRequest, state: State, receive: Receive
) -> tuple[roles.Judgement, Receive]:
    """The verdict, never that the body is needed: it is read then, and given again by the new `receive`."""
    made = roles_of(state)
    verdict = roles.judge(caller, access_request, made)
    if verdict is not roles.NEEDS_PAYLOAD:
        return verdict, receive
    body = await _read(receive)
    return roles.judge(caller, _with_payload(access_request, body), made), _again(body, receive)


def _refusal(body: bytes) -> tuple[str, str]:
    """The code and the sentence with which a route refused a request, by its answer."""
    try:
        problem = json.loads(body)
        return str(problem["code"]), str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        return "refused", "it was refused"


class Uncontrolled:
    """ASGI middleware of a manager without access control: every answer says so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def warning(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _OPEN_TO_ALL]}
            await send(message)

        await self._app(scope, receive, warning)


_OPEN_TO_ALL = (WARNING_HEADER.encode(), OPEN_TO_ALL.encode())


async def refuse_unjudged(request: Request) -> None:
    """Refuse a route that access control did not judge: the template that was judged, filled with what the router found in the
    address, has to be the address.
    """
    template, parts = request.scope.get(JUDGED, ""), request.path_params
    if names_in(template) != set(parts) or template.format(**parts) != request.scope["path"]:
        message = f"Nobody may {request.method} {request.url.path[:200]}."
        raise refuse("not_allowed", message, "Use the address as it is described under /docs.")


# Requests -------------------------------------------------------------------------------------------------------------


def _address_of(scope: Scope) -> str:
    """Where a request comes from, as refusals are told of: an address, or the user at the manager's own socket."""
    peer: Peer = scope.get(PEER) or Peer()
    return str(scope["client"][0]) if scope.get("client") else f"local uid {peer.uid}"


def _shows_credentials(scope: Scope) -> bool:
    """Whether a request tries to be somebody: by a header, or by the certificate of its connection."""
    peer: Peer = scope.get(PEER) or Peer()
    return peer.certificate is not None or any(name.lower() == b"authorization" for name, _ in scope["headers"])


def _query(scope: Scope) -> Mapping[str, Sequence[str]]:
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        parameters.setdefault(name, []).append(value)
    return parameters


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


def _with_payload(access_request: AccessRequest, body: bytes) -> AccessRequest:
    try:
        payload: Any = json.loads(body)
    except (ValueError, RecursionError):
        payload = {}
    fields = payload if isinstance(payload, dict) else {}
    return AccessRequest(
        access_request.right,
        access_request.method,
        access_request.path,
        access_request.query,
        access_request.path_parameters,
        fields,
    )
