"""Ports for real engines under test."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

FIRST, EACH = 20_000, 4_000  # below the ephemeral ones, so that no outgoing connection takes one meanwhile
WORKERS = 3  # how many workers of a test run have ports of their own


def free_port(above: int = 0) -> int:
    """A free port that nobody else is given soon: who asks for it may start much later. With `above`, so is the port that much
    above it.
    """
    while True:
        port = random.choice(_own)
        ports = {port, port + above}
        if all(port in _own and port not in _given and _is_free(port) for port in ports):
            _given.extend(ports)
            return port


def _ports_of(worker: int) -> range:
    """What one worker of a test run may give."""
    first = FIRST + worker % WORKERS * EACH
    return range(first, first + EACH)


_own = _ports_of(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
_given: deque[int] = deque(maxlen=EACH // 2)  # lately


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
