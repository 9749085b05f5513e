"""What a manager passes on to another one: over TLS to that very server, in the name of who gave the order."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.access.contexts import Contexts
from dkv.access.passwords import Verifier
from dkv.access.tokens import new_secret
from dkv.api.access import AccessControl
from dkv.api.app import create_app
from dkv.client import Credentials, Endpoint, HttpTransport, Request
from dkv.constants import PRINCIPAL_HEADER
from dkv.domain.access import MANAGERS
from dkv.domain.facts import AuthorityFounded
from dkv.domain.model import Server
from dkv.domain.orders import CreateToken
from dkv.listening import Secured
from dkv.listening import Server as HttpServer
from dkv.other_managers import OtherManagers
from tests.api.world import World, orders
from tests.tls import Place, client, now


class Pair:
    """Server s1 asks, server s2 serves; both have certificates of one authority."""

    def __init__(self, world: World, asking: Place, target: Server) -> None:
        self.world, self.asking, self.target = world, asking, target
        self.others = OtherManagers(Contexts(asking.files, lambda text: None), asking.owner.domain, now)

    async def administrator(self) -> str:
        """The header of a new token that may do everything a person may."""
        made = new_secret(secrets.token_bytes(38))
        await self.world.submit(
            CreateToken(now=self.world.now, token_id=made.token_id, hashed_secret=made.hashed, role="admin", lasts=3_600_000)
        )
        return f"Bearer {made.text}"


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    world = World()
    await world.begin()
    world.now = now()
    uid = (await world.state()).uid
    for name in ("s1", "s2"):
        (tmp_path / name).mkdir()
    asking, serving = Place(tmp_path / "s1", uid, "uid-of-s1"), Place(tmp_path / "s2", uid, "uid-of-s2")
    serving.authority = asking.authority
    asking.install("own")
    serving.install("own")
    await world.submit(AuthorityFounded(owner=MANAGERS, certificate=asking.bundle, key="sealed"))
    contexts = Contexts(serving.files, lambda text: None)

    control = AccessControl(Verifier(b"key", time.monotonic), administrators={os.geteuid()})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(create_app(world.context("s2"), control), secured=Secured(contexts.accepting))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(90):
                while not server.started:
                    await asyncio.sleep(0.01)
                host, port = listening.getsockname()
                target = replace((await world.state()).servers["s2"], host=host, port=port)
                yield Pair(world, asking, target)
        finally:
            server.end()
            await task


def test_an_order_that_is_passed_on_names_who_gave_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as managers:
            world, target = managers.world, managers.target
            assert (await managers.others.fetch(target, "/admin/v1/identity", 10))["serverId"] == "s2"
            await managers.others.order("user j\u00e4n", target, "/api/1/peers/s2/shutdown?evictLocal=false", 10)
            assert world.stopped == ["s2"]
            async with world.at() as operator:
                await operator.post("/admin/v1/stores", json=orders())
                await operator.post("/admin/v1/stores/OrdersStore/instances/orders-2/start")
            drained = await managers.others.order("user j\u00e4n", target, "/api/1/peers/s2/shutdown?evictLocal=true", 10)
            assert drained == {}
            events = [json.loads(event.text) for event in await world.store.events(0, 1000)]
            actors = {event["actor"] for event in events if event["command"] == "DrainServer"}
            assert actors == {"user j\u00e4n"}

    asyncio.run(main())


def test_a_server_that_is_not_the_one_that_was_meant_is_not_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as managers:
            for uid in ("uid-of-s1", "uid-of-s3"):
                with pytest.raises(OSError, match="uid-of-s2, which is not in the domain"):
                    await managers.others.order("user ann", replace(managers.target, uid=uid), "/api/1/peers/s2/shutdown", 10)
            assert managers.world.stopped == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("shown", "name", "status"),
    [
        ("nothing", "user ann", 401),
        ("token", "user ann", 403),
        ("server", "user ann", 200),
        ("server", "", 200),
        ("server", "user%20ann%07", 403),
        ("server", "nobody", 403),
        ("server", "user%20", 403),
        ("server", "user " + "x" * 201, 403),
    ],
)
def test_only_a_server_says_in_whose_name_it_asks(tmp_path: Path, shown: str, name: str, status: int) -> None:
    async def main() -> None:
        async with pair(tmp_path) as managers:
            leaf = managers.asking.leaf("caller")
            context = client(managers.asking.bundle, leaf if shown == "server" else None)
            headers = {PRINCIPAL_HEADER: name} if name else {}
            if shown == "token":
                headers["Authorization"] = await managers.administrator()
            transport = HttpTransport(Credentials({}), lambda plain, at: context.wrap_socket(plain, server_hostname=at.host))
            endpoint = Endpoint(managers.target.host, managers.target.port, "https")
            reply = await asyncio.to_thread(transport.send, endpoint, Request("GET", "/admin/v1/stores", headers), 10)
            assert reply.status == status, reply.body

    asyncio.run(main())
