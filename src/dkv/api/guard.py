"""API: the guard in front of all routes. A web page must not drive a manager, and no mistake may go unanswered.

The Host header must name this manager, a server of the domain, or one of the names that `allowed_hosts` lists whole, so that a
name rebound to this address by a foreign page is turned away; an Origin, when a browser sends one, must be this same host. Behind
a name of `allowed_hosts` a proxy may end TLS: there the page's scheme may be https although the request's is not.
"""

from __future__ import annotations

import logging
import re

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dkv.address import is_loopback
from dkv.api.context import ManagerContext
from dkv.api.problems import Answer, refused
from dkv.domain.decision import Refused
from dkv.store.contract import StoreError

log = logging.getLogger("dkv.api")

LARGEST_BODY = 100_000  # bytes: the largest record, 64 KiB of JSON, with what is said around it
LARGEST_PLAN = 400_000  # the same of a plan, which holds many requests
LOOKING = ("GET", "HEAD", "OPTIONS")
PROTECTION = (
    # The pages are made of text and of styles that stand in them: no script, no frame, nothing from elsewhere.
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def largest_body(path: str) -> int:
    """How many bytes a request's body may have at that address. While it is read and judged, nobody else is answered."""
    return LARGEST_PLAN if path == "/admin/v1/plan" else LARGEST_BODY


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, manager: ManagerContext, answer: Answer) -> None:
        self._app = app
        self._manager = manager
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._judge(scope, _headers(scope))
        if refusal:
            await self._answer(refusal)(scope, receive, _protecting(send))
            return
        await self._answered(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        read, most = 0, largest_body(scope["path"])

        async def measured() -> Message:
            """A body may come in pieces without saying how long it is; it has an end all the same."""
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(400, _too_long(f"more than {most}", most).message)
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(_protected(message))

        try:
            await self._app(scope, measured, watched)
        except ClientDisconnect:
            return  # nobody waits for an answer
        except Exception:
            mark = self._manager.new_id()[:12]
            log.exception("request %s %s failed, correlation id %s", scope["method"], scope["path"], mark)
            if begun:
                raise
            message = f"Internal error: see the manager's log entry with the correlation id {mark}."
            refusal = refused("internal", message, "Check the state before you repeat a change: it may have been made.")
            await self._answer(refusal, correlationId=mark)(scope, receive, _protecting(send))

    async def _judge(self, scope: Scope, headers: dict[str, list[str]]) -> Refused | None:
        hosts, path = headers.get("host", []), scope["path"]
        if len(hosts) != 1 or not await self._is_ours(_bare(hosts[0])):
            host = f"host {', '.join(hosts)} is not one of this domain" if hosts else "Host header is missing"
            hint = f"Use {self._manager.address}:{self._manager.port}; the name of a proxy stands in the setting allowed_hosts."
            return refused("forbidden_host", f"The {host}.", hint)
        origins, own = headers.get("origin", []), f"{scope['scheme']}://{hosts[0]}"
        if any(origin.lower() not in self._own_origins(own) for origin in origins):
            message = f"A page of {', '.join(origins)} may not use this manager."
            return refused("forbidden_origin", message, f"Open the page from {own}.")
        sites = headers.get("sec-fetch-site", [])
        if scope["method"] not in LOOKING and any(site.lower() not in ("same-origin", "none") for site in sites):
            return refused(
                "forbidden_origin", "A page of another site may not change anything here.", f"Open the page from {own}."
            )
        length = headers.get("content-length", ["0"])[0]
        if not re.fullmatch("[0-9]{1,18}", length) or int(length) > largest_body(path):
            return _too_long(length, largest_body(path))
        return None

    def _own_origins(self, own: str) -> tuple[str, ...]:
        """What the Origin of this manager's own pages may be, in small letters."""
        host = own.lower().partition("://")[2]
        return (own.lower(), f"https://{host}") if _bare(host) in self._manager.allowed_hosts else (own.lower(),)

    async def _is_ours(self, host: str) -> bool:
        if host == self._manager.address.lower() or is_loopback(host) or host in self._manager.allowed_hosts:
            return True
        try:
            state = (await self._manager.submitter.view()).state
        except StoreError:
            return False
        return any(host == server.host.lower() for server in state.servers.values())


def _too_long(length: str, most: int) -> Refused:
    return refused("bad_request", f"The body is {length} bytes long.", f"At most {most} are taken at this address.")


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _protecting(send: Send) -> Send:
    async def protected(message: Message) -> None:
        await send(_protected(message))

    return protected


def _protected(message: Message) -> Message:
    """An answer with the headers that make a browser take it for no more than it is; those that it has already stay."""
    if message["type"] != "http.response.start":
        return message
    given = message.get("headers", ())
    names = {name.lower() for name, _ in given}
    return {**message, "headers": [*given, *(header for header in PROTECTION if header[0] not in names)]}


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]*))(?::[0-9]{1,5})?")


def _bare(host: str) -> str:
    """A Host header without its port and brackets; "" if it is none."""
    match = _HOST.fullmatch(host.strip().lower())
    return (match[1] or match[2]) if match else ""
