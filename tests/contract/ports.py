"""Ports for real engines under test."""

from __future__ import annotations

import itertools
import os
import random
import socket

FIRST, EACH = 20_000, 4_000  # below the ephemeral ones, so that no outgoing connection takes one meanwhile
WORKERS = 3  # how many workers of a test run have ports of their own


def free_port() -> int:
    """A free port that nobody else is given soon: who asks for it may start much later."""
    return next(port for port in _ours if _is_free(port))


def _ports_of(worker: int) -> list[int]:
    """What one worker of a test run may give, in no order."""
    first = FIRST + worker % WORKERS * EACH
    return random.sample(range(first, first + EACH), EACH)


_ours = itertools.cycle(_ports_of(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
