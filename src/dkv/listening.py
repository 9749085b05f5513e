"""How a manager serves HTTP and HTTPS: how many connections it keeps, and how long it waits for each, so that a silent client
costs the others nothing.

A manager has other work for its descriptors than the callers of its API: engines, state, archives. So connections are
counted, the longest idle one makes room for a new one, and a client that is slow to send or to read is disconnected. A
handshake counts as an idle connection from its first byte on: uvicorn and asyncio would neither count nor name it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dkv.peer import peer_of, shown_to

RESERVE = 64  # descriptors kept for the manager's own work
MOST = 1_024  # connections at once
MOST_STREAMS = 64  # event streams at once
SHARE = 4  # one address may have this part of them
HEAD_WITHIN = 10.0  # s for a request's head, from the connection or its first byte on
BODY_WITHIN = 10.0  # s for its body
READ_WITHIN = 10.0  # s a full send buffer may stay full
HANDSHAKE_WITHIN = 5.0  # s for the whole TLS handshake
GOODBYE_WITHIN = 2.0  # s for the end of a TLS connection to be acknowledged
BACKLOG = 2_048  # connections that the kernel keeps until they are accepted
AT_ONCE = 100  # connections accepted before others are served again
NO_DESCRIPTOR = 1.0  # s until connections are accepted again when no descriptor was free
IDLE = 5  # s between two requests of one connection
DATE_EVERY = 1.0  # s a Date header may be old
UNANSWERED = ("IDLE", "SEND_RESPONSE")  # states of h11 in which an answer can begin
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """How many connections there may be, and how many of one address."""

    most: int
    each: int

    @property
    def streams(self) -> int:
        """How many of them may be streams without an end, which never make room for others."""
        return min(MOST_STREAMS, self.most // 2)

    @property
    def streams_each(self) -> int:
        """How many of those of one address: others of it get through beside them."""
        return min(MOST_STREAMS, self.each) // 2


def limits(descriptors: int | None = None) -> Limits:
    """As this process's descriptors allow: half of what the reserve leaves, because the manager's own need grows."""
    if descriptors is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = MOST * SHARE if soft == resource.RLIM_INFINITY else soft
    most = min(MOST, max(8, (descriptors - RESERVE) // 2))
    return Limits(most, max(4, most // SHARE))


LOCAL = Limits(most=64, each=64)
"""Of a manager's own socket, whose connections no caller of its ports can use up."""


class Counted(Protocol):
    """A connection, or the handshake before it, from one address."""

    peer: str

    @property
    def idle(self) -> bool:
        """Whether no whole request is being answered on it."""
        ...

    def drop(self) -> None:
        """Close it now, also within an answer."""
        ...


class Connections:
    """All connections at one kind of entry point, the oldest first. `malformed` is called with the address of one that sent what
    is no HTTP.
    """

    def __init__(self, limits: Limits, malformed: Callable[[str], None] = lambda peer: None) -> None:
        self.limits = limits
        self.malformed = malformed
        self._all: dict[Counted, None] = {}

    def enter(self, new: Counted) -> bool:
        """Count one more; False: there is no room, and no idle connection that could be closed for it."""
        self._all[new] = None
        same = [connection for connection in self._all if connection.peer == new.peer]
        if len(same) > self.limits.each:
            return self._make_room(same, new)
        return len(self._all) <= self.limits.most or self._make_room(list(self._all), new)

    def leave(self, connection: Counted) -> None:
        """It is closed."""
        self._all.pop(connection, None)

    def _make_room(self, candidates: list[Counted], new: Counted) -> bool:
        victim = next((connection for connection in candidates if connection is not new and connection.idle), None)
        if victim is None:
            return False
        self.leave(victim)
        victim.drop()
        return True


class Connection(H11Protocol):
    """One connection. Every wait for its other end has an end."""

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.peer = ""
        self.handshake: Counted | None = None
        """What it was before; it makes room for this one."""
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._awaited_part = ""  # "head", "body", or nothing
        self._reader_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no whole request is being answered on it."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say at once that there is no room."""
        super().connection_made(transport)
        self.app = shown_to(self.app, peer_of(transport))
        self.peer = self.client[0] if self.client else ""
        if self.handshake:
            self._connections.leave(self.handshake)
        if self._connections.enter(self):
            self._wait("head", HEAD_WITHIN)
        else:
            transport.write(BUSY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._connections.leave(self)
        self._wait("", 0)
        self._unset_reader_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request: each part of it has its time, however many pieces it comes in."""
        super().data_received(data)
        self._set_timer()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. It is counted; a line of the log for each would let anybody push all others out of the log."""
        self._connections.malformed(self.peer)
        if self.conn.our_state.__name__ in UNANSWERED:
            super().send_400_response(msg)
        else:
            self.drop()  # an answer was begun, to a request that was refused before it was read

    def on_response_complete(self) -> None:
        """Another request may come, or has begun to."""
        super().on_response_complete()
        self._set_timer(begun=False)

    def _set_timer(self, begun: bool = True) -> None:
        if self.transport.is_closing():
            self._wait("", 0)
        elif self.cycle is None or self.cycle.response_complete:
            if begun and self._awaited_part != "head":
                self._wait("head", HEAD_WITHIN)
            elif not begun:
                self._wait("", 0)
        elif self.cycle.more_body:
            if self._awaited_part != "body":
                self._wait("body", BODY_WITHIN)
        else:
            self._wait("", 0)

    def _wait(self, part: str, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._awaited_part = part
        self._timer = self.loop.call_later(seconds, self.drop) if part else None

    def drop(self) -> None:
        """Close it now, also within an answer."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Its other end does not read."""
        super().pause_writing()
        self._unset_reader_timer()
        self._reader_timer = self.loop.call_later(READ_WITHIN, self.drop)

    def resume_writing(self) -> None:
        """It reads again."""
        self._unset_reader_timer()
        super().resume_writing()

    def _unset_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


@dataclass(frozen=True)
class Secured:
    """What makes an entry point one of TLS. `context` is asked before each handshake; `failed` is called with the address of
    the other end and with what ended a handshake."""

    context: Callable[[], ssl.SSLContext]
    failed: Callable[[str, Exception], None] = lambda peer, error: None


class Server(uvicorn.Server):
    """One kind of entry point to the API: ports, TLS ports, or the local socket, each with connections of its own. No signals:
    the daemon decides when it ends, at once. One of several has the `lifespan` of the application.
    """

    def __init__(
        self,
        app: Any,
        within: Limits | None = None,
        *,
        lifespan: Literal["on", "off"] = "on",
        secured: Secured | None = None,
        malformed: Callable[[str], None] = lambda peer: None,
    ) -> None:
        self._connections = Connections(within or limits(), malformed)
        self._secured = secured
        super().__init__(_config(app, self._connections, lifespan))
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Take no more requests."""
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen at the sockets."""
        if self._secured is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for listening in sockets or ():
            acceptor = Acceptor(listening, self._connections, self._secured, self._new_connection)
            self.servers.append(cast("asyncio.Server", acceptor))

    def _new_connection(self) -> Connection:
        made = self.config.http_protocol_class(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]
        assert isinstance(made, Connection)
        return made

    async def main_loop(self) -> None:
        """Wait for the end. uvicorn's own loop wakes up ten times a second, which costs an idle manager processor time."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DATE_EVERY):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM and SIGINT to the daemon."""
        yield


def _config(app: Any, connections: Connections, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    """A client's address is its connection's, never a header's; no header names uvicorn, which logs no mistakes of clients."""
    config = uvicorn.Config(
        app,
        http=cast(Any, partial(Connection, connections)),
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan=lifespan,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=2,
    )
    config.load()
    return config


# TLS -----------------------------------------------------------------------------------------------------------------


class Acceptor:
    """Accepts the connections of one listening socket and lets each through that ends its handshake in time."""

    def __init__(
        self, listening: socket.socket, connections: Connections, secured: Secured, new_connection: Callable[[], Connection]
    ) -> None:
        self.connections = connections
        self.secured = secured
        self.new_connection = new_connection
        self.handshakes: dict[Handshake, None] = {}
        self._listening = listening
        self._listening.setblocking(False)
        self._listening.listen(BACKLOG)
        self._task = asyncio.create_task(self._accept(), name="accept")

    def close(self) -> None:
        """Accept no more."""
        self._task.cancel()
        for handshake in list(self.handshakes):
            handshake.drop()

    async def wait_closed(self) -> None:
        """Wait until nothing is accepted any more."""
        await asyncio.gather(self._task, *(handshake.task for handshake in self.handshakes), return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            try:
                accepted, address = await loop.sock_accept(self._listening)
            except OSError:
                await asyncio.sleep(NO_DESCRIPTOR)
            else:
                Handshake(self, accepted, str(address[0]))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)


class Handshake:
    """The first part of a TLS connection."""

    idle = True

    def __init__(self, acceptor: Acceptor, accepted: socket.socket, peer: str) -> None:
        self.peer = peer
        self._acceptor = acceptor
        self._accepted = accepted
        self._acceptor.handshakes[self] = None
        self.task = asyncio.create_task(self._run(), name="handshake")
        self.task.add_done_callback(self._ended)
        if not acceptor.connections.enter(self):
            self.drop()

    def drop(self) -> None:
        """End the connection; its descriptor is free a moment later. asyncio cannot be cancelled at every moment of this."""
        with contextlib.suppress(OSError):
            self._accepted.shutdown(socket.SHUT_RDWR)

    async def _run(self) -> None:
        secured = self._acceptor.secured
        try:
            context = secured.context()
        except (OSError, ValueError) as error:
            self._accepted.close()
            secured.failed(self.peer, error)
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                self._accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_WITHIN,
                ssl_shutdown_timeout=GOODBYE_WITHIN,
            )
        except OSError as error:
            secured.failed(self.peer, error)

    def _connection(self) -> Connection:
        connection = self._acceptor.new_connection()
        connection.handshake = self
        return connection

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._acceptor.handshakes.pop(self, None)
        self._acceptor.connections.leave(self)
