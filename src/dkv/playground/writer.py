"""Playground: the adapter of valkey-py: a process that writes keys and logs each before and after its answer.

`python -m dkv.playground.writer KIND LOG STORE MANAGERS ENDPOINTS AUTHORITIES` runs until SIGTERM, as the database user of the
environment. AUTHORITIES is the file by which engines prove themselves over TLS, empty where they speak plain. A line of the log
is a mark, a key, monotonic seconds and, for `error`, a reason: `sent` before a write leaves, `acknowledged` or `confirmed` after.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from valkey.cluster import ClusterNode, ValkeyCluster
from valkey.exceptions import ValkeyClusterException, ValkeyError

from dkv.client import parse_endpoint
from dkv.confirm import ConfirmingClient, Kind, login_of

PLAIN, CONFIRMED = "plain", "confirmed"
SENT, ERROR = "sent", "error"
PACE = 0.002  # s between two writes: this is a proof, not a benchmark
AFTER_TROUBLE = 0.01  # s
WITHIN = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0}  # s that a node has to answer, and to accept
_node: Callable[..., ClusterNode] = ClusterNode  # the library has no types
_cluster: Callable[..., ValkeyCluster] = ValkeyCluster
BATCH = 500  # keys read at once
TROUBLE = (ValkeyError, ValkeyClusterException, OSError)


def value_of(key: str) -> str:
    """The value that belongs to a key."""
    return f"value of {key}"


class Target(NamedTuple):
    """Where a store's clients connect, and the file with the authorities of its engines; "" where they speak plain."""

    endpoints: Sequence[str]
    authorities: str = ""


def connect(target: Target) -> ValkeyCluster:
    """An unmodified cluster client. The library waits for ever for a host whose cable is out unless it is given a time; all else
    is its default. Raises TROUBLE.
    """
    nodes = [_node(at.host, at.port) for at in map(parse_endpoint, target.endpoints)]
    tls = {"ssl": True, "ssl_ca_certs": target.authorities} if target.authorities else {}
    return _cluster(startup_nodes=nodes, decode_responses=True, **WITHIN, **tls, **login_of())


def read_values(target: Target, keys: Iterable[str]) -> dict[str, str | None]:
    """The values that a new client reads under the keys."""
    values: dict[str, str | None] = {}
    with connect(target) as client:
        wanted = list(keys)
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            pipeline = client.pipeline()
            for key in batch:
                pipeline.get(key)
            values.update(zip(batch, pipeline.execute(), strict=True))
    return values


def drop(target: Target, key: str) -> None:
    """Delete one key unnoticed: the planted loss of the tests."""
    with connect(target) as client:
        client.delete(key)


class Log:
    """The writer's log; each line is with the operating system before the next step."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def say(self, mark: str, key: str, reason: str = "") -> None:
        """Write one line."""
        text = " ".join(reason.split())
        self._file.write(f"{mark}\t{key}\t{time.monotonic():.6f}\t{text}\n")
        self._file.flush()


def write_plain(log: Log, target: Target, stopped: Callable[[], bool]) -> None:
    """SET as an ordinary application does it: one client, made once, which retries within itself as it likes."""
    client = connect(target)
    for n in itertools.count():
        if stopped():
            return
        key = f"{PLAIN}:{n}"
        log.say(SENT, key)
        try:
            client.set(key, value_of(key))
        except TROUBLE as error:
            log.say(ERROR, key, f"{type(error).__name__} {error}")
            time.sleep(AFTER_TROUBLE)
            continue
        log.say(Kind.ACKNOWLEDGED, key)
        time.sleep(PACE)


def write_confirmed(log: Log, managers: Sequence[str], store: str, stopped: Callable[[], bool]) -> None:
    """SET through dkv.confirm."""
    with ConfirmingClient(managers, store) as client:
        for n in itertools.count():
            if stopped():
                return
            key = f"{CONFIRMED}:{n}"
            log.say(SENT, key)
            outcome = client.set(key, value_of(key), timeout=10.0)
            log.say(ERROR if outcome.kind is Kind.FAILED else outcome.kind, key, outcome.reason)
            time.sleep(PACE)


def main(arguments: Sequence[str]) -> int:
    """Write until SIGTERM."""
    kind, file, store, managers, endpoints, authorities = arguments
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(file).open("w", encoding="utf-8") as out:
        log = Log(out)
        if kind == PLAIN:
            write_plain(log, Target(endpoints.split(","), authorities), lambda: bool(ended))
        else:
            write_confirmed(log, managers.split(","), store, lambda: bool(ended))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
