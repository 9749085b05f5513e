"""Bench kit: the smallest client there is: one socket, RESP out, RESP in, so that a client's own retries measure nothing."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

SLOTS = 16384


class Refused(Exception):
    """The engine answered with an error; it did not execute the command."""


def packed(*words: str | bytes | int) -> bytes:
    """One command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Line:
    """One connection. Everything may raise OSError, also for a closed connection."""

    def __init__(self, endpoint: str, timeout: float = 2.0, *, context: ssl.SSLContext | None = None) -> None:
        host, _, port = endpoint.rpartition(":")
        self.endpoint = endpoint
        self._socket = socket.create_connection((host, int(port)), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def ask(self, *words: str | bytes | int) -> Any:
        """The answer to one command. Raises Refused."""
        self._socket.sendall(packed(*words))
        answer = self._answer()
        if isinstance(answer, Refused):
            raise answer
        return answer

    def ask_all(self, commands: Iterable[Sequence[str | bytes | int]]) -> list[Any]:
        """Pipelined; an error stands in the list as Refused."""
        wanted = list(commands)
        self._socket.sendall(b"".join(packed(*words) for words in wanted))
        return [self._answer() for _ in wanted]

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._exactly(int(rest) + 2)[:-2]
        return [self._answer() for _ in range(int(rest))]

    def _exactly(self, count: int) -> bytes:
        block = self._file.read(count)
        if len(block) < count:
            raise ConnectionResetError("the connection was closed")
        return block


def info(endpoint: str, section: str) -> dict[str, str]:
    """INFO of an engine."""
    with Line(endpoint) as line:
        text = line.ask("INFO", section).decode()
    return dict(pair.split(":", 1) for pair in text.splitlines() if ":" in pair)


def slot_of(key: str) -> int:
    """CRC16 (XMODEM) of what stands between braces, or of the whole key."""
    start = key.find("{")
    end = key.find("}", start + 1)
    text = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    crc = 0
    for byte in text.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % SLOTS


def tag_in(low: int, high: int) -> str:
    """A hash tag whose keys lie in slots `low` to `high`."""
    return next(f"{{t{n}}}" for n in range(10**6) if low <= slot_of(f"{{t{n}}}") <= high)
