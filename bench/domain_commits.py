"""Benchmark: domain commits per second on etcd, one and four writers, one and three members, beside etcd alone and SQLite.

A commit goes by the state at hand, or by the head as it is read where another writer was faster lately, writes one record of 400
bytes and one event, and is repeated when another writer was faster, as every command of a domain is (`control/submit.py`). Beside
it: etcd's own guarded transaction with the same keys, without reading first. Members run on loopback with the flags of
`tests/contract/etcd_cluster.py`. `--quick` runs 1 s each, `--read` reads before each commit.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dkv.store.contract import Conflict, Store
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import has_value, put, txn
from dkv.store.sqlite import SqliteStore
from tests.contract.etcd_cluster import EtcdCluster, cluster

SECONDS = 1.0 if "--quick" in sys.argv else 5.0
ALWAYS_READ = "--read" in sys.argv
BARS = {1: 500, 4: 250}  # commits per second that the writers together should reach on three members
TEXT = "x" * 400


async def commits_of(stores: list[Store]) -> tuple[float, float]:
    """Commits per second of one writer a store, and attempts that came second, for each commit."""
    made = lost = 0
    ends = time.monotonic() + SECONDS

    async def write(store: Store, name: int) -> None:
        nonlocal made, lost
        raced = conflicted = ALWAYS_READ
        while time.monotonic() < ends:
            known = None if raced else store.known()
            base = (known or await store.read()).revision
            try:
                await store.commit(base, {f"process/{name}": f"{TEXT}{base}"}, ["changed"], f"{name} {base}")
                made += 1
                raced, conflicted = conflicted, ALWAYS_READ
            except Conflict:
                lost += 1
                raced = conflicted = True

    await asyncio.gather(*(write(store, number) for number, store in enumerate(stores)))
    return made / SECONDS, lost / max(1, made)


async def alone(members: EtcdCluster) -> float:
    """Transactions per second of one client of etcd that guards one key and writes three."""
    client = EtcdClient(members.address("/alone/"))
    made, head = 0, b""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        made += 1
        following = b"%d" % made
        written = [put(b"/alone/head", following), put(b"/alone/attempt", following), put(b"/alone/record", TEXT.encode())]
        assert (await client.call("txn", txn([has_value(b"/alone/head", head)], written))).succeeded
        head = following
    await client.close()
    return made / SECONDS


async def measured(open_store: Callable[[], Awaitable[Store]], writers: int) -> tuple[float, float]:
    stores = [await open_store() for _ in range(writers)]
    try:
        return await commits_of(stores)
    finally:
        for store in stores:
            await store.close()


def line(what: str, writers: int, rate: float, lost: float, bar: int = 0) -> None:
    verdict = "" if not bar else f"   bar {bar}: {'reached' if rate >= bar else 'MISSED'}"
    print(f"{what:<18} {writers} writers {rate:7.0f} commits/s   {lost:.2f} lost attempts a commit{verdict}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for writers in (1, 4):
            path = Path(scratch, f"sqlite{writers}")
            line("SQLite", writers, *asyncio.run(measured(lambda path=path: SqliteStore.open(path), writers)))  # type: ignore[misc]
        for size in (1, 3):
            with cluster(Path(scratch, f"etcd{size}"), size) as members:
                print(f"etcd alone, {size} members: {asyncio.run(alone(members)):.0f} transactions/s of one client", flush=True)
                for writers in (1, 4):
                    address = members.address(f"/w{writers}/")
                    rate, lost = asyncio.run(measured(lambda address=address: EtcdStore.open(address), writers))  # type: ignore[misc]
                    line(f"etcd, {size} members", writers, rate, lost, BARS[writers])


if __name__ == "__main__":
    main()
