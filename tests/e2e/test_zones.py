"""Servers in zones: both vocabularies place copies by the label, and views show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.local_domain import LocalDomain, wait_for

ZONES = {"s1": "a", "s2": "a", "s3": "b", "s4": "b"}


def places(domain: LocalDomain) -> list[tuple[str, str, str]]:
    return [(i["group"], i["server"], i["zone"]) for i in domain.client.store("Orders")["instances"]]


@pytest.mark.long
def test_copies_are_over_zones_whatever_words_ask_for_them(tmp_path: Path) -> None:
    domain = LocalDomain(tmp_path, 4)
    for manager in domain.managers:
        manager.env = manager.env | {"DKV_LABELS": f"zone={ZONES[manager.server_id]}"}
    try:
        domain.start()
        servers = {server["serverId"]: server["labels"] for server in domain.client.domain()["servers"]}
        assert servers == {server: {"zone": zone} for server, zone in ZONES.items()}
        shown = domain.do("show", "domain", "--output-format", "json").out
        assert '"zone": "b"' in shown or '"zone":"b"' in shown
        domain.create("Orders", "-ReplicationFactor", "2")
        wait_for("both lead", lambda: all(group["serving"] for group in domain.client.store("Orders")["groups"]))
        assert places(domain) == [("g1", "s1", "a"), ("g2", "s2", "a"), ("g1", "s3", "b"), ("g2", "s4", "b")]
        leaders = {group["leader"] for group in domain.client.store("Orders")["groups"]}
        assert leaders == {"orders-1", "orders-4"}, "one in each zone"
        domain.do("Add-DkvInstance", "Orders", "orders-5", "-ClustronPort", "7815", "-ClientPort", "7865")
        assert places(domain)[4] == ("g1", "s2", "a")
        domain.do("create", "archive", "--db-name", "Orders", "--server-id", "s3", "--archive-path", str(tmp_path / "more"))
        assert places(domain)[5] == ("g2", "s3", "b")
        view = domain.do("Get-DkvStore", "Orders").out
        assert "Zone" in view and "all its copies" not in view
    finally:
        domain.close()
