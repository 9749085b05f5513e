"""The three files an engine starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.engine.config import nodes_conf, phantoms_needed, quoted, valkey_conf
from dkv.engine.config_files import write_files
from dkv.engine.contract import (
    Announced,
    ArchiveRefused,
    EngineSpec,
    GroupSlots,
    Identity,
    PeerNode,
    RunOptions,
    Secrets,
    TlsFiles,
)
from dkv.engine.users import users_acl

GROUPS = (GroupSlots("g0", "a" * 40, ((0, 8191),)), GroupSlots("g1", "b" * 40, ((8192, 16382), (16383, 16383))))
SPEC = EngineSpec(
    start_id=7,
    directory='/data/an "odd" dir',
    identity=Identity("d", "orders", 1, "u", "g0"),
    node_id="1" * 40,
    group="g0",
    address="127.0.0.11",
    client_port=7861,
    cluster_port=7811,
    secrets=Secrets("s3cret"),
    peers=(
        PeerNode("2" * 40, "127.0.0.12", 7862, 7812, "a" * 40, "g0", False),
        PeerNode("3" * 40, "127.0.0.13", 7863, 7813, "b" * 40, "g1", False, 40),
    ),
    groups=GROUPS,
    current_epoch=300,
    options=RunOptions(1 << 30),
)
PHANTOMS = {"g0": "e" * 40, "g1": "f" * 40}


def with_leader(group: str) -> EngineSpec:
    return replace(SPEC, peers=tuple(replace(peer, leads=peer.group == group, epoch=42) for peer in SPEC.peers))


def test_nobody_is_a_leader_when_none_is_known() -> None:
    lines = nodes_conf(SPEC, PHANTOMS).splitlines()
    assert lines == [
        f"{'e' * 40} 127.0.0.1:1@101,,shard-id={'a' * 40} master,handshake - 0 0 0 disconnected 0-8191",
        f"{'f' * 40} 127.0.0.1:2@102,,shard-id={'b' * 40} master,handshake - 0 0 0 disconnected 8192-16382 16383",
        f"{'2' * 40} 127.0.0.12:7862@7812,,shard-id={'a' * 40} slave {'e' * 40} 0 0 0 connected",
        f"{'3' * 40} 127.0.0.13:7863@7813,,shard-id={'b' * 40} slave {'f' * 40} 0 0 0 connected",
        f"{'1' * 40} 127.0.0.11:7861@7811,,shard-id={'a' * 40} myself,slave {'e' * 40} 0 0 0 connected",
        "vars currentEpoch 300 lastVoteEpoch 0",
    ]


def test_a_living_leader_stands_in_for_the_phantom_of_its_group() -> None:
    spec = with_leader("g0")
    assert phantoms_needed(spec) == ["g1"]
    text = nodes_conf(spec, {"g1": "f" * 40})
    assert f"{'2' * 40} 127.0.0.12:7862@7812,,shard-id={'a' * 40} master - 0 0 42 connected 0-8191" in text
    assert f"myself,slave {'2' * 40} 0 0 42 connected" in text
    assert "e" * 40 not in text


def test_an_archive_that_led_last_is_a_replica_of_nobody_until_it_is_told() -> None:
    """Whoever holds it for the owner of its slots goes on doing so: it claims nothing and follows nobody they do not know."""
    text = nodes_conf(replace(SPEC, led=True), PHANTOMS)
    assert f"{'1' * 40} 127.0.0.11:7861@7811,,shard-id={'a' * 40} myself,slave - 0 0 0 connected" in text
    assert f"myself,slave {'2' * 40} 0 0 42 connected" in nodes_conf(replace(with_leader("g0"), led=True), {"g1": "f" * 40})


def test_of_another_group_that_nobody_leads_the_last_leader_is_named() -> None:
    last = replace(SPEC, peers=tuple(replace(peer, led=True) for peer in SPEC.peers))
    assert phantoms_needed(last) == ["g0"]
    text = nodes_conf(last, {"g0": "e" * 40})
    assert f"{'2' * 40} 127.0.0.12:7862@7812,,shard-id={'a' * 40} slave {'e' * 40} 0 0 0 connected" in text
    assert f"{'3' * 40} 127.0.0.13:7863@7813,,shard-id={'b' * 40} master - 0 0 0 connected 8192-16382 16383" in text


def test_a_phantom_is_kept_for_as_long_as_it_is_needed() -> None:
    assert "cluster-node-timeout 2000000000" in valkey_conf(SPEC)
    led = replace(SPEC, peers=tuple(replace(peer, leads=True) for peer in SPEC.peers))
    assert "cluster-node-timeout 60000" in valkey_conf(led)


@pytest.mark.parametrize("spec", [SPEC, with_leader("g0"), with_leader("g1"), replace(SPEC, led=True)])
def test_a_phantom_never_has_an_epoch_and_oneself_never_leads(spec: EngineSpec) -> None:
    for line in nodes_conf(spec, PHANTOMS).splitlines():
        words = line.split()
        if words[0] in PHANTOMS.values():
            assert words[6] == "0"
        if "myself" in line:
            assert words[2] == "myself,slave"


def test_the_configuration_starts_closed() -> None:
    lines = valkey_conf(SPEC).splitlines()
    for line in (
        "port 0",
        "cluster-announce-port 7861",
        "replica-announce-port 7861",
        "min-replicas-to-write 99",
        "cluster-replica-no-failover yes",
        "appendfsync always",
        "repl-diskless-load disabled",
        "auto-aof-rewrite-percentage 0",
        "maxmemory 1073741824",
        "maxmemory-policy noeviction",
        "unixsocket admin.sock",
        'dir "/data/an \\"odd\\" dir"',
    ):
        assert line in lines
    assert "s3cret" not in valkey_conf(SPEC)


def test_clients_are_told_other_addresses_than_nodes() -> None:
    told = [line for line in valkey_conf(SPEC).splitlines() if "announce-client" in line]
    assert told == []
    spec = replace(SPEC, announced=Announced("203.0.113.7", "2001:db8::7", 10_000))
    lines = valkey_conf(spec).splitlines()
    assert [line for line in lines if "announce-client" in line] == [
        "cluster-announce-client-ipv4 203.0.113.7",
        "cluster-announce-client-ipv6 2001:db8::7",
        "cluster-announce-client-port 17861",
    ]
    assert "cluster-announce-ip 127.0.0.11" in lines and "cluster-announce-port 7861" in lines
    certificate = TlsFiles("t", "1", "", "", "")
    assert "cluster-announce-client-tls-port 17861" in valkey_conf(replace(spec, tls=True, certificate=certificate)).splitlines()


def test_an_announced_port_that_is_none_keeps_an_engine_from_starting() -> None:
    with pytest.raises(ArchiveRefused, match="clients would be told port 67861: 7861 and an offset of 60000"):
        write_files(replace(SPEC, announced=Announced(port_offset=60_000)))


def test_engines_hash_with_the_seed_that_they_are_given() -> None:
    assert "hash-seed" not in valkey_conf(SPEC)
    seeded = replace(SPEC, secrets=Secrets("s3cret", hash_seed="ab" * 32))
    for spec in (seeded, replace(seeded, memory_only=True)):
        assert f"hash-seed {'ab' * 32}" in valkey_conf(spec).splitlines()


def test_a_memory_only_engine_keeps_nothing() -> None:
    lines = valkey_conf(replace(SPEC, memory_only=True)).splitlines()
    assert "appendonly no" in lines
    assert "repl-diskless-load swapdb" in lines
    assert not any("appendfsync" in line for line in lines)


def test_users() -> None:
    manager, replica, client = users_acl(SPEC).splitlines()
    assert manager.startswith("user dkv-manager on #")
    assert replica.startswith("user dkv-replica off #")
    assert client.startswith("user default on nopass")
    assert "s3cret" not in users_acl(SPEC)


def test_quoting() -> None:
    assert quoted('a\\b"c') == '"a\\\\b\\"c"'


def test_options_that_engines_get_as_they_are_stand_in_their_file() -> None:
    lines = valkey_conf(SPEC).splitlines()
    assert {"maxmemory-policy noeviction", 'notify-keyspace-events ""', "maxclients 10000"} <= {*lines}
    lines = valkey_conf(replace(SPEC, options=RunOptions(1 << 30, "always", "allkeys-lru", "AKE", 200))).splitlines()
    assert {"maxmemory-policy allkeys-lru", "notify-keyspace-events AKE", "maxclients 200"} <= {*lines}
