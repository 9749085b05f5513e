"""Connections that are held: a caller that sends nothing, little or too much keeps no other caller waiting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from dkv.listening import RESERVE, Limits, Server, limits
from tests.api.world import World

SMALL = Limits(most=24, each=16)
SOON = 0.2  # s in which others are to be answered
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n%s\r\n"


class Served:
    """A manager's API on a real socket."""

    def __init__(self, host: str, port: int, malformed: list[str]) -> None:
        self.host, self.port, self.malformed = host, port, malformed
        self.kept: list[socket.socket] = []

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        made = socket.create_connection((self.host, self.port), 5, source_address=(source, 0))
        self.kept.append(made)
        return made

    async def ask(self, source: str = "127.0.0.9", more: bytes = b"connection: close\r\n", path: bytes = b"/healthz") -> bytes:
        """The whole answer to one request of somebody else."""
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(source, 0))
        try:
            writer.write(REQUEST.replace(b"/healthz", path) % more)
            return await reader.read()
        finally:
            writer.close()

    async def is_prompt(self, source: str = "127.0.0.9") -> None:
        """Somebody else is answered soon: the best of three, because the machine may be busy with other things."""
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert b" 200 OK" in await self.ask(source)
            took.append(time.monotonic() - began)
        assert min(took) < SOON


@asynccontextmanager
async def served(within: Limits = SMALL, world: World | None = None) -> AsyncIterator[Served]:
    world = world or World()
    await world.begin()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        malformed: list[str] = []
        server = Server(world.apps["s1"], within, malformed=malformed.append)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        manager = Served(*listener.getsockname(), malformed)
        try:
            async with asyncio.timeout(60):
                while not server.started:
                    await asyncio.sleep(0.01)
                yield manager
        finally:
            for connection in manager.kept:
                connection.close()
            server.end()
            await task


def play(scenario: Callable[[Served], Awaitable[None]], within: Limits = SMALL) -> None:
    async def run() -> None:
        async with served(within) as manager:
            await scenario(manager)

    asyncio.run(run())


def closed(connection: socket.socket) -> bool:
    """Whether the other end has closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def until(what: str, holds: Callable[[], bool], within: float) -> None:
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.05)


def test_idle_connections_of_one_address_make_room_for_its_next_one_and_keep_nobody_else_out() -> None:
    async def scenario(manager: Served) -> None:
        for _ in range(10 * SMALL.most):
            manager.connect()
        await manager.is_prompt()
        await manager.is_prompt("127.0.0.1")
        assert sum(not closed(connection) for connection in manager.kept) <= SMALL.each

    play(scenario)


def test_idle_connections_of_many_addresses_keep_nobody_out() -> None:
    async def scenario(manager: Served) -> None:
        for number in range(5 * SMALL.most):
            manager.connect(f"127.0.1.{1 + number % 50}")
        await manager.is_prompt()
        assert sum(not closed(connection) for connection in manager.kept) <= SMALL.most

    play(scenario)


def test_a_head_that_does_not_come_and_a_body_that_trickles_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dkv.listening.HEAD_WITHIN", 0.3)
    monkeypatch.setattr("dkv.listening.BODY_WITHIN", 0.3)

    async def scenario(manager: Served) -> None:
        silent, head, body = manager.connect(), manager.connect(), manager.connect()
        head.sendall(b"GET /healthz HTTP/1.1\r\nho")
        body.sendall(
            b"POST /admin/v1/stores HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"
        )
        for _ in range(30):
            await asyncio.sleep(0.05)
            for slow in (head, body):  # a byte now and then buys no time
                try:
                    slow.sendall(b"x")
                except OSError:
                    pass
        assert all(closed(connection) for connection in (silent, head, body))
        await manager.is_prompt()

    play(scenario)


def test_a_connection_that_is_kept_alive_and_says_nothing_more_is_closed() -> None:
    async def scenario(manager: Served) -> None:
        reader, writer = await asyncio.open_connection(manager.host, manager.port)
        writer.write(REQUEST % b"")
        assert b"200 OK" in await reader.readuntil(b"\r\n")
        began = time.monotonic()
        async with asyncio.timeout(20):
            await reader.read()
        assert time.monotonic() - began > 2.0  # a client that asks again soon keeps it
        writer.close()

    play(scenario)


def test_who_does_not_read_his_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dkv.listening.READ_WITHIN", 0.3)

    async def scenario(manager: Served) -> None:
        deaf = manager.connect()
        deaf.setblocking(False)
        many = (REQUEST.replace(b"/healthz", b"/openapi.json") % b"") * 400
        sent = 0
        ends = time.monotonic() + 90
        while time.monotonic() < ends:
            try:
                sent += deaf.send(many[sent % len(many) :])
            except BlockingIOError:
                await asyncio.sleep(0.05)
            except OSError:
                break
        else:
            raise AssertionError("it may wait for ever")
        await manager.is_prompt()

    play(scenario)


def test_a_manager_keeps_descriptors_for_its_own_work() -> None:
    assert limits(256).most <= (256 - RESERVE) // 2
    assert limits(1_024).most <= (1_024 - RESERVE) // 2
    assert limits(65_536).most == 1_024
    assert limits(1_024).each < limits(1_024).most


def test_who_asked_cannot_be_invented_and_the_program_is_not_named() -> None:
    async def scenario(manager: Served) -> None:
        forged = b"connection: close\r\nx-forwarded-for: alice, approved by the board\r\nforwarded: for=bob\r\n"
        body = b'{"newValue": "red"}'
        reader, writer = await asyncio.open_connection(manager.host, manager.port, local_addr=("127.0.0.9", 0))
        writer.write(
            b"PUT /api/1/kvstore/colour HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n" % len(body) + forged + b"\r\n" + body
        )
        assert b" 200 OK" in await reader.read()
        writer.close()
        answer = await manager.ask(path=b"/admin/v1/events", more=b"accept: application/json\r\nconnection: close\r\n")
        assert b"operator at 127.0.0.9" in answer
        assert b"board" not in answer
        assert b"alice" not in answer
        assert b"server:" not in answer.partition(b"\r\n\r\n")[0].lower()

    play(scenario)


def test_what_is_no_http_is_counted_and_writes_nothing_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each line would push one of others out of the manager's log, which is bounded."""
    sent = (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",  # TLS
        b"G\x1bT / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1, 2\r\n\r\n",
        # No HTTP only after its answer: the address has no such method, so that nobody waits for the body.
        b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    upgrade = REQUEST % b"connection: upgrade\r\nupgrade: websocket\r\n"

    async def scenario(manager: Served) -> None:
        manager.connect().sendall(upgrade)
        for number, request in enumerate(sent):
            reader, writer = await asyncio.open_connection(manager.host, manager.port, local_addr=(f"127.0.0.{number + 9}", 0))
            writer.write(request)
            await reader.read(1)
            writer.write(b"no chunk\r\n")
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        await manager.is_prompt()
        assert manager.malformed == [f"127.0.0.{number + 9}" for number in range(len(sent))]

    play(scenario)
    assert not caplog.records
