"""The clients of a chaos run: a process whose threads write, read and probe the stores, and log each operation when it is over.

`python -m tests.chaos.clients LOG KINDS STORES MANAGERS` runs until SIGTERM, as the database user of the environment. KINDS is
`judged` (writes and registers through dkv.confirm) or `plain` (two unmodified libraries, and a probe of each engine). STORES is
JSON: the addresses of the engines of each store, and keys of its groups.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import redis
import redis.cluster
import valkey
import valkey.cluster

from dkv.confirm import ConfirmingClient, Kind, login_of

CONFIRMED, REGISTER, READ, VALKEY, REDIS, PROBE = "confirmed", "register", "read", "valkey", "redis", "probe"
REGISTERS = 4  # of each store
PACE = 0.1  # s between two operations of a thread
PROBE_PACE = 0.25
AFTER_TROUBLE = 0.05  # s
WITHIN = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0}  # s
RAISE = (
    "local v = tonumber(redis.call('GET', KEYS[1]) or '0') if v < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end"
)
"""A register only rises: a write without an answer that an engine executes late cannot put an older value back."""


class What(NamedTuple):
    """What an operation is about. The value of a read is what it showed."""

    store: str
    kind: str
    key: str
    value: object


class Library(NamedTuple):
    """A library as an application uses it: its name, how a client is made, and what it raises."""

    kind: str
    client: Callable[[], Any]
    trouble: tuple[type[Exception], ...]


class Log:
    """One line an operation: store, kind, key, value, monotonic seconds before and after, mark, where or why."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def add(self, what: What, began: float, mark: str, more: str = "") -> None:
        """Write a line; it is with the operating system when this returns. The operation is over now."""
        words = [*map(str, what), f"{began:.6f}", f"{time.monotonic():.6f}", mark, " ".join(more.split())]
        with self._lock:
            self._file.write("\t".join(words) + "\n")
            self._file.flush()


Stopped = Callable[[], bool]


def write_confirmed(log: Log, store: str, managers: Sequence[str], stopped: Stopped) -> None:
    """Unique keys and rising registers through dkv.confirm."""
    with ConfirmingClient(managers, store) as client:
        for number in itertools.count(1):
            if stopped():
                return
            key, register = f"{CONFIRMED}:{number}", f"{REGISTER}:{number % REGISTERS}"
            _judged(log, client, What(store, CONFIRMED, key, number), ("SET", key, str(number)))
            _judged(log, client, What(store, REGISTER, register, number), ("EVAL", RAISE, "1", register, str(number)), register)
            time.sleep(PACE)


def read_registers(log: Log, store: str, managers: Sequence[str], stopped: Stopped) -> None:
    """Confirmed reads of the registers."""
    with ConfirmingClient(managers, store) as client:
        for number in itertools.count():
            if stopped():
                return
            register = f"{REGISTER}:{number % REGISTERS}"
            _judged(log, client, What(store, READ, register, ""), ("GET", register))
            time.sleep(PACE)


def _judged(log: Log, client: ConfirmingClient, what: What, command: Sequence[str], key: str | None = None) -> None:
    began = time.monotonic()
    outcome = client.execute(*command, key=key, timeout=4.0)
    if what.kind == READ and outcome.kind is Kind.CONFIRMED:
        what = what._replace(value=int(outcome.reply or b"0"))
    log.add(what, began, str(outcome.kind), outcome.reason)


def write_plain(log: Log, store: str, library: Library, stopped: Stopped) -> None:
    """SET as an ordinary application does it: one client, made once, that retries within itself as it likes."""
    made = None
    for number in itertools.count(1):
        if stopped():
            return
        what, began = What(store, library.kind, f"{library.kind}:{number}", number), time.monotonic()
        try:
            made = made or library.client()
            made.set(what.key, str(number))
        except library.trouble as error:
            log.add(what, began, "failed", f"{type(error).__name__} {error}")
            time.sleep(AFTER_TROUBLE)
            continue
        log.add(what, began, "acknowledged")
        time.sleep(PACE / 2)


def probe(log: Log, what: What, stopped: Stopped) -> None:
    """Ask one engine again and again, past all libraries, to take a write: who accepts it leads, or believes so."""
    host, port = _place(str(what.value))
    client = valkey.Valkey(host, port, socket_timeout=1.0, socket_connect_timeout=1.0, **login_of())
    while not stopped():
        began = time.monotonic()
        try:
            client.set(what.key, str(what.value))
        except (valkey.exceptions.ValkeyError, OSError):
            time.sleep(PROBE_PACE)
            continue
        log.add(what, began, "accepted")
        time.sleep(PROBE_PACE)


def valkey_client(endpoints: Sequence[str]) -> Any:
    """The cluster client of valkey-py. It waits for ever for a host whose cable is out unless it is given a time."""
    nodes = [valkey.cluster.ClusterNode(*_place(endpoint)) for endpoint in endpoints]
    return valkey.cluster.ValkeyCluster(startup_nodes=nodes, **WITHIN, **login_of())


def redis_client(endpoints: Sequence[str]) -> Any:
    """The cluster client of redis-py, likewise."""
    nodes = [redis.cluster.ClusterNode(*_place(endpoint)) for endpoint in endpoints]
    return redis.cluster.RedisCluster(startup_nodes=nodes, **WITHIN, **login_of())


def _place(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


VALKEY_TROUBLE = (valkey.exceptions.ValkeyError, valkey.exceptions.ValkeyClusterException, OSError)
REDIS_TROUBLE = (redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError)


def threads(log: Log, kinds: str, stores: Any, managers: Sequence[str], stopped: Stopped) -> list[threading.Thread]:
    """All clients of this process, not yet started."""
    wanted: list[tuple[Any, ...]] = []
    for store, how in stores.items():
        if kinds == "judged":
            wanted += [(write, log, store, managers, stopped) for write in (write_confirmed, read_registers)]
            continue
        libraries = (
            Library(VALKEY, partial(valkey_client, how["endpoints"]), VALKEY_TROUBLE),
            Library(REDIS, partial(redis_client, how["endpoints"]), REDIS_TROUBLE),
        )
        wanted += [(write_plain, log, store, library, stopped) for library in libraries]
        wanted += [(probe, log, What(store, PROBE, key, endpoint), stopped) for endpoint, key in how["probes"].items()]
    return [threading.Thread(target=_begin, args=words) for words in wanted]


def _begin(run: Callable[..., None], *words: Any) -> None:
    time.sleep(random.random() * PACE)  # not all at the same moment
    run(*words)


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM."""
    file, kinds, stores, managers = arguments
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(file).open("w", encoding="utf-8") as out:
        running = threads(Log(out), kinds, json.loads(stores), managers.split(","), ended.is_set)
        for thread in running:
            thread.start()
        ended.wait()
        for thread in running:
            thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
