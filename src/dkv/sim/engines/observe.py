"""Simulation: one engine at one glance, in the words of the engine contract."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from dkv.database_options import events_shown
from dkv.engine.contract import (
    ClusterSeen,
    EngineOptions,
    EngineSeen,
    FilesSeen,
    NodeSeen,
    Position,
    ReplicaSeen,
    ReplicationSeen,
    TlsSeen,
    WritesSeen,
)
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.gossip import line

CLIENTS_BY_MEMORY = 800  # connections
FREE = 10**12  # bytes free on each disk
WHOLE_EVERY = 5.0  # s what only orders and gossip change may be old at a look that is not thorough
LINK_DOWN = 10**9  # ms of silence shown for a link that is down, as the real driver shows it


def look(engine: SimEngine, thorough: bool = True) -> EngineSeen:
    """The engine as its manager's survey shows it; a stopped one shows its disk only. The same sight is the same object."""
    now = engine.net.now()
    before = engine.last_seen
    if engine.silent:
        silent = int((now - engine.answered_at) * 1000)
        idle = int((now - engine.stopped_at) * 1000) if engine.stopped else 0
        return replace(_earlier(engine), answering=False, silent_ms=silent, idle_ms=idle)
    engine.answered_at = now
    if engine.busy:
        earlier = _earlier(engine)
        writes = replace(earlier.writes, refuses="BUSY")
        return replace(earlier, answering=True, busy=True, silent_ms=0, writes=writes)
    shown = _look(engine)
    if before is None or thorough or engine.ordered or now - engine.looked_at >= WHOLE_EVERY or _place(before) != _place(shown):
        engine.looked_at, engine.ordered = now, False
    else:
        shown = _not_thoroughly(before, shown)
    if before != shown:
        engine.last_seen = shown
    assert engine.last_seen is not None
    return engine.last_seen


def statistics_of(engine: SimEngine) -> dict[str, str]:
    """A few fields of its INFO and CLUSTER INFO."""
    leads = engine.role == "leader"
    fields = {
        "uptime_in_seconds": str(int(engine.net.now() - engine.born_at)),
        "role": "master" if leads else "slave",
        "loading": str(int(engine.loading)),
        "maxmemory": str(engine.options.max_memory),
        "cmdstat_get": f"calls={engine.gets},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0",
        "cmdstat_set": f"calls={engine.puts},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0",
        "db0": f"keys={len(engine.data)},expires=0,avg_ttl=0",
    }
    return fields | ({} if engine.loading else {"cluster_state": "ok" if _cluster(engine).state_ok else "fail"})


def _not_thoroughly(before: EngineSeen, shown: EngineSeen) -> EngineSeen:
    """What INFO says now; what only orders and gossip change as it was before."""
    return replace(
        shown,
        node_id=before.node_id,
        follows=before.follows,
        admits_replicas=before.admits_replicas,
        takes_clients=before.takes_clients,
        cluster=replace(
            before.cluster, slots=shown.cluster.slots, lets_in=shown.cluster.lets_in, takes_packets=shown.cluster.takes_packets
        ),
        writes=replace(shown.writes, fenced=before.writes.fenced, refuses=before.writes.refuses),
        options=before.options,
    )


def _earlier(engine: SimEngine) -> EngineSeen:
    """The engine as it was shown last, or as one that never answered, with the marker on its disk now."""
    earlier = engine.last_seen or _stranger(engine)
    return replace(earlier, files=replace(earlier.files, marker=_marker(engine.disk)))


def _place(shown: EngineSeen) -> tuple[object, ...]:
    """What INFO reports of where an engine stands, and of how many nodes it is connected with."""
    return (shown.role, shown.follows, shown.replication.history, shown.loading, len(shown.cluster.nodes))


def _look(engine: SimEngine) -> EngineSeen:
    """All of it as it is now."""
    now, disk, link, leads = engine.net.now(), engine.disk, engine.replication, engine.role == "leader"
    return EngineSeen(
        start_id=engine.start_id,
        directory=engine.spec.directory,
        node_id=engine.node_id,
        pid=engine.pid,
        group=engine.group,
        answering=True,
        loading=engine.loading,
        loading_percent=engine.loading_percent(),
        role=engine.role,
        follows=engine.follows,
        admits_replicas=engine.admits,
        takes_clients=engine.takes_clients,
        replication=ReplicationSeen(
            offset=link.offset,
            history=link.history,
            link_up=not leads and link.state == "up",
            resyncing=not leads and link.state == "resyncing",
            link_silent_ms=0 if leads else _link_silence(engine),
            replicas=_replicas(engine) if leads else (),
            torn=engine.torn,
        ),
        cluster=_cluster(engine),
        files=FilesSeen(
            marker=_marker(disk),
            incremental_bytes=disk.incremental_bytes if disk else 0,
            free_bytes=FREE,
            rewriting=engine.rewriting,
        ),
        writes=WritesSeen(
            refuses=_refuses(engine),
            fenced=engine.fenced or engine.held,
            held=engine.held,
            paused=now < engine.waits_until,
            yields=leads and engine.paused_until - now >= 2.0,
        ),
        options=_options(engine),
    )


def _options(engine: SimEngine) -> EngineOptions:
    options = engine.options
    return EngineOptions(
        options.max_memory,
        options.append_fsync,
        None if engine.loading else engine.users,
        _leaf(engine),
        engine.secrets.digest,
        options.maxmemory_policy,
        events_shown(options.notify_keyspace_events),
        options.max_clients or CLIENTS_BY_MEMORY,
        CLIENTS_BY_MEMORY,
    )


def _leaf(engine: SimEngine) -> TlsSeen | None:
    """What it shows; nothing ages here."""
    return TlsSeen(engine.tls.trust, engine.tls.serial, proven=True, days_left=90) if engine.tls else None


def _cluster(engine: SimEngine) -> ClusterSeen:
    leads = engine.role == "leader"
    return ClusterSeen(
        state_ok=not engine.loading,
        phantom=not leads and engine.follows in (None, engine.phantom_id),
        epoch=engine.epoch if leads else engine.leader_epoch(),
        current_epoch=engine.current_epoch,
        nodes=_nodes(engine),
        slots=engine.own_slots() if leads else None,
        lets_in=engine.lets_in,
        takes_packets=engine.takes_packets,
    )


def _refuses(engine: SimEngine) -> str:
    """What it answers to a client's write."""
    if engine.loading:
        return "LOADING"
    if engine.fenced or engine.held:
        return "NOREPLICAS"
    return "" if engine.role == "leader" else "READONLY"


def _stranger(engine: SimEngine) -> EngineSeen:
    """One that was never seen to answer."""
    return EngineSeen(
        start_id=engine.start_id,
        directory=engine.spec.directory,
        node_id=engine.node_id,
        pid=engine.pid,
        answering=False,
        files=FilesSeen(free_bytes=FREE),
        group=engine.group,
    )


def _marker(disk: Disk | None) -> Position | None:
    position = disk.position() if disk else None
    return position if position and position.term else None


def _link_silence(engine: SimEngine) -> int:
    link = engine.replication
    return int(engine.net.now() - link.heard_at) * 1000 if link.state == "up" else LINK_DOWN


def _replicas(engine: SimEngine) -> tuple[ReplicaSeen, ...]:
    """Acknowledged offsets; silence in whole seconds, as the engine counts it."""
    now = engine.net.now()
    return tuple(
        _replica(r.engine.spec.address, r.engine.spec.client_port, r.offset, r.streaming, int(now - r.acked_at) * 1000)
        for _, r in sorted(engine.replication.replicas.items())
    )


@lru_cache(maxsize=4096)
def _replica(address: str, port: int, offset: int, online: bool, silent_ms: int) -> ReplicaSeen:
    """Equal lines are the same object."""
    return ReplicaSeen(address, port, offset, online, silent_ms)


def _nodes(engine: SimEngine) -> tuple[NodeSeen, ...]:
    """The nodes in its table, and itself; sorted anew only after there was news."""
    at = engine.spec.address, engine.spec.client_port
    mine = line(engine.node_id, at, engine.role == "leader", engine.follows, (engine.epoch, engine.own_slots()))
    if engine.table is None or engine.table[0] is not mine:
        known = {node_id: other.seen for node_id, other in engine.known.items()} | {engine.node_id: mine}
        engine.table = (mine, tuple(known[node_id] for node_id in sorted(known)))
    return engine.table[1]
