"""Clients that write to a real engine as fast as it goes, each counting up in keys of its own, until it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.contract.engine_harness import ValkeyMachine


@dataclass(frozen=True)
class Kind:
    """What a load is made of: clients, bytes of one value, and how many keys one write sets (two or more: MULTI)."""

    name: str
    clients: int
    size: int
    keys: int = 1
    append_fsync: str = "always"


SMALL = Kind("small", 50, 100)
LARGE = Kind("large", 12, 2_000_000)
MULTI = Kind("MULTI", 8, 60_000, keys=5)
HUGE_MULTI = Kind("huge MULTI", 4, 2_000_000, keys=3)


def value_of(count: int, size: int) -> str:
    return f"{count}:".ljust(size, "x")


@dataclass
class Writer:
    """One client. What was acknowledged last, and sent last; `refused` is every error answer it got."""

    number: int
    kind: Kind
    sent: int = 0
    acknowledged: int = 0
    refused: list[str] = field(default_factory=list)

    def key(self, index: int) -> str:
        return f"{{{self.number}}}-{index}"

    def request(self) -> tuple[bytes, int]:
        """The next write and how many answers it gets."""
        value = value_of(self.sent, self.kind.size)
        sets = "".join(command("SET", self.key(index), value) for index in range(self.kind.keys))
        if self.kind.keys == 1:
            return sets.encode(), 1
        return (command("MULTI") + sets + command("EXEC")).encode(), self.kind.keys + 3 + self.kind.keys - 1

    async def run(self, host: str, port: int) -> None:
        """Write until the connection ends."""
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        try:
            while True:
                self.sent += 1
                request, answers = self.request()
                writer.write(request)
                await writer.drain()
                lines = [await reader.readuntil(b"\r\n") for _ in range(answers)]
                errors = [line.decode().strip() for line in lines if line.startswith(b"-")]
                self.refused += errors
                if not errors:
                    self.acknowledged = self.sent
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def command(*words: str) -> str:
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


@asynccontextmanager
async def load(machine: ValkeyMachine, start_id: int, kind: Kind) -> AsyncIterator[list[Writer]]:
    """Writers at work on that engine; on leaving they are disconnected."""
    record = machine._record(start_id)
    writers = [Writer(number, kind) for number in range(kind.clients)]
    tasks = [asyncio.create_task(writer.run(record.address, record.client_port)) for writer in writers]
    try:
        yield writers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_acknowledged(machine: ValkeyMachine, writers: list[Writer], times: int) -> None:
    """Until each writer has had so many answers."""
    for _ in range(3000):
        if all(writer.acknowledged >= times for writer in writers):
            return
        await machine.pause(0.01)
    raise AssertionError(f"the load does not flow: {[(writer.acknowledged, writer.refused[:1]) for writer in writers]}")


async def holds_what_was_acknowledged(machine: ValkeyMachine, start_id: int, writers: list[Writer]) -> None:
    """Each writer's keys hold its last acknowledged value or a later one, all keys of one MULTI the same.

    The engine is made the leader for it, because it shows nothing to clients before.
    """
    await machine.engines.take_over(start_id)
    await machine.engines.take_clients(start_id)
    for writer in writers:
        values = set()
        for index in range(writer.kind.keys):
            text = await machine.read(start_id, writer.key(index))
            values.add(0 if text == "$-1" else int(text.partition(":")[0]))
        assert len(values) == 1, (writer, values)
        assert writer.acknowledged <= values.pop() <= writer.sent, writer
