"""What an application sees of a store that is worked on: a writer and a reader with a cluster client, and each error."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import valkey
from valkey.backoff import ConstantBackoff
from valkey.retry import Retry

from tests.e2e.local_domain import LocalDomain, wait_for

KEYS = [f"key-{n}" for n in range(40)]  # of all groups


@dataclass
class Traffic:
    """One writer and one reader, each with valkey-py's cluster client; what an application would have seen."""

    node: tuple[str, int]
    errors: list[str] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def client(self) -> valkey.ValkeyCluster:
        """As an application has it: full coverage wanted, a few retries a short while apart."""
        retry = Retry(ConstantBackoff(0.1), 30)
        return valkey.ValkeyCluster(*self.node, decode_responses=True, retry=retry, socket_timeout=5)

    def write(self) -> None:
        """Count up under every key."""
        with self.client() as client:
            number = 0
            while not self.ended.is_set():
                number += 1
                for key in KEYS:
                    try:
                        client.set(key, number)
                        self.acknowledged[key] = number
                    except valkey.exceptions.ValkeyError as error:
                        self.errors.append(f"SET {key}: {error!r}")

    def read(self) -> None:
        """Read every key."""
        with self.client() as client:
            while not self.ended.is_set():
                for key in KEYS:
                    try:
                        client.get(key)
                        self.reads += 1
                    except valkey.exceptions.ValkeyError as error:
                        self.errors.append(f"GET {key}: {error!r}")
                time.sleep(0.001)

    def __enter__(self) -> Traffic:
        self.threads = [threading.Thread(target=loop, daemon=True) for loop in (self.write, self.read)]
        for thread in self.threads:
            thread.start()
        wait_for("traffic", lambda: len(self.acknowledged) == len(KEYS) and self.reads)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)

    def all_there(self) -> None:
        """Nothing that was acknowledged is lost."""
        with self.client() as client:
            lost = {key: (n, client.get(key)) for key, n in self.acknowledged.items() if int(client.get(key)) < n}
        assert not lost


def traffic_to(domain: LocalDomain, store: str) -> Traffic:
    """A writer and a reader of a store, which begin when the block does."""
    instance = domain.client.store(store)["instances"][0]
    return Traffic((str(instance["host"]), int(instance["clientPort"])))
