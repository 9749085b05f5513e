"""Experiment "the dead leader's tail": a group of real engines under load, and everything that looks at it from outside.

The engines are started by the engine room (`ValkeyEngines`), exactly as a manager does it; load, probes and the
reference that judges them are clients of their own, so that no kindness of a library hides anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dkv.engine import aof, positions
from dkv.engine.binary import find_binary
from dkv.engine.contract import Cause, EngineSeen, EngineSpec, GroupSlots, Identity, PeerNode, Position, Secrets
from dkv.engine.engines import ValkeyEngines
from dkv.engine.valkey import Valkey
from kit.resp import Line, Refused, packed

SHARD = "5a" * 20
SECRET = "only-for-this-experiment"
SLOTS = (GroupSlots("g0", SHARD, ((0, 16383),)),)
PATIENCE = 60.0


class Group:
    """One storage group of real engines; archive N is first started as start id N."""

    def __init__(self, memory: int = 2 << 30) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="dkv-tail-"))
        self.engines = ValkeyEngines(self.path / "manager")
        self.specs: dict[int, EngineSpec] = {}
        self._memory = memory
        self._next = 100

    async def close(self) -> None:
        """Kill every engine, see it gone, remove the files."""
        for engine in (await self.engines.survey()).engines:
            await self.engines.kill(engine.start_id, Cause.OPERATOR_KILL)
        await self.until(lambda survey: not survey.engines)
        self.engines.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def spec(self, archive: int) -> EngineSpec:
        """How archive N is started for the first time."""
        if archive not in self.specs:
            self.specs[archive] = EngineSpec(
                start_id=archive,
                directory=str(self.path / f"archive-{archive}"),
                identity=Identity("experiment", "orders", archive, "one", "g0"),
                node_id=f"{archive:040x}",
                group="g0",
                address="127.0.0.1",
                client_port=free_port(),
                cluster_port=free_port(),
                secrets=Secrets(SECRET),
                peers=(),
                groups=SLOTS,
                current_epoch=100,
                max_memory=self._memory,
            )
        return self.specs[archive]

    def driver(self, start_id: int) -> Valkey:
        """The engine room's own driver of an engine, for questions the contract does not have."""
        return self.engines._known(start_id).valkey

    def pid(self, start_id: int) -> int:
        """Of a living engine."""
        born = self.engines._known(start_id).born
        assert born is not None
        return born.pid

    async def until(self, holds: Callable[[Any], bool], within: float = PATIENCE) -> Any:
        """Survey until it holds."""
        deadline = time.monotonic() + within
        while not holds(survey := await self.engines.survey()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never held: {survey}")
            await asyncio.sleep(0.002)
        return survey

    async def seen(self, start_id: int, holds: Callable[[EngineSeen], bool]) -> EngineSeen:
        """The engine once it looks like that."""

        def there(survey: Any) -> bool:
            return any(engine.start_id == start_id and holds(engine) for engine in survey.engines)

        survey = await self.until(there)
        return next(engine for engine in survey.engines if engine.start_id == start_id)

    async def start(self, archive: int, fresh: bool = True, peers: tuple[PeerNode, ...] = ()) -> int:
        """Launch and wait until it has loaded; its start id."""
        spec = replace(self.spec(archive), peers=peers)
        if not fresh:
            self._next += 1
            spec = replace(spec, start_id=self._next, current_epoch=100 * self._next)
        await self.engines.prepare(spec.directory, spec.identity, fresh)
        await self.engines.launch(spec)
        await self.seen(spec.start_id, lambda engine: engine.answering and not engine.loading and engine.cluster.state_ok)
        return spec.start_id

    async def lead(self, start_id: int, marker: tuple[int, int]) -> None:
        """TAKEOVER, marker, doors open: what a manager does after its open was committed."""
        await self.engines.take_over(start_id)
        await self.engines.mark(start_id, *marker, nonce(*marker))
        await self.engines.admit(start_id)
        await self.engines.unfence(start_id)

    async def peer(self, archive: int, start_id: int, leads: bool = True) -> PeerNode:
        """An engine as others are told of it."""
        engine = await self.seen(start_id, lambda engine: engine.answering)
        spec = self.spec(archive)
        return PeerNode(spec.node_id, spec.address, spec.client_port, spec.cluster_port, SHARD, "g0", leads, engine.cluster.epoch)

    async def form(self, followers: int) -> None:
        """Archive 1 leads, archives 2.. follow, a fresh marker is on every disk."""
        await self.start(1)
        await self.lead(1, (1, 1))
        await self.engines.confirm_initialised(self.spec(1).directory)
        leader = await self.peer(1, 1)
        for archive in range(2, followers + 2):
            await self.start(archive, peers=(leader,))
            await self.engines.replicate(archive, leader)
        for archive in range(2, followers + 2):
            await self.seen(
                archive,
                lambda engine: engine.replication.link_up and not engine.files.rewriting and not engine.replication.resyncing,
            )
        await self.mark_everywhere(1, (1, 2), range(1, followers + 2))

    async def mark_everywhere(self, leader: int, marker: tuple[int, int], start_ids: Any) -> None:
        """A marker, found on every one of these disks."""
        await self.engines.mark(leader, *marker, nonce(*marker))
        for start_id in start_ids:
            await self.seen(start_id, lambda engine: engine.files.marker is not None and engine.files.marker.order[:2] == marker)
            await self.engines.confirm_initialised(self.engines._known(start_id).run.record.directory)

    def kill(self, start_id: int) -> float:
        """SIGKILL from outside; the moment."""
        os.kill(self.pid(start_id), signal.SIGKILL)
        return time.monotonic()

    async def ended(self, start_id: int) -> None:
        """Its whole process group is proven gone."""
        await self.until(lambda survey: any(engine.start_id == start_id and engine.reaped for engine in survey.exits))


def nonce(term: int, sequence: int) -> str:
    """A marker's nonce, made from its numbers: this experiment wants to recognise it."""
    return hashlib.sha256(f"{term}-{sequence}".encode()).hexdigest()[:8]


def free_port() -> int:
    """A port below the ephemeral ones."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


# -- what is on a disk ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """An archive after one marker: its bytes up to where an engine would truncate them."""

    position: Position
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """Of those bytes."""
        return hashlib.sha256(self.data).hexdigest()[:16]


def on_disk(directory: str, marker: tuple[int, int]) -> Disk:
    """Everything after that marker (not the newest one), read from the files as they are."""
    keep = Position(*marker, nonce(*marker))
    with positions._opened(directory) as files:
        index, offset = positions._locate(files, keep)
        if (index, offset) == (0, 0):
            raise LookupError(f"{directory} has no marker {marker}")
        sizes = [file.size for file in files[index:]]
        raw = b"".join(file.read(0, size) for file, size in zip(files[index + 1 :], sizes[1:], strict=True))
        raw = files[index].read(offset, sizes[0] - offset) + raw
    tail = aof.walk(lambda at, count: raw[at : at + count], 0, len(raw))
    assert not tail.broken
    return Disk(replace(keep, bytes_after=tail.valid), raw[: tail.valid])


def database_at(data: bytes, place: int) -> int:
    """The database selected there, by walking the commands from the marker, which was written in database 0."""
    at, selected = 0, 0
    while at < place:
        words, at = words_at(data, at)
        if words[0] == b"SELECT":
            selected = int(words[1])
    return selected


def words_at(data: bytes, at: int) -> tuple[list[bytes], int]:
    """One command and where the next one starts."""
    eol = data.index(b"\r\n", at)
    count, at = int(data[at + 1 : eol]), eol + 2
    words = []
    for _ in range(count):
        eol = data.index(b"\r\n", at)
        end = eol + 2 + int(data[at + 1 : eol])
        words.append(data[eol + 2 : end])
        at = end + 2
    return words, at


# -- load and probes -----------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Fifty connections writing all kinds of commands at one engine, each remembering what it was promised."""

    port: int
    seed: int
    size: int = 100
    promised: dict[tuple[int, str], int] = field(default_factory=dict)  # (database, counter) -> last acknowledged value
    sent: dict[tuple[int, str], int] = field(default_factory=dict)
    acknowledged: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, connections: int = 50) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(connections)]

    async def stop(self) -> None:
        """Wait until every connection noticed the end, at most a second; then end them."""
        await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, number: int) -> None:
        dice = random.Random(self.seed * 1000 + number)
        database, counter = number % 3, f"{{c{number}}}:count"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(packed("SELECT", database))
            await reader.readline()
            value = 0
            while True:
                value += 1
                commands = [packed(*words) for words in self._commands(dice, number, value)]
                self.sent[database, counter] = value
                writer.write(b"".join(commands))
                for _ in commands:
                    await answered(reader)
                self.promised[database, counter] = value
                self.acknowledged += len(commands)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return

    def _commands(self, dice: random.Random, number: int, value: int) -> list[tuple[str | int, ...]]:
        """One step: always one INCR of the connection's counter, alone, in a transaction or in a script."""
        tag, text = f"{{c{number}}}", "x" * self.size
        kind = dice.randrange(8)
        if kind == 0:
            return [
                ("MULTI",),
                ("INCR", f"{tag}:count"),
                ("LPUSH", f"{tag}:list", text),
                ("SET", f"{tag}:last", value),
                ("EXEC",),
            ]
        if kind == 1:
            script = "server.call('INCR',KEYS[1]) server.call('SADD',KEYS[2],ARGV[1]) return server.call('SPOP',KEYS[2])"
            return [("EVAL", script, 2, f"{tag}:count", f"{tag}:set", value)]
        extra: tuple[str | int, ...] = (
            ("SET", f"{tag}:k{value % 50}", text),
            ("SET", f"{tag}:brief{value % 5}", text, "PX", dice.choice((1, 20, 200))),
            ("INCR", f"{tag}:brief-count"),
            ("XADD", f"{tag}:stream", "MAXLEN", "~", 1000, "*", "v", value),
            ("HSET", f"{tag}:hash", f"f{value % 20}", value),
            ("EXPIRE", f"{tag}:brief-count", 1),
        )[kind - 2]
        count: tuple[str | int, ...] = ("INCR", f"{tag}:count")
        return [extra, count, ("WAIT", 1, 5)] if dice.randrange(16) == 0 else [extra, count]


async def answered(reader: asyncio.StreamReader) -> None:
    """Read one whole answer; ValueError when it, or anything in it, is an error."""
    line = await reader.readline()
    if not line.endswith(b"\r\n"):
        raise asyncio.IncompleteReadError(line, None)
    if line[:1] == b"-":
        raise ValueError(line.decode().strip())
    if line[:1] == b"$" and line[1:2] != b"-":
        await reader.readexactly(int(line[1:]) + 2)
    if line[:1] == b"*":
        for _ in range(int(line[1:])):
            await answered(reader)


@dataclass
class Probe:
    """Writes at one port without a break, over a line opened early and over new ones; remembers every acceptance."""

    port: int
    accepted: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _ended: bool = False

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._knock())

    async def stop(self) -> None:
        """End."""
        self._ended = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _knock(self) -> None:
        turn = 0
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._ended:
            turn += 1
            fresh = connection is None or turn % 10 == 0
            try:
                line = await asyncio.open_connection("127.0.0.1", self.port) if fresh or connection is None else connection
                connection = connection or line
                line[1].write(
                    (
                        packed("SET", "{probe}", turn),
                        packed("EVAL", "return server.call('INCR',KEYS[1])", 1, "{probe}:n"),
                        packed(
                            "FUNCTION",
                            "LOAD",
                            "REPLACE",
                            "#!lua name=probe\nserver.register_function('probe',function() return 1 end)",
                        ),
                    )[turn % 3]
                )
                async with asyncio.timeout(2):
                    answer = await line[0].readline()
                if answer[:1] in b"+:$" and answer:
                    self.accepted.append(time.monotonic())
                else:
                    word = answer.decode().split(" ")[0].strip() or "closed"
                    self.refused[word] = self.refused.get(word, 0) + 1
                    connection = None if not answer else connection
                if line is not connection:
                    line[1].close()
            except (OSError, TimeoutError):
                connection = None
                self.refused["no answer"] = self.refused.get("no answer", 0) + 1
            await asyncio.sleep(0.0005)


# -- the reference: what the ordinary restart of the dead leader would have given --------------------------------------


def contents(port: int, databases: int = 3) -> dict[tuple[int, bytes], tuple[Any, Any]]:
    """Every key with its serialised value and expiry; keys about to expire and probes are left out."""
    held: dict[tuple[int, bytes], tuple[Any, Any]] = {}
    with Line(f"127.0.0.1:{port}", timeout=20) as line:
        for database in range(databases):
            line.ask("SELECT", database)
            cursor: bytes | str = "0"
            while True:
                cursor, keys = line.ask("SCAN", cursor, "COUNT", 1000)
                names = [key for key in keys if b"brief" not in key and not key.startswith(b"{probe}")]
                values = line.ask_all([("DUMP", key) for key in names])
                ends = line.ask_all([("PEXPIRETIME", key) for key in names])
                held.update({(database, key): pair for key, *pair in zip(names, values, ends, strict=True)})  # type: ignore[misc]
                if cursor == b"0":
                    break
    return held


async def reference(directory: str, path: Path) -> dict[tuple[int, bytes], tuple[Any, Any]]:
    """Load a copy of an archive's files in a plain server and read everything."""
    copy = path / f"reference-{time.monotonic_ns()}"
    shutil.copytree(Path(directory, "appendonlydir"), copy / "appendonlydir")
    port = free_port()
    words = ["--port", str(port), "--dir", str(copy), "--appendonly", "yes", "--save", "", "--databases", "16"]
    server = await asyncio.create_subprocess_exec(
        find_binary(None), *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await asyncio.to_thread(contents, port)
            except (OSError, Refused):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
    finally:
        server.kill()
        await server.wait()
