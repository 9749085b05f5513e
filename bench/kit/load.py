"""Bench kit: many clients in one program, each as fast as it is answered: confirmed writes of a store, or etcd's put.

`python load.py confirmed CLIENTS SECONDS STORE MANAGERS`, `python load.py etcd CLIENTS SECONDS ENDPOINTS`: prints how many writes
ended well. Both sides run in one loop of the same Python, so that the client costs both about the same.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dkv.client import ManagerPool, parse_endpoint
from dkv.confirm.judge import judge, read_role
from dkv.confirm.views import Refresher
from dkv.store.etcd_address import EtcdAddress
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import message
from kit.resp import packed

VALUE = "x" * 100
JUDGED_AGAIN = 20
WAIT_MS = 60  # as dkv.confirm has it: makes the replicas acknowledge now


async def answer(stream: asyncio.StreamReader) -> Any:
    """One RESP answer; an error as a text that begins with `-`."""
    line = await stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else (await stream.readexactly(int(rest) + 2))[:-2]
    if kind == b"*":
        return [await answer(stream) for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest.decode() if kind == b"+" else f"-{rest.decode()}"


async def confirmed(clients: int, seconds: float, store: str, managers: Sequence[str]) -> int:
    """Confirmed writes of so many connections to the leader, judged as dkv.confirm does: write, ROLE, WAIT, ROLE in one go."""
    views = Refresher(ManagerPool(map(parse_endpoint, managers), timeout=1.0), store, time.monotonic)
    view = await asyncio.to_thread(views.newer_than, time.monotonic(), time.monotonic() + 5)
    assert view is not None and view.groups[0].leader is not None, views.problem
    engine, ends, done = view.groups[0].leader, time.monotonic() + seconds, 0

    async def write(number: int) -> None:
        nonlocal done
        host, _, port = engine.endpoint.rpartition(":")
        stream, out = await asyncio.open_connection(host, int(port))
        key = f"load:{number}"
        while time.monotonic() < ends:
            group = views.latest().groups[0]
            out.write(packed("SET", key, VALUE) + packed("ROLE") + packed("WAIT", len(group.required), WAIT_MS) + packed("ROLE"))
            said, first, _, second = [await answer(stream) for _ in range(4)]
            for _ in range(JUDGED_AGAIN):  # what others wrote just before the first ROLE may not be on the way back yet
                newest = views.latest()
                age = time.monotonic() - newest.asked_at
                if said != "OK" or judge(read_role(first), read_role(second), newest.groups[0], age, engine).confirmed:
                    break
                out.write(packed("WAIT", len(group.required), WAIT_MS) + packed("ROLE"))
                _, second = [await answer(stream) for _ in range(2)]
            else:
                continue
            done += said == "OK"
        out.close()

    await asyncio.gather(*(write(number) for number in range(clients)))
    views.close()
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
    else:
        done = asyncio.run(etcd(int(clients), float(seconds), rest[0].split(",")))
    print(done)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
