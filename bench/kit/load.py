"""Bench kit: many writers in one program, each as fast as it is answered: confirmed writes of a store, or etcd's put.

`python load.py confirmed CLIENTS SECONDS STORE MANAGERS`, `python load.py etcd CLIENTS SECONDS ENDPOINTS`: prints how many writes
ended well, and on standard error what the program itself took, in ms of processor time. Each side is written to as a program in
Python does it: threads that share one client of `dkv.confirm`, coroutines that share one channel of gRPC to each member.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dkv.confirm import ConfirmingClient
from dkv.store.etcd_address import EtcdAddress
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import message

VALUE = "x" * 100


def threads(writers: int, seconds: float, store: str, managers: Sequence[str]) -> int:
    """Confirmed writes of so many threads of one client."""
    done = [0] * writers
    with ConfirmingClient(managers, store) as client:
        assert client.set("load:first", VALUE, timeout=20.0).confirmed
        ends = time.monotonic() + seconds

        def write(number: int) -> None:
            while time.monotonic() < ends:
                done[number] += client.set(f"load:{number}", VALUE).confirmed

        running = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return sum(done)


async def confirmed(writers: int, seconds: float, store: str, managers: Sequence[str]) -> int:
    """Confirmed writes of so many coroutines of one client."""
    done = 0
    with ConfirmingClient(managers, store) as client:
        assert client.set("load:first", VALUE, timeout=20.0).confirmed
        ends = time.monotonic() + seconds

        async def write(number: int) -> None:
            nonlocal done
            while time.monotonic() < ends:
                outcome = await client.execute_async("SET", f"load:{number}", VALUE)
                done += outcome.confirmed

        await asyncio.gather(*(write(number) for number in range(writers)))
    return done


async def etcd(clients: int, seconds: float, endpoints: Sequence[str]) -> int:
    """Puts of so many clients of etcd, over one connection to each member."""
    client = EtcdClient(EtcdAddress(tuple(endpoints), tls=False, prefix="/load/"))
    ends, done = time.monotonic() + seconds, 0

    async def write(number: int) -> None:
        nonlocal done
        request = message("PutRequest", key=f"/load/{number}".encode(), value=VALUE.encode())
        while time.monotonic() < ends:
            await client.call("put", request)
            done += 1

    await asyncio.gather(*(write(number) for number in range(clients)))
    await client.close()
    return done


def main(words: Sequence[str]) -> int:
    """Write, and print how many there were."""
    kind, clients, seconds, *rest = words
    if kind == "confirmed":
        done = asyncio.run(confirmed(int(clients), float(seconds), rest[0], rest[1].split(",")))
    elif kind == "threads":
        done = threads(int(clients), float(seconds), rest[0], rest[1].split(","))
    else:
        done = asyncio.run(etcd(int(clients), float(seconds), rest[0].split(",")))
    print(f"{1000 * time.process_time():.0f}", file=sys.stderr)
    print(done)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
