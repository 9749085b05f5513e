"""A simulated machine under the engine contract: the same scenarios, on the engines of the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dkv.engine.contract import EngineSpec, PeerNode, RunOptions, Secrets
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.engines import SimEngines
from dkv.sim.engines.machine import SimMachine
from dkv.sim.engines.net import CLIENTS, SimNet
from dkv.sim.loop import SimLoop
from tests.contract.engine_harness import ALL_SLOTS, LIMIT, identity, node_id

REFUSED = "-Connection refused"


class SimulatedMachine:
    """One machine in virtual time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = SimLoop(0)
        self._net: SimNet[SimEngine] = SimNet(self._loop, 0)
        self._machine = SimMachine(self._net, "s1", "10.0.0.1")
        self.engines = SimEngines(self._machine)

    def play(self, scenario: Callable[[Any], Awaitable[None]]) -> None:
        try:
            self._loop.run_until_complete(self._play(scenario))
            assert not self._loop.troubles
        finally:
            self._loop.close()

    async def _play(self, scenario: Callable[[Any], Awaitable[None]]) -> None:
        async with asyncio.timeout(LIMIT):
            await scenario(self)

    def directory(self, archive_id: int) -> str:
        return str(self._path / f"archive-{archive_id}")

    def spec(self, start_id: int, archive_id: int, peers: tuple[PeerNode, ...] = ()) -> EngineSpec:
        return EngineSpec(
            start_id=start_id,
            directory=self.directory(archive_id),
            identity=identity(archive_id),
            node_id=node_id(archive_id),
            group="g0",
            address="10.0.0.1",
            client_port=7860 + archive_id,
            cluster_port=7810 + archive_id,
            secrets=Secrets("s3cret"),
            peers=peers,
            groups=ALL_SLOTS,
            current_epoch=100 * start_id,
            options=RunOptions(64 << 20),
        )

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _engine(self, start_id: int, group: str = "") -> SimEngine:
        process = self._machine.memory.get(start_id)
        if process is not None:
            return process.engine(group) if group else process.engines[0]
        return self._machine.engines[start_id]

    async def write(self, start_id: int, key: str, value: str, group: str = "") -> str:
        answer: asyncio.Future[str] = self._loop.create_future()
        engine = self._engine(start_id, group)
        if not engine.takes_clients:
            return REFUSED
        self._net.post(CLIENTS, engine, engine.write, key, value, answer.set_result)
        reply = await answer
        return "+OK" if reply == "OK" else f"-{reply}"

    async def read(self, start_id: int, key: str, group: str = "") -> str:
        engine = self._engine(start_id, group)
        if not engine.takes_clients:
            return REFUSED
        return await self._net.ask(CLIENTS, engine, lambda: engine.read(key))

    async def dbsize(self, start_id: int) -> int:
        engine = self._engine(start_id)
        return await self._net.ask(CLIENTS, engine, lambda: len(engine.data))

    def kill_from_outside(self, start_id: int, group: str = "") -> None:
        self._machine.end(start_id, group=group)

    def freeze(self, start_id: int, group: str = "") -> None:
        self._engine(start_id, group).stop()

    def thaw(self, start_id: int, group: str = "") -> None:
        self._engine(start_id, group).go_on()

    async def restart_manager(self) -> None:
        self.engines.revoke()
        self.engines = SimEngines(self._machine)

    async def restart_machine(self) -> None:
        self._machine.restart()
        await self.restart_manager()
