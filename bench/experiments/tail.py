"""Experiment: may a follower lead at once, if it is first given the tail that only the dead leader's disk has?

    .venv/bin/python bench/experiments/tail.py [--quick] [--only trials|crashes|cuts|sizes]

Everything is on real Valkey engines started by the engine room. Raw lines go to bench/results/, the decision that rests
on them is docs/decisions/0011-the-dead-leaders-tail.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tail_cut import NAIVE, cut_trial
from tail_feed import FeedBroke, Follower, Plan, Primary, command_feed
from tail_stage import Disk, Group, Load, Probe, contents, nonce, on_disk, reference, words_at
from tail_tables import CRASHES, tables

from kit.record import Recorder, say
from kit.resp import Line

COMMON = (1, 2)  # the marker every disk has when the leader dies
OPENED = (2, 1)  # the marker of the next term
OPENING = b"*4\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$7\r\nREPLACE\r\n$"
STREAM, COMMANDS = "stream", "commands"


class Failover:
    """One death of a leader under load and what is done about it."""

    def __init__(self, group: Group, followers: int, way: str) -> None:
        self.group, self.way = group, way
        self.copies = list(range(2, followers + 2))
        self.heir = 0
        self.killed = 0.0
        self.times: dict[str, float] = {}
        self.dead: Disk
        self.disks: dict[int, Disk] = {}
        self.plan: Plan

    def tick(self, name: str) -> None:
        """Milliseconds since the kill."""
        self.times[name] = round(1000 * (time.monotonic() - self.killed), 1)

    async def die(self, load: Load, stopped: int | None = None) -> None:
        """SIGKILL under load; `stopped` is paused for the last 0.2 s and reads on afterwards."""
        if stopped is not None:
            os.kill(self.group.pid(stopped), signal.SIGSTOP)
            await asyncio.sleep(0.2)
        self.killed = self.group.kill(1)
        if stopped is not None:
            os.kill(self.group.pid(stopped), signal.SIGCONT)
        await self.group.ended(1)
        self.tick("reaped")
        await load.stop() if stopped is None else None
        for copy in self.copies:
            await self.group.seen(copy, lambda engine: engine.answering and not engine.replication.link_up)
        self.tick("links down")

    async def measure(self) -> None:
        """Read the positions; the heir is the follower furthest ahead in its stream."""
        self.dead = await asyncio.to_thread(on_disk, self.group.spec(1).directory, COMMON)
        survey = await self.group.engines.survey()
        seen = {engine.start_id: engine for engine in survey.engines}
        for copy in self.copies:
            await self.group.engines.fence(copy)
            self.disks[copy] = await asyncio.to_thread(on_disk, self.group.spec(copy).directory, COMMON)
        self.heir = max(self.copies, key=lambda copy: (seen[copy].replication.offset, -copy))
        self.plan = Plan(
            self.dead,
            {
                self.group.spec(copy).node_id: Follower(
                    self.group.spec(copy).node_id, seen[copy].replication.offset, self.disks[copy].position.bytes_after
                )
                for copy in self.copies
            },
        )
        self.tick("measured")

    def prefix(self, copy: int) -> bool:
        """Whether a follower's bytes are exactly the beginning of the dead leader's."""
        mine = self.disks[copy].data
        return self.dead.data[: len(mine)] == mine

    async def feed(self, break_after: int | None = None, stop_between: bool = False) -> None:
        """Give the tail; on return the heir's disk was compared byte for byte. Raises FeedBroke.

        `stop_between` breaks it off between the feed and TAKEOVER, whichever comes first in this way.
        """
        # A leader expires keys, which writes; not before its marker, so that its bytes stay comparable until then.
        await self.group.driver(self.heir).do(("CONFIG", "SET", "import-mode", "yes"))
        if self.way == STREAM:
            await self._stream(break_after)
            self.tick("fed")
            await self.compare()
            if stop_between:
                raise FeedBroke("on purpose")
            await self.group.engines.take_over(self.heir)
            self.tick("taken over")
            return
        await self.group.engines.take_over(self.heir)
        self.tick("taken over")
        if stop_between:
            raise FeedBroke("on purpose")
        place = self.disks[self.heir].position.bytes_after
        await command_feed(self.group.spec(self.heir), self.dead, place, break_after)
        self.tick("fed")
        await self.compare()

    async def _stream(self, break_after: int | None) -> None:
        async with Primary(self.group.spec(1), self.plan, break_after) as primary:
            if break_after is not None:
                await asyncio.wait_for(primary.broke.wait(), 10)
                raise FeedBroke("on purpose")
            for copy in self.copies:
                await self.group.seen(
                    copy,
                    lambda engine: (engine.replication.history, engine.replication.offset) == (self.plan.new_id, self.plan.end),
                )

    async def compare(self) -> None:
        """The proof before any door opens: same bytes, or FeedBroke."""
        mine = await asyncio.to_thread(on_disk, self.group.spec(self.heir).directory, COMMON)
        if mine.data != self.dead.data:
            raise FeedBroke(f"{len(mine.data)} bytes differ from the dead leader's {len(self.dead.data)}")
        self.tick("compared")

    async def open(self) -> None:
        """Marker of the new term, doors open."""
        await self.group.engines.mark(self.heir, *OPENED, nonce(*OPENED))
        await self.group.driver(self.heir).do(("CONFIG", "SET", "import-mode", "no"))
        await self.group.engines.unfence(self.heir)
        self.tick("open")
        await self.group.engines.admit(self.heir)

    async def gather(self) -> dict[str, Any]:
        """The other followers attach; how they were synchronised."""
        leader = await self.group.peer(self.heir, self.heir)
        others = [copy for copy in self.copies if copy != self.heir]
        for copy in others:
            await self.group.engines.replicate(copy, leader)
            await self.group.seen(
                copy,
                lambda engine: engine.replication.link_up and not engine.files.rewriting and engine.follows == leader.node_id,
            )
        self.tick("others linked")
        (text,) = await self.group.driver(self.heir).do(("INFO", "stats"))
        stats = dict(line.split(":") for line in text.decode().splitlines() if ":" in line)
        return {"full": int(stats["sync_full"]), "partial": int(stats["sync_partial_ok"])}


# -- judging -------------------------------------------------------------------------------------------------------------


async def judge(group: Group, leader: int, load: Load) -> dict[str, Any]:
    """What was promised against what the leader has; exactly once is: not less than promised, not more than sent."""
    port = group.engines._known(leader).run.record.client_port
    lost = doubled = 0
    with Line(f"127.0.0.1:{port}", timeout=10) as line:
        for database in range(3):
            line.ask("SELECT", database)
            for (where, counter), sent in load.sent.items():
                if where == database:
                    value = int(line.ask("GET", counter) or 0)
                    lost += value < load.promised.get((where, counter), 0)
                    doubled += value > sent
    return {"acknowledged": load.acknowledged, "lost": lost, "doubled": doubled}


async def alike(group: Group, port: int, dead: str) -> dict[str, Any]:
    """Every key of the new leader against a plain server that loaded the dead leader's files."""
    wanted = await reference(dead, group.path)
    held = await asyncio.to_thread(contents, port)
    return {"keys": len(wanted), "differ": len(wanted.items() ^ held.items()) if wanted != held else 0}


async def main_trial(number: int, followers: int, way: str) -> dict[str, Any]:
    """The whole way, undisturbed."""
    group = Group()
    try:
        await group.form(followers)
        load = Load(group.spec(1).client_port, number, size=(100, 100, 3000)[number % 3])
        probes = [Probe(group.spec(copy).client_port) for copy in range(1, followers + 2)]
        load.start()
        for probe in probes[1:]:
            probe.start()
        await asyncio.sleep(0.6)
        case = Failover(group, followers, way)
        await case.die(load, 2 if number % 3 == 1 else None)
        probes[0].start()
        await case.measure()
        result: dict[str, Any] = {"prefix": all(case.prefix(copy) for copy in case.copies)}
        tail = case.dead.data[len(case.disks[case.heir].data) :]
        behind = [len(case.dead.data) - len(case.disks[copy].data) for copy in case.copies]
        result |= {
            "behind": behind,
            "multi": tail.count(b"$5\r\nMULTI\r\n"),
            "selects": tail.count(b"$6\r\nSELECT\r\n"),
            "gap": len({follower.offset - follower.place for follower in case.plan.followers.values()}) > 1,
        }
        await case.feed()
        before = [moment for probe in probes for moment in probe.accepted]
        refused = dict(probes[case.heir - 1].refused)
        await case.open()
        probe = probes[case.heir - 1]
        while not probe.accepted:
            await asyncio.sleep(0.001)
        case.tick("first write")
        for probe in probes:
            await probe.stop()
        await load.stop()
        result |= {"early": len(before), "refused": refused, "times": case.times, "heir": case.heir}
        result |= await case.gather() | await after(case, load)
        return result
    finally:
        await group.close()


async def after(case: Failover, load: Load) -> dict[str, Any]:
    """Same bytes on all disks, same values as the dead leader's files, every promise kept."""
    group = case.group
    await group.driver(case.heir).do(("CONFIG", "SET", "import-mode", "yes"))  # or it expires keys between two readings
    await group.mark_everywhere(case.heir, (2, 2), case.copies)
    ends = [await asyncio.to_thread(on_disk, group.spec(copy).directory, COMMON) for copy in case.copies]
    start, foreign = len(case.dead.data), 0
    at = ends[0].data.find(OPENING, start)
    while start < at:  # between the tail and the new marker nothing may stand but the marker's SELECT
        words, start = words_at(ends[0].data, start)
        foreign += words != [b"SELECT", b"0"]
    return {
        "same_bytes": len({end.data for end in ends}) == 1,
        "ends": [end.position.bytes_after for end in ends],
        "foreign": foreign,
        "positions_equal": len({end.position for end in ends}) == 1,
        **await judge(group, case.heir, load),
        **await alike(group, group.spec(case.heir).client_port, group.spec(1).directory),
    }


async def crash_trial(number: int, way: str, where: str) -> dict[str, Any]:
    """Kill the follower or the feeder at one step; then the ordinary rules choose, and must be right."""
    group = Group()
    try:
        await group.form(1)
        load = Load(group.spec(1).client_port, number, size=1000)
        load.start()
        await asyncio.sleep(0.5)
        case = Failover(group, 1, way)
        await case.die(load, 2)
        await load.stop()
        await case.measure()
        missing = len(case.dead.data) - len(case.disks[2].data)
        result: dict[str, Any] = {"missing": missing}
        leader = await cut_short(case, where, missing // 2 + number % 97, result)
        result |= {"leader": leader} | await judge(group, leader, load)
        port = group.engines._known(leader).run.record.client_port
        return result | await alike(group, port, group.spec(1).directory)
    finally:
        await group.close()


async def cut_short(case: Failover, where: str, half: int, result: dict[str, Any]) -> int:
    """Do it up to that step, kill, and let the ordinary rules go on; who leads in the end."""
    group = case.group
    try:
        if where in ("feeder in the middle", "follower in the middle", "feeder, then resumed"):
            await case.feed(half)
        elif where != "before":
            await case.feed(stop_between=where == "between")
    except FeedBroke as error:
        if "on purpose" not in str(error):
            raise
    if where == "feeder, then resumed":
        await case.measure()
        result |= {"missing_again": len(case.dead.data) - len(case.disks[2].data), "prefix": case.prefix(2)}
        await case.feed()
        await case.open()
        return 2
    if where == "after the marker":
        await case.open()
    result["fed"] = on_disk(group.spec(2).directory, COMMON).position.bytes_after - len(case.disks[2].data)
    if where == "feeder in the middle" and case.way == STREAM:
        start_id = await ordinary(case, opened=False)  # the half-fed follower lives on and follows
        leader = await group.peer(1, start_id)
        await group.engines.replicate(2, leader)
        await group.seen(
            2, lambda engine: engine.replication.link_up and not engine.files.rewriting and not engine.replication.resyncing
        )
        await group.mark_everywhere(start_id, (3, 2), (start_id, 2))
        return start_id
    group.kill(2)
    await group.ended(2)
    return await ordinary(case, opened=where == "after the marker")


async def ordinary(case: Failover, opened: bool) -> int:
    """Today's rule: the archive that was opened last is restarted. Nothing of it asks how the feed ended."""
    group = case.group
    mine = await group.engines.read_position(group.spec(2).directory)
    dead = await group.engines.read_position(group.spec(1).directory)
    disk = on_disk(group.spec(2).directory, COMMON)
    if not opened and case.dead.data[: len(disk.data)] != disk.data:
        raise AssertionError(f"the follower is no prefix: {mine} {dead}")
    if opened != (mine.order > dead.order):
        raise AssertionError(f"positions would choose wrongly: {mine} {dead}")
    start_id = await group.start(2 if opened else 1, fresh=False)
    await group.lead(start_id, (3, 1))
    return start_id


# -- time against size ---------------------------------------------------------------------------------------------------


async def fill(port: int, keys: int) -> None:
    """Keys of 100 bytes, a few thousand per script."""
    script = "for i=ARGV[1],ARGV[2] do server.call('SET','{fill}'..i,string.rep('x',100)) end return 1"

    def run() -> None:
        with Line(f"127.0.0.1:{port}", timeout=30) as line:
            for start in range(0, keys, 5000):
                line.ask("EVAL", script, 1, "{fill}", start, min(keys, start + 5000) - 1)

    await asyncio.to_thread(run)


async def size_trial(number: int, keys: int, way: str) -> dict[str, Any]:
    """Milliseconds from the kill to the first accepted write, by a way or by the ordinary restart."""
    group = Group()
    try:
        await group.form(1)
        await fill(group.spec(1).client_port, keys)
        await group.mark_everywhere(1, (1, 3), (1, 2))
        load = Load(group.spec(1).client_port, number)
        load.start()
        await asyncio.sleep(0.5)
        case = Failover(group, 1, way)
        if way == "restart":
            case.killed = group.kill(1)
            await group.ended(1)
            start_id = await group.start(1, fresh=False)
            case.tick("loaded")
            await group.lead(start_id, OPENED)
        else:
            globals()["COMMON"] = (1, 3)
            await case.die(load)
            await case.measure()
            await case.feed()
            await case.open()
            start_id = 2
        case.tick("open")
        await load.stop()
        return {"times": case.times} | await judge(group, start_id, load)
    finally:
        globals()["COMMON"] = (1, 2)
        await group.close()


# -- running it all ------------------------------------------------------------------------------------------------------


async def run(recorder: Recorder, trials: int, crashes: int, cuts: int, sizes: Sequence[int]) -> None:
    """All trials, one after another."""

    async def one(kind: str, trial: Any, **what: Any) -> None:
        try:
            result = await asyncio.wait_for(trial, 180)
        except Exception as error:  # noqa: BLE001 - a trial that breaks is a result
            result = {"broke": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-1500:]}
        recorder.add(kind, **what, **result)
        say(f"{kind} {what} {result.get('broke') or result.get('times') or result}")

    for number in range(trials):
        for way in (STREAM, COMMANDS):
            await one("main", main_trial(number, 1 + number % 2, way), way=way, number=number, followers=1 + number % 2)
    for number in range(crashes):
        for way in (STREAM, COMMANDS):
            for where in CRASHES:
                await one("crash", crash_trial(number, way, where), way=way, where=where, number=number)
    for number in range(cuts):
        for way in (NAIVE, STREAM, COMMANDS):
            await one("cut", cut_trial(way), way=way, number=number)
    for keys in sizes:
        for way in (STREAM, COMMANDS, "restart"):
            for number in range(2):
                await one("size", size_trial(number, keys, way), way=way, keys=keys, number=number)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="The dead leader's tail.")
    words.add_argument("--quick", action="store_true", help="a few trials of each")
    words.add_argument("--only", choices=("trials", "crashes", "cuts", "sizes"), help="one part of it")
    arguments = words.parse_args()
    wish: dict[str, Any] = {"trials": 30, "crashes": 3, "cuts": 5, "sizes": [10_000, 100_000, 1_000_000]}
    if arguments.quick:
        wish = {"trials": 2, "crashes": 1, "cuts": 1, "sizes": [10_000]}
    if arguments.only:
        wish = {name: value if name == arguments.only else [] if name == "sizes" else 0 for name, value in wish.items()}
    book = Recorder("tail", arguments.quick, wish)
    asyncio.run(run(book, **wish))
    book.finish(tables)
