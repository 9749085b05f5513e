"""One suite over all state backends: what the contract says, as scenarios of two managers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dkv.kernel import boottime
from dkv.store.contract import Conflict, Store, Unavailable
from dkv.store.etcd_address import EtcdAddress
from dkv.store.memory import MemoryDomain, MemoryStore
from tests.contract.etcd_cluster import EtcdCluster, cluster, needs_etcd
from tests.contract.store_process import FarStore, add_one, open_store, place_of

KEEP_EVENTS = 50
LIMIT = 60.0
ENDS_WITHIN = 4.2  # s in which a lease of 3 s that is not renewed ends in etcd

Scenario = Callable[["Bench", Store, Store], Awaitable[None]]


class Bench:
    """Opens handles on one state and moves the clock its leases run on."""

    def __init__(self, kind: str, path: Path, address: EtcdAddress | None = None) -> None:
        self.kind = kind
        self.path = path
        self.address = address
        self.ahead = 0.0
        self.domain = MemoryDomain(lambda: self.ahead, keep_events=KEEP_EVENTS)
        self.handles: list[Any] = []

    async def handle(self) -> Store:
        store: Store
        if self.kind == "memory":
            store = MemoryStore(self.domain)
        elif "two processes" in self.kind and self.handles:
            store = await FarStore.open(place_of(self.address) if self.address else str(self.path), KEEP_EVENTS)
        else:
            place = place_of(self.address) if self.address else str(self.path)
            store = await open_store(place, KEEP_EVENTS, lambda: boottime() + self.ahead)
        self.handles.append(store)
        return store

    async def advance(self, seconds: float) -> None:
        """Let time pass. etcd counts by its own clock, so there it passes, as much of it as a lease lasts; meanwhile each
        handle looks at the leases, as managers do all the time.
        """
        if self.address is not None:
            really = seconds if seconds < 3 else ENDS_WITHIN
            ends = time.monotonic() + really
            while time.monotonic() < ends:
                await asyncio.sleep(min(0.25, max(0.0, ends - time.monotonic())))
                for handle in self.handles:
                    await handle.leases()
            seconds -= min(seconds, really)
        self.ahead += seconds
        for handle in self.handles:
            if isinstance(handle, FarStore):
                await handle.call("advance", seconds)

    async def play(self, scenario: Scenario) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                first = await self.handle()
                second = first if self.kind in ("sqlite", "etcd") else await self.handle()
                await scenario(self, first, second)
        finally:
            for handle in self.handles:
                await handle.close()


KINDS = ["memory", "sqlite", "two handles", "two processes"]
ETCD_KINDS = ["etcd", "etcd, two handles", "etcd, two processes"]
ON_ETCD = [pytest.param(kind, marks=needs_etcd) for kind in ETCD_KINDS]


@pytest.fixture(params=KINDS + ON_ETCD)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if not request.param.startswith("etcd"):
        return Bench(request.param, tmp_path / "state")
    members: EtcdCluster = request.getfixturevalue("one_member")
    return Bench(request.param, tmp_path / "state", members.address(f"/{tmp_path.name}/"))


@pytest.fixture(scope="module")
def one_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(tmp_path_factory.mktemp("etcd")) as members:
        yield members


def scenario(play: Scenario) -> Callable[[Bench], None]:
    """Make a pytest test of a scenario that needs a bench and two handles."""

    def test(bench: Bench) -> None:
        asyncio.run(bench.play(play))

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


TAKES_TIME: list[Scenario] = []


def scenario_that_takes_time(play: Scenario) -> Callable[[Bench, pytest.FixtureRequest], None]:
    """The same of a scenario in which leases run out."""
    TAKES_TIME.append(play)

    def test(bench: Bench, request: pytest.FixtureRequest) -> None:
        if bench.address is None:
            asyncio.run(bench.play(play))
        elif trouble := request.getfixturevalue("taken_time_on_etcd")[bench.kind, play]:
            raise trouble

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@pytest.fixture(scope="module")
def taken_time_on_etcd(
    one_member: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, Scenario], BaseException | None]:
    """What went wrong in each of these scenarios on etcd. They wait for its clock all together, each in a domain of its own."""

    async def play_all() -> Mapping[tuple[str, Scenario], BaseException | None]:
        plays = [(kind, play) for kind in ETCD_KINDS for play in TAKES_TIME]
        directory = tmp_path_factory.mktemp("state")
        benches = [Bench(kind, directory, one_member.address(f"/lease{number}/")) for number, (kind, _) in enumerate(plays)]
        ends = await asyncio.gather(
            *(bench.play(play) for bench, (_, play) in zip(benches, plays, strict=True)), return_exceptions=True
        )
        return dict(zip(plays, ends, strict=True))

    return asyncio.run(play_all())


async def write(store: Store, *, token: str = "", events: tuple[str, ...] = (), **writes: str | None) -> int:
    base = (await store.read()).revision
    return await store.commit(base, writes, events, token or f"token {base}")


@scenario
async def test_a_new_state_is_empty(bench: Bench, first: Store, second: Store) -> None:
    snapshot = await second.read()
    assert (snapshot.revision, dict(snapshot.records)) == (0, {})
    assert await first.events(0, 10) == ()
    assert await first.leases() == ()


@scenario
async def test_a_commit_is_seen_whole_by_the_other_at_once(bench: Bench, first: Store, second: Store) -> None:
    assert await first.commit(0, {"a": "1", "b": "2"}, ["both"], "t1") == 1
    snapshot = await second.read()
    assert (snapshot.revision, dict(snapshot.records)) == (1, {"a": "1", "b": "2"})
    assert await second.commit(1, {"a": "ä / \n ☃"}, [], "t2") == 2
    assert dict((await first.read()).records) == {"a": "ä / \n ☃", "b": "2"}


@scenario
async def test_a_stale_base_writes_nothing(bench: Bench, first: Store, second: Store) -> None:
    await first.commit(0, {"a": "1"}, ["first"], "t1")
    for base in (0, 5):
        with pytest.raises(Conflict):
            await second.commit(base, {"a": "2", "b": "2"}, ["second"], "t2")
    assert dict((await second.read()).records) == {"a": "1"}
    assert [event.text for event in await second.events(0, 10)] == ["first"]


@scenario
async def test_a_key_can_go_and_come_back(bench: Bench, first: Store, second: Store) -> None:
    await write(first, a="1", b="1")
    await second.read()
    await write(first, a=None, never_there=None)
    assert dict((await second.read()).records) == {"b": "1"}
    await write(second, a="2")
    assert dict((await first.read()).records) == {"a": "2", "b": "1"}


@scenario
async def test_an_empty_commit_counts_too(bench: Bench, first: Store, second: Store) -> None:
    assert await first.commit(0, {}, [], "t") == 1
    assert (await second.read()).revision == 1


@scenario
async def test_a_repeated_attempt_is_written_once(bench: Bench, first: Store, second: Store) -> None:
    assert await first.commit(0, {"a": "1"}, ["once"], "mine") == 1
    await write(second, a="2", events=("then",))
    for store in (first, second):
        assert await store.commit(0, {"a": "1"}, ["once"], "mine") == 1
        with pytest.raises(Conflict):
            await store.commit(0, {"a": "1"}, ["once"], "somebody else's")
    assert dict((await first.read()).records) == {"a": "2"}
    assert [event.text for event in await first.events(0, 10)] == ["once", "then"]


@scenario
async def test_an_unchanged_state_is_the_same_object(bench: Bench, first: Store, second: Store) -> None:
    """So that a decoder may go by identity."""
    await write(first, a="1" * 100, b="1" * 100)
    before = await first.read()
    assert await first.read() is before
    await first.acquire("lease", "x", 5)
    assert await first.read() is before
    await write(second, b="2", c="3")
    after = await first.read()
    assert after is not before
    assert after.records["a"] is before.records["a"]
    assert dict(before.records) == {"a": "1" * 100, "b": "1" * 100}, "a snapshot in hand never changes"


@scenario
async def test_watching_begins_with_the_present_and_follows(bench: Bench, first: Store, second: Store) -> None:
    await write(first, a="0")
    views = second.watch()
    for number in range(1, 20):
        view = await anext(views)
        assert (view.revision, view.records["a"]) == (number, str(number - 1))
        await write(first, a=str(number))


@scenario
async def test_after_a_burst_the_newest_wins(bench: Bench, first: Store, second: Store) -> None:
    views, fewest = second.watch(), 100
    seen = [(await anext(views)).revision]
    for burst in range(1, 11):
        before = len(seen)
        for number in range(30):
            await write(first, a=f"{burst} {number}")
        while seen[-1] < 30 * burst:
            seen.append((await anext(views)).revision)
        fewest = min(fewest, len(seen) - before)
        if fewest <= 2:
            break  # on a busy machine changes may arrive one by one, after the burst
    assert seen == sorted(set(seen)), "never an older one, never one twice"
    assert fewest <= 2, "what happened meanwhile is one view"


@scenario
async def test_a_watcher_sleeps_until_something_changes(bench: Bench, first: Store, second: Store) -> None:
    views = first.watch()
    await anext(views)
    waiting = asyncio.ensure_future(anext(views))
    await second.acquire("lease", "x", 5)
    await second.acquire("lease", "x", 5)
    done, _ = await asyncio.wait([waiting], timeout=0.4)
    assert not done, "a lease is no change"
    await write(second, a="1")
    assert (await waiting).revision == 1


@scenario
async def test_a_watcher_wakes_long_before_its_poll(bench: Bench, first: Store, second: Store) -> None:
    views = first.watch()
    await anext(views)
    waits = []
    for number in range(10):
        waiting = asyncio.ensure_future(anext(views))
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        await write(second, a=str(number))
        await waiting
        waits.append(time.perf_counter() - began)
    print(f"{bench.kind}: woken after {sorted(waits)[5] * 1000:.1f} ms (median)")
    assert min(waits) < 0.1, waits  # the poll is every 0.25 s


@scenario
async def test_two_watchers_see_the_same(bench: Bench, first: Store, second: Store) -> None:
    watches = first.watch(), second.watch()
    for watch in watches:
        await anext(watch)
    await write(first, a="1")
    assert [dict((await anext(watch)).records) for watch in watches] == [{"a": "1"}, {"a": "1"}]


@scenario
async def test_a_lease_has_one_holder(bench: Bench, first: Store, second: Store) -> None:
    assert await first.acquire("leader", "A", 3, "at 10.0.0.1")
    assert not await second.acquire("leader", "B", 3)
    assert await second.acquire("another", "B", 3)
    leader = {lease.name: lease for lease in await second.leases()}["leader"]
    assert (leader.holder, leader.value) == ("A", "at 10.0.0.1")
    assert 0 < leader.expires_in <= 3
    await second.release("leader", "B")
    assert not await second.acquire("leader", "B", 3), "only its holder can give it up"
    await first.release("leader", "A")
    assert await second.acquire("leader", "B", 3)


@scenario_that_takes_time
async def test_a_lease_ends_by_itself_and_its_holder_learns_it(bench: Bench, first: Store, second: Store) -> None:
    assert await first.acquire("leader", "A", 3)
    await bench.advance(3.1)
    assert [lease.expires_in < 0 for lease in await second.leases()] == [True]
    assert await second.acquire("leader", "B", 3)
    assert not await first.acquire("leader", "A", 3)


@scenario_that_takes_time
async def test_a_lease_that_is_taken_again_stays(bench: Bench, first: Store, second: Store) -> None:
    assert await first.acquire("leader", "A", 3, "here")
    for _ in range(3):
        await bench.advance(2)
        assert await first.acquire("leader", "A", 3, "here")
        assert not await second.acquire("leader", "B", 3)
    await bench.advance(2)
    assert await first.acquire("leader", "A", 3, "there")
    await bench.advance(2)
    assert not await second.acquire("leader", "B", 3)
    assert [lease.value for lease in await second.leases()] == ["there"]


@scenario_that_takes_time
async def test_an_expired_lease_is_forgotten_after_an_hour(bench: Bench, first: Store, second: Store) -> None:
    await first.acquire("old", "A", 3)
    await bench.advance(3000)
    assert [lease.name for lease in await second.leases()] == ["old"]
    await bench.advance(1000)
    assert await second.leases() == ()


@scenario
async def test_leases_do_not_move_the_revision(bench: Bench, first: Store, second: Store) -> None:
    await write(first, a="1")
    await first.acquire("leader", "A", 3)
    await first.acquire("leader", "A", 3)
    await first.release("leader", "A")
    assert (await second.read()).revision == 1


@scenario
async def test_events_come_in_pages(bench: Bench, first: Store, second: Store) -> None:
    assert await first.newest() == 0
    await write(first, events=("e1", "e2"))
    assert (await first.newest(), await second.newest()) == (2, 2)
    await write(first)
    await write(second, events=("e3",))
    everything = await second.events(0, 10)
    assert [(e.sequence, e.revision, e.text) for e in everything] == [(1, 1, "e1"), (2, 1, "e2"), (3, 3, "e3")]
    assert [e.text for e in await second.events(0, 2)] == ["e1", "e2"]
    assert [e.text for e in await second.events(2, 2)] == ["e3"]
    assert await second.events(3, 2) == ()
    assert await second.events(0, 0) == ()


@scenario
async def test_the_oldest_events_make_room(bench: Bench, first: Store, second: Store) -> None:
    for number in range(40):
        await write(first, events=tuple(f"{number}.{part}" for part in range(3)))
    newest = await second.events(0, 1000)
    assert [e.sequence for e in newest] == list(range(120 - KEEP_EVENTS + 1, 121)), "the newest, without gaps"
    assert newest[-1].text == "39.2"
    assert [e.sequence for e in await second.events(60, 2)] == [71, 72], "a reader that fell behind goes on at the oldest"


@scenario
async def test_nobody_loses_an_update(bench: Bench, first: Store, second: Store) -> None:
    async def add(store: Store, name: str) -> None:
        for number in range(1, 41):
            await add_one(store, name, number, "")

    await asyncio.gather(add(first, "A"), add(first, "B"), add(second, "C"))
    snapshot = await second.read()
    assert (snapshot.revision, snapshot.records["plus"], snapshot.records["minus"]) == (120, "120", "-120")


@scenario
async def test_a_closed_handle_says_so(bench: Bench, first: Store, second: Store) -> None:
    third = await bench.handle()
    if isinstance(third, FarStore):
        return
    views = third.watch()
    await anext(views)
    waiting = asyncio.ensure_future(anext(views))
    await asyncio.sleep(0)
    await third.close()
    await third.close()
    with pytest.raises(Unavailable):
        await waiting
    for call in (third.read(), third.commit(0, {}, [], "t"), third.leases(), third.acquire("a", "b", 1)):
        with pytest.raises(Unavailable):
            await call
    await write(first, a="1")
    assert (await second.read()).revision == 1
