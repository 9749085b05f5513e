"""Client: one request and its answer on a connection of their own, in HTTP/1.0.

1.0 on purpose: the answer to it ends where its connection ends, so that there is little to take apart. The standard
library's client imports its parser of e-mails, which was 40 ms of every cold start (decision 0016).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping

LONGEST_HEAD = 1 << 16  # bytes of status line and header fields
PIECE = 1 << 16
ENDS_HEAD = b"\r\n\r\n"


class NotHttp(Exception):
    """The answer is not HTTP."""


class Exchange:
    """One connection, made already. `remaining` gives the seconds that the next piece of the answer may take, or raises
    TimeoutError.

    Every method raises OSError; ConnectionResetError when the connection ends before the answer is whole.
    """

    def __init__(self, connection: socket.socket, remaining: Callable[[], float]) -> None:
        self._remaining = remaining
        self._socket = connection
        self._rest = b""  # the part of the body that came with the head
        self.status = 0
        self.headers: dict[str, str] = {}

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send the request and read the answer up to its body: `status`, and `headers` in lower case. Raises NotHttp."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {target} HTTP/1.0\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode("ascii")
        if head.count(b"\n") != len(headers) + 3 or target.count(" "):
            raise ValueError(f"{target!r} or a header field of its request would end the line of its head")
        self._socket.sendall(head + body)
        self._read_head()

    def _read_head(self) -> None:
        read = b""
        while ENDS_HEAD not in read:
            piece = self._piece()
            read += piece
            if not piece:
                raise ConnectionResetError
            if not read.startswith(b"HTTP/"[: len(read)]) or len(read) > LONGEST_HEAD:
                raise NotHttp
        head, _, self._rest = read.partition(ENDS_HEAD)
        first, *fields = head.decode("latin-1").split("\r\n")
        pairs = [field.partition(":") for field in fields]
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        code = first.partition(" ")[2][:3]
        if not code.isdecimal() or "transfer-encoding" in self.headers:  # not allowed in an answer to a 1.0 request
            raise NotHttp
        self.status = int(code)

    def body(self) -> Iterator[bytes]:
        """The body's bytes as they come: as many as its header names or, without one, until the connection ends."""
        length = self.headers.get("content-length", "")
        left = int(length) if length.isdecimal() else None
        piece = self._rest
        while left is None or left > 0:
            piece = piece or self._piece()
            if not piece:
                break
            yield piece
            left = None if left is None else left - len(piece)
            piece = b""
        if left is not None and left > 0:
            raise ConnectionResetError

    def _piece(self) -> bytes:
        self._socket.settimeout(self._remaining())
        return self._socket.recv(PIECE)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
