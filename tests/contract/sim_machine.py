"""The simulated machine with what its disks, links and clients can do besides: the bench of the trap tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dkv.engine.contract import EngineSpec
from dkv.sim.engines.engines import SimEngines
from dkv.sim.engines.gossip import Known
from dkv.sim.engines.net import CLIENTS
from tests.contract.engine_harness import seen
from tests.contract.stranger import STRANGER
from tests.sim.sim_machine import SimulatedMachine


class TrapMachine(SimulatedMachine):
    """One simulated machine whose disks a person may spoil."""

    async def wait(self, start_id: int, count: int, seconds: float) -> int:
        assert await self.write(start_id, "waited", "1") == "+OK"
        engine, done = self._engine(start_id), asyncio.Event()
        offset, began = engine.replication.offset, self._loop.time()
        engine.wait(count, seconds, done.set)
        await done.wait()
        counted = sum(1 for reached in engine.acknowledged().values() if reached >= offset)
        in_time = self._loop.time() - began < seconds
        return counted if in_time else min(counted, count - 1)  # whom it waited for in vain it did not count

    async def add_distinct(self, start_id: int, key: str) -> str:
        return await self.write(start_id, key, "a")

    async def count_distinct(self, start_id: int, key: str) -> str:
        engine = self._engine(start_id)
        reply = await self._net.ask("clients", engine, lambda: engine.count_distinct(key))
        return ":1" if reply == "OK" else f"-{reply}"

    async def run_script(self, start_id: int, key: str, seconds: int = 4) -> Callable[[], Awaitable[None]]:
        engine, done = self._engine(start_id), asyncio.Event()
        self._net.post(CLIENTS, engine, engine.run_script, key, "1", 10.0 + min(seconds, 4), lambda answer: done.set())
        await seen(self, start_id, lambda engine: engine.busy)

        async def ended() -> None:
            await done.wait()

        return ended

    async def slow_down_resyncs(self, start_id: int) -> None:
        """A snapshot takes its time anyway in this world."""

    async def load_in_silence(self, start_id: int) -> None:
        self._machine.loads, self._machine.one_value = lambda: 2.0, True

    async def break_link(self, start_id: int) -> None:
        self._engine(start_id).replication.dismiss()

    def another_manager(self) -> SimEngines:
        """A second one on the same disks, which knows nothing of the first one's engines."""
        return SimEngines(self._machine)

    def tear(self, directory: str) -> None:
        assert self._machine.disks[directory].tear() is not None

    def swap(self, one: str, other: str) -> None:
        disks = self._machine.disks
        disks[one], disks[other] = disks[other], disks[one]

    def empty(self, directory: str, identity_too: bool) -> None:
        self._machine.disks[directory].has_data = False
        if identity_too:
            self.lose_identity(directory)

    async def let_strangers_in(self, start_id: int) -> None:
        self._engine(start_id).lets_in = True

    async def stranger_meets(self, start_id: int, epoch: int) -> None:
        engine = self._engine(start_id)
        stranger = Known(STRANGER, "10.6.6.6", 7003, True, epoch, None, slots=((0, 16383),))
        self._net.post(CLIENTS, engine, engine.met_by_stranger, stranger, "g0")

    async def forge_epoch(self, start_id: int, sender: EngineSpec, epoch: int) -> None:
        self._engine(start_id).hear_epoch(epoch)

    def lose_identity(self, directory: str) -> None:
        del self._machine.disks[directory]
