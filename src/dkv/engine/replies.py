"""What an engine answers (INFO, CLUSTER NODES, CONFIG GET), read as the contract's values. Pure: bytes in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from dkv.engine.config import FAILOVER_WITHIN, FENCE, FENCED, HOLD, LEAF_FILE, TLS_FOLDER, client_limits
from dkv.engine.contract import (
    ClusterSeen,
    Counters,
    EngineOptions,
    EngineUsers,
    NodeSeen,
    ReplicaSeen,
    ReplicationSeen,
    TlsSeen,
    WritesSeen,
)

OPTIONS = ("maxmemory", "appendfsync", "maxmemory-policy", "notify-keyspace-events", "maxclients")
"""The settings that options_seen reads."""
LINK_DOWN = 10**9  # milliseconds of silence shown for a link that is down

GETS = frozenset(
    "get mget getrange strlen exists hget hmget hgetall hexists hlen hkeys hvals lrange llen lindex smembers "
    "sismember smismember scard zrange zscore zcard zrank zcount xrange xread xlen ttl pttl type getbit "
    "bitcount geosearch pfcount".split()
)
PUTS = frozenset(
    "set mset setex psetex setnx msetnx getset getex append incr incrby incrbyfloat decr decrby setrange setbit hset "
    "hmset hsetnx hincrby hincrbyfloat lpush rpush lset linsert sadd zadd zincrby xadd expire pexpire expireat "
    "pexpireat persist pfadd geoadd rename copy".split()
)
REMOVES = frozenset("del unlink getdel hdel lpop rpop lrem ltrim srem spop zrem zpopmin zpopmax xdel flushall flushdb".split())


@dataclass(frozen=True)
class Answers:
    """What one engine said at one glance."""

    info: dict[str, str]
    cluster: dict[str, str]
    nodes: tuple[NodeSeen, ...]
    me: str  # own node id
    follows: str | None
    fenced: bool
    admits: bool
    settings: dict[str, str]
    leads: bool = False
    raw: bytes = b""  # what INFO was read from
    memory: dict[str, str] = field(default_factory=dict)  # INFO memory, what refuses_writes and nearly_full go by
    tls: tuple[str, int] = ("none", 0)  # serial number of the leaf that it shows, and whole days until its end
    partly: bool = False  # INFO only: it loads, and what else is shown is how an engine starts
    users: EngineUsers | None = None
    secrets: str = ""


_INFO_LINE = re.compile(r"^([^#:\r\n][^:\r\n]*):([^\r\n]*)", re.M)
_PLACE = ("role", "master_host", "master_port", "master_replid", "loading", "cluster_connections")


def parse_info(text: bytes) -> dict[str, str]:
    """INFO or CLUSTER INFO as a dictionary."""
    return dict(_INFO_LINE.findall(text.decode("utf-8", "replace")))


class StatisticsReader:
    """INFO of one engine, several hundred lines that end as Valkey ends them, read again and again. Of most lines nothing changed
    since the last time: those are not taken apart again, which takes a quarter of the time.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._fields: dict[str, str] = {}

    def read(self, text: bytes) -> dict[str, str]:
        """INFO as a dictionary, of which the caller may do what it likes."""
        lines = text.decode("utf-8", "replace").split("\r\n")
        before, self._lines = self._lines, lines
        changed = [(old, new) for old, new in zip(before, lines, strict=False) if old != new]
        if len(before) != len(lines) or any(old.partition(":")[0] != new.partition(":")[0] for old, new in changed):
            changed, self._fields = [("", line) for line in lines], {}
        self._fields |= dict([line.split(":", 1) for _, line in changed if ":" in line and line[0] != "#"])
        return dict(self._fields)


def later(before: Answers, raw: bytes) -> Answers | None:
    """The engine a moment later, going by INFO alone; the same object when nothing changed.

    None when INFO shows it in another place among its nodes: then everything else may have changed as well. A node that
    joins, wanted or not, shows in the number of its connections of the cluster bus.
    """
    if raw == before.raw:
        return before
    info = parse_info(raw)
    if any(info.get(key) != before.info.get(key) for key in _PLACE):
        return None
    return replace(before, info=info, raw=raw)


_MEMORY = re.compile(
    rb"^(used_memory|mem_not_counted_for_evict|maxmemory|maxmemory_policy|errorstat_OOM|errorstat_WRONGPASS):(?:count=)?([^\r\n]*)",
    re.M,
)
FULL = 0.9  # of maxmemory: from there on an engine is asked for its memory at every look


def parse_memory(text: bytes) -> dict[str, str]:
    """The few lines of INFO memory and errorstats that say whether writes fit; errorstat_OOM counts those that did not, and
    errorstat_WRONGPASS the log-ins that were refused."""
    return {name.decode(): value.decode() for name, value in _MEMORY.findall(text)}


def parse_tls(text: bytes) -> tuple[str, int]:
    """INFO tls: the serial number of the leaf that it shows, "none" without one, and whole days until its end."""
    info = parse_info(text)
    return info.get("tls_server_cert_serial", "none"), int(info.get("tls_server_cert_expires_in_seconds", "0")) // 86_400


def tls_seen(answers: Answers) -> TlsSeen | None:
    """The leaf that it shows, and whether that is of files it was given; None of an engine without TLS."""
    if answers.settings.get("tls-cluster") != "yes":
        return None
    serial, days_left = answers.tls
    match = re.fullmatch(rf"{TLS_FOLDER}/([^/]+)-([0-9A-F]+)/{LEAF_FILE}", answers.settings.get("tls-cert-file", ""))
    trust, given = match.groups() if match else ("", "")
    return TlsSeen(trust, serial, given == serial, max(0, days_left))


def takes_clients(answers: Answers) -> bool:
    """Whether its client port is open, of either transport."""
    return any(answers.settings.get(name, "0") != "0" for name in ("port", "tls-port"))


def memory_in_use(memory: Mapping[str, str]) -> float:
    """How much of maxmemory is taken, as Valkey counts it before a write: 1.0 is all; 0 without a limit."""
    limit = int(memory.get("maxmemory", "0"))
    used = int(memory.get("used_memory", "0")) - int(memory.get("mem_not_counted_for_evict", "0"))
    return used / limit if limit else 0.0


def nearly_full(answers: Answers) -> bool:
    """Whether its memory is to be watched more closely than the rest."""
    return memory_in_use(answers.memory) > FULL


def refuses_writes(answers: Answers, lately_full: bool = False) -> str:
    """The error that an engine of this look answers to any client's write, in the order in which Valkey checks
    (processCommand), the refusal of new clients last; "" when it takes it, or lets it wait (a pause shows elsewhere, but a hold
    is a fence by another means).

    `lately_full`: a client was answered OOM. The memory of the refused command itself counts, so that the largest values are
    refused long before the smallest, and nothing but the count shows it.

    It is derived, not tried: a write that is tried is held back by a pause, and everything behind it on its connection too.
    """
    info, memory = answers.info, answers.memory
    if answers.cluster.get("cluster_state", "ok") != "ok":
        return "CLUSTERDOWN"
    if lately_full or (memory_in_use(memory) > 1 and memory.get("maxmemory_policy") == "noeviction"):
        return "OOM"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "MISCONF"
    wanted = int(answers.settings.get(FENCE, "0"))
    if is_held(info) or (wanted and int(info.get("min_slaves_good_slaves", "0")) < wanted):
        return "NOREPLICAS"
    if answers.follows is not None:
        return "READONLY"
    taken, most = connections(info)
    return "MAXCLIENTS" if taken >= most > 0 else ""


def replication_seen(answers: Answers) -> ReplicationSeen:
    """INFO replication. Whether a role was lost inside a script it does not say."""
    info = answers.info
    return ReplicationSeen(
        offset=int(info.get("master_repl_offset", "0")),
        history=info.get("master_replid", ""),
        link_up=info.get("master_link_status") == "up",
        resyncing=info.get("master_sync_in_progress", "0") != "0",
        link_silent_ms=0 if answers.leads else link_silence(info),
        replicas=parse_replicas(info),
    )


def cluster_seen(answers: Answers, phantoms: Sequence[str], lets_in: bool, takes_packets: bool | None) -> ClusterSeen:
    """CLUSTER INFO and CLUSTER NODES. `lets_in` is what the manager last ordered: no engine says it."""
    cluster = answers.cluster
    return ClusterSeen(
        state_ok=cluster.get("cluster_state") == "ok",
        phantom=not answers.leads and answers.follows in (None, *phantoms),
        epoch=int(cluster.get("cluster_my_epoch", "0")),
        current_epoch=int(cluster.get("cluster_current_epoch", "0")),
        nodes=answers.nodes,
        slots=next((node.slots for node in answers.nodes if node.node_id == answers.me), None) if answers.leads else None,
        lets_in=lets_in,
        takes_packets=takes_packets,
    )


def writes_seen(answers: Answers, lately_full: bool) -> WritesSeen:
    """What a client's write meets; see `refuses_writes`."""
    info = answers.info
    return WritesSeen(
        refuses=refuses_writes(answers, lately_full),
        fenced=answers.fenced or is_held(info),
        held=is_held(info),
        paused=is_paused(info),
        yields=yields(info),
    )


def options_seen(answers: Answers, durable: bool) -> EngineOptions:
    """CONFIG GET and ACL LIST. An engine that is not durable has no file to fsync."""
    settings = answers.settings
    max_memory = int(settings["maxmemory"])
    return EngineOptions(
        max_memory,
        settings["appendfsync"] if durable else "",
        answers.users,
        tls_seen(answers),
        answers.secrets,
        settings["maxmemory-policy"],
        settings["notify-keyspace-events"],
        int(settings["maxclients"]),
        int(client_limits(max_memory)["maxclients"]),
    )


def is_rewriting(info: Mapping[str, str]) -> bool:
    """INFO persistence: whether its append-only file is being rewritten, or is about to be."""
    return info.get("aof_rewrite_in_progress", "0") != "0" or info.get("aof_rewrite_scheduled", "0") != "0"


def connections(info: Mapping[str, str]) -> tuple[int, int]:
    """How many connections an engine has, those of followers and other nodes too, and how many it may have; 0 unknown."""
    taken = sum(int(info.get(name, "0")) for name in ("connected_clients", "connected_slaves", "cluster_connections"))
    return taken, int(info.get("maxclients", "0"))


def parse_nodes(text: bytes) -> tuple[tuple[NodeSeen, ...], str, str | None]:
    """CLUSTER NODES: every line, own id, and the id this engine follows."""
    seen, me, follows = [], "", None
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split(" ", 8)
        if len(words) < 8:
            continue
        node = _node(words[0], words[1], words[2], words[3], (words[6], words[8] if len(words) > 8 else ""))
        seen.append(node)
        if "myself" in words[2]:
            me, follows = node.node_id, node.follows
    return tuple(seen), me, follows


def leads(nodes: Sequence[NodeSeen], me: str) -> bool:
    """Whether an engine is a primary; a replica may follow no node."""
    return any(node.node_id == me and node.role == "leader" for node in nodes)


def owner_of(text: bytes, slot: int) -> str | None:
    """CLUSTER NODES: the id of the node that owns a slot."""
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if any(_holds(ranges, slot) for ranges in words[8:]):
            return words[0]
    return None


def _holds(ranges: str, slot: int) -> bool:
    first, _, last = ranges.partition("-")
    return first.isdecimal() and int(first) <= slot <= int(last or first)


def is_paused(info: dict[str, str]) -> bool:
    """INFO clients: whether CLIENT PAUSE stands that ends by itself."""
    return info.get("paused_reason", "none") == "client_pause" and not is_held(info)


def is_held(info: Mapping[str, str]) -> bool:
    """INFO clients: whether clients' writes wait until a manager lets them go on or refuses them (`take_over`)."""
    waits = info.get("paused_reason", "none") == "client_pause"
    return waits and int(info.get("paused_timeout_milliseconds", "0")) > HOLD // 2


def yields(info: dict[str, str]) -> bool:
    """INFO clients: whether writes wait for a successor, and will for 2 s more. Valkey 9.1 pauses them for ten seconds when it is
    asked to hand over, and lets them go on after five if nothing came of it.
    """
    waits = info.get("paused_reason") == "failover_in_progress"
    return waits and int(info.get("paused_timeout_milliseconds", "0")) >= FAILOVER_WITHIN + 2_000


@lru_cache(4096)  # between two glances nothing but the times of pings differs
def _node(node_id: str, where: str, marks: str, leader: str, claims: tuple[str, str]) -> NodeSeen:
    """A line's words; `claims` are its config epoch and its slots."""
    flags = marks.split(",")
    address, _, port = where.split("@")[0].rpartition(":")
    return NodeSeen(
        node_id=node_id,
        address=address,
        port=int(port or 0),
        role="leader" if "master" in flags else "follower",
        follows=None if leader == "-" else leader,
        handshake="handshake" in flags,
        failed="fail" in flags or "fail?" in flags,
        epoch=int(claims[0]),
        slots=parse_slots(claims[1]),
    )


def parse_slots(text: str) -> tuple[tuple[int, int], ...]:
    """Slot ranges as CLUSTER NODES ends a line with them; what is being moved stands in brackets and is left out."""
    ranges = (word.partition("-") for word in text.split() if not word.startswith("["))
    return tuple((int(first), int(last or first)) for first, _, last in ranges)


def parse_replicas(info: dict[str, str]) -> tuple[ReplicaSeen, ...]:
    """The attached replicas from INFO replication; an acknowledged offset, and seconds since, times a thousand."""
    replicas = []
    for index in range(int(info.get("connected_slaves", "0"))):
        values = dict(pair.split("=", 1) for pair in info.get(f"slave{index}", "").split(",") if "=" in pair)
        if values:
            replicas.append(
                ReplicaSeen(
                    address=values["ip"],
                    port=int(values["port"]),
                    offset=int(values["offset"]),
                    online=values["state"] == "online",
                    silent_ms=int(values["lag"]) * 1000,
                )
            )
    return tuple(replicas)


def parse_config(reply: Sequence[bytes]) -> dict[str, str]:
    """CONFIG GET as a dictionary."""
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def is_fenced(settings: Mapping[str, str]) -> bool:
    """CONFIG GET min-replicas-to-write, maybe with others."""
    return int(settings.get(FENCE, "0")) >= FENCED


def is_on(users: Sequence[bytes], name: str) -> bool:
    """ACL LIST, which is far quicker to read than ACL GETUSER: whether a user may log in."""
    return any(line.startswith(f"user {name} on ".encode()) for line in users)


def link_silence(info: dict[str, str]) -> int:
    """Milliseconds since a follower last received from its leader; huge when the link is down."""
    if info.get("master_link_status") != "up":
        return LINK_DOWN
    return max(0, int(info.get("master_last_io_seconds_ago", "0"))) * 1000


def parse_counters(start_id: int, info: dict[str, str], at_ms: int) -> Counters:
    """INFO commandstats, keyspace, memory and clients, summed into the words of the metrics."""
    calls = {"gets": 0, "puts": 0, "removes": 0}
    for key, value in info.items():
        if key.startswith("cmdstat_"):
            kind = _kind(key[8:])
            if kind:
                calls[kind] += int(value.split(",", 1)[0].partition("=")[2])
    keys = sum(int(value.split(",", 1)[0].partition("=")[2]) for key, value in info.items() if _is_keyspace(key, value))
    return Counters(
        start_id=start_id,
        keys=keys,
        used_memory=int(info.get("used_memory", "0")),
        clients=int(info.get("connected_clients", "0")),
        at_ms=at_ms,
        **calls,
    )


def parse_latencies(reply: Sequence[Any]) -> dict[str, dict[int, int]]:
    """LATENCY HISTOGRAM: by command, how many calls took at most so many microseconds. A bound whose number is that of the one
    before is left out.
    """
    histograms = {}
    for name, fields in zip(reply[::2], reply[1::2], strict=True):
        bounds = dict(zip(fields[::2], fields[1::2], strict=True))[b"histogram_usec"]
        histograms[name.decode("utf-8", "replace")] = dict(zip(bounds[::2], bounds[1::2], strict=True))
    return histograms


def together(counted: Sequence[Counters]) -> Counters | None:
    """The counts of several engines of one process as one; None without any."""
    if not counted:
        return None
    names = ("gets", "puts", "removes", "keys", "used_memory", "clients")
    sums = {name: sum(getattr(counters, name) for counters in counted) for name in names}
    return Counters(start_id=counted[0].start_id, at_ms=max(counters.at_ms for counters in counted), **sums)


def _kind(command: str) -> str | None:
    for name, members in (("gets", GETS), ("puts", PUTS), ("removes", REMOVES)):
        if command in members:
            return name
    return None


def _is_keyspace(key: str, value: str) -> bool:
    return key.startswith("db") and key[2:].isdigit() and value.startswith("keys=")


def parse_entry(words: Sequence[object]) -> dict[str, str]:
    """An entry of ACL LOG, by name of the field."""
    text = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words]
    return dict(zip(text[::2], text[1::2], strict=True))
