"""A whole state moves from a file to etcd: the file is sealed for everybody, and an attempt that broke off is gone on with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dkv.store.contract import Moved
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_messages import has_value, put, txn
from dkv.store.etcd_state import Head
from dkv.store.sqlite import SqliteStore
from dkv.store.sqlite_file import SqliteFile
from dkv.store.sqlite_state import STATE_FILE, StateWriter, WholeState, whole
from tests.contract.etcd_cluster import EtcdCluster
from tests.contract.test_store_etcd import members, scenario  # noqa: F401 - the fixture
from tests.contract.test_store_etcd_deaths import opened, play


def sealed(path: Path) -> WholeState:
    file = SqliteFile(path, STATE_FILE)
    try:
        StateWriter(file).seal("over there")
        StateWriter(file).seal("somewhere else")
        return whole(file, 3)
    finally:
        file.close()


async def written(path: Path) -> SqliteStore:
    """A state at revision 4 with two records and six events."""
    store = await SqliteStore.open(path)
    await store.commit(0, {"a": "1", "b": "1", "gone": "1"}, ["1", "2"], "t1")
    await store.commit(1, {"gone": None}, ["3"], "t2")
    await store.commit(2, {"b": "2"}, ["4", "5"], "t3")
    await store.commit(3, {"a": "2"}, ["6"], "t4")
    return store


def test_a_sealed_file_is_of_use_to_nobody_and_says_where_its_state_went(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "domain.sqlite"
        store = await written(path)
        seen = []

        async def watch() -> None:
            async for snapshot in store.watch():
                seen.append(snapshot.revision)

        watching = asyncio.create_task(watch())
        state = await asyncio.to_thread(sealed, path)
        with pytest.raises(Moved) as moved:
            await store.commit(4, {"a": "3"}, [], "t5")
        assert moved.value.place == "over there", "what was written first stays"
        with pytest.raises(Moved):
            await asyncio.wait_for(watching, 10)
        await store.close()
        with pytest.raises(Moved):
            await SqliteStore.open(path)
        assert (state.revision, dict(state.records), state.sequence) == (4, {"a": "2", "b": "2"}, 6)
        assert list(state.events) == ["4", "5", "6"], "the newest ones"

    play(scene())


async def take(store: EtcdStore, state: WholeState) -> None:
    await store.take_over(state.records, state.revision, state.sequence, state.events, "moved")


STATE = WholeState(4, {"a": "2", "b": "2"}, 6, ["4", "5", "6"])


@scenario
async def test_revisions_and_events_go_on_where_they_were(members: EtcdCluster, path: Path) -> None:  # noqa: F811
    async with opened(members.address("/moved/")) as store:
        await take(store, STATE)
        snapshot = await store.read()
        assert (snapshot.revision, dict(snapshot.records)) == (4, STATE.records)
        assert [(event.sequence, event.text) for event in await store.events(0, 10)] == [(4, "4"), (5, "5"), (6, "6")]
        assert await store.newest() == 6
        assert await store.commit(4, {"a": "3"}, ["7"], "t") == 5
        await take(store, STATE)
        assert dict((await store.read()).records)["a"] == "3", "what moved is not put back over what came after"


@scenario
async def test_a_move_that_broke_off_is_ended_by_the_next_attempt(members: EtcdCluster, path: Path) -> None:  # noqa: F811
    async with opened(members.address("/broken-off/")) as store:
        layout = store._layout
        before = Head(3, "moved", 3)
        await store._client.call("txn", txn([has_value(layout.head, b"")], [put(layout.head, before.text)]))
        await take(store, STATE)
        assert dict((await store.read()).records) == STATE.records


@scenario
async def test_a_large_state_moves_in_chunks(members: EtcdCluster, path: Path) -> None:  # noqa: F811
    records = {f"record/{number}": "x" * 2_000 for number in range(3_000)}
    async with opened(members.address("/large/")) as store:
        await store.take_over(records, 900, 3, ["1", "2", "3"], "moved")
    async with opened(members.address("/large/")) as store:
        snapshot = await store.read()
        assert (snapshot.revision, len(snapshot.records)) == (900, 3_000)
