"""An ordinary application in Python: one client by its defaults, made once, and a write every few milliseconds.

`python application.py LIBRARY HOST:PORT,...` writes a JSON line for each write: its moment, and the error it got, if any.
Needs nothing of dkv. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TextIO

PACE = 0.02  # s between two writes

Nodes = list[tuple[str, int]]
Write = Callable[[str, str], Awaitable[Any]]


async def blocking(library: str, nodes: Nodes) -> Write:
    """redis-py or valkey-py."""
    cluster = importlib.import_module(f"{library}.cluster")
    kind = cluster.RedisCluster if library == "redis" else cluster.ValkeyCluster
    client = kind(startup_nodes=[cluster.ClusterNode(*node) for node in nodes])

    async def write(key: str, value: str) -> Any:
        return await asyncio.to_thread(client.set, key, value)

    return write


async def asynchronous(library: str, nodes: Nodes) -> Write:
    """The same libraries' other clients."""
    cluster = importlib.import_module(f"{library}.asyncio.cluster")
    kind = cluster.RedisCluster if library == "redis" else cluster.ValkeyCluster
    client = kind(startup_nodes=[cluster.ClusterNode(*node) for node in nodes])
    await client.initialize()
    written: Write = client.set
    return written


async def glide(nodes: Nodes) -> Write:
    """valkey-glide."""
    library = importlib.import_module("glide")
    addresses = [library.NodeAddress(*node) for node in nodes]
    client = await library.GlideClusterClient.create(library.GlideClusterClientConfiguration(addresses))
    written: Write = client.set
    return written


def private_output() -> TextIO:
    """Standard output for this program alone: valkey-glide says there what it thinks."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return own


async def main(name: str, nodes: Nodes) -> None:
    """Write until standard input ends."""
    out = private_output()
    if name == "valkey-glide":
        write = await glide(nodes)
    elif name.endswith("-async"):
        write = await asynchronous(name.removesuffix("-async"), nodes)
    else:
        write = await blocking(name, nodes)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    number = 0
    while not ended.done():
        number += 1
        error = ""
        try:
            await write(f"{name}:{number % 500}", str(number))
        except Exception as trouble:
            error = f"{type(trouble).__name__}: {trouble}"
        out.write(json.dumps({"at": time.time(), "error": error}) + "\n")
        out.flush()
        await asyncio.sleep(PACE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [(node.rpartition(":")[0], int(node.rpartition(":")[2])) for node in sys.argv[2].split(",")]))
