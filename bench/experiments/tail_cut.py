"""Experiment "the dead leader's tail": a follower that was cut off while it was ahead of the heir, and comes back later.

The dead leader's replication stream holds bytes its files do not hold (PING, and GETACK for every WAIT). Whoever continues
that stream under its old id from the files alone gives later bytes numbers that a follower further ahead reads differently.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from tail_feed import Follower, Plan, Primary, command_feed
from tail_stage import Group, on_disk

from kit.resp import Line

NAIVE, STREAM, COMMANDS = "naive stream", "stream", "commands"
COMMON = (1, 2)
COUNTER = "counter-16-chars"  # its INCR is 37 bytes long, as a GETACK is: the worst case is a silent one


class Naive(Primary):
    """Goes on under the old id, from the follower's offset, with what the files have."""

    async def _continue(self, writer: asyncio.StreamWriter, node_id: str, history: str, wants: int) -> None:
        follower = self._plan.followers[node_id]
        writer.write(b"+CONTINUE\r\n" + self._plan.tail_of.data[follower.place + wants - 1 - follower.offset :])
        await writer.drain()


async def cut(group: Group, start_id: int) -> None:
    """From now on this follower hears nothing; the others link again at once."""
    os.kill(group.pid(start_id), signal.SIGSTOP)
    await group.driver(1).do(("CLIENT", "KILL", "TYPE", "replica"))


def count(port: int, times: int, wait: bool) -> None:
    """INCR so often; with a WAIT, which puts a GETACK into the stream."""
    with Line(f"127.0.0.1:{port}") as line:
        for _ in range(times):
            line.ask("INCR", COUNTER)
        if wait:
            line.ask("WAIT", 1, 200)


async def give(group: Group, way: str, plan: Plan) -> None:
    """The tail to archive 2, and TAKEOVER."""
    follower = plan.followers[group.spec(2).node_id]
    if way == COMMANDS:
        await group.driver(2).do(("CONFIG", "SET", "import-mode", "yes"))
        await group.engines.take_over(2)
        await command_feed(group.spec(2), plan.tail_of, follower.place)
        return
    end = plan.end if way == STREAM else follower.offset + len(plan.tail_of.data) - follower.place
    async with (Primary if way == STREAM else Naive)(group.spec(1), plan):
        await group.seen(2, lambda seen: seen.replication.offset == end)
    await group.engines.take_over(2)


async def cut_trial(way: str) -> dict[str, Any]:
    """2 is behind 3, 3 is behind the leader; the leader dies, 3 is not heard, 2 is fed and opened; 3 comes back."""
    group = Group()
    stopped: list[int] = []
    try:
        await group.form(2)
        port = group.spec(1).client_port
        await cut(group, 2)
        stopped.append(2)
        back = group.spec(3).client_port
        await group.seen(
            1, lambda engine: any(replica.online and replica.port == back for replica in engine.replication.replicas)
        )
        await asyncio.to_thread(count, port, 3, True)
        await cut(group, 3)
        stopped.append(3)
        await asyncio.to_thread(count, port, 10, False)
        group.kill(1)
        await group.ended(1)
        os.kill(group.pid(2), signal.SIGCONT)
        stopped.remove(2)
        heir = await group.seen(2, lambda engine: engine.answering and not engine.replication.link_up)
        dead, mine = (on_disk(group.spec(archive).directory, COMMON) for archive in (1, 2))
        third = on_disk(group.spec(3).directory, COMMON)
        node = group.spec(2).node_id
        plan = Plan(dead, {node: Follower(node, heir.replication.offset, mine.position.bytes_after)})
        await give(group, way, plan)
        await group.engines.mark(2, 2, 1, "feedbeef")
        await group.engines.unfence(2)
        await group.engines.admit(2)
        await asyncio.to_thread(count, group.spec(2).client_port, 5, False)
        os.kill(group.pid(3), signal.SIGCONT)
        stopped.remove(3)
        return {"missing": [len(dead.data) - len(copy.data) for copy in (mine, third)]} | await compare(group)
    finally:
        for start_id in stopped:
            os.kill(group.pid(start_id), signal.SIGCONT)
        await group.close()


async def compare(group: Group) -> dict[str, Any]:
    """Archive 3 follows archive 2; what each says the counter is, and how 3 was synchronised."""
    leader = await group.peer(2, 2)
    await group.engines.replicate(3, leader)
    await group.seen(
        3,
        lambda engine: (
            engine.replication.link_up
            and not engine.replication.resyncing
            and not engine.files.rewriting
            and engine.follows == leader.node_id
        ),
    )
    await asyncio.to_thread(count, group.spec(2).client_port, 1, True)
    values = []
    for archive in (2, 3):
        with Line(f"127.0.0.1:{group.spec(archive).client_port}") as line:
            line.ask("READONLY")
            values.append(int(line.ask("GET", COUNTER)))
    (text,) = await group.driver(2).do(("INFO", "stats"))
    stats = dict(line.split(":") for line in text.decode().splitlines() if ":" in line)
    return {
        "leader": values[0],
        "returned": values[1],
        "expected": 19,
        "full": int(stats["sync_full"]),
        "partial": int(stats["sync_partial_ok"]),
    }
