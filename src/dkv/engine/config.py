"""The texts an engine starts from: valkey.conf and nodes.conf, made from an EngineSpec (users.acl: users.py). Pure.

Every line is either in the recommended configuration (docs/reference/valkey.md#configuration) or
answers a trap (docs/reference/positions.md#traps).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from dkv.constants import NUMBERED_DATABASES
from dkv.engine.contract import EngineSpec, GroupSlots, PeerNode, RunOptions

MANAGER = "dkv-manager"
REPLICA = "dkv-replica"
SOCKET_NAME = "admin.sock"  # relative to the engine's directory: a unix socket path holds 107 bytes only
FENCE = "min-replicas-to-write"
NODE_TIMEOUT = 60_000  # ms
NODE_TIMEOUT_OF_WAITING = 2_000_000_000  # ms, beside phantoms: nodes in handshake are forgotten after that, 23 days
TLS_FOLDER = "tls"  # below the engine's directory; in it a directory for each generation of certificate files
LEAF_FILE, KEY_FILE, AUTHORITIES_FILE = "engine.pem", "engine.key", "authorities.pem"
SLOTS_NOTE = "# hash slots of its storage group:"  # begins a line of valkey.conf
PHANTOM_EPOCH = 0  # a higher one than the living leader's makes it delete all its keys (docs/reference/positions.md#trap-1)
EARLY_ROUNDS = 50  # hz: rounds of housekeeping a second an engine starts with (early_rounds.py)
BUSY_REPLY_AFTER = 10_000  # ms a script may run before others are answered BUSY, and its engine minds the cluster meanwhile
FAILOVER_WITHIN = 5_000  # ms in which a coordinated failover has to succeed
FENCED = 99  # min-replicas-to-write no group ever reaches: every write is refused at once
HOLD = 10 * 365 * 86_400_000  # ms, ten years: a pause of writes that nothing but an order of a manager ends

KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
CLIENTS_MOST = 10_000  # connections of clients, followers and other nodes together
CLIENT_NEEDS = 10 * KILOBYTE  # measured on 9.1.2: 9 KB while it is new, 6 KB once it was answered
CLIENTS_MEMORY_MOST = 1024 * MEGABYTE
COMMAND_MOST = 512 * MEGABYTE  # one argument: Valkey's own limit, which clients know; one of 500 MB makes others wait for 2 s
BACKLOG_MOST = 64 * MEGABYTE
LAG_LEAST = 256 * MEGABYTE  # what a follower may lag however small its leader's memory is


def client_limits(max_memory: int) -> dict[str, str]:
    """What clients may take of an engine that has so many bytes, so that none of them stops the others.

    A quarter of the memory, at most 1 GB, is for buffers of clients; who takes most is dropped when it is used up. As many
    connections are let in as need half of that quarter when they do nothing, or a mere leak would have useful ones dropped.
    One argument may take half of that quarter, at most the 512 MB that Valkey takes anyway. A follower may lag by half of the
    memory, and by no less than 256 MB and twice the largest argument: with the usual limits (64 MB for a minute) one that loads
    for longer than that would be cut off, and begin anew, for ever. 0 bytes mean no limit.
    """
    room = min(max_memory // 4, CLIENTS_MEMORY_MOST) if max_memory else CLIENTS_MEMORY_MOST
    command = max(min(room // 2, COMMAND_MOST), MEGABYTE)
    lag = max(max_memory // 2, 2 * command, LAG_LEAST)
    return {
        "maxclients": str(min(max(room // 2 // CLIENT_NEEDS, 128), CLIENTS_MOST)),
        "maxmemory-clients": str(room),
        "client-output-buffer-limit": (
            f"normal {room // 2} 0 0 replica {lag} 0 0 pubsub {min(room // 4, 32 * MEGABYTE)} {min(room // 16, 8 * MEGABYTE)} 60"
        ),
        "client-query-buffer-limit": str(max(2 * command, MEGABYTE)),
        "proto-max-bulk-len": str(command),
    }


def backlog_bytes(max_memory: int) -> int:
    """How much of its stream an engine with so many bytes keeps for followers that come back. Valkey counts it as data: measured
    on 9.1.2, an empty engine of 64 MB that kept 64 MB refused each write after 62 MB of stream. 0 bytes mean no limit."""
    return min(max(max_memory // 8, MEGABYTE), BACKLOG_MOST) if max_memory else BACKLOG_MOST


def option_settings(options: RunOptions) -> dict[str, str]:
    """The settings of an engine, with or without an archive, that has these options; what clients may take follows from them."""
    clients = {"maxclients": str(options.max_clients)} if options.max_clients else {}
    return {
        "maxmemory": str(options.max_memory),
        "maxmemory-policy": options.maxmemory_policy,
        "notify-keyspace-events": options.notify_keyspace_events,
        "repl-backlog-size": str(backlog_bytes(options.max_memory)),
        **client_limits(options.max_memory),
        **clients,
    }


def option_lines(options: RunOptions) -> list[str]:
    """Those settings as lines of valkey.conf."""
    return [f"{name} {value or quoted('')}" for name, value in option_settings(options).items()]


def with_lines(conf: str, lines: Sequence[str]) -> str:
    """A valkey.conf in which these lines stand instead of those that begin with the same word."""
    names = {line.partition(" ")[0] for line in lines}
    kept = [line for line in conf.splitlines() if line.partition(" ")[0] not in names]
    return "\n".join([*kept, *lines, ""])


def quoted(text: str) -> str:
    """One argument of a Valkey config file, whatever characters it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def replica_password(secret: str) -> str:
    """Password of the replication user; derived, so that the managers' own cannot be found from it."""
    return hashlib.sha256(f"{REPLICA}:{secret}".encode()).hexdigest()


def valkey_conf(spec: EngineSpec) -> str:
    """The engine's valkey.conf: fenced, not electing, not rewriting by itself, administered over a unix socket."""
    own = next(group for group in spec.groups if group.group == spec.group)
    note = f"{SLOTS_NOTE}{slot_text(own.slots)}"  # for the rebuild of a state: a waiting engine's nodes.conf has no slots
    network = [*_network(spec), *_transport(spec)]
    return "\n".join([note, *network, *_cluster(spec), *_replication(spec), *_durability(spec), *_rest(spec), ""])


def _network(spec: EngineSpec) -> list[str]:
    return [
        f"bind {spec.address}",
        "port 0",  # opened once there is something true to say to clients (decision 0022)
        f"cluster-announce-{port_setting(spec.tls)} {spec.client_port}",
        f"replica-announce-port {spec.client_port}",
        "protected-mode no",
        "daemonize no",
        f"dir {quoted(spec.directory)}",
        f"unixsocket {SOCKET_NAME}",
        "unixsocketperm 700",
        "aclfile users.acl",
        "cluster-enabled yes",
        f"cluster-port {spec.cluster_port}",
        f"cluster-announce-ip {spec.address}",
        f"replica-announce-ip {spec.address}",  # ROLE must show the address the domain knows, not the route taken
        "cluster-config-file nodes.conf",
        *_announced(spec),
    ]


def _announced(spec: EngineSpec) -> list[str]:
    """What clients are told in CLUSTER SLOTS, SHARDS and NODES and by redirections instead of the real address. The engine's own
    manager, on its unix socket, is shown the IPv4 address too; it goes by node ids."""
    announced = spec.announced
    addresses = {"ipv4": announced.ipv4, "ipv6": announced.ipv6}
    lines = [f"cluster-announce-client-{kind} {address}" for kind, address in addresses.items() if address]
    port = announced_port(spec)
    return lines if port == spec.client_port else [*lines, f"cluster-announce-client-{port_setting(spec.tls)} {port}"]


def announced_port(spec: EngineSpec) -> int:
    """The port that clients are told."""
    return spec.client_port + spec.announced.port_offset


def _transport(spec: EngineSpec) -> list[str]:
    """TLS for clients, replication and the cluster bus. Clients show a password and no certificate; the bus asks for one all the
    same, and believes every leaf of these authorities (decision 0060)."""
    if spec.certificate is None:
        return []
    paths = certificate_settings(spec.certificate.name)
    return [
        "tls-port 0",
        "tls-cluster yes",
        "tls-replication yes",
        "tls-auth-clients no",
        'tls-protocols "TLSv1.2 TLSv1.3"',
        *(f"{name} {path}" for name, path in paths.items()),
    ]


def port_setting(tls: bool) -> str:
    """The setting that has the port of an engine's clients."""
    return "tls-port" if tls else "port"


def certificate_settings(name: str) -> dict[str, str]:
    """The settings by which an engine loads one generation of certificate files."""
    place = f"{TLS_FOLDER}/{name}"
    return {
        "tls-cert-file": f"{place}/{LEAF_FILE}",
        "tls-key-file": f"{place}/{KEY_FILE}",
        "tls-ca-cert-file": f"{place}/{AUTHORITIES_FILE}",
    }


def _cluster(spec: EngineSpec) -> list[str]:
    return [
        "cluster-replica-no-failover yes",
        "cluster-allow-replica-migration no",
        "cluster-require-full-coverage no",
        "cluster-allow-reads-when-down yes",
        f"cluster-node-timeout {NODE_TIMEOUT_OF_WAITING if phantoms_needed(spec) else NODE_TIMEOUT}",
        f"cluster-manual-failover-timeout {FAILOVER_WITHIN}",
        f"cluster-databases {NUMBERED_DATABASES}",
        "enable-debug-command local",  # for one order of its managers: to drop the packets by which strangers join
    ]


def _replication(spec: EngineSpec) -> list[str]:
    """An archive's engine starts with a password that is wrong on purpose, so that what nodes.conf and gossip say is
    refused at once, quietly, until it is ordered to replicate. A memory-only engine has nothing to lose and attaches.
    """
    password = replica_password(spec.secrets.used) if spec.memory_only else "not-before-replicate"
    return [
        f"{FENCE} {FENCED}",
        "repl-diskless-sync yes",
        "repl-diskless-sync-delay 0",
        "repl-ping-replica-period 1",
        f"masteruser {REPLICA}",
        f"masterauth {password}",
        "repl-backlog-ttl 0",
        "propagation-error-behavior panic-on-replicas",  # what fails here and not on the leader: a hidden difference
        "shutdown-timeout 3",
    ]


def _durability(spec: EngineSpec) -> list[str]:
    if spec.memory_only:
        return ['save ""', "appendonly no", "repl-diskless-load swapdb"]
    return [
        'save ""',
        "appendonly yes",
        f"appendfsync {spec.options.append_fsync}",
        "no-appendfsync-on-rewrite no",
        "auto-aof-rewrite-percentage 0",
        "aof-timestamp-enabled no",
        "aof-load-truncated yes",
        f"hz {EARLY_ROUNDS}",  # while copies attach: an ended snapshot's child holds up the next copy until a round finds it
        "repl-diskless-load disabled",  # any other value acknowledges before the disk has it (docs/reference/positions.md#trap-2)
    ]


def _rest(spec: EngineSpec) -> list[str]:
    return [
        *option_lines(spec.options),
        *([f"hash-seed {spec.secrets.hash_seed}"] if spec.secrets.hash_seed else []),
        "io-threads 1",
        "always-show-logo no",
        'logfile ""',
        "loglevel notice",
        f"busy-reply-threshold {BUSY_REPLY_AFTER}",  # a 5 s script makes others wait; by default it would have them refused
    ]


def nodes_conf(spec: EngineSpec, phantoms: dict[str, str]) -> str:
    """The engine's nodes.conf: itself a replica, every peer, and a phantom owner for each group without an engine to name.

    `phantoms` maps group -> made-up node id (see `phantoms_needed`). A phantom's config epoch is always 0: a
    higher one makes the living leader delete its keys (docs/reference/positions.md#trap-1). It is in handshake for ever, because
    nodes in handshake are never gossiped about (Valkey 9.1.2; one that has no address would be, and is failed at once).

    Of another group that has no leader the last leader is named, as living engines go on naming it. An archive that led
    last itself starts as a replica of no node: to others it is then a primary that claims none of its slots, which leaves
    them where they were. As a replica of a node they do not know it would lose them, and clients be shown no slots.
    """
    leaders = {peer.group: peer for peer in spec.peers if _is_named(spec, peer)}
    shards = {group.group: group for group in spec.groups}
    lines = [_phantom(index, shards[name], node) for index, (name, node) in enumerate(sorted(phantoms.items()), 1)]
    lines += [_peer(peer, leaders, shards, phantoms) for peer in spec.peers]
    owner, epoch = ("-", 0) if _waits_for_itself(spec) else _owner(spec.group, leaders, phantoms)
    where = f"{spec.address}:{spec.client_port}@{spec.cluster_port}"
    lines.append(f"{spec.node_id} {where},,shard-id={shards[spec.group].shard_id} myself,slave {owner} 0 0 {epoch} connected")
    lines.append(f"vars currentEpoch {spec.current_epoch} lastVoteEpoch 0")
    return "\n".join(lines) + "\n"


def phantoms_needed(spec: EngineSpec) -> list[str]:
    """Names of the groups for whose slots no engine can be named, sorted."""
    led = {peer.group for peer in spec.peers if _is_named(spec, peer)}
    return sorted(group.group for group in spec.groups if group.group not in led)


def _is_named(spec: EngineSpec, peer: PeerNode) -> bool:
    """Whether that engine is written down as owner of its group's slots: a living leader, or another group's last one."""
    return peer.leads or (peer.led and peer.group != spec.group)


def _waits_for_itself(spec: EngineSpec) -> bool:
    return spec.led and spec.group in phantoms_needed(spec)


def slot_text(slots: Sequence[tuple[int, int]]) -> str:
    """Slot ranges as nodes.conf writes them, e.g. ` 0-5460 7000`."""
    return "".join(f" {first}" if first == last else f" {first}-{last}" for first, last in slots)


def _phantom(index: int, group: GroupSlots, node_id: str) -> str:
    where = f"127.0.0.1:{index}@{100 + index}"
    slots = slot_text(group.slots)
    return f"{node_id} {where},,shard-id={group.shard_id} master,handshake - 0 0 {PHANTOM_EPOCH} disconnected{slots}"


def _peer(peer: PeerNode, leaders: dict[str, PeerNode], shards: dict[str, GroupSlots], phantoms: dict[str, str]) -> str:
    where = f"{peer.node_id} {peer.address}:{peer.client_port}@{peer.cluster_port},,shard-id={peer.shard_id}"
    if leaders.get(peer.group) is peer:
        return f"{where} master - 0 0 {peer.epoch if peer.leads else 0} connected{slot_text(shards[peer.group].slots)}"
    owner, epoch = _owner(peer.group, leaders, phantoms)
    return f"{where} slave {owner} 0 0 {epoch} connected"


def _owner(group: str, leaders: dict[str, PeerNode], phantoms: dict[str, str]) -> tuple[str, int]:
    leader = leaders.get(group)
    return (leader.node_id, leader.epoch) if leader else (phantoms[group], PHANTOM_EPOCH)
