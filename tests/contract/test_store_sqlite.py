"""What can stand at the path of a state file, and how it is read: strangers, damage, full disks, reboots, notifications."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from dkv.store import sqlite_state
from dkv.store.contract import Unavailable, Unusable
from dkv.store.sqlite import SqliteStore
from dkv.store.sqlite_file import refuse_old_library
from dkv.store.worker import Worker
from tests.contract.store_process import add_one, line_of
from tests.contract.store_scenarios import opened, program, scenario, written


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


@scenario
async def test_what_was_written_is_there_tomorrow(path: Path) -> None:
    await written(path)
    async with opened(path) as store:
        assert dict((await store.read()).records) == {"a": "1"}
        assert await store.commit(0, {"a": "1"}, ["first"], "t") == 1, "an attempt is known after a restart too"
    assert path.stat().st_mode & 0o077 == 0, "it holds passwords"


@scenario
async def test_a_text_in_its_place_is_refused(path: Path) -> None:
    for text in ("x", "dear diary\n" * 3, "dear diary\n" * 1000):
        path.write_text(text)
        await refused(path, "is not a dkv state file")


@scenario
async def test_another_programs_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as stranger:
        stranger.execute("CREATE TABLE diary (dear TEXT)")
    stranger.close()
    await refused(path, "is not a dkv state file")


@scenario
async def test_a_lease_file_is_no_state_file(path: Path) -> None:
    await written(path)
    path.unlink()
    Path(f"{path}-leases").rename(path)
    await refused(path, "is not a dkv state file")


@scenario
async def test_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    await refused(path, "damaged", "empty")


@scenario
async def test_a_newer_version_is_refused(path: Path) -> None:
    await written(path)
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    await refused(path, "newer dkv", "version 99")


@scenario
async def test_the_file_of_an_older_version_is_refused_and_left_as_it_is(path: Path) -> None:
    await written(path)
    with sqlite3.connect(path) as older:
        older.execute("PRAGMA user_version = 1")
    older.close()
    await refused(path, "older dkv", "version 1", "reads 2", "rebuild the domain state sqlite:")


@scenario
async def test_a_directory_or_none_is_refused(path: Path) -> None:
    path.mkdir()
    await refused(path, "is a directory")
    with pytest.raises(Unusable, match="no directory"):
        await SqliteStore.open(path / "nowhere" / "state")
    (path / "file").touch()
    with pytest.raises(Unusable, match="no directory"):
        await SqliteStore.open(path / "file" / "state")


@scenario
async def test_a_place_that_takes_no_file_is_refused(path: Path) -> None:
    with pytest.raises((Unusable, Unavailable), match="hint"):
        await SqliteStore.open("/proc/self/state")


@scenario
async def test_a_directory_that_may_not_be_written_is_refused(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    path.parent.chmod(0o500)
    try:
        await refused(path, "may not be written")
    finally:
        path.parent.chmod(0o700)


@scenario
async def test_damage_is_found_when_opening(path: Path) -> None:
    await written(path, rows=300)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:8192] + os.urandom(len(whole) - 8192), b"\0" * len(whole)):
        path.write_bytes(damage)
        await refused(path)
    path.write_bytes(whole)
    async with opened(path) as store:
        assert len((await store.read()).records) == 301


@scenario
async def test_a_journal_without_its_file_is_refused(path: Path) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1"}, [], "t")
        journal = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(journal)
    await refused(path, "is gone", "-wal")


@scenario
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


@scenario
async def test_many_make_the_same_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(path) for _ in range(6)))
    for number, store in enumerate(stores):
        await add_one(store, "x", number, "")
    assert {(await store.read()).revision for store in stores} == {6}
    for store in stores:
        await store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["state", "state-leases", "state-notify"]


@scenario
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


@scenario
async def test_another_boot_voids_all_leases(path: Path) -> None:
    async with opened(path) as store:
        assert await store.acquire("leader", "A", 1000)
    async with opened(path) as store:
        assert not await store.acquire("leader", "B", 3), "a restarted manager is no reboot"
    async with opened(path, boot="another") as store:
        assert await store.leases() == ()
        assert await store.acquire("leader", "B", 3)


# -- reading ----------------------------------------------------------------------------------------------------


@scenario
async def test_who_was_away_for_long_still_learns_of_deletions(path: Path) -> None:
    usual, sqlite_state.KEEP_DELETED = sqlite_state.KEEP_DELETED, 5
    try:
        async with opened(path) as first, opened(path) as second:
            await first.commit(0, {"a": "1", "b": "1", "c": "1"}, [], "t")
            before = await second.read()
            await first.commit(1, {"a": None}, [], "t")
            for base in range(2, 30):
                await first.commit(base, {"b": str(base)}, [], "t")
            after = await second.read()
            assert dict(after.records) == {"b": "29", "c": "1"}
            assert (before.revision, after.revision) == (1, 30)
            left = await first._writing.run(lambda: first._writer._file.rows("SELECT key FROM record WHERE text IS NULL"))
            assert left == [], "what is deleted does not stay for ever"
    finally:
        sqlite_state.KEEP_DELETED = usual


@scenario
async def test_reading_is_cheap(path: Path) -> None:
    async with opened(path) as first, opened(path) as second:
        await first.commit(0, {f"process/{number}": "x" * 400 for number in range(3000)}, [], "t")
        times = {}
        for what in ("first read of 3000", "unchanged"):
            began = time.perf_counter()
            await second.read()
            times[what] = time.perf_counter() - began
        await first.commit(1, {"process/7": "y", "process/8": None}, [], "t")
        began = time.perf_counter()
        assert len((await second.read()).records) == 2999
        times["two changed"] = time.perf_counter() - began
    print(", ".join(f"{what}: {seconds * 1000:.2f} ms" for what, seconds in times.items()))


# -- notifications -----------------------------------------------------------------------------------------------------


@scenario
async def test_a_dead_process_leaves_no_socket(path: Path) -> None:
    async with opened(path) as store:
        async with program("count", path, "dead", "0") as second:
            await line_of(second)
            assert len(os.listdir(f"{path}-notify")) == 2
            second.kill()
            await second.wait()
        await add_one(store, "alive", 1, "")
        assert len(os.listdir(f"{path}-notify")) == 1
    assert os.listdir(f"{path}-notify") == []


@scenario
async def test_without_notifications_the_poll_finds_it(path: Path) -> None:
    Path(f"{path}-notify").write_text("in the way")
    async with opened(path) as first, opened(path) as second:
        views = first.watch()
        await anext(views)
        await second.commit(0, {"a": "1"}, [], "t")
        assert (await anext(views)).revision == 1


@scenario
async def test_a_path_may_be_longer_than_a_socket_address(path: Path) -> None:
    deep = path.parent / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    async with opened(deep / "state") as first, opened(deep / "state") as second:
        assert len(os.listdir(deep / "state-notify")) == 2
        views, waits = first.watch(), []
        await anext(views)
        for number in range(5):
            waiting = asyncio.ensure_future(anext(views))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await add_one(second, "x", number, "")
            await waiting
            waits.append(time.perf_counter() - began)
        assert min(waits) < 0.1, waits


def test_what_may_take_longer_is_waited_for_and_nothing_else() -> None:
    """A disk that stands still for a moment, while a state is made on it."""

    async def scene() -> None:
        worker, still = Worker("slow", deadline=0.05), threading.Event()
        asyncio.get_running_loop().call_later(0.2, still.set)
        assert await worker.run(still.wait, 10) is True
        still.clear()
        with pytest.raises(Unavailable, match=r"did not answer within 0\.05 s"):
            await worker.run(still.wait)
        still.set()
        await worker.stop()

    asyncio.run(scene())
