"""Tests of the machine: two managers on fake engines and one domain in memory, moved on round by round."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from dkv.control.submit import Submitter
from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.decision import Accepted
from dkv.domain.model import DatabaseOptions, Group, ProcessRole, State
from dkv.store.memory import MemoryDomain, MemoryStore
from tests.machine.fakes import Clock, Fake, FakeEngines, FakeManager, FakeWorld, FaultPlan, Killed
from tests.machine.stage import DATABASE, GROUP, host

SERVERS = ("s1", "s2")
STEP = 0.5  # seconds between two rounds


class Cluster:
    """Archive 0 on s1, archive 1 on s2."""

    def __init__(self, real_time: bool = False) -> None:
        self.clock: Any = time.monotonic if real_time else Clock()
        self.domain = MemoryDomain(clock=self.clock)
        self.world = FakeWorld()
        self.tokens = (f"person-{n}" for n in itertools.count())
        self.people = Submitter(MemoryStore(self.domain), lambda: int(self.clock() * 1000), lambda: next(self.tokens))
        self.managers: dict[str, FakeManager] = {}
        self.deaths = 0
        for server in SERVERS:
            self.replace_manager(server)

    def replace_manager(self, server: str, faults: FaultPlan | None = None) -> None:
        """A new manager on the same engines; what the old one held in its hands is gone."""
        self.managers[server] = FakeManager(self.domain, FakeEngines(self.world, server), server, self.clock, faults)

    @classmethod
    async def settled(cls) -> Cluster:
        """The store runs and both copies are in sync."""
        cluster = cls()
        await cluster.create_domain()
        await cluster.request(0)
        await cluster.request(1)
        await cluster.until(cluster.both_in_sync)
        await cluster.round()
        for manager in cluster.managers.values():
            manager.engines.calls.clear()
        return cluster

    async def create_domain(self) -> None:
        await self.people.create_domain("d0")
        for server in SERVERS:
            uid = f"uid-{server}"
            here = facts.ServerJoined(server_id=server, uid=uid, host=host(server), port=7801, nuodb_port=8888, boot_id="b1")
            await self.submit(here)
        archives = tuple(orders.NewArchive(server_id=s, cluster_port=7811, client_port=7861) for s in SERVERS)
        options = DatabaseOptions(insecure_engine_traffic="yes")
        await self.submit(orders.CreateDatabase(name=DATABASE, uid="u1", secret="x", options=options, archives=archives))

    async def submit(self, command: Command) -> None:
        answer = await self.people.submit(command)
        assert isinstance(answer, Accepted), answer

    async def request(self, archive_id: int) -> None:
        await self.submit(orders.StartProcess(database=DATABASE, role=ProcessRole.SM, archive_id=archive_id))

    async def stop(self, archive_id: int, **how: Any) -> None:
        """Stop one copy and wait for its end."""
        process = (await self.state()).process_on(archive_id)
        assert process is not None
        await self.submit(orders.ShutdownProcess(start_id=process.start_id, **how))

        async def gone() -> bool:
            return (await self.state()).process_on(archive_id) is None

        await self.until(gone)

    # Looking --------------------------------------------------------------------------------------------------------

    async def state(self) -> State:
        return (await self.people.view()).state

    async def group(self) -> Group:
        return (await self.state()).groups[GROUP]

    async def quote(self) -> dict[str, Any]:
        group = await self.group()
        return {"server_id": f"s{(group.leader or 0) + 1}", "database": DATABASE, "group": GROUP[1], "term": group.term}

    async def both_in_sync(self) -> bool:
        group = await self.group()
        return group.serving and set(group.in_sync) == {0, 1}

    def engine(self, archive_id: int) -> Fake:
        """The living engine of an archive."""
        return next(f for f in self.world.engines.values() if f.spec.identity.archive_id == archive_id)

    # Time -----------------------------------------------------------------------------------------------------------

    async def round(self) -> None:
        """Half a second: the clock ticks and each manager looks once; one that died is replaced."""
        self.clock.now += STEP
        await self.people.submit(facts.Tick(clock=int(self.clock.now * 1000)))
        for server in SERVERS:
            try:
                await self.managers[server].glance()
            except Killed:
                self.deaths += 1
                self.replace_manager(server)

    async def until(self, wanted: Callable[[], Any], rounds: int = 300) -> int:
        """Rounds until it is so; fails when it never is."""
        for number in range(rounds):
            if await wanted():
                return number
            await self.round()
        state = await self.state()
        processes = [(p.start_id, p.archive_id, p.state.value, p.engine_state.value, p.pid) for p in state.processes.values()]
        engines = [(f.spec.start_id, f.leads, f.fenced, f.admits, f.follows) for f in self.world.engines.values()]
        raise AssertionError(f"not within {rounds} rounds: {state.groups}\n{processes}\n{engines}\n{self.world.exits}")
