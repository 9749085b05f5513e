"""A store's life on real managers and engines: it grows, fills, is rewritten, loses managers, and clients go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import valkey

from dkv.client import new_key
from dkv.engine.positions import read_position
from tests.e2e.local_domain import LocalDomain, Manager, ManagerRefused, local_domain, wait_for


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("life")) as running_domain:
        yield running_domain


class Writer:
    """Writes one key after the other on its own thread, and knows what was acknowledged and what was refused."""

    def __init__(self, connect: Callable[[], valkey.Valkey], size: int = 10, keys: int = 10**9, pause: float = 0) -> None:
        self.acknowledged: dict[str, str] = {}
        self.refused: list[Exception] = []
        self._connect, self._size, self._keys, self._pause = connect, size, keys, pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    def _write(self) -> None:
        number, client = 0, self._connect()
        while not self._end.is_set():
            key, value = f"key-{number % self._keys}", f"{number}-" + "x" * self._size
            try:
                client.set(key, value)
                self.acknowledged[key] = value
                number += 1
                self._end.wait(self._pause)
            except (valkey.exceptions.ValkeyError, OSError) as trouble:
                self.refused.append(trouble)
                time.sleep(0.01)
        client.close()

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until so many further writes were acknowledged."""
        aim = len(self.acknowledged) + count
        wait_for(f"{count} more writes", lambda: len(self.acknowledged) >= aim)

    def lost(self, client: valkey.Valkey) -> list[str]:
        """The acknowledged keys that are not there."""
        return [key for key, value in self.acknowledged.items() if client.get(key) != value.encode()]


def to(domain: LocalDomain, store: str, name: str) -> Callable[[], valkey.Valkey]:
    """How a writer connects to one node."""
    instance = domain.instance(store, name)
    return lambda: valkey.Valkey(instance["host"], instance["clientPort"], socket_timeout=10)


def cluster(domain: LocalDomain, store: str) -> valkey.ValkeyCluster:
    """A cluster client that knows one node only at first."""
    instance = domain.client.store(store)["instances"][0]
    return valkey.ValkeyCluster(host=instance["host"], port=instance["clientPort"], socket_timeout=5)


def roles(domain: LocalDomain, store: str) -> tuple[str, str]:
    """The leader and the follower of a store of two copies: either may have been the quicker one."""
    leader = str(domain.group(store)["leader"])
    (follower,) = [i["instanceName"] for i in domain.client.store(store)["instances"] if i["instanceName"] != leader]
    return leader, follower


def manager_of(domain: LocalDomain, store: str, name: str) -> Manager:
    """The manager of an instance's server."""
    return next(m for m in domain.managers if m.server_id == domain.instance(store, name)["server"])


def two(domain: LocalDomain) -> str:
    """The first two managers."""
    return ",".join(m.host for m in domain.managers[:2])


# Managers come and go ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(domain: LocalDomain) -> LocalDomain:
    domain.create("Pair", "-Managers", two(domain))
    return domain


def test_a_manager_that_stops_leaves_its_engines_and_adopts_them_again(pair: LocalDomain) -> None:
    pids = [pair.pid("Pair", f"pair-{i}") for i in (1, 2)]
    term = pair.group("Pair")["term"]
    leader, _ = roles(pair, "Pair")
    manager = manager_of(pair, "Pair", leader)
    with Writer(to(pair, "Pair", leader)) as writer:
        writer.wait_for_more()
        output = pair.do("manager", "stop", "--data-dir", str(manager.data_dir))
        assert (output.out, output.err) == ("", "")
        assert manager.process
        assert manager.process.wait(10) == 0
        writer.wait_for_more()
        manager.restart()
        writer.wait_for_more()
        manager.kill()
        writer.wait_for_more()
        manager.restart()
        pair.wait_in_sync("Pair", "pair-1", "pair-2")
        writer.wait_for_more()
    assert writer.refused == [], "no client noticed"
    assert [pair.pid("Pair", f"pair-{i}") for i in (1, 2)] == pids
    assert pair.group("Pair")["term"] == term
    with pair.engine("Pair", leader) as client:
        assert writer.lost(client) == []


def test_a_manager_that_stops_with_its_engines_drains_them(pair: LocalDomain) -> None:
    """TEs go too; the leader hands over first: a cluster client loses nothing and the other copy serves."""
    leader, follower = roles(pair, "Pair")
    manager = manager_of(pair, "Pair", leader)
    pair.do("start", "process", "--db-name", "Pair", "--engine-type", "te", "--server-id", manager.server_id)
    pair.do("check", "database", "--db-name", "Pair", "--check-running", "--num-processes", "3", "--timeout", "60")
    with Writer(lambda: cluster(pair, "Pair")) as writer:
        writer.wait_for_more()
        pair.do("manager", "stop", "--with-engines", "--data-dir", str(manager.data_dir))
        assert manager.process
        assert manager.process.wait(10) == 0
        manager.process = None
        domain = LocalDomain.__new__(LocalDomain)
        domain.managers = [m for m in pair.managers if m is not manager]
        instance = domain.instance("Pair", leader)
        assert (instance["process"], instance["state"]) == (None, "Stopped")
        assert [p["server"] for p in domain.client.processes() if p["server"] == manager.server_id] == []
        for tombstone in domain.client.tombstones("Pair")[:2]:
            assert (tombstone["cause"], tombstone["exitCode"]) == ("graceful stop", 0)
        assert domain.group("Pair")["leader"] == follower
        writer.wait_for_more()
        manager.restart()
        pair.do("Start-DkvStore", "Pair")
        pair.wait_in_sync("Pair", "pair-1", "pair-2")
        writer.wait_for_more()
    with cluster(pair, "Pair") as client:
        assert writer.lost(client) == []
    assert pair.dkv("manager", "stop", "--data-dir", str(pair.root / "nobody")).err.startswith("No manager runs on")


# Entry points ---------------------------------------------------------------------------------------------------------------


def test_one_idempotency_key_through_two_managers_is_one_change(pair: LocalDomain) -> None:
    first, second = (m.client for m in pair.managers[:2])
    body = {"name": "Once", "instances": [{"instanceName": "once-1", "clustronPort": 7951, "clientPort": 7971, "server": "s3"}]}
    key = new_key()
    assert first.create_store(body, key)[0]
    before = pair.client.events()[-1]["sequence"]
    assert second.create_store(body, key)[0], "the same answer, not 'already there'"
    assert not second.create_store(body)[0]
    more = [{"instanceName": "once-2", "clustronPort": 7952, "clientPort": 7972, "server": "s3"}]
    key = new_key()
    first.add_instances("Once", more, key)
    answered = second.add_instances("Once", more, key)
    assert [i["instanceName"] for i in answered["instances"]] == ["once-1", "once-2"]
    with pytest.raises(ManagerRefused, match="once-2"):
        second.add_instances("Once", more)
    key = new_key()
    first.delete_store("Once", key)
    second.delete_store("Once", key)
    kinds = [e["kind"] for e in pair.client.events(before, "Once")]
    assert [kinds.count(kind) for kind in ("archive.created", "archive.deleted", "database.tombstone")] == [1, 2, 1]


def test_the_event_stream_goes_on_where_it_broke(pair: LocalDomain) -> None:
    """Half from one manager, the rest from another: every event once, in order, and new ones as they happen."""
    known = pair.client.events()
    half = known[len(known) // 2]["sequence"]
    stream = pair.managers[0].client.follow_events(half)
    seen = [next(stream) for _ in range(3)]
    stream.close()  # type: ignore[attr-defined]
    stream = pair.managers[1].client.follow_events(seen[-1]["sequence"])
    while seen[-1]["sequence"] < known[-1]["sequence"]:
        seen.append(next(stream))
    assert seen == [event for event in known if event["sequence"] > half]
    pair.do("New-DkvStore", "News", "news", "-ClustronPort", "7951", "-ClientPort", "7971")
    assert next(event for event in stream if event["kind"] == "database.created")["database"] == "News"
    stream.close()  # type: ignore[attr-defined]
    pair.do("Remove-DkvStore", "News")


WINDOW = 5  # s


def test_metrics_count_real_traffic(pair: LocalDomain) -> None:
    """Asked at a server that runs nothing of the store: it fetches the rows of the others."""
    leader = str(pair.group("Pair")["leader"])

    def puts(least: float = 0) -> tuple[float, float] | None:
        rows = pair.managers[2].client.metrics(window_sec=WINDOW)["metrics"]
        samples = [r for r in rows if r["metric"] == "Put" and leader in str(r) and r["total"] >= least and r["rate"] is not None]
        return (samples[0]["rate"], samples[0]["total"]) if samples else None

    before = wait_for("metrics", puts)
    assert before is not None
    sent: list[float] = []
    with cluster(pair, "Pair") as client:

        def rate_is_right() -> bool:
            sent.extend(time.monotonic() for number in range(20) if client.set(f"counted-{len(sent)}-{number}", "x"))
            lately, seen = sum(time.monotonic() - at < WINDOW for at in sent) / WINDOW, puts()
            return seen is not None and lately / 2 <= seen[0] <= lately * 2

        wait_for("the rate of the last seconds", rate_is_right)
    after = wait_for("the new total", lambda: puts(before[1] + len(sent)))
    assert after is not None and after[1] < before[1] + len(sent) + 100


# Copies --------------------------------------------------------------------------------------------------------------


def test_a_store_grows_and_shrinks_by_a_copy(domain: LocalDomain) -> None:
    """Two groups of one copy each; each new node goes to the group with the fewest and is in sync after its start."""
    ports = ["-ClustronPort", "7921", "-ClientPort", "7971"]
    domain.create("Grow", "-Managers", two(domain), "-ReplicationFactor", "1", *ports)
    with cluster(domain, "Grow") as client:
        for number in range(100):
            client.set(f"key-{number}", "x")
    for name in ("grow-a", "grow-b"):
        port = "7922" if name == "grow-a" else "7923"
        domain.do("Add-DkvInstance", "Grow", name, "-ClustronPort", port, "-ClientPort", str(int(port) + 50), "-Server", "s3")
        assert domain.instance("Grow", name)["state"] == "Created"
    groups = {i["instanceName"]: i["group"] for i in domain.client.store("Grow")["instances"]}
    assert groups["grow-a"] != groups["grow-b"]
    assert sorted(groups.values()) == sorted([*{g["name"] for g in domain.client.store("Grow")["groups"]}] * 2)

    domain.do("Start-DkvStore", "Grow")
    for group in domain.client.store("Grow")["groups"]:
        assert len(group["inSync"]) == 2, group
        assert group["canLoseForConfirmed"] == 1
    counts = [domain.engine("Grow", name).dbsize() for name in ("grow-a", "grow-b")]
    assert sum(counts) == 100
    path = domain.archive("Grow", "grow-b")
    domain.do("Stop-DkvStore", "Grow", "grow-b")
    domain.do("Remove-DkvInstance", "Grow", "grow-b")
    assert "grow-b" not in [i["instanceName"] for i in domain.client.store("Grow")["instances"]]  # its directory may still wait
    wait_for("the directory renamed", lambda: not path.exists() and list(path.parent.glob(f"{path.name}.deleted-*")))
    domain.remove("Grow")


def test_below_min_in_sync_nothing_is_acknowledged(pair: LocalDomain) -> None:
    domain = pair
    ports = ["-ClustronPort", "7931", "-ClientPort", "7981"]
    domain.create("Both", "-Managers", two(domain), "-MinInSync", "2", *ports)
    leader, follower = roles(domain, "Both")
    with domain.unchanged():
        output = domain.dkv("Stop-DkvStore", "Both", follower)
        assert output.code == 1
        assert "writes would stop" in output.out
    drain = domain.dkv("manager", "stop", "--with-engines", "--data-dir", str(manager_of(domain, "Both", follower).data_dir))
    assert drain.code == 1
    assert f"{follower} of Both cannot be stopped." in drain.err
    assert "writes would stop" in drain.err
    domain.do("Start-DkvStore", "Pair")  # what could leave has left
    with Writer(to(domain, "Both", leader)) as writer:
        writer.wait_for_more()
        domain.do("Stop-DkvStore", "Both", follower, "-Force")
        wait_for("refused writes", lambda: writer.refused)
        assert "NOREPLICAS" in str(writer.refused[0]) or "Not enough good replicas" in str(writer.refused[0])
        wait_for("the reason", lambda: domain.group("Both")["waitsFor"])
        assert "1 of 2 copies are in sync, so writes are refused" in domain.group("Both")["waitsFor"]["reason"]
        count = len(writer.acknowledged)
        domain.do("Get-DkvStore", "Both")
        assert len(writer.acknowledged) == count
        domain.do("Start-DkvStore", "Both")
        writer.wait_for_more()
    for name in ("both-1", "both-2"):
        with domain.engine("Both", name) as client:
            client.readonly()
            wait_for(f"every acknowledged key on {name}", lambda client=client: writer.lost(client) == [])
    domain.remove("Both")


# Bounds --------------------------------------------------------------------------------------------------------------


def test_a_full_memory_refuses_writes_and_lives(domain: LocalDomain) -> None:
    node = {"instanceName": "small-1", "clustronPort": 7941, "clientPort": 7991, "server": "s3"}
    domain.client.create_store({"name": "Small", "maxMemory": 16 << 20, "instances": [node]})
    domain.do("Start-DkvStore", "Small")
    pid = domain.pid("Small", "small-1")
    with domain.engine("Small", "small-1") as client:
        written = fill(client)
        assert 20 < written < 160
        assert client.get("key-0") is not None
        for number in range(written):
            client.delete(f"key-{number}")
        client.set("room", "again")
    assert domain.pid("Small", "small-1") == pid
    assert domain.client.tombstones("Small") == []
    domain.remove("Small")


def fill(client: valkey.Valkey) -> int:
    """Write 100 kB values until the engine refuses one; how many it took."""
    for number in range(1000):
        try:
            client.set(f"key-{number}", "x" * 100_000)
        except valkey.exceptions.OutOfMemoryError:
            return number
    raise AssertionError("16 MB held 100 MB")


def test_the_managers_rewrite_append_only_files_while_writes_flow(domain: LocalDomain) -> None:
    """Over 64 MB of writes to few keys: the leader's files are rewritten soon, the follower's too; marker and keys stay."""
    ports = ("-ClustronPort", "7831", "-ClientPort", "7881")
    domain.create("Grown", "-Managers", two(domain), *ports)  # whose files begin together: a copy that resynced has less
    domain.wait_in_sync("Grown", "grown-1", "grown-2")
    leader, follower = roles(domain, "Grown")
    folders = {name: domain.archive("Grown", name) for name in (leader, follower)}
    begun = {name: base(path) for name, path in folders.items()}
    changed: list[str] = []

    def both_changed() -> bool:
        for name, path in folders.items():
            if name not in changed and base(path) != begun[name]:
                changed.append(name)
        return len(changed) == 2

    with Writer(to(domain, "Grown", leader), size=200_000, keys=50, pause=0.025) as writer:
        wait_for("both files rewritten", both_changed, within=90)
        writer.acknowledged.clear()
        wait_for("all keys again", lambda: len(writer.acknowledged) == 50)
    assert changed == [leader, follower]
    assert writer.refused == []
    for path in folders.values():
        assert sum(f.stat().st_size for f in path.glob("appendonlydir/*")) < 1 << 30, "it does not grow for ever"
        assert read_position(str(path)).term == domain.group("Grown")["term"], "its marker is found"
    domain.wait_in_sync("Grown", "grown-1", "grown-2")
    domain.do("Stop-DkvStore", "Grown")
    domain.do("Start-DkvStore", "Grown")
    with cluster(domain, "Grown") as client:
        assert writer.lost(client) == []
    domain.remove("Grown")


def base(archive: Path) -> str:
    """The name of an archive's base file; it is another one after each rewrite."""
    lines = (archive / "appendonlydir" / "appendonly.aof.manifest").read_text().splitlines()
    return next((line for line in lines if line.endswith("type b")), "")
