"""A forwarded port, as NAT or a container's port mapping makes one: connections to one address end at another."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Forwarded:
    """One forwarded port: how many connections came over it so far."""

    connections: int = 0


@contextlib.contextmanager
def forwarded(outside: tuple[str, int], inside: tuple[str, int]) -> Iterator[Forwarded]:
    """Connections to the address `outside` are passed on to `inside` while the block runs."""
    port, streams = Forwarded(), list[socket.socket]()
    listener = socket.create_server(outside, family=socket.AF_INET6 if ":" in outside[0] else socket.AF_INET)

    def passed_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65_536):
                target.sendall(block)
        for stream in (source, target):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def accepted() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                engine = socket.create_connection(inside, timeout=10)
                engine.settimeout(None)
                port.connections += 1
                streams.extend((client, engine))
                for source, target in ((client, engine), (engine, client)):
                    threading.Thread(target=passed_on, args=(source, target), daemon=True).start()

    accepting = threading.Thread(target=accepted, daemon=True)
    accepting.start()
    try:
        yield port
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            stream.close()
