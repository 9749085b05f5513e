"""Simulation: one engine at one glance, in the words of the engine contract."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from dkv.engine.contract import EngineSeen, NodeSeen, Position, ReplicaSeen
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.gossip import line

FREE = 10**12  # bytes free on each disk
WHOLE_EVERY = 5.0  # s what only orders and gossip change may be old at a look that is not thorough
KEPT = (
    "node_id",
    "follows",
    "phantom",
    "cluster_ok",
    "fenced",
    "admits_replicas",
    "takes_clients",
    "epoch",
    "current_epoch",
    "nodes",
    "max_memory",
    "append_fsync",
    "refuses",
)
LINK_DOWN = 10**9  # ms of silence shown for a link that is down, as the real driver shows it


def look(engine: SimEngine, thorough: bool = True) -> EngineSeen:
    """The engine as its manager's survey shows it; a stopped one shows its disk only. The same sight is the same object."""
    before, now = engine.shown, engine.net.now()
    if engine.silent:
        silent = int((now - engine.answered_at) * 1000)
        idle = int((now - engine.stopped_at) * 1000) if engine.stopped else 0
        return replace(
            engine.last_seen or _stranger(engine), answering=False, silent_ms=silent, idle_ms=idle, marker=_marker(engine.disk)
        )
    engine.answered_at = now
    if engine.busy:
        return replace(
            engine.last_seen or _stranger(engine),
            answering=True,
            busy=True,
            silent_ms=0,
            refuses="BUSY",
            marker=_marker(engine.disk),
        )
    shown = _look(engine)
    if thorough or not before or engine.ordered or now - engine.looked_at >= WHOLE_EVERY or _place(before) != _place(shown):
        engine.looked_at, engine.ordered = now, False
    else:
        shown |= {name: before[name] for name in KEPT}
    if engine.last_seen is None or before != shown:
        engine.shown, engine.last_seen = shown, EngineSeen(**shown)
    return engine.last_seen


def _place(shown: dict[str, Any]) -> tuple[object, ...]:
    """What INFO tells of where an engine stands, and of how many nodes it is connected with."""
    return (shown["role"], shown["follows"], shown["history"], shown["loading"], len(shown["nodes"]))


def _look(engine: SimEngine) -> dict[str, Any]:
    """The fields of what is seen."""
    now, disk, link, leads = engine.net.now(), engine.disk, engine.replication, engine.role == "leader"
    return {
        "start_id": engine.start_id,
        "directory": engine.spec.directory,
        "node_id": engine.node_id,
        "pid": engine.pid,
        "answering": True,
        "free_bytes": FREE,
        "marker": _marker(disk),
        "group": engine.group,
        "loading": engine.loading,
        "loading_percent": engine.loading_percent(),
        "role": engine.role,
        "follows": engine.follows,
        "phantom": not leads and engine.follows in (None, engine.phantom_id),
        "cluster_ok": not engine.loading,
        "fenced": engine.fenced or engine.held,
        "held": engine.held,
        "admits_replicas": engine.admits,
        "takes_clients": engine.takes_clients,
        "link_up": not leads and link.state == "up",
        "resyncing": not leads and link.state == "resyncing",
        "link_silent_ms": 0 if leads else _link_silence(engine),
        "rewriting": engine.rewriting,
        "offset": link.offset,
        "history": link.history,
        "epoch": engine.epoch if leads else engine.leader_epoch(),
        "current_epoch": engine.current_epoch,
        "replicas": _replicas(engine) if leads else (),
        "nodes": _nodes(engine),
        "incremental_bytes": disk.incremental_bytes if disk else 0,
        "paused": now < engine.waits_until,
        "yields": leads and engine.paused_until - now >= 2.0,
        "max_memory": engine.max_memory,
        "append_fsync": engine.append_fsync,
        "refuses": _refuses(engine),
        "torn": engine.torn,
        "slots": engine.own_slots() if leads else None,
        "lets_in": engine.lets_in,
    }


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
        free_bytes=FREE,
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
    """What it knows, and itself; sorted anew only after there was news."""
    at = engine.spec.address, engine.spec.client_port
    mine = line(engine.node_id, at, engine.role == "leader", engine.follows, (engine.epoch, engine.own_slots()))
    if engine.table is None or engine.table[0] is not mine:
        known = {node_id: other.seen for node_id, other in engine.known.items()} | {engine.node_id: mine}
        engine.table = (mine, tuple(known[node_id] for node_id in sorted(known)))
    return engine.table[1]
