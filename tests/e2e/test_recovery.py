"""Bad days on real engines: an operator makes a copy lead; the state is backed up, restored, and rebuilt when lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest
import valkey

from tests.e2e.house import House, house, marked, refused, wait_for


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all bad days, which come in this order."""
    with house(tmp_path_factory.mktemp("recovery"), 2) as found:
        yield found


def test_an_operator_makes_the_other_copy_lead(home: House) -> None:
    home.create("Orders", "-ReplicationFactor", "2")
    home.wait_in_sync("Orders", "orders-1", "orders-2")
    home.engine("Orders", "orders-1").set("early", "kept")
    home.do("Stop-DkvStore", "Orders", "orders-2")
    home.wait_in_sync("Orders", "orders-1")
    home.engine("Orders", "orders-1").set("late", "lost")

    words = ("enforce", "leader", "--db-name", "Orders", "--archive-id", "1")
    refused(home.dkv(*words, "--allow-data-loss", "--reason", "no need"), "serving leader")

    home.archive("Orders", "orders-1").rename(home.root / "away")
    home.managers[0].client.stop_instance("Orders", "orders-1", force=True)
    home.wait_state("Orders", "orders-1", "Stopped")
    home.client.start_instance("Orders", "orders-2")
    wait_for("orders-2 has reported", lambda: home.client.leader_bound("Orders", "UNPARTITIONED", 1)["position"])

    before = home.client.events()
    said = home.dkv(*words)
    assert said.code == 1
    assert home.client.events() == before and home.group("Orders")["leader"] is None
    assert "In sync and not available since" in said.out and "orders-1" in said.out
    assert "Confirmed writes made after its last marker 1-" in said.out
    refused(said, "--allow-data-loss and --reason")
    refused(home.dkv(*words, "--allow-data-loss"), "--reason")

    done = home.do(*words, "--allow-data-loss", "--reason", "disk of s1 broke", "-o", "json")
    assert json.loads(done.out)["leads"]
    engine = home.engine("Orders", "orders-2")
    assert engine.get("early") == b"kept"
    assert engine.get("late") is None
    assert engine.set("after", "1")
    record = home.group("Orders")["enforcements"][0]
    assert (record["instance"], record["reason"]) == ("orders-2", "disk of s1 broke")
    assert "may be lost" in record["bound"]


KEYS = {f"key:{i}": f"value {i}" for i in range(200)}


def filled(home: House) -> None:
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
    home.client.create_store(body)
    home.do("Start-DkvStore", "Parts")
    wait_in_sync(home)
    cluster = connected(home)
    for key, value in KEYS.items():
        cluster.set(key, value)
    cluster.close()


def wait_in_sync(home: House) -> None:
    """Wait until every group of the store has both its copies in sync."""
    wait_for("all copies in sync", lambda: all(len(g["inSync"]) == 2 for g in home.client.store("Parts")["groups"]))


def connected(home: House) -> valkey.ValkeyCluster:
    """An unmodified cluster client, as soon as the store takes one."""

    def look() -> valkey.ValkeyCluster | None:
        first = home.client.store("Parts")["instances"][0]
        try:
            return valkey.ValkeyCluster(host=first["host"], port=first["clientPort"], decode_responses=True)
        except valkey.exceptions.ValkeyClusterException:
            return None

    found = wait_for("a cluster client", look)
    assert found is not None
    return found


def all_read(home: House) -> bool:
    """Whether every key that was written is served."""
    cluster = connected(home)
    try:
        return {key: cluster.get(key) for key in KEYS} == KEYS
    finally:
        cluster.close()


def everything_dies(home: House) -> None:
    """All managers and then all engines are killed at once."""
    for manager in home.managers:
        if manager.process:
            manager.kill()
    for pid in marked(home.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for("silence", lambda: not marked(home.root))


def lose_state(home: House) -> None:
    for file in home.root.glob("domain.sqlite*"):
        if file.is_file():
            file.unlink()


def test_a_state_is_put_back_from_a_backup(home: House) -> None:
    filled(home)
    file, state = home.root / "state.backup", home.managers[0].state
    home.do("backup", "state", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    before = home.client.store("Parts")
    home.do("Stop-DkvStore", "Parts", "g1-s1")  # what the backup does not know: another leader, newer ids
    home.do("Start-DkvStore", "Parts", "g1-s1")
    newer = home.client.store("Parts")

    refused(home.dkv("restore", "state", str(file), "--state", state, "--yes"), "exists and is not overwritten")
    everything_dies(home)
    lose_state(home)
    said = home.dkv("restore", "state", str(file), "--state", state)
    assert said.code == 1 and "who is in sync now" in said.out
    home.do("restore", "state", str(file), "--state", state, "--yes")

    home.start()
    home.do("Start-DkvStore", "Parts")
    wait_for("all keys", lambda: all_read(home))
    after = home.client.store("Parts")
    assert after["createdAt"] == before["createdAt"]
    assert min(p["startId"] for p in home.client.processes()) > max(i["process"]["startId"] for i in newer["instances"])
    assert all(a["term"] > n["term"] for a, n in zip(after["groups"], newer["groups"], strict=True))


def test_a_lost_state_is_rebuilt_from_the_archives(home: House) -> None:
    wait_in_sync(home)
    uid, before = home.client.domain()["uid"], home.client.store("Parts")
    state = home.managers[0].state
    words = ["rebuild", "state", "--state", state]
    words += [word for manager in home.managers for word in ("--data-dir", str(manager.data_dir))]
    for manager in home.managers:
        manager.kill()
    lose_state(home)
    said = home.dkv(*words, "--yes")
    refused(said, "still runs as pid", "kill")
    engines = [run for manager in home.managers for run in (manager.data_dir / "run").glob("*/born")]
    assert said.err.count("still runs as pid") == len(engines) > 1, "each of them is named at once"
    everything_dies(home)

    said = home.dkv(*words)
    assert said.code == 1 and "Nothing was written" in said.err
    assert "g2-s2 on s2: marker" in said.out and "who was in sync" in said.out
    assert "which orders-2 knew: it is not under these directories" in said.out
    assert not (home.root / "domain.sqlite").exists()
    home.do(*words, "--yes")

    home.start()
    home.do("Start-DkvStore", "Parts")
    wait_for("all keys", lambda: all_read(home))
    wait_in_sync(home)
    after = home.client.store("Parts")
    assert home.client.domain()["uid"] == uid
    assert [i["instanceName"] for i in after["instances"]] == [i["instanceName"] for i in before["instances"]]
    assert [g["slots"] for g in after["groups"]] == [g["slots"] for g in before["groups"]]
    for old, new in zip(before["groups"], after["groups"], strict=True):
        assert new["term"] > old["term"] and new["leaderStartId"] > old["leaderStartId"]
