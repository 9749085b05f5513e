"""Importing: the source: one server or the primaries of a cluster; its keys, as they are now, and which of them change."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dkv.importing.connection import Connection, ConnectionLost, ErrorReply, ImportFailed, ServerAddress, info_of

AT_ONCE = 200  # keys of one request
EVENTS = "notify-keyspace-events"
CHANGES = b"__keyevent@*__:*"
Key = tuple[int, bytes]  # database, and name


@dataclass(frozen=True)
class Value:
    """A key as it is now: `dump` None if there is none, `ttl_ms` 0 without an end."""

    key: bytes
    dump: bytes | None
    ttl_ms: int


@dataclass
class ChangedKeys:
    """The keys that changed since they were taken out, in their order."""

    keys: dict[Key, None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: Key) -> None:
        """Put in one that changed."""
        with self.lock:
            self.keys[key] = None

    def take(self, most: int) -> list[Key]:
        """Take out the oldest."""
        with self.lock:
            taken = list(self.keys)[:most]
            for key in taken:
                del self.keys[key]
            return taken


class Node:
    """One server of the source: a connection for each database, and one that receives its keyspace events."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.changed = ChangedKeys()
        self._connections: dict[int, Connection] = {}
        self._events: Connection | None = None
        self._before: str | None = None  # of its setting of events, where that was changed
        self._pongs: dict[bytes, threading.Event] = {}
        self.ended = ""  # why it receives no more events

    def connection(self, database: int) -> Connection:
        """The connection of a database. Raises ConnectionLost, ErrorReply."""
        if database not in self._connections:
            self._connections[database] = Connection(self.address, database)
        return self._connections[database]

    def info(self) -> dict[str, str]:
        """INFO."""
        return info_of(self.connection(0).execute("INFO"))

    def sizes(self) -> dict[int, int]:
        """How many keys each database has."""
        named = {int(name[2:]): text for name, text in self.info().items() if name[:2] == "db" and name[2:].isdigit()}
        return {number: int(text.partition("keys=")[2].partition(",")[0]) for number, text in named.items()}

    def keys(self, database: int) -> Iterator[list[bytes]]:
        """Every key that is there all the time, in batches."""
        cursor: bytes | int = 0
        while True:
            cursor, names = self.connection(database).execute("SCAN", cursor, "COUNT", AT_ONCE)
            if names:
                yield list(names)
            if int(cursor) == 0:
                return

    def values(self, database: int, keys: Sequence[bytes]) -> list[Value]:
        """These keys as they are now. Raises ConnectionLost, ErrorReply."""
        replies = self.connection(database).pipeline(*(command for key in keys for command in (("DUMP", key), ("PTTL", key))))
        for answer in replies:
            if isinstance(answer, ErrorReply):
                raise answer
        return [
            Value(key, dump if ttl != -2 else None, max(ttl, 1) if ttl >= 0 else 0)
            for key, dump, ttl in zip(keys, replies[::2], replies[1::2], strict=True)
        ]

    def subscribe(self) -> None:
        """From now on `changed` has each key that changes. Raises ImportFailed."""
        self._before = self._enable_events()
        self._events = Connection(self.address)
        self._events.execute("PSUBSCRIBE", CHANGES)
        threading.Thread(target=self._read_events, args=(self._events,), daemon=True).start()

    def _enable_events(self) -> str | None:
        try:
            answer = self.connection(0).execute("CONFIG", "GET", EVENTS)
            present = answer[1].decode() if answer else ""
            if {"A", "E"} <= set(present):
                return None
            self.connection(0).execute("CONFIG", "SET", EVENTS, "".join({*present, "A", "E"}))
        except ErrorReply as error:
            raise ImportFailed(
                f"{self.address} does not say which keys change: {error}.",
                f"Set {EVENTS} to AE there, or stop its writers and give --no-follow.",
            ) from error
        return present

    def _read_events(self, events: Connection) -> None:
        try:
            while True:
                self._take(events.next_message())
        except ConnectionLost as error:
            self.ended = str(error) or "the connection ended"
            for pong in self._pongs.values():
                pong.set()

    def _take(self, message: Any) -> None:
        if not message:
            return
        if message[0] == b"pong":
            if message[1] in self._pongs:
                self._pongs[message[1]].set()
        elif message[0] == b"pmessage":
            database = int(message[2].partition(b"@")[2].partition(b"__")[0])
            self.changed.add((database, message[3]))

    def drain_events(self, token: bytes) -> None:
        """Wait until every event before this call was received: the answer to a PING comes after them. Raises ImportFailed."""
        if self._events is None:
            return
        self._pongs[token] = threading.Event()
        if not self.ended:
            self._events.send("PING", token)
        if not self._pongs[token].wait(60) or self.ended:
            raise ImportFailed(
                f"{self.address} ended the connection that says which keys change: {self.ended or 'no answer'}.",
                "Begin the import again; a larger client-output-buffer-limit for pubsub there helps.",
            )

    def close(self) -> None:
        """Leave its settings as they were."""
        if self._before is not None:
            try:
                self.connection(0).execute("CONFIG", "SET", EVENTS, self._before)
            except (ConnectionLost, ErrorReply):
                pass
        for connection in (*self._connections.values(), *([self._events] if self._events else [])):
            connection.close()


def nodes_of(address: ServerAddress) -> list[Node]:
    """The source as its servers: of a cluster each primary that has slots. Raises ImportFailed."""
    first = Node(address)
    try:
        info = first.info()
        if info.get("cluster_enabled") != "1":
            return [first]
        slots = first.connection(0).execute("CLUSTER", "SLOTS")
    except ConnectionLost as error:
        raise ImportFailed(
            f"The source {address} does not answer: {error}.", "Is the address right, and does it need rediss://?"
        ) from error
    except ErrorReply as error:
        raise _refused(address, str(error)) from error
    first.close()
    primaries = {(host.decode() if host else "", int(port)) for _, _, (host, port, *_), *_ in slots}
    if not primaries:
        raise ImportFailed(f"The cluster of {address} has no slots.", "Name a server of a cluster that serves.")
    return [Node(address.at(host, port)) for host, port in sorted(primaries)]


def _refused(address: ServerAddress, reply: str) -> ImportFailed:
    if any(word in reply for word in ("NOAUTH", "WRONGPASS", "Authentication", "invalid password", "AUTH")):
        return ImportFailed(
            f"The source {address} does not let in {address.user or 'a client'} with this password.",
            "Give it with --from-password-file or DKV_SOURCE_PASSWORD, its user as redis://USER@HOST:PORT.",
        )
    return ImportFailed(
        f"The source {address} refuses: {reply}.", "Let its user read all keys, and the commands SCAN, DUMP, PTTL and INFO."
    )


def libraries(node: Node) -> list[tuple[str, bytes]]:
    """The function libraries of the source, by name; none of one that has no functions."""
    try:
        answer = node.connection(0).execute("FUNCTION", "LIST", "WITHCODE")
    except ErrorReply:
        return []
    named = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in answer]
    return [(entry[b"library_name"].decode(), entry[b"library_code"]) for entry in named]
