"""What an etcd cluster can be like, and how dkv's keys are kept in it: certificates, strangers, limits, compaction, users."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dkv.access import certificates
from dkv.access.certificates import Owner, Reachable
from dkv.store import etcd_client, etcd_state
from dkv.store.contract import Conflict, Unavailable, Unusable
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_address import EtcdAddress, normal_prefix, parse
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import message
from dkv.store.etcd_version import refuse_version
from tests.contract.etcd_cluster import EtcdCluster, cluster, needs_etcd
from tests.contract.etcd_proxy import wire
from tests.contract.test_store_etcd_deaths import opened, play

Scene = Callable[[EtcdCluster, Path], Awaitable[None]]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with cluster(tmp_path_factory.mktemp("etcd")) as running:
        yield running


def scenario(scene: Scene) -> Callable[[EtcdCluster, Path], None]:
    def test(members: EtcdCluster, tmp_path: Path) -> None:
        play(scene(members, tmp_path))

    test.__name__, test.__doc__ = scene.__name__, scene.__doc__
    return needs_etcd(test)


async def refused(address: EtcdAddress, *words: str) -> None:
    """Opening fails with one sentence and a hint."""
    with pytest.raises(Unusable) as refusal:
        await EtcdStore.open(address)
    sentence = str(refusal.value)
    assert "; hint: " in sentence
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


# -- what stands below the prefix -----------------------------------------------------------------------------------------


@scenario
async def test_two_domains_with_prefixes_of_their_own_know_nothing_of_each_other(members: EtcdCluster, path: Path) -> None:
    async with opened(members.address("/two/a/")) as a, opened(members.address("/two/a0/")) as b:
        await a.commit(0, {"a": "1"}, ["of a"], "t")
        await a.acquire("l", "A", 5)
        assert (await b.read()).revision == 0
        assert await b.events(0, 10) == ()
        assert await b.leases() == ()
        await b.commit(0, {"b": "1"}, [], "t")
        assert dict((await a.read()).records) == {"a": "1"}


@scenario
async def test_a_commit_goes_by_the_state_at_hand_and_one_that_is_old_by_then_is_refused(
    members: EtcdCluster, path: Path
) -> None:
    async with opened(members.address("/known/")) as a, opened(members.address("/known/")) as b:
        assert await a.commit(0, {"a": "1"}, [], "t1") == 1
        mine = a.known()
        assert mine is not None and (mine.revision, dict(mine.records)) == (1, {"a": "1"}), "its own commit is at hand at once"
        while (seen := b.known()) is None or seen.revision < 1:
            await asyncio.sleep(0.01)  # the watch tells it
        assert await b.commit(1, {"a": "2"}, [], "t2") == 2
        with pytest.raises(Conflict):
            await a.commit(mine.revision, {"a": "3"}, [], "t3")
        assert dict((await a.read()).records) == {"a": "2"}


@scenario
async def test_keys_of_another_program_are_refused_and_left_alone(members: EtcdCluster, path: Path) -> None:
    client = EtcdClient(members.address("/strange/"))
    for value, words in ((b"dear diary", "are not a dkv domain's"), (b'{"format":99}', "newer dkv")):
        await client.call("put", message("PutRequest", key=b"/strange/state/head", value=value))
        await refused(members.address("/strange/"), words)
        kvs = (await client.call("range", message("RangeRequest", key=b"/strange/state/head"))).kvs
        assert kvs[0].value == value
    await client.close()


@pytest.mark.parametrize("version", ["3.4.22", "3.3.27", "2.3.8", "3.5.0", "3.5.1", "3.5.2"])
def test_a_version_that_loses_data_is_refused(version: str) -> None:
    with pytest.raises(Unusable, match=version):
        refuse_version(version, "here")


@pytest.mark.parametrize("version", ["3.4.23", "3.4.30", "3.5.3", "3.6.0-rc.1", "4.0.0"])
def test_a_version_that_keeps_data_is_taken(version: str) -> None:
    refuse_version(version, "here")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a:1",
        "ftp://a:1",
        "https://a",
        "https://a:x",
        "https://u@a:1",
        "https://:1",
        "https://a:1,http://b:2",
        "https://a/b:1",
    ],
)
def test_an_address_that_names_no_member_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        parse(text)


def test_addresses_and_prefixes_are_read_as_people_write_them() -> None:
    assert parse("https://a:2379, https://b:2379/,https://a:2379") == (("a:2379", "b:2379"), True)
    assert parse("http://[::1]:2379") == (("[::1]:2379",), False)
    assert [normal_prefix(text) for text in ("/dkv", "/dkv/", "dkv//")] == ["/dkv/", "/dkv/", "dkv/"]
    for text in ("", "/", "a\nb"):
        with pytest.raises(Unusable):
            normal_prefix(text)


# -- limits -----------------------------------------------------------------------------------------------------------------


@scenario
async def test_commits_of_any_size_stay_below_what_a_default_etcd_takes(members: EtcdCluster, path: Path) -> None:
    async with opened(members.address("/large/")) as a, opened(members.address("/large/")) as b:
        views = b.watch()
        await anext(views)
        revision = 0
        for count, size in ((100, 10), (101, 10), (128, 400), (3000, 1500), (3, 900_000)):
            writes = {f"k{count}/{n}": "ä" * (size // 2) for n in range(count)}
            revision = await a.commit(revision, writes, [f"event {n}" for n in range(count)], f"t{count}")
            view = await anext(views)
            assert view.revision == revision
            assert {key: view.records[key] for key in writes} == writes
        assert len(await b.events(0, 10**9)) == await a.newest() == 100 + 101 + 128 + 3000 + 3
        gone: dict[str, str | None] = dict.fromkeys(view.records)
        assert await b.commit(revision, gone, [], "all") == revision + 1
        assert dict((await a.read()).records) == {}
        with pytest.raises(Unavailable, match="the record big is larger than etcd takes") as trouble:
            await a.commit(revision + 1, {"big": "x" * 1_600_000}, [], "t")
        assert trouble.value.written is False


@scenario
async def test_of_two_large_commits_at_once_one_is_made_and_nothing_of_the_other_stays(members: EtcdCluster, path: Path) -> None:
    async with opened(members.address("/both/")) as a, opened(members.address("/both/")) as b:
        commits = [store.commit(0, {f"k{n}": name for n in range(300)}, [name], name) for store, name in ((a, "a"), (b, "b"))]
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert sorted(type(result) for result in results if result != 1) == [Conflict]
        assert 1 in results
        winner = "ab"[results.index(1)]
        assert set((await a.read()).records.values()) == {winner}
        assert [event.text for event in await b.events(0, 9)] == [winner]
        assert await a.commit(1, {f"k{n}": "c" for n in range(300)}, [], "c") == 2
        request = message("RangeRequest", key=b"/both/stage/", range_end=b"/both/stage0")
        assert len((await a._client.call("range", request)).kvs) == 0


@scenario
async def test_a_change_of_a_large_state_costs_what_changed(members: EtcdCluster, path: Path) -> None:
    async with wire(members.members[0].client_port) as between, opened(members.address("/cost/")) as writer:
        await writer.commit(0, {f"process/{n}": "x" * 400 for n in range(3000)}, [], "many")
        async with opened(EtcdAddress((between.endpoint,), prefix="/cost/")) as reader:
            views = reader.watch()
            assert len((await anext(views)).records) == 3000
            before = between.passed
            for number in range(20):
                await writer.commit(number + 1, {"process/7": str(number)}, ["of no interest"], f"t{number}")
                view = await anext(views)
            assert view.records["process/7"] == "19"
            assert (await reader.read()) is view
            assert between.passed - before < 20_000, "bytes from the member for 20 changes"


@pytest.mark.long
@needs_etcd
def test_a_full_etcd_is_said_and_everything_is_readable(tmp_path: Path) -> None:
    async def scene() -> None:
        with cluster(tmp_path / "etcd", words=("--quota-backend-bytes", "1000000")) as members:
            async with opened(members.address("/d/")) as store:
                with pytest.raises(Unavailable, match=r"etcd at .* is full .*; hint: .*etcdctl alarm disarm") as trouble:
                    await fill(store)
                assert trouble.value.written is False
                assert (await store.read()).revision > 3

    play(scene())


async def fill(store: EtcdStore) -> None:
    for number in range(200):
        await store.commit(number, {"a": f"{number}" * 20_000}, [], f"t{number}")


@scenario
async def test_etcd_is_asked_how_long_a_lease_lasts_once_little_of_its_answer_is_left(members: EtcdCluster, path: Path) -> None:
    asked: list[str] = []
    call = EtcdClient.call

    async def counted(self: EtcdClient, name: str, *words: Any) -> Any:
        asked.append(name)
        return await call(self, name, *words)

    async with opened(members.address("/lasting/")) as a, opened(members.address("/lasting/")) as b:
        assert await a.acquire("own", "a", 3.0)
        assert await b.acquire("other", "b", 30.0)
        assert await a.acquire("own", "a", 3.0), "prolonged: how long it lasts is known then"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EtcdClient, "call", counted)
            own, other = sorted(await a.leases(), key=lambda lease: lease.expires_in)
            again = {lease.name: lease.expires_in for lease in await a.leases()}
        assert asked.count("time_to_live") == 1, "of the other's lease, the first time"
        assert (own.name, other.name) == ("own", "other")
        assert 2.0 < again["own"] <= own.expires_in <= 3.0 and 28.0 < again["other"] <= other.expires_in <= 31.0
        await b.release("other", "b")
        assert [lease.name for lease in await a.leases()] == ["own"], "a lease ends with its key, whatever etcd said before"


@scenario
async def test_a_lease_that_etcd_ends_too_early_stays_its_holders(members: EtcdCluster, path: Path) -> None:
    """As a member does that led, was frozen, and goes on while another leads (a fault of that version)."""
    async with opened(members.address("/early/")) as a, opened(members.address("/early/")) as b:
        for _ in range(3):
            assert await a.acquire("server", "A", 3)
            (kv,) = (await a._client.call("range", message("RangeRequest", key=b"/early/lease/held/server"))).kvs
            await a._client.call("revoke", message("RevokeRequest", ID=kv.lease))
            assert not await b.acquire("server", "B", 3)
            (lease,) = await b.leases()
            assert lease.expires_in > 0
        assert await a.acquire("server", "A", 3)
        assert not await b.acquire("server", "B", 3)


# -- compaction and lagging members -------------------------------------------------------------------------------------------


@scenario
async def test_a_watch_that_was_away_during_a_compaction_reads_anew(members: EtcdCluster, path: Path) -> None:
    async with wire(members.members[0].client_port) as between, opened(members.address("/compacted/")) as writer:
        async with opened(EtcdAddress((between.endpoint,), prefix="/compacted/")) as reader:
            views = reader.watch()
            await anext(views)
            between.open = False
            between.cut()
            for number in range(30):
                await writer.commit(number, {"a": str(number), f"b{number}": "1"}, [], f"t{number}")
            await writer.commit(30, {"b3": None}, [], "gone")
            newest = (await writer._client.call("range", message("RangeRequest", key=b"x"))).header.revision
            await writer._client.call("compact", message("CompactionRequest", revision=newest, physical=True))
            between.open = True
            view = await anext(views)
            assert (view.revision, view.records["a"], "b3" in view.records, len(view.records)) == (31, "29", False, 30)
            assert await writer.commit(3, {"a": "3", "b3": "1"}, [], "t3") == 4, "an old attempt is still known"
            await writer.commit(31, {"a": "after"}, [], "after")
            assert (await anext(views)).records["a"] == "after"


def test_what_a_lagging_member_repeats_changes_nothing() -> None:
    layout = etcd_state.Layout(b"/d/")
    mirror = etcd_state.Mirror(layout, "here")

    def kv(key: bytes, value: bytes, at: int) -> object:
        return message("KeyValue", key=key, value=value, mod_revision=at)

    def event(key: bytes, value: bytes, at: int) -> object:
        return message("Event", kv=kv(key, value, at))

    heads = [etcd_state.Head(n, f"t{n}").text for n in range(4)]
    mirror.load([kv(layout.head, heads[2], 12), kv(layout.records + b"a", b"2", 12)], 12)
    mirror.apply([event(layout.records + b"a", b"1", 11), event(layout.head, heads[1], 11)], 11)
    assert (mirror.snapshot.revision, dict(mirror.snapshot.records)) == (2, {"a": "2"})
    mirror.apply([event(layout.records + b"a", b"3", 13), event(layout.head, heads[3], 13)], 13)
    assert (mirror.snapshot.revision, dict(mirror.snapshot.records)) == (3, {"a": "3"})

    # A large commit: its head stands at 20, its parts follow. What was read before the last part does not take that back.
    staged = etcd_state.Head(4, "t4", staged=2).text
    mirror.apply([event(layout.head, staged, 20), event(layout.records + b"a", b"4", 21)], 21)
    mirror.apply([event(layout.records + b"b", b"4", 22)], 22)
    mirror.load([kv(layout.head, staged, 20), kv(layout.records + b"a", b"4", 21)], 21)
    mirror.apply([event(layout.head, etcd_state.Head(4, "t4").text, 23)], 23)
    assert (mirror.snapshot.revision, dict(mirror.snapshot.records)) == (4, {"a": "4", "b": "4"})


@scenario
async def test_a_state_that_was_found_unusable_is_read_no_more_although_the_watch_is_cut_off_too(
    members: EtcdCluster, path: Path
) -> None:
    async with opened(members.address("/unusable/")) as store:
        assert await store.commit(0, {"a": "1"}, [], "t") == 1
        store._obstacle, store._unusable = "etcd: the watch was cut off", Unusable("it is damaged")
        for look in (store.read(), store.leases(), store.newest()):
            with pytest.raises(Unusable, match="it is damaged"):
                await look


# -- certificates and users ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, a certificate of a member and one of a client."""
    path = tmp_path_factory.mktemp("tls")
    now = time.time_ns() // 1_000_000
    authority = certificates.new_authority(Owner("d0"), now)
    (path / "authorities.pem").write_text(authority.certificate)
    for name in ("server", "client"):
        leaf = certificates.new_leaf(authority, Owner("d0"), Reachable(name, ("127.0.0.1",)), now)
        (path / f"{name}.pem").write_text(leaf.certificate)
        (path / f"{name}.key").write_text(leaf.key)
    return path


@needs_etcd
def test_both_sides_show_certificates_and_a_renewed_one_is_taken(
    tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_client, "LOOK_AT_FILES", 0.0)

    async def scene() -> None:
        with cluster(tmp_path / "etcd", tls=tls) as members:
            shown = {"authorities": tls / "authorities.pem", "certificate": tls / "client.pem", "key": tls / "client.key"}
            async with opened(members.address("/d/", **shown)) as store:
                assert await store.commit(0, {"a": "1"}, [], "t") == 1
                before = store._client._connections
                (tls / "client.pem").write_bytes((tls / "client.pem").read_bytes())
                assert await store.commit(1, {"a": "2"}, [], "t2") == 2
                assert store._client._connections is not before
            with pytest.raises(Unavailable, match="no majority"):  # etcd ends the connection of who shows none
                await EtcdStore.open(members.address("/d/", authorities=tls / "authorities.pem"))
            with pytest.raises(Unusable, match="needs its key"):
                await EtcdStore.open(members.address("/d/", certificate=tls / "client.pem"))
            with pytest.raises(Unusable, match=r"nowhere\.pem"):
                await EtcdStore.open(members.address("/d/", authorities=tls / "nowhere.pem"))

    play(scene())


def logins(members: EtcdCluster) -> int:
    """Passwords that the first member has looked at."""
    with urllib.request.urlopen(f"http://{members.members[0].endpoint}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    (line,) = (line for line in lines if line.startswith("grpc_server_started_total") and 'grpc_method="Authenticate"' in line)
    return int(float(line.split()[-1]))


@needs_etcd
def test_a_cluster_with_users_takes_a_known_one_also_after_its_token_ran_out(tmp_path: Path) -> None:
    async def scene() -> None:
        with cluster(tmp_path / "etcd") as members:
            address = members.address("/d/")
            for path, body in (
                ("user/add", {"name": "root", "password": "secret"}),
                ("user/grant", {"user": "root", "role": "root"}),
                ("user/add", {"name": "dkv", "password": "p"}),
                ("role/add", {"name": "dkv"}),
                ("role/grant", {"name": "dkv", "perm": {"permType": 2, "key": encoded("/d/"), "range_end": encoded("/d0")}}),
                ("user/grant", {"user": "dkv", "role": "dkv"}),
                ("enable", {}),
            ):
                post(f"http://{members.members[0].endpoint}/v3/auth/{path}", body)
            password = tmp_path / "password"
            password.write_text("p\n")
            await refused(address, "does not take this manager for a user of it")
            known = members.address("/d/", user="dkv", password_file=password)
            async with opened(known) as store:
                assert await store.commit(0, {"a": "1"}, [], "t") == 1
                store._client._token = "x.1"
                assert await store.commit(1, {"a": "2"}, [], "t2") == 2
                assert await store.acquire("l", "A", 3)
                store._client._token = "x.1"
                before = logins(members)
                for snapshot in await asyncio.gather(*(store.read() for _ in range(8))):  # each meets the old token
                    assert snapshot.revision == 2
                assert logins(members) == before + 1
                post(f"http://{members.members[0].endpoint}/v3/auth/role/add", {"name": "another"}, root_token(members))
                assert await store.commit(2, {"a": "3"}, [], "t3") == 3, "what users may was changed since the token was made"
                password.rename(tmp_path / "away")
                store._client._token = "x.1"
                with pytest.raises(Unavailable, match="password for etcd cannot be read"):
                    await store.read()
                (tmp_path / "away").rename(password)
                assert (await store.read()).revision == 3
            await refused(members.address("/other/", user="dkv", password_file=password), "refuses this manager its keys")
            password.write_text("wrong")
            await refused(known, "does not take this manager for a user of it")

    play(scene())


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def root_token(members: EtcdCluster) -> str:
    token: str = post(f"http://{members.members[0].endpoint}/v3/auth/authenticate", {"name": "root", "password": "secret"})[
        "token"
    ]
    return token


def post(url: str, body: object, token: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=10) as answer:
        answered: dict[str, Any] = json.load(answer)
        return answered
