"""Members of etcd and writers that die or freeze in mid-commit: nothing is lost, halved, doubled or stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dkv.store.contract import Conflict, Snapshot, StoreError, Unavailable
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_address import EtcdAddress
from dkv.store.etcd_client import PATIENCE
from tests.contract.etcd_cluster import EtcdCluster, cluster, needs_etcd
from tests.contract.etcd_proxy import wire
from tests.contract.store_process import line_of, place_of, spawn

pytestmark = [needs_etcd, pytest.mark.long]
LIMIT = 120.0
Result = TypeVar("Result")
SAID_WITHIN = PATIENCE + 1.0  # s


@pytest.fixture
def one(tmp_path: Path) -> Iterator[EtcdCluster]:
    with cluster(tmp_path / "etcd") as members:
        yield members


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with cluster(tmp_path / "etcd", 3) as members:
        yield members


def play(scene: Awaitable[Result]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(LIMIT):
            return await scene

    return asyncio.run(bounded())


@asynccontextmanager
async def opened(address: EtcdAddress, kind: type[EtcdStore] = EtcdStore) -> AsyncIterator[EtcdStore]:
    store = await kind.open(address)
    try:
        yield store
    finally:
        await store.close()


class Counter:
    """Writers that each add one to a common counter until they are ended; a commit without an answer is repeated."""

    def __init__(self, stores: Sequence[EtcdStore]) -> None:
        self._stores = stores
        self._ended = False
        self.updates = 0
        self.longest = 0.0  # s one update took

    async def run(self, scene: Callable[[], Awaitable[None]]) -> None:
        async def write(store: EtcdStore, name: str) -> None:
            number = 0
            while not self._ended:
                began = time.monotonic()
                number += 1
                await add_surely(store, name, number)
                self.updates += 1
                self.longest = max(self.longest, time.monotonic() - began)

        async with asyncio.TaskGroup() as tasks:
            for number, store in enumerate(self._stores):
                tasks.create_task(write(store, f"w{number}"))
            await scene()
            self._ended = True

    async def until(self, more: int) -> None:
        """Wait for so many more updates."""
        wanted = self.updates + more
        while self.updates < wanted:
            await asyncio.sleep(0.01)


async def add_surely(store: EtcdStore, name: str, number: int, known: Snapshot | None = None) -> None:
    """One update, however often it takes. `known`: what it is first based on, instead of what is read."""
    while True:
        try:
            snapshot = known or await store.read()
        except Unavailable:
            continue
        known = None
        total = int(snapshot.records.get("plus", "0")) + 1
        token = f"{name} {number} {snapshot.revision}"
        while True:
            try:
                await store.commit(snapshot.revision, {"plus": str(total), "minus": str(-total)}, [f"{name} {number}"], token)
                return
            except Conflict:
                break
            except Unavailable:
                continue


async def check_exact(store: EtcdStore, updates: int) -> None:
    """As many as were acknowledged, none twice, none half."""
    snapshot, events = await store.read(), await store.events(0, 10**9)
    assert (int(snapshot.records["plus"]), int(snapshot.records["minus"])) == (updates, -updates)
    assert [(e.sequence, e.revision) for e in events] == [(n, n) for n in range(1, updates + 1)]
    assert len({event.text for event in events}) == updates


# -- answers that are lost ----------------------------------------------------------------------------------------------


async def add_without_answer(one: EtcdCluster, kind: type[EtcdStore], prefix: str = "/d/") -> tuple[int, int]:
    """One update whose answer is lost after it was made. Returns what the counter says and the domain's revision."""
    async with (
        wire(one.members[0].client_port) as between,
        opened(EtcdAddress((between.endpoint,), prefix=prefix), kind) as store,
    ):
        await add_surely(store, "before", 1)
        known = await store.read()
        between.deaf = True
        adding = asyncio.ensure_future(add_surely(store, "lost", 1, known))
        async with opened(one.address(prefix)) as other:
            while (await other.read()).revision < 2:
                await asyncio.sleep(0.01)
            between.deaf = False
            between.cut()
            await adding
            snapshot = await other.read()
            return int(snapshot.records["plus"]), snapshot.revision


class BelievesTheConflict(EtcdStore):
    """Leaves out the check whether the commit that came first is its own."""

    async def _lost(self, base: int, token: str, attempt: Sequence[Any], present: int) -> int:
        raise Conflict("somebody was faster")


def test_an_update_whose_answer_was_lost_is_made_once(one: EtcdCluster) -> None:
    assert {play(add_without_answer(one, EtcdStore, f"/d{number}/")) for number in range(5)} == {(2, 2)}


def test_without_the_check_for_its_own_token_it_is_made_twice(one: EtcdCluster) -> None:
    """The mutant that the test before this one is there to find."""
    assert play(add_without_answer(one, BelievesTheConflict)) == (3, 3)


# -- members that die ---------------------------------------------------------------------------------------------------


def test_kills_of_the_only_member_lose_and_double_nothing(one: EtcdCluster) -> None:
    async def scene() -> None:
        async with opened(one.address("/d/")) as a, opened(one.address("/d/")) as b:
            counter = Counter([a, b, a, b])

            async def kills() -> None:
                for _ in range(4):
                    await counter.until(50)
                    one.members[0].signal(signal.SIGKILL)
                    await asyncio.sleep(0.1)
                    one.start_member(one.members[0])
                await counter.until(50)

            await counter.run(kills)
            await check_exact(b, counter.updates)
            print(f"{counter.updates} updates, longest {counter.longest:.2f} s")

    play(scene())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("whom", ["leader", "follower"])
def test_with_one_member_of_three_gone_writers_and_leases_go_on(three: EtcdCluster, whom: str, number: int) -> None:
    async def scene() -> None:
        address = three.address("/d/")
        async with opened(address) as a, opened(address) as b, opened(address) as c:
            counter, refused = Counter([a, b]), 0

            async def keep_leases() -> None:
                nonlocal refused
                while True:
                    try:
                        refused += not await a.acquire("server", "A", 3)
                        assert not await c.acquire("server", "another", 3), "A renews it in time"
                    except Unavailable:
                        pass
                    await asyncio.sleep(0.5)

            async def kills() -> None:
                for _ in range(2):
                    await counter.until(30)
                    leader = three.leader()
                    gone = leader if whom == "leader" else next(m for m in three.members if m is not leader)
                    gone.signal(number)
                    await counter.until(30)
                    if number == signal.SIGKILL:
                        three.start_member(gone)
                    else:
                        gone.signal(signal.SIGCONT)
                    three.wait_healthy(three.members)

            keeping = asyncio.ensure_future(keep_leases())
            await counter.run(kills)
            keeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await keeping
            assert refused == 0
            await check_exact(c, counter.updates)
            print(f"{whom}, signal {number}: {counter.updates} updates, longest {counter.longest:.2f} s")
            assert counter.longest < 8

    play(scene())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_watch_goes_on_at_another_member_without_a_gap(three: EtcdCluster, number: int) -> None:
    async def scene() -> None:
        async with opened(three.address("/d/")) as writer:
            for gone in three.members[:2]:
                others = [member for member in three.members if member is not gone]
                async with opened(three.address("/d/", only=[gone, *others])) as watcher:
                    views = watcher.watch()
                    before = (await anext(views)).revision
                    gone.signal(number)
                    for wanted in range(before + 1, before + 6):
                        await add_surely(writer, f"{gone.name}", wanted)
                        view = await anext(views)
                        while view.revision < wanted:
                            view = await anext(views)
                        assert int(view.records["plus"]) == wanted
                    if number == signal.SIGKILL:
                        three.start_member(gone)
                    else:
                        gone.signal(signal.SIGCONT)
                    three.wait_healthy(three.members)

    play(scene())


# -- no majority --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_a_majority_everything_is_refused_in_time_and_goes_on_after(three: EtcdCluster, number: int) -> None:
    async def scene() -> None:
        async with opened(three.address("/d/")) as store:
            await add_surely(store, "before", 1)
            for member in three.members[:2]:
                member.signal(number)
            with suppress(Unavailable):
                while True:  # a signal takes a moment to stop all threads of a busy member
                    await store.read()
            for _ in range(2):
                tries = (store.read(), store.commit(1, {"a": "1"}, [], "t"), store.acquire("l", "A", 3), store.probe())
                await asyncio.gather(*map(refused_in_time, tries))
            while not await store.obstacle():  # the watch is cut off too, and says so
                await asyncio.sleep(0.1)
            assert store.known() is None, "a command is refused as soon as it would be by a read"
            await refused_in_time(store.read())
            began = time.monotonic()
            for _ in range(20):  # of who looks while it is away only the first waits
                for look in (store.read(), store.leases(), store.newest(), store.events(0, 1)):
                    await refused_in_time(look)
            assert time.monotonic() - began < SAID_WITHIN
            views = store.watch()
            waiting = asyncio.ensure_future(anext(views))
            for member in three.members[:2]:
                if number == signal.SIGKILL:
                    three.start_member(member)
                else:
                    member.signal(signal.SIGCONT)
            assert (await waiting).revision >= 1
            await add_surely(store, "after", 1)
            while await store.obstacle():
                await asyncio.sleep(0.1)
            snapshot = await store.read()
            assert snapshot.records["plus"] == "2"

    play(scene())


async def refused_in_time(attempt: Awaitable[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no majority of etcd at .*; hint: ") as trouble:
        await attempt
    assert time.monotonic() - began < SAID_WITHIN
    assert "\n" not in str(trouble.value)


def test_all_members_frozen_for_a_while_cost_nobody_a_lease(three: EtcdCluster) -> None:
    async def scene() -> None:
        async with opened(three.address("/d/")) as a, opened(three.address("/d/")) as b:
            assert await a.acquire("server", "A", 5)
            for member in three.members:
                member.signal(signal.SIGSTOP)
            await asyncio.sleep(1.5)
            for member in three.members:
                member.signal(signal.SIGCONT)
            give_up = time.monotonic() + 20
            while time.monotonic() < give_up:
                try:
                    assert not await b.acquire("server", "B", 5)
                    assert await a.acquire("server", "A", 5)
                    return
                except Unavailable:
                    continue
            raise AssertionError("it never came back")

    play(scene())


def test_a_member_that_led_and_was_frozen_for_longer_than_a_lease_ends_none(three: EtcdCluster) -> None:
    async def scene() -> None:
        async with opened(three.address("/d/")) as a, opened(three.address("/d/")) as b:
            names = [f"server/{number}" for number in range(8)]
            for name in names:
                assert await a.acquire(name, "A", 3)
            ended: list[float] = []

            async def renew() -> None:
                while True:
                    for name in names:
                        with suppress(Unavailable):
                            assert await a.acquire(name, "A", 3)
                    await asyncio.sleep(0.5)

            async def judge(seconds: float) -> None:
                ends = time.monotonic() + seconds
                while time.monotonic() < ends:
                    try:
                        for name in names:
                            assert not await b.acquire(name, "B", 3), "A renews it"
                        ended.extend(lease.expires_in for lease in await b.leases() if lease.expires_in <= 0)
                    except Unavailable:
                        pass
                    await asyncio.sleep(0.02)

            renewing = asyncio.ensure_future(renew())
            for _ in range(3):
                frozen = three.leader()
                frozen.signal(signal.SIGSTOP)
                await judge(4.5)
                frozen.signal(signal.SIGCONT)
                await judge(1.5)
                three.wait_healthy(three.members)
            assert not renewing.done()
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            assert ended == []

    play(scene())


# -- writers that die -----------------------------------------------------------------------------------------------------


def test_writers_killed_in_mid_commit_lose_and_halve_nothing(one: EtcdCluster) -> None:
    async def scene() -> None:
        address, acknowledged = one.address("/d/"), dict[str, int]()
        async with opened(address) as store:
            for number in range(4):
                process = await spawn("count", place_of(address), f"p{number}", "0")
                for _ in range(20 + number):
                    name, _, revision = (await line_of(process)).rsplit(" ", 2)
                    acknowledged[f"{name} {len(acknowledged)}"] = int(revision)
                process.kill()
                await process.communicate()
            snapshot, events = await store.read(), await store.events(0, 10**9)
            total = int(snapshot.records["plus"])
            assert (snapshot.revision, -int(snapshot.records["minus"])) == (total, total)
            assert [(e.sequence, e.revision) for e in events] == [(n, n) for n in range(1, total + 1)]
            assert len({event.text for event in events}) == total
            assert set(acknowledged.values()) <= {event.revision for event in events}

    play(scene())


@pytest.mark.parametrize("calls", range(9))
def test_a_large_commit_is_made_whole_or_not_at_all_wherever_its_writer_dies(one_for_all: EtcdCluster, calls: int) -> None:
    """250 records are three chunks: read head, 3 chunks stored, made true, then of each chunk read and applied, ..."""

    async def scene() -> None:
        address = one_for_all.address(f"/d{calls}/")
        async with opened(address) as store, opened(address) as second:
            await store.commit(0, {f"k{n}": "old" for n in range(250)} | {"a": "1"}, [], "first")
            views = second.watch()
            assert (await anext(views)).revision == 1
            process = await spawn("die_in_parts", place_of(address), str(calls))
            await process.communicate()
            finished = calls > 4 and process.returncode == 0  # a watcher did the rest, so there were fewer calls to die before
            assert process.returncode == -signal.SIGKILL or finished
            revision = (await store.read()).revision
            assert revision == (2 if calls >= 4 else 1)
            wanted = {"old"} if revision == 1 else {"new"}
            for handle in (store, second):
                snapshot = await handle.read()
                assert {text for key, text in snapshot.records.items() if key.startswith("k")} == wanted
            if revision == 2:
                view = await anext(views)
                assert {text for key, text in view.records.items() if key.startswith("k")} == wanted
            assert await second.commit(revision, {"a": "2"}, ["after"], "next") == revision + 1
            assert (await store.read()).records["a"] == "2"

    play(scene())


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(tmp_path_factory.mktemp("etcd")) as members:
        yield members


def test_a_watcher_finishes_a_large_commit_whose_writer_died(one_for_all: EtcdCluster) -> None:
    async def scene() -> None:
        address = one_for_all.address("/alone/")
        async with opened(address) as store:
            views = store.watch()
            assert (await anext(views)).revision == 0
            process = await spawn("die_in_parts", place_of(address), "4")
            await process.communicate()
            assert len((await anext(views)).records) == 250

    play(scene())


def test_a_handle_whose_member_lost_its_data_stops(tmp_path: Path) -> None:
    async def scene() -> None:
        with cluster(tmp_path / "etcd") as members:
            async with opened(members.address("/d/")) as store:
                for number in range(5):
                    await add_surely(store, "before", number)
                members.members[0].signal(signal.SIGKILL)
                os.rename(members.members[0].directory, tmp_path / "lost")
                members.start_member(members.members[0])
                give_up = time.monotonic() + 10
                while time.monotonic() < give_up:
                    try:
                        await store.read()
                    except Unavailable:
                        continue
                    except StoreError as refusal:
                        assert "went back" in str(refusal)
                        return
                raise AssertionError("it read on")

    play(scene())
