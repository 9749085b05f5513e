"""Unknown nodes on the cluster bus: have engines forget them, and the leader own its slots again. Pure.

The cluster bus needs no password: a node that was met is believed, and a node that claims slots in a higher epoch gets them.
Engines admit only the nodes they expect (engine contract, `meet`); this is for those that were admitted all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from dkv.domain.facts import SlotsLost, SlotsOwned
from dkv.domain.model import Group
from dkv.engine.contract import EngineSeen, NodeSeen
from dkv.machine.observation import PlanInput
from dkv.machine.steps import Fence, Forget, Reclaim, RollBack, SaveDeletions, Step, SubmitFact

Slots = tuple[tuple[int, int], ...]


def robbed(group: Group, engine: EngineSeen) -> bool:
    """Whether an engine leads without owning exactly its group's slots."""
    return engine.role == "leader" and engine.cluster.slots is not None and _joined(engine.cluster.slots) != _joined(group.slots)


@lru_cache(256)
def _joined(slots: Slots) -> Slots:
    """Sorted, and adjacent ranges joined, as engines write them."""
    ranges: list[tuple[int, int]] = []
    for first, last in sorted(slots):
        if ranges and first == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return tuple(ranges)


def unknown_nodes(inputs: PlanInput, database: str, engine: EngineSeen) -> list[NodeSeen]:
    """Nodes that own slots and that the domain does not know. What an engine was started to follow has epoch 0."""
    owners = [node for node in engine.cluster.nodes if node.slots and node.epoch and not node.handshake]
    return [node for node in owners if node.node_id not in inputs.table(database).known] if owners else []


def outranking_nodes(inputs: PlanInput, database: str, engine: EngineSeen) -> list[NodeSeen]:
    """Engines of archives that do not lead, and that this engine takes for leaders in an epoch above their group's leader's.

    A packet in their name said so. Where no epoch is higher (2^64 - 1) the next leader's is not either, and Valkey 9.1.2 ignores
    what they say from then on ("stale message"): that they follow, so it ignores their requests to fail over, too.
    """
    led_in = inputs.table(database).led_in
    leaders = (node for node in engine.cluster.nodes if node.role == "leader" and node.node_id != engine.node_id)
    return [node for node in leaders if node.epoch > led_in.get(node.node_id, node.epoch)]


def expel_steps(inputs: PlanInput, database: str, engine: EngineSeen) -> Iterator[Step]:
    """Every engine forgets unknown nodes, whatever it does otherwise: an engine that knows them gossips about them. It forgets
    nodes in whose name somebody spoke, too, and meets them anew.
    """
    for node in (*unknown_nodes(inputs, database, engine), *outranking_nodes(inputs, database, engine)):
        if node.node_id != engine.follows:
            yield Forget(f"expel {engine.start_id} {node.node_id}", engine.start_id, node.node_id)


def intrusion_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """The leader of a group whose slots another node owns, or owned."""
    if not engine.writes.fenced:
        yield Fence(f"fence {engine.start_id}", engine.start_id)
    known, lost = group.intrusion, robbed(group, engine)
    here = known is not None and known.start_id == engine.start_id
    key = engine.directory
    if lost and not here:
        by = _named(group, engine, unknown_nodes(inputs, group.database, engine))
        yield SubmitFact(
            key, SlotsLost(start_id=engine.start_id, by=by, all=not engine.cluster.slots, **inputs.group_header(group))
        )
    elif known and here and not known.looked:
        yield SaveDeletions(key, engine.start_id, group.database, group.name, group.term)
    elif known and here and known.back:
        yield RollBack(key, engine.start_id, known.saved_directory)
    elif unknown_nodes(inputs, group.database, engine):
        return
    elif lost:
        yield Reclaim(key, engine.start_id, group.slots)
    else:
        yield SubmitFact(key, SlotsOwned(start_id=engine.start_id, epoch=engine.cluster.epoch, **inputs.group_header(group)))


def _named(group: Group, engine: EngineSeen, unknown: list[NodeSeen]) -> str:
    """A sentence part that names the nodes that own the slots."""
    others = [node for node in engine.cluster.nodes if node.slots and node.node_id != engine.node_id]
    slots = set(_each(group.slots))
    owners = unknown or [node for node in others if slots & set(_each(node.slots))]
    if not owners:
        return "a node that is gone"
    which = "which the domain does not know" if unknown else "in whose name somebody spoke"
    return ", ".join(f"node {n.node_id[:8]} at {n.address}:{n.port}" for n in owners) + f", {which},"


def _each(slots: Slots) -> Iterator[int]:
    for first, last in slots:
        yield from range(first, last + 1)
