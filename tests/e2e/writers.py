"""Clients of a domain that never give up: writers that must lose nothing, and probers that ask every node all the time.

Plain sockets on purpose: a library that follows MOVED or retries by itself would hide what these are to see.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from valkey.crc import key_slot

from dkv.client import Json


def key_in(slots: Sequence[Sequence[int]], name: str) -> str:
    """A key of that name in one of these slots."""
    for number in range(100_000):
        tag = f"{{{number}}}{name}"
        if any(first <= key_slot(tag.encode()) <= last for first, last in slots):
            return tag
    raise AssertionError(f"no key for {slots}")


@dataclass
class Answer:
    """One write that a node answered: wall clock seconds before and after, and the first line of its reply."""

    sent: float
    got: float
    reply: str


@dataclass
class Client:
    """One thread that writes a counter under one key to one node, over and over. `sent` and `acknowledged` are counts."""

    host: str
    port: int
    key: str
    archive_id: int
    pace: float = 0.002
    patience: float = 15.0
    sent: int = 0
    acknowledged: int = 0
    accepted: list[Answer] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)
    broken: int = 0
    slowest: float = 0.0

    def run(self, ended: threading.Event) -> None:
        """Write until stopped."""
        line: socket.socket | None = None
        while not ended.is_set():
            try:
                line = line or self._connect()
                self._write(line)
            except OSError:
                self.broken += 1
                if line is not None:
                    line.close()
                line = None
            time.sleep(self.pace)
        if line is not None:
            line.close()

    def _connect(self) -> socket.socket:
        line = socket.create_connection((self.host, self.port), timeout=1.0)
        line.settimeout(self.patience)
        return line

    def _write(self, line: socket.socket) -> None:
        self.sent += 1
        before = time.time()
        line.sendall(f"SET {self.key} {self.sent}\r\n".encode())
        reply = b""
        while not reply.endswith(b"\r\n"):
            block = line.recv(4096)
            if not block:
                raise ConnectionError("closed")
            reply += block
        answer = Answer(before, time.time(), reply.decode().strip())
        self.slowest = max(self.slowest, answer.got - before)
        if answer.reply == "+OK":
            self.acknowledged = self.sent
            self.accepted.append(answer)
        else:
            self.refused.append(answer)


@contextmanager
def at_work(clients: Sequence[Client]) -> Iterator[None]:
    """All of them write while the block runs."""
    ended = threading.Event()
    threads = [threading.Thread(target=client.run, args=(ended,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)


def clients_of(store: Json, name: str, leaders_only: bool, **how: Any) -> list[Client]:
    """A client for each node of a store, or each leader, with a key of that name in the node's own group."""
    slots = {group["name"]: group["slots"] for group in store["groups"]}
    leaders = {group["leader"] for group in store["groups"]}
    return [
        Client(
            instance["host"],
            instance["clientPort"],
            key_in(slots[instance["group"]], f"{name}-{instance['archiveId']}"),
            instance["archiveId"],
            **how,
        )
        for instance in store["instances"]
        if not leaders_only or instance["instanceName"] in leaders
    ]
