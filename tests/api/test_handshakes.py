"""TLS handshakes: one that does not end, fails or is none keeps no other caller waiting, and is told of once a minute."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dkv.access.contexts import Contexts, why_handshake_failed
from dkv.listening import Limits, Secured, Server
from tests.api.test_connections import closed
from tests.api.world import World
from tests.tls import Place, client

SOON = 0.2  # s in which others are to be answered
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


class Served:
    """A manager's API behind TLS on a real socket."""

    def __init__(self, place: Place, address: tuple[str, int]) -> None:
        self.place, self.address = place, address
        self.failures: list[tuple[str, str]] = []
        self.kept: list[socket.socket] = []

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        connection = socket.create_connection(self.address, 5, source_address=(source, 0))
        self.kept.append(connection)
        return connection

    async def asked(self, context: ssl.SSLContext | None = None, source: str = "127.0.0.9", name: str = "127.0.0.1") -> bytes:
        """The whole answer to one request."""
        reader, writer = await asyncio.open_connection(
            *self.address, ssl=context or client(self.place.bundle), server_hostname=name, local_addr=(source, 0)
        )
        try:
            writer.write(REQUEST)
            return await reader.read()
        finally:
            writer.close()

    async def is_prompt(self, source: str = "127.0.0.9") -> None:
        """Another caller is answered soon: the best of three, because the machine may be busy with other things."""
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert b" 200 OK" in await self.asked(source=source)
            took.append(time.monotonic() - began)
        assert min(took) < SOON


@asynccontextmanager
async def served(place: Place, within: Limits) -> AsyncIterator[Served]:
    world = World()
    await world.begin()
    place.install("first")
    contexts = Contexts(place.files, lambda text: None)

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        manager = Served(place, listening.getsockname())
        secured = Secured(contexts.accepting, lambda peer, error: manager.failures.append((peer, why_handshake_failed(error))))
        server = Server(world.apps["s1"], within, secured=secured)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(90):
                while not server.started:
                    await asyncio.sleep(0.01)
                yield manager
        finally:
            for connection in manager.kept:
                connection.close()
            server.end()
            await task


def play(tmp_path: Path, scenario: Callable[[Served], Awaitable[None]], within: Limits = Limits(24, 16)) -> None:  # noqa: B008
    async def run() -> None:
        async with served(Place(tmp_path), within) as manager:
            await scenario(manager)

    asyncio.run(run())


async def until(what: str, holds: Callable[[], bool], within: float = 30.0) -> None:
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("limits", [Limits(24, 16), Limits(1024, 256)])
def test_500_half_open_handshakes_keep_nobody_waiting(tmp_path: Path, limits: Limits) -> None:
    async def scenario(manager: Served) -> None:
        for number in range(500):
            half = manager.connect()
            if number % 2:
                half.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            if number % 16 == 0:
                await asyncio.sleep(0)
        await manager.is_prompt()
        await manager.is_prompt("127.0.0.1")
        assert sum(not closed(half) for half in manager.kept) <= limits.each

    play(tmp_path, scenario, limits)


def test_a_handshake_has_an_end_however_slow_its_bytes_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dkv.listening.HANDSHAKE_WITHIN", 0.5)

    async def scenario(manager: Served) -> None:
        silent, slow = manager.connect(), manager.connect("127.0.0.2")
        hello = b"\x16\x03\x01\x02\x00" + b"\x01" * 512
        for byte in range(100):
            with contextlib.suppress(OSError):
                slow.sendall(hello[byte : byte + 1])
            await asyncio.sleep(0.02)
        await until("both are closed", lambda: closed(silent) and closed(slow))
        assert {peer for peer, why in manager.failures if "longer than" in why} == {"127.0.0.1", "127.0.0.2"}
        await manager.is_prompt()

    play(tmp_path, scenario)


def test_plain_http_is_closed_at_once_and_named(tmp_path: Path) -> None:
    async def scenario(manager: Served) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(*manager.address)
        writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nauthorization: Bearer secret\r\n\r\n"))
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        assert b"HTTP" not in answer and time.monotonic() - began < 2
        assert manager.failures == [("127.0.0.1", "it spoke HTTP without TLS, which others could read on the way")]

    play(tmp_path, scenario)


def test_a_probe_that_only_connects_is_not_told_of(tmp_path: Path) -> None:
    async def scenario(manager: Served) -> None:
        for _ in range(5):
            manager.connect().close()
        await until("they are gone", lambda: len(manager.failures) == 5)
        assert {why for _, why in manager.failures} == {""}

    play(tmp_path, scenario)


def test_the_name_that_a_client_asks_for_does_not_matter_and_old_versions_are_turned_away(tmp_path: Path) -> None:
    async def scenario(manager: Served) -> None:
        careless = client(manager.place.bundle)
        careless.check_hostname = False
        for name in ("another.example", "127.0.0.1", ""):
            assert b" 200 OK" in await manager.asked(careless, name=name)
        old = client(manager.place.bundle)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await manager.asked(old)
        assert any("unsupported protocol" in why for _, why in manager.failures)

    play(tmp_path, scenario)


def test_many_whole_handshakes_at_once_are_all_answered(tmp_path: Path) -> None:
    async def scenario(manager: Served) -> None:
        context = client(manager.place.bundle)
        answers = await asyncio.gather(*(manager.asked(context, f"127.0.1.{1 + number}") for number in range(60)))
        assert all(b" 200 OK" in answer for answer in answers) and not manager.failures

    play(tmp_path, scenario, Limits(128, 16))


def test_a_leaf_that_is_renewed_under_load_costs_no_client_an_error(tmp_path: Path) -> None:
    async def scenario(manager: Served) -> None:
        context = client(manager.place.bundle)

        async def asks(number: int) -> list[bytes]:
            return [await manager.asked(context, f"127.0.1.{1 + number}") for _ in range(8)]

        asking = [asyncio.create_task(asks(number)) for number in range(8)]
        renewals = 0
        while not all(task.done() for task in asking):
            manager.place.install(f"leaf-{renewals}")
            renewals += 1
            await asyncio.sleep(0.01)
        answers = [answer for task in asking for answer in await task]
        assert all(b" 200 OK" in answer for answer in answers) and not manager.failures
        assert renewals > 5

    play(tmp_path, scenario, Limits(128, 16))
