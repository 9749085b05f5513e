"""Engine: listens where a dead leader listened, and continues its replication from its files.

It answers the replication user's PSYNC for the followers of its plan, answers clients LOADING, and holds no data but the
tail. The protocol is Valkey's, relied on but not documented for this use: docs/decisions/0011 says what was tried.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from dkv.engine import tls
from dkv.engine.archive import check_identity
from dkv.engine.config import REPLICA, replica_password
from dkv.engine.contract import ArchiveRefused, ByteRangeDigest, Cause, EngineRefused, Identity, TailFollower, TailPlan
from dkv.engine.local import LocalEngines
from dkv.engine.positions import AfterMarker, stretch

_VALID = 1.5  # seconds after the last `serve` in which anything is sent: a frozen manager sends nothing
_HANDSHAKE = 5.0  # seconds a peer has for its handshake
_CHUNK = 64 << 10  # bytes sent between two looks at whether they are still wanted
_BLOCK = 1 << 20  # bytes read at once, by a thread
_LONGEST = 1 << 16  # bytes of an argument, far above what a replica sends
_LOADING = b"-LOADING the group is choosing its leader\r\n"


class FeedBroke(Exception):
    """A follower asks for something the plan does not have for it."""


class Tails:
    """All that this manager feeds, by archive directory."""

    def __init__(self) -> None:
        self._feeders: dict[str, Feeder] = {}
        self._counting = threading.Lock()
        self.handled: Counter[str] = Counter()  # bytes read for digests, or sent

    def counter(self, directory: str) -> Callable[[int], None]:
        """The function that adds to the bytes of that archive that were read or sent, from any thread."""

        def count(size: int) -> None:
            with self._counting:
                self.handled[directory] += size

        return count

    async def serve(self, plan: TailPlan) -> None:
        """Listen, or go on for a while. Raises ArchiveRefused, EngineRefused."""
        feeder = self._feeders.get(plan.directory)
        if feeder is None or feeder.plan != plan:
            await self.stop(plan.directory)
            tail = await asyncio.to_thread(_place_of, plan, self.counter(plan.directory))
            feeder = self._feeders[plan.directory] = Feeder(plan, tail, self.counter(plan.directory))
            await feeder.listen()
        feeder.renew()
        if feeder.trouble:
            raise EngineRefused(feeder.trouble)

    async def stop(self, directory: str) -> None:
        """Close the connections of all followers."""
        feeder = self._feeders.pop(directory, None)
        if feeder is not None:
            feeder.close()
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close the connections of all followers of all archives."""
        while self._feeders:
            self._feeders.popitem()[1].close()


class TailSources(LocalEngines):
    """The tails of dead leaders that this manager's archives hold; see `TailSource` of the contract."""

    def __init__(self, runs: Path, boot_id: str, lock_wait: float) -> None:
        super().__init__(runs, boot_id, lock_wait)
        self._tails = Tails()

    def close(self) -> None:
        """See LocalEngines; nothing is sent any more."""
        self._tails.close()
        super().close()

    async def digest(self, directory: str, marker: tuple[int, int, str], upto: int | None = None) -> ByteRangeDigest:
        """See the contract."""
        digest, _ = await asyncio.to_thread(stretch, directory, marker, upto, self._tails.counter(directory))
        return digest

    def handled(self) -> Mapping[str, int]:
        """See the contract."""
        return dict(self._tails.handled)

    async def serve_tail(self, plan: TailPlan, identity: Identity) -> None:
        """See the contract."""
        check_identity(plan.directory, identity, False)
        await self._take_lock(plan.directory)
        await self._tails.serve(plan)

    async def stop_tail(self, directory: str) -> None:
        """See the contract."""
        await self._tails.stop(directory)

    async def release(self, directory: str) -> None:
        """See the contract."""
        await self._tails.stop(directory)
        self._drop_lock(directory)


def _place_of(plan: TailPlan, handled: Callable[[int], None]) -> AfterMarker:
    """Where the stretch is; the whole of it must be what was measured. Raises ArchiveRefused."""
    digest, place = stretch(plan.directory, plan.marker, plan.stretch.size, handled)
    if digest != plan.stretch:
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{plan.directory} does not hold the bytes that were measured")
    return place


class Feeder:
    """One plan being carried out. The bytes stay on the disk until they are sent: a tail of large values may have gigabytes."""

    def __init__(self, plan: TailPlan, tail: AfterMarker, handled: Callable[[int], None]) -> None:
        self._handled = handled
        self.plan = plan
        self.trouble = ""
        self._tail = tail
        self._followers = {follower.node_id: follower for follower in plan.followers}
        self._until = 0.0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Begin. Raises EngineRefused when the address is taken."""
        try:
            context = tls.context_of(self.plan.directory) if self.plan.tls else None
            self._server = await asyncio.start_server(self._serve, self.plan.address, self.plan.port, ssl=context)
        except OSError as error:
            raise EngineRefused(f"cannot listen on {self.plan.address}:{self.plan.port}: {error}") from error

    def renew(self) -> None:
        """Send for 1.5 s more."""
        self._until = time.monotonic() + _VALID

    def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (FeedBroke, ArchiveRefused) as broke:
            self.trouble = str(broke)
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # a client that left, or one that speaks another protocol
        finally:
            self._writers.discard(writer)
            with suppress(OSError):
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proven, node_id = False, ""
        while True:
            async with asyncio.timeout(_HANDSHAKE):
                words = await _request(reader)
            name = words[0].upper()
            if name == b"AUTH":
                proven = self._knows(words[1:])
                writer.write(b"+OK\r\n" if proven else b"-WRONGPASS invalid username-password pair\r\n")
            elif name == b"PING" and proven:
                writer.write(b"+PONG\r\n")
            elif name == b"REPLCONF" and proven:
                if len(words) > 2 and words[1].upper() == b"SET-CLUSTER-NODE-ID":
                    node_id = words[2].decode("ascii", "replace")
                writer.write(b"+OK\r\n")
            elif name == b"PSYNC" and proven and len(words) == 3 and node_id in self._followers:
                if not await self._continue(writer, self._followers[node_id], words[1].decode("ascii"), int(words[2])):
                    return
                while await reader.read(1 << 12):
                    pass  # its acknowledgements, until one of us goes
                return
            else:
                writer.write(b"+PONG\r\n" if name == b"PING" else _LOADING)

    def _knows(self, words: list[bytes]) -> bool:
        passwords = [replica_password(secret).encode() for secret in self.plan.secrets.taken]
        known = len(words) == 2 and hmac.compare_digest(words[0], REPLICA.encode())
        return known and any(hmac.compare_digest(words[1], password) for password in passwords)

    async def _continue(self, writer: asyncio.StreamWriter, follower: TailFollower, history: str, wants: int) -> bool:
        """Answer PSYNC; whether the tail itself is being sent. Raises FeedBroke, ArchiveRefused."""
        plan = self.plan
        place = wants - 1 - plan.shift
        if history == plan.history and plan.lowest <= place <= plan.stretch.size:
            return await self._send(writer, place)
        if history == plan.filling_history(follower) and place == follower.place:
            return await self._send(writer, follower.place)
        if history == plan.former and wants == follower.offset + 1:
            filling = await self._filling(follower)
            self._check()
            writer.write(b"+CONTINUE %s\r\n" % plan.filling_history(follower).encode() + filling)
            await writer.drain()
            await asyncio.sleep(0.001)
            return False
        raise FeedBroke(f"follower {follower.node_id} asks for {history} {wants}, which is not where it was")

    async def _filling(self, follower: TailFollower) -> bytes:
        """The PING that takes a follower from its old offset to the new one.

        Its text ends with what a follower further behind misses, so that even a chained continuation out of it is right.
        """
        missed = await asyncio.to_thread(self._tail.read, self.plan.lowest, follower.place) or b"\r\n"
        size = self.plan.filled(follower) - follower.offset
        for digits in range(1, 12):
            head = len(b"*2\r\n$4\r\nPING\r\n$") + digits + 2
            text = size - head - 2
            if text >= len(missed) - 2 and len(str(text)) == digits:
                return b"*2\r\n$4\r\nPING\r\n$%d\r\n" % text + b"." * (text - len(missed) + 2) + missed
        raise FeedBroke(f"no PING is {size} bytes long")

    async def _send(self, writer: asyncio.StreamWriter, place: int) -> bool:
        self._check()
        writer.write(b"+CONTINUE %s\r\n" % self.plan.history.encode())
        end = self.plan.stretch.size
        for begins in range(place, end, _BLOCK):
            block = await asyncio.to_thread(self._tail.read, begins, min(begins + _BLOCK, end))
            for at in range(0, len(block), _CHUNK):
                self._check()
                writer.write(block[at : at + _CHUNK])
                await writer.drain()
                self._handled(min(_CHUNK, len(block) - at))
        return True

    def _check(self) -> None:
        """Nothing is sent on behalf of a manager that stood still. Raises TimeoutError."""
        if time.monotonic() > self._until:
            raise TimeoutError


async def _request(reader: asyncio.StreamReader) -> list[bytes]:
    """One command of a peer. Raises ValueError when it is none, EOFError at the end."""
    line = await reader.readline()
    if line[:1] != b"*" or not line[1:-2].isdigit() or not 0 < int(line[1:]) <= 20:
        raise ValueError("not a replica")
    words = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        if not 0 <= size <= _LONGEST:
            raise ValueError("not a replica")
        words.append((await reader.readexactly(size + 2))[:-2])
    return words
