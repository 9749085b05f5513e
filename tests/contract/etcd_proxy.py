"""A wire between a handle and a member that loses answers, or goes dead, when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class Wire:
    """Passes bytes on, both ways. `deaf`: what the member answers is lost from now on, what it is asked still arrives."""

    def __init__(self, port: int) -> None:
        self._member = port
        self.deaf = False
        self.open = True  # whether new connections reach the member
        self.passed = 0  # bytes that the member answered
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.port}"

    def cut(self) -> None:
        """End all connections; new ones reach the member if the wire is open."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._member)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        for task in (self._pass(reader, far_writer, False), self._pass(far_reader, writer, True)):
            running = asyncio.create_task(task)
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                self.passed += len(data) if answers else 0
                if not (answers and self.deaf):
                    writer.write(data)
                    await writer.drain()
        writer.close()

    async def end(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A wire to the member at a port."""
    between = Wire(port)
    server = await asyncio.start_server(between.accept, HOST, 0)
    between.port = server.sockets[0].getsockname()[1]
    try:
        yield between
    finally:
        server.close()
        await between.end()
