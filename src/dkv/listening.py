"""How a manager serves HTTP: how many connections it keeps, and how long it waits for each, so that a silent client costs
the others nothing.

A manager has other work for its descriptors than the callers of its API: engines, state, archives. So connections are
counted, the longest idle one makes room for a new one, and a client that is slow to send or to read is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
IDLE = 5  # s between two requests of one connection
DATE_EVERY = 1.0  # s a Date header may be old
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


class Connections:
    """All connections of one manager, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._all: dict[Connection, None] = {}

    def enter(self, new: Connection) -> bool:
        """Count one more; False: there is no room, and no idle connection that could be closed for it."""
        self._all[new] = None
        same = [connection for connection in self._all if connection.peer == new.peer]
        if len(same) > self.limits.each:
            return self._make_room(same, new)
        return len(self._all) <= self.limits.most or self._make_room(list(self._all), new)

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._all.pop(connection, None)

    def _make_room(self, candidates: list[Connection], new: Connection) -> bool:
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


class Server(uvicorn.Server):
    """uvicorn without signal handling of its own: the daemon decides when it ends, at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Take no more requests."""
        self.should_exit = True
        self._ending.set()

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


def serving(
    app: Any, within: Limits | None = None, *, lifespan: Literal["on", "off"] = "on", secured: ssl.SSLContext | None = None
) -> uvicorn.Config:
    """How the API is served at one kind of door: a client's address is its connection's, never a header's; no header names
    uvicorn. One of several doors has the `lifespan` of the application; `secured` is the context of a TLS door.
    """
    connection: Any = partial(Connection, Connections(within or limits()))
    config = uvicorn.Config(
        app,
        http=connection,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan=lifespan,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=2,
    )
    config.load()
    config.ssl = secured
    return config
