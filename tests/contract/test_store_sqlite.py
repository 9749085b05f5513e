"""What a file can suffer: strangers in its place, damage, full disks, killed and frozen neighbours, reboots."""

# ruff: noqa: ASYNC240  (a test may touch a file without leaving the loop)
from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dkv.store import sqlite_state
from dkv.store.contract import Unavailable, Unusable
from dkv.store.sqlite import SqliteStore
from dkv.store.sqlite_file import refuse_old_library
from tests.contract.store_process import add_one, line_of, spawn

LIMIT = 120.0


def story(told: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Make a pytest test of a story told with the path of a state file."""

    def test(tmp_path: Path) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT):
                await told(tmp_path / "state")

        asyncio.run(bounded())

    test.__name__, test.__doc__ = told.__name__, told.__doc__
    return test


@asynccontextmanager
async def opened(path: Path, **words: Any) -> Any:
    store = await SqliteStore.open(path, **words)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def program(role: str, path: Path, *words: str) -> Any:
    """Another process, gone at the end whatever happened."""
    process = await spawn(role, path, *words)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def written(path: Path, rows: int = 0) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1", **{f"k{n}": "v" * 400 for n in range(rows)}}, ["first"], "t")


async def refused(path: Path, *words: str) -> str:
    """Opening fails with one sentence and a hint, and leaves everything as it was."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises(Unusable) as refusal:
        await SqliteStore.open(path)
    sentence = str(refusal.value)
    assert "; hint: " in sentence
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    after = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file() and file.suffix != ".new"}
    assert {file: text for file, text in after.items() if not file.name.endswith(("-shm", "-wal"))} == {
        file: text for file, text in before.items() if not file.name.endswith(("-shm", "-wal"))
    }
    return sentence


# -- what stands at the path ------------------------------------------------------------------------------------


@story
async def test_what_was_written_is_there_tomorrow(path: Path) -> None:
    await written(path)
    async with opened(path) as store:
        assert dict((await store.read()).records) == {"a": "1"}
        assert await store.commit(0, {"a": "1"}, ["first"], "t") == 1, "an attempt is known after a restart too"
    assert path.stat().st_mode & 0o077 == 0, "it holds passwords"


@story
async def test_a_text_in_its_place_is_refused(path: Path) -> None:
    for text in ("x", "dear diary\n" * 3, "dear diary\n" * 1000):
        path.write_text(text)
        await refused(path, "is not a dkv state file")


@story
async def test_another_programs_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as stranger:
        stranger.execute("CREATE TABLE diary (dear TEXT)")
    stranger.close()
    await refused(path, "is not a dkv state file")


@story
async def test_a_lease_file_is_no_state_file(path: Path) -> None:
    await written(path)
    path.unlink()
    Path(f"{path}-leases").rename(path)
    await refused(path, "is not a dkv state file")


@story
async def test_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    await refused(path, "damaged", "empty")


@story
async def test_a_newer_version_is_refused(path: Path) -> None:
    await written(path)
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    await refused(path, "newer dkv", "version 99")


@story
async def test_a_directory_or_none_is_refused(path: Path) -> None:
    path.mkdir()
    await refused(path, "is a directory")
    with pytest.raises(Unusable, match="no directory"):
        await SqliteStore.open(path / "nowhere" / "state")
    (path / "file").touch()
    with pytest.raises(Unusable, match="no directory"):
        await SqliteStore.open(path / "file" / "state")


@story
async def test_a_place_that_takes_no_file_is_refused(path: Path) -> None:
    with pytest.raises((Unusable, Unavailable), match="hint"):
        await SqliteStore.open("/proc/self/state")


@story
async def test_a_directory_that_may_not_be_written_is_refused(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    path.parent.chmod(0o500)
    try:
        await refused(path, "may not be written")
    finally:
        path.parent.chmod(0o700)


@story
async def test_damage_is_found_when_opening(path: Path) -> None:
    await written(path, rows=300)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:8192] + os.urandom(len(whole) - 8192), b"\0" * len(whole)):
        path.write_bytes(damage)
        await refused(path)
    path.write_bytes(whole)
    async with opened(path) as store:
        assert len((await store.read()).records) == 301


@story
async def test_a_journal_without_its_file_is_refused(path: Path) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1"}, [], "t")
        journal = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(journal)
    await refused(path, "is gone", "-wal")


@story
async def test_a_file_removed_while_in_use_is_noticed(path: Path) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1"}, [], "t")
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(Unusable, match="removed or replaced"):
            await store.read()
        with pytest.raises(Unusable, match="removed or replaced"):
            await store.commit(1, {"a": "2"}, [], "t2")
        path.with_name("elsewhere").rename(path)
        assert (await store.read()).revision == 1


def test_an_old_library_is_refused() -> None:
    for old in ("3.40.1", "3.51.2"):
        with pytest.raises(Unusable, match="is older than"):
            refuse_old_library(old)
    for good in ("3.51.3", "3.54.1", "4.0.0"):
        refuse_old_library(good)


@story
async def test_many_make_the_same_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(path) for _ in range(6)))
    for number, store in enumerate(stores):
        await add_one(store, "x", number, "")
    assert {(await store.read()).revision for store in stores} == {6}
    for store in stores:
        await store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["state", "state-leases", "state-nudge"]


@story
async def test_a_full_disk_is_said_and_everything_goes_on_after(path: Path) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1"}, [], "t")
        database = store._writer._file._db
        most = await store._writing.run(lambda: database.pragma("max_page_count", database.pragma("page_count")))
        with pytest.raises(Unavailable, match="no space is left") as trouble:
            await store.commit(1, {"big": "x" * 100_000}, ["lost"], "t2")
        assert trouble.value.written is False
        assert dict((await store.read()).records) == {"a": "1"}
        await store._writing.run(lambda: database.pragma("max_page_count", most + 1000))
        assert await store.commit(1, {"big": "x" * 100_000}, ["kept"], "t2") == 2
        assert [event.text for event in await store.events(0, 9)] == ["kept"]


@story
async def test_another_boot_voids_all_leases(path: Path) -> None:
    async with opened(path) as store:
        assert await store.acquire("leader", "A", 1000)
    async with opened(path) as store:
        assert not await store.acquire("leader", "B", 3), "a restarted manager is no reboot"
    async with opened(path, boot="another") as store:
        assert await store.leases() == ()
        assert await store.acquire("leader", "B", 3)


# -- reading ----------------------------------------------------------------------------------------------------


@story
async def test_who_was_away_for_long_still_learns_of_deletions(path: Path) -> None:
    kept, sqlite_state.KEEP_DELETED = sqlite_state.KEEP_DELETED, 5
    try:
        async with opened(path) as one, opened(path) as other:
            await one.commit(0, {"a": "1", "b": "1", "c": "1"}, [], "t")
            before = await other.read()
            await one.commit(1, {"a": None}, [], "t")
            for base in range(2, 30):
                await one.commit(base, {"b": str(base)}, [], "t")
            after = await other.read()
            assert dict(after.records) == {"b": "29", "c": "1"}
            assert (before.revision, after.revision) == (1, 30)
            left = await one._writing.run(lambda: one._writer._file.rows("SELECT key FROM record WHERE text IS NULL"))
            assert left == [], "what is deleted does not stay for ever"
    finally:
        sqlite_state.KEEP_DELETED = kept


@story
async def test_reading_is_cheap(path: Path) -> None:
    async with opened(path) as one, opened(path) as other:
        await one.commit(0, {f"process/{number}": "x" * 400 for number in range(3000)}, [], "t")
        times = {}
        for what in ("first read of 3000", "unchanged"):
            began = time.perf_counter()
            await other.read()
            times[what] = time.perf_counter() - began
        await one.commit(1, {"process/7": "y", "process/8": None}, [], "t")
        began = time.perf_counter()
        assert len((await other.read()).records) == 2999
        times["two changed"] = time.perf_counter() - began
    print(", ".join(f"{what}: {seconds * 1000:.2f} ms" for what, seconds in times.items()))


# -- nudges -----------------------------------------------------------------------------------------------------


@story
async def test_a_dead_process_leaves_no_socket(path: Path) -> None:
    async with opened(path) as store:
        async with program("count", path, "dead", "0") as other:
            await line_of(other)
            assert len(os.listdir(f"{path}-nudge")) == 2
            other.kill()
            await other.wait()
        await add_one(store, "alive", 1, "")
        assert len(os.listdir(f"{path}-nudge")) == 1
    assert os.listdir(f"{path}-nudge") == []


@story
async def test_without_nudges_the_poll_finds_it(path: Path) -> None:
    Path(f"{path}-nudge").write_text("in the way")
    async with opened(path) as one, opened(path) as other:
        views = one.watch()
        await anext(views)
        await other.commit(0, {"a": "1"}, [], "t")
        assert (await anext(views)).revision == 1


@story
async def test_a_path_may_be_longer_than_a_socket_address(path: Path) -> None:
    deep = path.parent / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    async with opened(deep / "state") as one, opened(deep / "state") as other:
        assert len(os.listdir(deep / "state-nudge")) == 2
        views, waits = one.watch(), []
        await anext(views)
        for number in range(5):
            waiting = asyncio.ensure_future(anext(views))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await add_one(other, "x", number, "")
            await waiting
            waits.append(time.perf_counter() - began)
        assert min(waits) < 0.1, waits


# -- neighbours that die or freeze ------------------------------------------------------------------------------


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


@story
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


@story
async def test_kills_in_mid_commit_lose_and_halve_nothing(path: Path) -> None:
    await kill_in_a_loop(path, 3)


@pytest.mark.full
@story
async def test_many_kills_in_mid_commit_lose_and_halve_nothing(path: Path) -> None:
    await kill_in_a_loop(path, 40)


@story
async def test_killed_just_before_the_commit_nothing_is_written(path: Path) -> None:
    await written(path)
    async with opened(path) as store:
        async with program("stop_inside", path, "SIGKILL") as doomed:
            assert await line_of(doomed) == "inside"
            assert await doomed.wait() == -signal.SIGKILL
        assert dict((await store.read()).records) == {"a": "1"}
        assert await store.commit(1, {"a": "2"}, ["second"], "t2") == 2
        assert [event.text for event in await store.events(0, 9)] == ["first", "second"]


@story
async def test_a_frozen_neighbour_blocks_commits_only_and_not_for_ever(path: Path) -> None:
    await written(path)
    async with opened(path) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        assert await store.acquire("leader", "A", 30)
        committing = asyncio.ensure_future(store.commit(1, {"a": "2"}, [], "t2"))
        began = time.monotonic()
        await store.read()
        await store.renew("leader", "A", 30)
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


@story
async def test_ten_commits_behind_a_frozen_neighbour_wait_together(path: Path) -> None:
    await written(path)
    async with opened(path) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        began = time.monotonic()
        results = await asyncio.gather(
            *(store.commit(1, {"a": str(n)}, [], f"t{n}") for n in range(10)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Unavailable] * 10
        assert time.monotonic() - began < 4


@story
async def test_a_frozen_neighbour_that_is_killed_gives_its_lock_back(path: Path) -> None:
    await written(path)
    async with opened(path, patience=0.2) as store, program("stop_inside", path, "SIGSTOP") as frozen:
        assert await line_of(frozen) == "inside"
        with pytest.raises(Unavailable):
            await store.commit(1, {"a": "2"}, [], "t2")
        frozen.kill()
        await frozen.wait()
        assert await store.commit(1, {"a": "2"}, [], "t2") == 2


@story
async def test_a_caller_that_gives_up_leaves_no_lock_behind(path: Path) -> None:
    async with opened(path) as store, opened(path) as other:
        for number in range(30):
            base = (await store.read()).revision
            giving_up = asyncio.ensure_future(store.commit(base, {"a": str(number)}, [], f"t{number}"))
            await asyncio.sleep(random.uniform(0, 0.001))
            giving_up.cancel()
            await asyncio.gather(giving_up, return_exceptions=True)
            await add_one(other, "other", number, "")
        assert (await store.read()).revision == (await other.read()).revision
