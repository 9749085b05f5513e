"""Neighbours on one state file that die or freeze in mid-commit: nothing is lost, halved, doubled or stuck."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest

from dkv.store.contract import Unavailable
from tests.contract.store_process import add_one, line_of
from tests.contract.store_scenarios import opened, program, scenario, written


async def check_whole(path: Path, acknowledged: list[tuple[str, int, int]]) -> int:
    """No half commit, no lost acknowledged one, none twice. Returns the revision."""
    async with opened(path) as store:
        snapshot, events = await store.read(), await store.events(0, 10**9)
    total = int(snapshot.records["plus"])
    assert int(snapshot.records["minus"]) == -total
    assert snapshot.revision == total
    assert [(e.sequence, e.revision) for e in events] == [(n, n) for n in range(1, total + 1)]
    at = {event.revision: event.text for event in events}
    for name, number, revision in acknowledged:
        assert at[revision] == f"{name} {number}"
    assert len({event.text for event in events}) == len(events), "an update was written twice"
    return total


def ack_in(line: str) -> tuple[str, int, int]:
    name, number, revision = line.rsplit(" ", 2)
    return name, int(number), int(revision)


async def acks_of(process: asyncio.subprocess.Process, into: list[tuple[str, int, int]]) -> None:
    while line := await line_of(process):
        into.append(ack_in(line))


@scenario
async def test_three_processes_lose_no_update(path: Path) -> None:
    acknowledged: list[tuple[str, int, int]] = []
    async with program("count", path, "A", "40") as a, program("count", path, "B", "40") as b:
        async with program("count", path, "C", "40") as c, opened(path) as watcher:
            reading = [asyncio.ensure_future(acks_of(process, acknowledged)) for process in (a, b, c)]
            seen = []
            async for view in watcher.watch():
                seen.append(view.revision)
                if view.revision == 120:
                    break
            await asyncio.gather(*reading)
    assert seen == sorted(set(seen))
    assert len(acknowledged) == 120
    assert await check_whole(path, acknowledged) == 120


async def kill_in_a_loop(path: Path, rounds: int) -> None:
    acknowledged: list[tuple[str, int, int]] = []
    chance = random.Random(rounds)
    for round_ in range(rounds):
        async with program("count", path, f"steady{round_}", "0") as steady:
            others = asyncio.ensure_future(acks_of(steady, acknowledged))
            for number in range(3):
                async with program("count", path, f"victim{round_}.{number}", "0") as victim:
                    acknowledged.append(ack_in(await line_of(victim)))
                    reading = asyncio.ensure_future(acks_of(victim, acknowledged))
                    await asyncio.sleep(chance.uniform(0, 0.02))
                    victim.kill()
                    await reading
                    await victim.wait()
            steady.kill()  # and now nobody has the file open: the next one recovers it alone
            await others
            await steady.wait()
        revision = await check_whole(path, acknowledged)
        assert revision >= max(revision for _, _, revision in acknowledged)
    print(f"{rounds * 4} processes killed, {len(acknowledged)} commits acknowledged, all there")


@scenario
async def test_kills_in_mid_commit_lose_and_halve_nothing(path: Path) -> None:
    await kill_in_a_loop(path, 3)


@pytest.mark.full
@scenario
async def test_many_kills_in_mid_commit_lose_and_halve_nothing(path: Path) -> None:
    await kill_in_a_loop(path, 40)


@scenario
async def test_killed_just_before_the_commit_nothing_is_written(path: Path) -> None:
    await written(path)
    async with opened(path) as store:
        async with program("stop_inside", path, "SIGKILL") as doomed:
            assert await line_of(doomed) == "inside"
            assert await doomed.wait() == -signal.SIGKILL
        assert dict((await store.read()).records) == {"a": "1"}
        assert await store.commit(1, {"a": "2"}, ["second"], "t2") == 2
        assert [event.text for event in await store.events(0, 9)] == ["first", "second"]


@scenario
async def test_a_frozen_neighbour_blocks_commits_only_and_not_for_ever(path: Path) -> None:
    await written(path)
    async with opened(path) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        assert await store.acquire("leader", "A", 30)
        committing = asyncio.ensure_future(store.commit(1, {"a": "2"}, [], "t2"))
        began = time.monotonic()
        await store.read()
        assert await store.acquire("leader", "A", 30)
        assert not committing.done(), "reads and renewals do not wait behind the commit"
        with pytest.raises(Unavailable, match="frozen") as trouble:
            await committing
        assert trouble.value.written is False
        assert time.monotonic() - began < 4
        assert dict((await store.read()).records) == {"a": "1"}
        views = store.watch()
        await anext(views)
        frozen.send_signal(signal.SIGCONT)
        assert dict((await anext(views)).records) == {"a": "1", "frozen": "thawed"}
        assert await line_of(frozen) == "committed 2"
        assert await add_one(store, "after", 1, "") == 3


@scenario
async def test_ten_commits_behind_a_frozen_neighbour_wait_together(path: Path) -> None:
    await written(path)
    async with opened(path) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        began = time.monotonic()
        results = await asyncio.gather(*(store.commit(1, {"a": str(n)}, [], f"t{n}") for n in range(10)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 10
        assert time.monotonic() - began < 4


@scenario
async def test_a_frozen_neighbour_that_is_killed_gives_its_lock_back(path: Path) -> None:
    await written(path)
    async with opened(path, patience=0.2) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        with pytest.raises(Unavailable):
            await store.commit(1, {"a": "2"}, [], "t2")
        frozen.kill()
        await frozen.wait()
        assert await store.commit(1, {"a": "2"}, [], "t2") == 2


@scenario
async def test_a_caller_that_gives_up_leaves_no_lock_behind(path: Path) -> None:
    async with opened(path) as store, opened(path) as second:
        for number in range(30):
            base = (await store.read()).revision
            giving_up = asyncio.ensure_future(store.commit(base, {"a": str(number)}, [], f"t{number}"))
            await asyncio.sleep(random.uniform(0, 0.001))
            giving_up.cancel()
            await asyncio.gather(giving_up, return_exceptions=True)
            await add_one(second, "other", number, "")
        assert (await store.read()).revision == (await second.read()).revision
