"""A domain of two servers with real rules on a state in memory, and a client of each one's API; no sockets at all."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import reachable
from dkv.access.domain_key import KeyFiles
from dkv.api.app import Api, create_app
from dkv.api.context import (
    EngineLook,
    EngineStatistics,
    LocalMachine,
    LogFile,
    ManagerContext,
    Numbers,
    Peers,
    Signing,
    StatePlace,
)
from dkv.api.description import describe
from dkv.control.certificates import CertificatePlaces, Certificates
from dkv.control.submit import RequestKey, Submitter, View
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import ServerJoined
from dkv.domain.machine_checks import MachineFacts
from dkv.domain.model import Process, Server, State
from dkv.store.contract import Snapshot, Store, Unavailable
from dkv.store.memory import MemoryDomain, MemoryStore
from tests.api.fuzzing import descriptions

HOSTS = {"s1": "127.0.0.11", "s2": "127.0.0.12"}
PORT = 7801


class World:
    """One domain; `at("s1")` is a client of that server's manager."""

    def __init__(self, store: Store | None = None) -> None:
        self.domain = MemoryDomain(clock=lambda: 0.0)
        self.store: Store = store or MemoryStore(self.domain)
        self.numbers = itertools.count(1)
        self.now = 1_000_000
        self.listening: set[tuple[str, int]] = set()
        self.counters: dict[str, list[dict[str, Any]]] = {name: [] for name in HOSTS}
        self.statistics: dict[str, list[EngineStatistics]] = {name: [] for name in HOSTS}
        self.latencies: dict[str, list[tuple[int, dict[str, dict[int, int]]]]] = {name: [] for name in HOSTS}
        self.engine_looks: dict[str, list[EngineLook]] = {name: [] for name in HOSTS}
        self.facts: dict[str, MachineFacts] = {}
        self.hung: dict[str, threading.Event] = {}  # servers whose disk does not answer before that
        self.clock_ahead: dict[str, int] = {}  # ms
        self.away = False
        self.logs: list[LogFile] = []
        self.stopped: list[str] = []  # managers that were ordered to end
        self.ready = ""
        self.certificates: dict[str, Certificates] = {}
        self.errors: list[str] = []
        self.commands: list[Command] = []  # that managers' APIs submitted
        self.submitter = self._submitter()
        self.apps = self._apps()

    def _apps(self) -> dict[str, Api]:
        return {name: create_app(self.context(name)) for name in HOSTS}

    async def certify(self, root: Path) -> None:
        """Each manager has its certificate, as with access control; their files are below `root`."""
        for server, host in HOSTS.items():
            files = CertificateFiles(root / server)
            places = CertificatePlaces(
                files, KeyFiles(root / server / "domain.key", root / "state-key"), reachable(f"uid-of-{server}", host)
            )
            self.certificates[server] = Certificates(self.submitter, places, lambda: self.now, self.errors.append)
            await self.certificates[server].begin((await self.state()).uid)
        self.apps = self._apps()

    def _submitter(self) -> Submitter:
        return Submitter(self.store, lambda: self.now, self.new_id)

    def new_id(self) -> str:
        return f"{next(self.numbers):032x}"

    def context(self, server: str) -> ManagerContext:
        certificates = self.certificates.get(server)
        return ManagerContext(
            submitter=Doubtful(self),
            event_log=self.store,
            peers=Peers(
                leader_server=self._leader,
                fetch=self._fetch,
                order=self._order,
                acts_within=0.05,  # there are no managers: what they do the tests submit
                patience=60.0,  # the first to be answered also reads the descriptions, on a machine that may be busy
            ),
            machine=LocalMachine(
                counters=self._counting(server),
                port_in_use=lambda host, port: (host, port) in self.listening,
                logs=lambda state: self.logs,
                engine_version=lambda: "9.1.2",
                numbers=self._numbers(server),
                facts=lambda: self._read(server),
                environment=lambda: {"DKV_STATE": "etcd:https://u:hush@h", "DKV_TOKEN": "hush", "PATH": "/bin", "MY_APP": "hush"},
            ),
            node_id=lambda state, process: f"{process.start_id + 0xAB:040x}"[::-1],
            new_id=self.new_id,
            readiness=lambda: Unavailable(self.ready) if self.ready else None,
            clock=lambda: self.now + self.clock_ahead.get(server, 0),
            server_id=server,
            uid=f"uid-of-{server}",
            address=HOSTS[server],
            port=PORT,
            signing=Signing(certificates=certificates, state_for=lambda host, why: StatePlace("sqlite:/state/domain.sqlite"))
            if certificates
            else None,
            configured=lambda: {
                "server_id": server,
                "nuodb_port": "8888",
                "labels": "zone=a,rack=2",
                "allowed_hosts": "dkv.example,::7",
            },
            stop=lambda: self.stopped.append(server),
        )

    def _counting(self, server: str) -> Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]:
        async def count() -> Sequence[Mapping[str, Any]]:
            return [dict(sample) for sample in self.counters[server]]

        return count

    def _numbers(self, server: str) -> Numbers:
        async def statistics(start_id: int | None) -> list[EngineStatistics]:
            return [item for item in self.statistics[server] if start_id in (None, item.start_id)]

        async def latencies() -> list[tuple[int, dict[str, dict[int, int]]]]:
            return list(self.latencies[server])

        return Numbers(
            statistics=statistics, latencies=latencies, looks=lambda: self.engine_looks[server], tally=self.submitter.tally
        )

    def _read(self, server: str) -> MachineFacts:
        if server in self.hung:
            self.hung[server].wait(30)
        return self.facts.get(server, MachineFacts(1.5, 65_536, 1, "madvise"))

    async def _leader(self) -> str:
        return "s1"

    async def _fetch(self, server: Server, target: str, seconds: float) -> Mapping[str, Any]:
        async with self.at(_server_at(server.host)) as client:
            answer = await client.get(target)
        body: dict[str, Any] = answer.json()
        return body

    async def _order(self, principal: str, server: Server, target: str, seconds: float) -> Mapping[str, Any]:
        async with self.at(_server_at(server.host)) as client:
            answer = await client.post(target)
        if answer.status_code >= 400:
            raise OSError(answer.json()["messages"][0])
        body: dict[str, Any] = answer.json()
        return body

    def at(self, server: str = "s1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.apps[server], raise_app_exceptions=False)
        base = f"http://{HOSTS[server]}:{PORT}"
        headers = {"Accept": "application/json"}
        return httpx.AsyncClient(transport=transport, base_url=base, headers=headers, event_hooks={"response": [self._described]})

    async def _described(self, answer: httpx.Response) -> None:
        """Every answer of every test is one that the description of its API has."""
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return  # it has no end
        await answer.aread()
        known = descriptions(lambda of_nuodb: describe(self.apps["s1"], of_nuodb))
        if answer.status_code != 500:
            known[answer.request.url.path.startswith("/api/1")].holds(answer)

    async def submit(self, command: Command) -> Accepted:
        """A fact from a manager, that the domain has to accept."""
        decision = await self.submitter.submit(command)
        assert isinstance(decision, Accepted), decision
        return decision

    async def begin(self) -> None:
        for name, host in HOSTS.items():
            await self.submit(
                ServerJoined(server_id=name, uid=f"uid-of-{name}", host=host, port=PORT, nuodb_port=8888, boot_id="boot-1")
            )

    async def state(self) -> State:
        return (await self.submitter.view()).state

    async def process(self, start_id: int, **changes: object) -> Process:
        return replace((await self.state()).processes[start_id], **changes)  # type: ignore[arg-type]


def _server_at(host: str) -> str:
    for name, known in HOSTS.items():
        if known == host:
            return name
    raise OSError("nobody listens there")


class Doubtful:
    """The submitter as long as the domain can be reached."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _there(self) -> Submitter:
        if self._world.away:
            raise Unavailable("the state file does not answer")
        return self._world.submitter

    async def submit(self, command: Command, key: RequestKey | None = None, **bound: int) -> Accepted | Refused:
        self._world.commands.append(command)
        return await self._there().submit(command, key, **bound)

    async def answered(self, key: RequestKey | None) -> Accepted | Refused | None:
        return await self._there().answered(key)

    async def check(self, command: Command) -> Accepted | Refused:
        return await self._there().check(command)

    async def view(self) -> View:
        return await self._there().view()

    async def snapshot(self) -> Snapshot:
        return await self._there().snapshot()


def scenario(play: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Make a pytest test of a coroutine that needs a fresh world."""

    def test() -> None:
        async def run() -> None:
            world = World()
            await world.begin()
            async with asyncio.timeout(60):  # the first to be answered also reads the descriptions
                await play(world)

        asyncio.run(run())

    test.__name__ = play.__name__
    test.__doc__ = play.__doc__
    return test


def orders(**changes: Any) -> dict[str, Any]:
    """The store most scenarios use: two copies on two servers."""
    instances = [
        {"instanceName": "orders-1", "manager": "127.0.0.11:7801", "clustronPort": 7811, "clientPort": 7861},
        {"instanceName": "orders-2", "server": "s2", "clustronPort": 7811, "clientPort": 7861},
    ]
    return {"name": "OrdersStore", "instances": instances, "replicationFactor": 2, "minInSync": 1, **changes}
