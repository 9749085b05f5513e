"""Experiment "the dead leader's tail": two ways to give a follower the bytes it misses.

*Stream*: before any TAKEOVER, something listens on the dead leader's own address and continues its replication stream.
*Commands*: after TAKEOVER, the follower's administrator sends the commands while every client user may do nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tail_stage import SECRET, Disk, answered, database_at

from dkv.engine.config import MANAGER, REPLICA, SOCKET_NAME, replica_password
from dkv.engine.contract import EngineSpec
from dkv.engine.users import users_acl
from kit.resp import packed

CHUNK = 64 << 10


class FeedBroke(Exception):
    """The feed ended before its end: on purpose in a crash trial, or because the engine said no."""


# -- as a primary --------------------------------------------------------------------------------------------------------


@dataclass
class Follower:
    """A follower as the stream is cut: where its replication stood, and where its disk stood, at the same moment."""

    node_id: str
    offset: int  # of the dead leader's stream, from INFO
    place: int  # bytes after the common marker on its disk


@dataclass
class Plan:
    """How the numbers of the new stream are laid out, so that they mean the same on every follower.

    The dead leader's stream held bytes its files do not hold (PING, GETACK), so `offset - place` differs between
    followers. In the new stream the offset of a byte is its place on the dead leader's disk plus `shift`, everywhere.
    A follower is brought there by one PING whose text fills the gap; the end of that text is what a follower further
    behind misses, so even a chained partial resync out of the padding would be right.
    """

    tail_of: Disk
    followers: Mapping[str, Follower]
    new_id: str = field(default_factory=lambda: os.urandom(20).hex())

    @property
    def lowest(self) -> int:
        """The place furthest behind."""
        return min(follower.place for follower in self.followers.values())

    @property
    def shift(self) -> int:
        """New offset of a byte minus its place."""
        return max(follower.offset for follower in self.followers.values()) - self.lowest + 128

    def pad_id(self, node_id: str) -> str:
        """A history only this follower ever has: while it is being padded nobody else can continue it."""
        return hashlib.sha1(f"{self.new_id}:{node_id}".encode()).hexdigest()

    def padding(self, node_id: str) -> bytes:
        """The PING that takes this follower from its old offset to `place + shift`."""
        follower = self.followers[node_id]
        missed = self.tail_of.data[self.lowest : follower.place] or b"\r\n"
        size = follower.place + self.shift - follower.offset
        for digits in range(1, 12):
            head = len(b"*2\r\n$4\r\nPING\r\n$") + digits + 2
            text = size - head - 2
            if text >= len(missed) - 2 and len(str(text)) == digits:
                body = b"." * (text - len(missed) + 2) + missed
                return b"*2\r\n$4\r\nPING\r\n$%d\r\n" % text + body
        raise FeedBroke(f"no PING is {size} bytes long")  # widen the gap by one; three sizes in a gigabyte

    @property
    def end(self) -> int:
        """The offset of everybody who has everything; of them only under `new_id`: an empty tail ends where the padding does."""
        return len(self.tail_of.data) + self.shift


class Primary:
    """What listens where the dead leader listened. It answers replicas of this group and nobody else, and holds no data
    but the tail: a client is told LOADING, a stranger's PSYNC is dropped."""

    def __init__(self, spec: EngineSpec, plan: Plan, break_after: int | None = None) -> None:
        self._spec, self._plan, self._break_after = spec, plan, break_after
        self._server: asyncio.Server | None = None
        self.fed: dict[str, int] = {}  # node id -> bytes of the tail sent
        self.asked: list[tuple[str, str, int]] = []
        self.broke = asyncio.Event()

    async def __aenter__(self) -> Primary:
        self._server = await asyncio.start_server(self._serve, self._spec.address, self._spec.client_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    @property
    def _open(self) -> set[asyncio.StreamWriter]:
        return self.__dict__.setdefault("_writers", set())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._handshake(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError, FeedBroke, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proven, node_id = False, ""
        while True:
            words = await request(reader)
            name = words[0].upper()
            if name == b"AUTH":
                proven = words[1:] == [REPLICA.encode(), replica_password(SECRET).encode()]
                writer.write(b"+OK\r\n" if proven else b"-WRONGPASS\r\n")
            elif name == b"PING":
                writer.write(b"+PONG\r\n")
            elif name == b"REPLCONF" and proven:
                if words[1].upper() == b"SET-CLUSTER-NODE-ID":
                    node_id = words[2].decode()
                writer.write(b"+OK\r\n")
            elif name == b"PSYNC" and proven and node_id in self._plan.followers:
                await self._continue(writer, node_id, words[1].decode(), int(words[2]))
                await reader.read()  # its acknowledgements, until one of us goes
                return
            else:
                writer.write(b"-LOADING the group is choosing its leader\r\n")

    async def _continue(self, writer: asyncio.StreamWriter, node_id: str, history: str, wants: int) -> None:
        plan, follower = self._plan, self._plan.followers[node_id]
        self.asked.append((node_id, history, wants))
        if history == plan.new_id and plan.lowest <= wants - 1 - plan.shift <= len(plan.tail_of.data):
            await self._feed(writer, node_id, wants - 1 - plan.shift)
        elif history == plan.pad_id(node_id) and wants == follower.place + plan.shift + 1:
            await self._feed(writer, node_id, follower.place)
        elif wants == follower.offset + 1:
            writer.write(b"+CONTINUE %s\r\n" % plan.pad_id(node_id).encode() + plan.padding(node_id))
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.close()
        else:
            raise FeedBroke(f"{node_id} is elsewhere: {history} {wants}")

    async def _feed(self, writer: asyncio.StreamWriter, node_id: str, place: int) -> None:
        writer.write(b"+CONTINUE %s\r\n" % self._plan.new_id.encode())
        tail = self._plan.tail_of.data[place:]
        stop = len(tail) if self._break_after is None else min(self._break_after, len(tail))
        for at in range(0, stop, CHUNK):
            writer.write(tail[at : min(at + CHUNK, stop)])
            await writer.drain()
        self.fed[node_id] = stop
        if self._break_after is not None:
            await asyncio.sleep(0.02)
            self.broke.set()
            await asyncio.sleep(60)


async def request(reader: asyncio.StreamReader) -> list[bytes]:
    """One command of a peer; anything that is not one ends the connection."""
    line = await reader.readline()
    if line[:1] != b"*" or not line[1:-2].isdigit() or int(line[1:]) > 20:
        raise ValueError("not a replica")
    words = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        if size > 1 << 16:
            raise ValueError("not a replica")
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


# -- as its administrator ------------------------------------------------------------------------------------------------


def client_rules(spec: EngineSpec) -> list[str]:
    """What `default` may do, as the engine's own users file has it."""
    line = next(line for line in users_acl(spec).splitlines() if line.startswith("user default "))
    return line.split()[2:]


async def command_feed(spec: EngineSpec, tail_of: Disk, place: int, break_after: int | None = None) -> None:
    """Send the tail to a follower that took over and is fenced. Raises FeedBroke, OSError.

    The engine is in import mode: this connection sees keys whose time has come as the dead leader saw them.
    The fence (min-replicas-to-write) must be lifted for these commands, so another door is closed first: every client
    user loses every command. It is opened only after the fence stands again.
    """
    folder = os.open(spec.directory, os.O_PATH | os.O_DIRECTORY)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
    finally:
        os.close(folder)
    try:
        door = [
            ("AUTH", MANAGER, SECRET),
            ("ACL", "SETUSER", "default", "-@all"),
            ("CLIENT", "IMPORT-SOURCE", "ON"),
            ("SELECT", str(database_at(tail_of.data, place))),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
        ]
        await ask(reader, writer, door)
        tail = tail_of.data[place:]
        stop = len(tail) if break_after is None else min(break_after, len(tail))
        await pump(reader, writer, tail[:stop])
        if break_after is not None:
            raise FeedBroke("on purpose")
        await ask(
            reader, writer, [("CONFIG", "SET", "min-replicas-to-write", "99"), ("ACL", "SETUSER", "default", *client_rules(spec))]
        )
    finally:
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: list[tuple[str, ...]]) -> None:
    """All must succeed."""
    writer.write(b"".join(packed(*words) for words in commands))
    for words in commands:
        try:
            await answered(reader)
        except ValueError as error:
            raise FeedBroke(f"{words[0]} {words[1]}: {error}") from error


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tail: bytes) -> None:
    """Send commands as they are and read their answers meanwhile; a last cut command is sent cut."""
    whole = commands_in(tail)

    async def read() -> None:
        for number in range(whole):
            try:
                await answered(reader)
            except ValueError as error:
                raise FeedBroke(f"command {number} of the tail: {error}") from error

    reading = asyncio.create_task(read())
    try:
        for at in range(0, len(tail), CHUNK):
            writer.write(tail[at : at + CHUNK])
            await writer.drain()
        await reading
    finally:
        reading.cancel()


def commands_in(tail: bytes) -> int:
    """Whole commands."""
    at = count = 0
    while at < len(tail):
        eol = tail.find(b"\r\n", at)
        if eol < 0:
            return count
        words, at = int(tail[at + 1 : eol]), eol + 2
        for _ in range(words):
            eol = tail.find(b"\r\n", at)
            if eol < 0:
                return count
            at = eol + 4 + int(tail[at + 1 : eol])
        if at > len(tail):
            return count
        count += 1
    return count
