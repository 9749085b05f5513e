"""What a connection shows of its other end: the user of a local socket, or a client certificate.

It is read once for each connection and stands in the scope of each of its requests; no request can set it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

PEER = "dkv.peer"
"""Where the scope of a request carries the Peer of its connection."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as SO_PEERCRED gives them

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Peer:
    """The uid of the process that connected over a local socket, or the certificate in DER that was shown over TLS."""

    uid: int | None = None
    certificate: bytes | None = None


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """What the other end of a connection shows. The kernel vouches for the uid, the handshake for the certificate's key."""
    secured = transport.get_extra_info("ssl_object")
    if secured is not None:
        return Peer(certificate=secured.getpeercert(binary_form=True))
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return Peer()
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(uid=uid)


def shown_to(app: App, peer: Peer) -> App:
    """The application with this peer in the scope of every request."""

    async def with_peer(scope: Scope, receive: Any, send: Any) -> None:
        await app({**scope, PEER: peer}, receive, send)

    return with_peer
