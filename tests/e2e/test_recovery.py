"""Failure scenarios on real engines: an operator makes a copy lead; the state is backed up, restored, and rebuilt when lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
import valkey

from tests.e2e.local_domain import LocalDomain, local_domain, marked, refused, wait_for


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    """One domain for all bad days, which come in this order."""
    with local_domain(tmp_path_factory.mktemp("recovery"), 2) as running_domain:
        yield running_domain


def test_an_operator_makes_the_other_copy_lead(domain: LocalDomain) -> None:
    domain.create("Orders", "-ReplicationFactor", "2")
    domain.wait_in_sync("Orders", "orders-1", "orders-2")
    term, leader = domain.group("Orders")["term"], domain.group("Orders")["leader"]  # the copy that was ready first
    follower = "orders-2" if leader == "orders-1" else "orders-1"
    domain.engine("Orders", leader).set("early", "kept")
    domain.do("Stop-DkvStore", "Orders", follower)
    domain.wait_in_sync("Orders", leader)
    domain.engine("Orders", leader).set("late", "lost")

    archive_id = domain.instance("Orders", follower)["archiveId"]
    words = ("enforce", "leader", "--db-name", "Orders", "--archive-id", str(archive_id))
    refused(domain.dkv(*words, "--allow-data-loss", "--reason", "no need"), "serving leader")

    domain.archive("Orders", leader).rename(domain.root / "away")
    server = domain.instance("Orders", leader)["server"]
    manager = next(manager for manager in domain.managers if manager.server_id == server)
    manager.client.stop_instance("Orders", leader, force=True)
    domain.wait_state("Orders", leader, "Stopped")
    domain.client.start_instance("Orders", follower)
    wait_for(f"{follower} has reported", lambda: domain.client.leader_bound("Orders", "UNPARTITIONED", archive_id)["position"])

    before = domain.client.events()
    output = domain.dkv(*words)
    assert output.code == 1
    assert domain.client.events() == before and domain.group("Orders")["leader"] is None
    assert "In sync and not available since" in output.out and leader in output.out
    assert f"Confirmed writes made after its last marker {term}-" in output.out
    refused(output, "--allow-data-loss --reason TEXT")
    refused(domain.dkv(*words, "--allow-data-loss"), "--reason")

    done = domain.do(*words, "--allow-data-loss", "--reason", "its disk broke", "-o", "json")
    assert json.loads(done.out)["leads"]
    engine = domain.engine("Orders", follower)
    assert engine.get("early") == b"kept"
    assert engine.get("late") is None
    assert engine.set("after", "1")
    record = domain.group("Orders")["enforcements"][0]
    assert (record["instance"], record["reason"]) == (follower, "its disk broke")
    assert "may be lost" in record["bound"]


KEYS = {f"key:{i}": f"value {i}" for i in range(200)}


def filled(domain: LocalDomain) -> None:
    """A store of two groups by two copies, filled."""
    slots = [[0, 8191]], [[8192, 16383]]
    ports = iter(range(4))
    instances = [
        {"instanceName": f"{group}-{server}", "server": server, "group": group, "clustronPort": 7911 + n, "clientPort": 7961 + n}
        for group in ("g1", "g2")
        for server in ("s1", "s2")
        for n in [next(ports)]
    ]
    groups = [{"name": f"g{i}", "slots": part} for i, part in enumerate(slots, 1)]
    body = {"name": "Parts", "instances": instances, "groups": groups, "replicationFactor": 2}
    domain.client.create_store(body)
    domain.do("Start-DkvStore", "Parts")
    wait_in_sync(domain)
    cluster = connected(domain)
    for key, value in KEYS.items():
        cluster.set(key, value)
    cluster.close()


def wait_in_sync(domain: LocalDomain) -> None:
    """Wait until every group of the store has both its copies in sync."""
    wait_for("all copies in sync", lambda: all(len(g["inSync"]) == 2 for g in domain.client.store("Parts")["groups"]))


def connected(domain: LocalDomain) -> valkey.ValkeyCluster:
    """An unmodified cluster client, as soon as the store takes one."""

    def look() -> valkey.ValkeyCluster | None:
        first = domain.client.store("Parts")["instances"][0]
        try:
            return valkey.ValkeyCluster(host=first["host"], port=first["clientPort"], decode_responses=True)
        except valkey.exceptions.ValkeyClusterException:
            return None

    client = wait_for("a cluster client", look)
    assert client is not None
    return client


def all_read(domain: LocalDomain) -> bool:
    """Whether every key that was written is served."""
    cluster = connected(domain)
    try:
        return {key: cluster.get(key) for key in KEYS} == KEYS
    finally:
        cluster.close()


def everything_dies(domain: LocalDomain) -> None:
    """All managers and then all engines are killed at once."""
    for manager in domain.managers:
        if manager.process:
            manager.kill()
    for pid in marked(domain.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for("silence", lambda: not marked(domain.root))


def lose_state(domain: LocalDomain) -> None:
    for file in domain.root.glob("domain.sqlite*"):
        if file.is_file():
            file.unlink()


def test_a_state_is_put_back_from_a_backup(domain: LocalDomain) -> None:
    filled(domain)
    file, state = domain.root / "state.backup", domain.managers[0].state
    assert "keep a copy of certificates/domain.key" in domain.do("backup", "state", str(file)).err
    assert file.stat().st_mode & 0o777 == 0o600
    keys = [manager.data_dir / "certificates" / "domain.key" for manager in domain.managers]
    kept = domain.root / "kept.key"
    shutil.copy(keys[0], kept)
    before = domain.client.store("Parts")
    domain.do("Stop-DkvStore", "Parts", "g1-s1")  # what the backup does not know: another leader, newer ids
    domain.do("Start-DkvStore", "Parts", "g1-s1")
    newer = domain.client.store("Parts")

    refused(domain.dkv("restore", "state", str(file), "--state", state, "--yes"), "exists and is not overwritten")
    everything_dies(domain)
    lose_state(domain)
    for key in keys:
        key.unlink()
    output = domain.dkv("restore", "state", str(file), "--state", state)
    assert output.code == 1 and "who is in sync now" in output.out
    assert "domain.sqlite-key is not there" in output.out and "--domain-key FILE" in output.out
    domain.do("restore", "state", str(file), "--state", state, "--domain-key", str(kept), "--yes")

    domain.start()
    domain.do("Start-DkvStore", "Parts")
    wait_for("all keys", lambda: all_read(domain))
    after = domain.client.store("Parts")
    assert after["createdAt"] == before["createdAt"]
    assert min(p["startId"] for p in domain.client.processes()) > max(i["process"]["startId"] for i in newer["instances"])
    assert all(a["term"] > n["term"] for a, n in zip(after["groups"], newer["groups"], strict=True))


def confs(domain: LocalDomain, store: str) -> list[str]:
    """What the archives of a store say of their engines' settings."""
    names = [str(instance["instanceName"]) for instance in domain.client.store(store)["instances"]]
    return [(domain.archive(store, name) / "valkey.conf").read_text() for name in names]


def test_a_lost_state_is_rebuilt_from_the_archives(domain: LocalDomain) -> None:
    wait_in_sync(domain)
    given = {"maxmemory-policy": "allkeys-lfu", "max-clients": "900"}
    domain.client.request("POST", "/api/1/databases/Parts/options", given)
    wait_for("engines have them", lambda: [c for c in confs(domain, "Parts") if "maxmemory-policy allkeys-lfu\n" not in c] == [])
    uid, before = domain.client.domain()["uid"], domain.client.store("Parts")
    enforced = next(name for name in ("orders-1", "orders-2") if domain.archive("Orders", name).exists())
    state = domain.managers[0].state
    words = ["rebuild", "state", "--state", state]
    words += [word for manager in domain.managers for word in ("--data-dir", str(manager.data_dir))]
    for manager in domain.managers:
        manager.kill()
    lose_state(domain)
    output = domain.dkv(*words, "--yes")
    refused(output, "still runs as pid", "kill")
    engines = [run for manager in domain.managers for run in (manager.data_dir / "run").glob("*/born")]
    assert output.err.count("still runs as pid") == len(engines) > 1, "each of them is named at once"
    everything_dies(domain)

    output = domain.dkv(*words)
    assert output.code == 1 and "Nothing was written" in output.err
    assert "g2-s2 on s2: marker" in output.out and "who was in sync" in output.out
    assert f"which {enforced} knew: it is not under these directories" in output.out
    assert not (domain.root / "domain.sqlite").exists()
    domain.do(*words, "--yes")

    domain.start()
    domain.do("Start-DkvStore", "Parts")
    wait_for("all keys", lambda: all_read(domain))
    wait_in_sync(domain)
    after = domain.client.store("Parts")
    assert domain.client.domain()["uid"] == uid
    assert [i["instanceName"] for i in after["instances"]] == [i["instanceName"] for i in before["instances"]]
    assert [g["slots"] for g in after["groups"]] == [g["slots"] for g in before["groups"]]
    for old, new in zip(before["groups"], after["groups"], strict=True):
        assert new["term"] > old["term"] and new["leaderStartId"] > old["leaderStartId"]
    wanted = after["options"]["wanted"]
    assert (wanted["maxmemory-policy"], wanted["max-clients"]) == ("allkeys-lfu", 900)
