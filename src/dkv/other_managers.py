"""The other managers of the domain, as this one asks them: over TLS, with the certificates of both servers; on loopback over
the other one's own socket.

What a manager passes on for a caller has the caller's principal in a header that only a server's certificate may use; over a
socket the domain's key seals it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dkv.access.certificates import Owner, judge_peer
from dkv.access.contexts import Contexts
from dkv.access.crypto import Malformed
from dkv.access.domain_key import DomainKey
from dkv.access.passed_on import sealed
from dkv.client import ClientError, Credentials, Endpoint, HttpTransport, Request
from dkv.constants import PRINCIPAL_HEADER
from dkv.domain.decision import Refused
from dkv.domain.model import Server

ON_LOOPBACK = HttpTransport(Credentials({}))  # over their own sockets, never with credentials of this process


@dataclass(frozen=True)
class OtherManagers:
    """Asks them. `contexts` are of this server's certificate, None where ports speak no TLS; `domain` is the domain's uid,
    `clock` the wall clock in ms, `key` the domain's key, None without access control.
    """

    contexts: Contexts | None
    domain: str
    clock: Callable[[], int]
    key: DomainKey | None = None

    async def fetch(self, server: Server, target: str, seconds: float) -> Mapping[str, Any]:
        """The JSON that another manager answers to a GET, also a refusal. Raises OSError."""
        return await asyncio.to_thread(self._ask, server, Request("GET", target, {}), seconds)

    async def identity(self, server: Server, seconds: float) -> Mapping[str, Any]:
        """What another manager says of itself, proven by its certificate; nothing where ports speak no TLS, since whoever listens
        there could say it. Raises OSError.
        """
        return await self.fetch(server, "/admin/v1/identity", seconds) if self.contexts else {}

    async def order(self, principal: str, server: Server, target: str, seconds: float) -> Mapping[str, Any]:
        """The JSON that another manager answers to a POST in the name of a principal. Raises OSError."""
        headers = {PRINCIPAL_HEADER: quote(principal)}
        if self.contexts is None:
            headers = {PRINCIPAL_HEADER: sealed(self.key, principal, "POST", target, self.clock())} if self.key else {}
        return await asyncio.to_thread(self._ask, server, Request("POST", target, headers), seconds)

    def _ask(self, server: Server, request: Request, seconds: float) -> Mapping[str, Any]:
        if self.contexts is None:
            return get_json(ON_LOOPBACK, Endpoint(server.host, server.port), request, seconds)

        def secure(plain: socket.socket, endpoint: Endpoint) -> ssl.SSLSocket:
            return self._secure(plain, server)

        return get_json(HttpTransport(Credentials({}), secure), Endpoint(server.host, server.port, "https"), request, seconds)

    def _secure(self, plain: socket.socket, server: Server) -> ssl.SSLSocket:
        """TLS with the manager of that very server. Raises OSError."""
        assert self.contexts is not None
        try:
            connection = self.contexts.calling().wrap_socket(plain, suppress_ragged_eofs=False)
        except Malformed as error:
            raise OSError(str(error)) from error
        leaf = connection.getpeercert(binary_form=True) or b""
        judged = judge_peer(leaf, self.contexts.authorities(), Owner(self.domain), {server.uid}, self.clock())
        if isinstance(judged, Refused):
            connection.close()
            raise OSError(judged.message)
        return connection


def get_json(transport: HttpTransport, endpoint: Endpoint, request: Request, seconds: float) -> Mapping[str, Any]:
    """A manager's JSON answer, also to a refusal. Raises OSError."""
    try:
        answer = json.loads(transport.send(endpoint, request, timeout=seconds).body)
    except (ClientError, ValueError) as error:
        raise OSError(str(error)) from error
    return answer if isinstance(answer, dict) else {}
