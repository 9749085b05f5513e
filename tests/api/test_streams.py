"""Event streams: no more than a manager can serve beside everything else; one with nothing to send costs nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import cached_property

from dkv.api.context import ManagerContext
from dkv.domain.orders import PutRecord
from dkv.listening import Limits, limits
from dkv.store.contract import StoredEvent
from dkv.store.memory import MemoryStore
from tests.api.test_connections import REQUEST, Served, served
from tests.api.world import World

WIDE = Limits(most=200, each=100)
BEGUN = b": events follow\n\n"


class Log(MemoryStore):
    """A store that counts looks at its event log."""

    looks = 0

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        self.looks += 1
        return await super().events(after, limit)

    async def newest(self) -> int:
        self.looks += 1
        return await super().newest()


class Looked(World):
    """A world that counts looks at its event log."""

    def context(self, server: str) -> ManagerContext:
        return replace(super().context(server), event_log=self.log)

    @cached_property
    def log(self) -> Log:
        return Log(self.domain)

    @property
    def looks(self) -> int:
        return self.log.looks

    async def happen(self, value: str) -> None:
        await self.submit(PutRecord(actor="dba", kind="kvstore", key="colour", value=json.dumps(value)))


@asynccontextmanager
async def stream(manager: Served, source: str, after: int = 0) -> AsyncIterator[asyncio.StreamReader]:
    """What a stream to that address says, its head and first comment read; of a refusal, all of it is to be read."""
    reader, writer = await asyncio.open_connection(manager.host, manager.port, local_addr=(source, 0))
    try:
        writer.write(REQUEST.replace(b"/healthz", b"/admin/v1/events?after=%d" % after) % b"")
        async with asyncio.timeout(30):
            status = await reader.readline()
            if b" 200 " in status:
                await reader.readuntil(BEGUN)
            else:
                reader.feed_data(status)
        yield reader
    finally:
        writer.close()


async def refusal(manager: Served, source: str) -> bytes:
    return await manager.ask(source, path=b"/admin/v1/events")


def test_there_are_no_more_streams_than_the_bounds_and_others_are_answered_beside_them() -> None:
    async def run() -> None:
        async with served(WIDE) as manager, AsyncExitStack() as two, AsyncExitStack() as one:
            for _ in range(32):
                await one.enter_async_context(stream(manager, "127.0.0.2"))
            answer = await refusal(manager, "127.0.0.2")
            assert b" 503 " in answer.partition(b"\r\n")[0]
            assert b"too_many_streams" in answer
            assert b"32 event streams go to 127.0.0.2, 32 in all." in answer
            for number in range(32):
                await two.enter_async_context(stream(manager, f"127.0.0.{3 + number % 8}"))
            assert b"0 event streams go to 127.0.0.50, 64 in all." in await refusal(manager, "127.0.0.50")
            await manager.is_prompt("127.0.0.2")
            await one.aclose()
            async with asyncio.timeout(30):
                while b"too_many_streams" in await refused_or_begun(manager, "127.0.0.2"):
                    await asyncio.sleep(0.02)

    asyncio.run(run())


async def refused_or_begun(manager: Served, source: str) -> bytes:
    async with stream(manager, source) as reader:
        answer = b""
        while not reader.at_eof() and b"too_many_streams" not in answer:
            try:
                async with asyncio.timeout(0.5):
                    answer += await reader.read(4_096)
            except TimeoutError:
                return answer
        return answer


def test_streams_share_the_connections_that_the_machine_allows() -> None:
    for descriptors in (96, 256, 1_024, 65_536):
        within = limits(descriptors)
        assert within.streams_each < within.each
        assert within.streams < within.most


def test_idle_streams_do_not_look_at_the_log_and_hear_at_once_what_happens() -> None:
    async def run() -> None:
        world = Looked()
        async with served(WIDE, world) as manager, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(stream(manager, "127.0.0.2", 10**6 * (n == 9))) for n in range(10)]
            async with asyncio.timeout(30):
                for reader in streams[:9]:
                    await reader.readuntil(b"server s2")
                while await looks_of_a_second(world):  # of their beginning
                    pass
            assert not await looks_of_a_second(world), "nothing was committed, and yet they looked"
            await world.happen("red")
            async with asyncio.timeout(30):
                for reader in streams[:9]:
                    await reader.readuntil(b"colour")

    asyncio.run(run())


async def looks_of_a_second(world: Looked) -> int:
    before = world.looks
    await asyncio.sleep(1.0)
    return world.looks - before


def test_a_manager_that_ends_ends_its_streams() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        class Ending(World):
            def context(self, server: str) -> ManagerContext:
                return replace(super().context(server), closing=ended.is_set)

        async with served(WIDE, Ending()) as manager, stream(manager, "127.0.0.2") as reader:
            ended.set()
            async with asyncio.timeout(30):
                await reader.readuntil(b"0\r\n\r\n")  # the last chunk

    asyncio.run(run())
