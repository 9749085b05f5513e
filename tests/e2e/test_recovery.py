"""Bad days on real engines: an operator makes a copy lead; the state is backed up, restored, and rebuilt when lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, house, refused, wait_for


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path / "house", 2) as found:
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
