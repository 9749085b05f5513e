"""The manager's own socket and the TLS listener, served for real: the kernel says who connects, the handshake whose key it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dkv.access.contexts import Contexts
from dkv.access.passwords import Verifier
from dkv.api.access import AccessControl
from dkv.api.app import Api, create_app
from dkv.constants import MANAGER_SOCKET
from dkv.data_dir import local_socket
from dkv.domain.access import MANAGERS
from dkv.domain.facts import AuthorityFounded
from dkv.listening import LOCAL, Secured, Server
from dkv.manager import ManagerError
from tests.api.world import World
from tests.strangers import does, needs_root
from tests.tls import Place, client, now

GET = b"GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n%s\r\n"
TOKENS = b"/admin/v1/tokens"


@pytest.fixture
def place() -> Iterator[Path]:
    """A data directory of ours, short enough for nothing: its path is longer than an address of a socket may be."""
    with tempfile.TemporaryDirectory(prefix="dkv-socket-") as name:
        long = Path(name, "d" * 120)
        long.mkdir(mode=0o700)
        yield long


def address(place: Path) -> str:
    """The socket by a path that is short enough; the directory stays open as long as this process lives."""
    return f"/proc/self/fd/{os.open(place, os.O_RDONLY | os.O_DIRECTORY)}/{MANAGER_SOCKET}"


def guarded(world: World, clock: int = 0) -> Api:
    world.now = clock or world.now
    control = AccessControl(Verifier(b"key", time.monotonic), administrators={os.geteuid()})
    return create_app(world.context("s1"), control)


@asynccontextmanager
async def served(app: Api, listener: socket.socket, secured: Secured | None = None) -> AsyncIterator[None]:
    server = Server(app, LOCAL, secured=secured)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(60):
            while not server.started:
                await asyncio.sleep(0.01)
            yield
    finally:
        server.end()
        await task


async def asked(place: Path, path: bytes = TOKENS, more: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_unix_connection(address(place))
    writer.write(GET % (path, more))
    answer = await reader.read()
    writer.close()
    return answer


def test_the_socket_is_for_its_user_only_and_a_left_one_is_replaced(place: Path) -> None:
    for _ in range(2):
        with local_socket(place) as listening:
            status = os.stat(place / MANAGER_SOCKET)
            assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
            os.rename(place / MANAGER_SOCKET, place / "kept")
        os.rename(place / "kept", place / MANAGER_SOCKET)  # as a manager leaves it that was killed
        assert listening.fileno() == -1
    with local_socket(place):
        pass
    assert not (place / MANAGER_SOCKET).exists()


def test_what_is_no_socket_is_not_removed(place: Path) -> None:
    (place / MANAGER_SOCKET).write_text("mine")
    with pytest.raises(ManagerError):
        with local_socket(place):
            pass
    assert (place / MANAGER_SOCKET).read_text() == "mine"


def test_the_managers_user_administrates_without_a_secret(place: Path) -> None:
    async def main() -> None:
        world = World()
        await world.begin()
        with local_socket(place) as listener:
            async with served(guarded(world), listener):
                assert b" 200 OK" in await asked(place)
                assert b" 401 " in await asked(place, more=b"authorization: Bearer x\r\n")
                long = b"authorization: Bearer " + b"x" * 50_000 + b"\r\n"
                assert b" 401 " in await asked(place, more=long)
                with contextlib.suppress(ConnectionError):
                    endless = await asked(place, more=b"x: " + b"y" * 4_000_000 + b"\r\n")
                    assert not endless or b" 400 " in endless
                assert b" 200 OK" in await asked(place)

    asyncio.run(main())


@needs_root
def test_another_user_does_not_reach_the_socket_and_is_nobody_where_it_does(place: Path) -> None:
    connect = """
import socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
try:
    os.chdir(sys.argv[1])
    s.connect(sys.argv[2])
    s.sendall(b"GET /admin/v1/tokens HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
    print(s.makefile("rb").read().decode())
except OSError as error:
    print(type(error).__name__)
"""

    async def main() -> None:
        world = World()
        await world.begin()
        with local_socket(place) as listener:
            async with served(guarded(world), listener):
                assert "PermissionError" in await asyncio.to_thread(does, connect, place, MANAGER_SOCKET)
                for opened, mode in ((place.parent, 0o755), (place, 0o755)):
                    opened.chmod(mode)
                assert "PermissionError" in await asyncio.to_thread(does, connect, place, MANAGER_SOCKET)
                (place / MANAGER_SOCKET).chmod(0o666)  # as if both were opened by mistake: the kernel still says who it is
                answer = await asyncio.to_thread(does, connect, place, MANAGER_SOCKET)
                assert " 403 " in answer and "local uid 65534" in answer

    asyncio.run(main())


def test_a_server_is_known_over_tls_and_a_stranger_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        world = World()
        await world.begin()
        place = Place(tmp_path, (await world.state()).uid, "uid-of-s1")
        place.install("first")
        contexts = Contexts(place.files, lambda text: None)
        await world.submit(AuthorityFounded(owner=MANAGERS, certificate=place.bundle, key="sealed"))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            async def ask(context: ssl.SSLContext | None, path: bytes) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                try:
                    writer.write(GET % (path, b""))
                    return await reader.read()
                except OSError:
                    return b""
                finally:
                    writer.close()

            async with served(guarded(world, now()), listener, Secured(contexts.accepting)):
                member = client(place.bundle, place.leaf("member", uid="uid-of-s2"))
                assert b" 200 OK" in await ask(member, b"/admin/v1/stores")
                refused = await ask(member, TOKENS)
                assert b" 403 " in refused and b"server uid-of-s2" in refused
                deleted = client(place.bundle, place.leaf("deleted", uid="uid-of-s9"))
                assert b" 401 " in await ask(deleted, b"/admin/v1/stores")
                assert b" 401 " in await ask(client(place.bundle), b"/admin/v1/stores")
                assert b" 200 OK" in await ask(client(place.bundle), b"/healthz")
                assert b"HTTP" not in await ask(None, b"/healthz")

    asyncio.run(main())
