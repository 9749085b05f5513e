"""A domain with something of everything on a real state file, for requests that nobody thought of; put back after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from dkv.api.context import ManagerContext
from dkv.control.submit import RequestKey, View
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import ArchiveRetired, ServerJoined, ServerLost
from dkv.domain.orders import CreateToken
from dkv.store.contract import Snapshot
from dkv.store.sqlite import SqliteStore
from tests.api.nuodb.calls import archive, ask, comes_up, database, ends, start
from tests.api.test_maintenance import both
from tests.api.world import HOSTS, PORT, World

Json = dict[str, Any]
WITHIN = 10.0  # s a request may take, on a busy machine: one that hangs never answers

KNOWN: dict[str, list[Any]] = {
    "name": ["OrdersStore", "test", "ada", "reader", "Backups", "fastest"],
    "instance": ["orders-1", "orders-2"],
    "group": ["UNPARTITIONED"],
    "server_id": ["s1", "s2", "s3"],
    "archive_id": [0, 1, 2, 3],
    "start_id": [0, 1, 2, 3],
    "copy_id": [1],
    "region_id": [0, 1],
    "sequence": [1, 5, 20],
    "token_id": ["0123456789ab"],
}
"""Names of what is there, so that requests come further than to the first refusal."""


class Machine:
    """The submitter, and beside it a machine that renames the directories of deleted archives at once."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def submit(self, command: Command, key: RequestKey | None = None) -> Accepted | Refused:
        decision = await self._world.submitter.submit(command, key)
        for removed in (await self._world.state()).archives.values():
            if removed.removed and not removed.kept:
                fact = ArchiveRetired(server_id=removed.server_id, archive_id=removed.archive_id, path="/away")
                await self._world.submitter.submit(fact)
        return decision

    async def answered(self, key: RequestKey | None) -> Accepted | Refused | None:
        return await self._world.submitter.answered(key)

    async def check(self, command: Command) -> Accepted | Refused:
        return await self._world.submitter.check(command)

    async def view(self) -> View:
        return await self._world.submitter.view()

    async def snapshot(self) -> Snapshot:
        return await self._world.submitter.snapshot()


class FurnishedWorld(World):
    """Nobody waits here: streams end at once, and what is gone is gone."""

    clean: Snapshot

    def context(self, server: str) -> ManagerContext:
        manager = super().context(server)
        return replace(manager, submitter=Machine(self), closing=lambda: True)

    async def furnish(self) -> None:
        await self.begin()
        await both(self)
        await archive(self)
        await archive(self, "s2")
        await database(self)
        await start(self, 2)
        await comes_up(self, 2)
        await ends(self, 2)
        await ask(self, "DELETE", "archives/3")
        await self._registry()
        body = {"targets": [{"instanceName": "orders-2", "path": "/copies/orders"}]}
        async with self.at() as client:
            copied = await client.post("/admin/v1/stores/OrdersStore/hot-copies", json=body)
        assert copied.status_code == 202, copied.text
        await self.submit(
            ServerJoined(server_id="s3", uid="uid-of-s3", host="127.0.0.13", port=PORT, nuodb_port=8888, boot_id="b")
        )
        await self.submit(ServerLost(server_id="s3", uid="uid-of-s3"))
        self.clean = await self.store.read()

    async def _registry(self) -> None:
        made = CreateToken(token_id="0123456789ab", hashed_secret="a" * 64, role="viewer", name="dashboard", lasts=3_600_000)
        await self.submit(made)
        await ask(self, "PUT", "policies/roles/reader", 201, json={"authorizedRequests": [{"method": "GET", "url": "*"}]})
        await ask(self, "PUT", "policies/users/ada", 201, json={"roles": ["reader"], "certificatePem": "none"})
        await ask(self, "POST", "regions", 201, json={"name": "North"})
        await ask(self, "PUT", "kvstore/Backups", json={"newValue": "yes"})
        await ask(self, "POST", "databases/loadBalancerPolicy/fastest", json={"lbQuery": "random(any)"})
        await ask(self, "POST", "databases/loadBalancerConfig", json={"dbName": "test", "prefilter": "label(zone a)"})

    async def put_back(self) -> None:
        """The state as it was furnished."""
        here, clean = await self.store.read(), self.clean.records
        if here.revision == self.clean.revision:
            return
        writes: dict[str, str | None] = {key: text for key, text in clean.items() if here.records.get(key) != text}
        writes |= dict.fromkeys(here.records.keys() - clean.keys())
        await self.store.commit(here.revision, writes, [], self.new_id())
        self.clean = await self.store.read()


@dataclass(frozen=True)
class Stage:
    """A world, and what runs its coroutines."""

    runner: asyncio.Runner
    world: FurnishedWorld


@asynccontextmanager
async def furnished(directory: Path) -> AsyncIterator[FurnishedWorld]:
    """The world on a state file in that directory."""
    store = await SqliteStore.open(directory / "state")
    try:
        world = FurnishedWorld(store)
        await world.furnish()
        yield world
    finally:
        await store.close()


# Asking with every byte as it is said ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A request as bytes. Without `whole` its length is not sent beforehand."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    whole: bool = True


async def answered(world: World, request: Said) -> httpx.Response:
    """What the manager of s1 answers. What it does after its answer is not waited for. Raises TimeoutError if it hangs."""
    begun: Json = {"status": 0, "headers": [], "body": b""}
    over = asyncio.Event()
    app = asyncio.ensure_future(world.apps["s1"](_scope(request), _receive(request), _send(begun, over)))
    try:
        async with asyncio.timeout(WITHIN):
            await asyncio.wait({app, asyncio.ensure_future(over.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if app.done():
            app.result()
    finally:
        over.set()
        app.cancel()
        await asyncio.gather(app, return_exceptions=True)
    url = f"http://{HOSTS['s1']}:{PORT}".encode() + request.target
    request = httpx.Request(request.method, url.decode("latin-1"), extensions={"target": request.target})
    answer = httpx.Response(begun["status"], headers=begun["headers"], content=begun["body"], request=request)
    answer.elapsed = timedelta(0)  # nobody is to measure it, and it has to be there
    return answer


def _scope(request: Said) -> Json:
    path, _, query = request.target.partition(b"?")
    length = [(b"content-length", str(len(request.body)).encode())] if request.body and request.whole else []
    own = [(b"host", f"{HOSTS['s1']}:{PORT}".encode())] if not any(n.lower() == b"host" for n, _ in request.headers) else []
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [*own, *length, *((name.lower(), value) for name, value in request.headers)],
        "client": ("127.0.0.1", 50_000),
        "server": (HOSTS["s1"], PORT),
    }


def _receive(request: Said) -> Callable[[], Awaitable[Json]]:
    size = 65_536
    chunks = [request.body[at : at + size] for at in range(0, len(request.body), size)] or [b""]

    async def receive() -> Json:
        if not chunks:
            await asyncio.Event().wait()  # the client is there and says nothing more
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    return receive


def _send(begun: Json, over: asyncio.Event) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            begun["status"], begun["headers"] = message["status"], message["headers"]
            return
        begun["body"] += message.get("body", b"")
        if not message.get("more_body"):
            over.set()

    return send
