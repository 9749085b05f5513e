"""Unknown nodes on the cluster bus: have engines forget them, and the leader own its slots again. Pure.

The cluster bus needs no password: a node that was met is believed, and a node that claims slots in a higher epoch gets them.
Engines admit only the nodes they expect (engine contract, `meet`); this is for those that were admitted all the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import lru_cache

from dkv.domain.facts import SlotsLost, SlotsOwned
from dkv.domain.model import Group
from dkv.engine.contract import LAST_EPOCHS, Cause, EngineSeen, NodeSeen
from dkv.machine.observation import PlanInput
from dkv.machine.spec import current_epoch
from dkv.machine.steps import Fence, Forget, Kill, Reclaim, RestartEpochs, RollBack, SaveDeletions, Step, SubmitFact, TakePackets

Slots = tuple[tuple[int, int], ...]
PACKETS_DROPPED = 8_000  # ms: longer than what an engine gossips may go unseen (engine contract, `survey`)
STUCK = 2_000  # ms: an engine that was in the last epoch itself, as leader or in an election, keeps it until it ends
MOST_BUMPS = 1 << 20  # each is one order


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


def epochs_used_up(engine: EngineSeen) -> bool:
    """Whether no election can be held: the epoch after the last is 0, and voters refuse what is below their own."""
    return engine.cluster.current_epoch >= LAST_EPOCHS


def packets_dropped_key(engine: EngineSeen) -> Hashable:
    """The condition of an engine that drops packets, and whose epochs are not used up any more."""
    return ("packets dropped", engine.start_id, engine.node_id)


def stuck_key(engine: EngineSeen) -> Hashable:
    """The condition of an engine whose epochs are used up although it drops packets and was told to restart them."""
    return ("stuck epochs", engine.start_id, engine.node_id)


def epoch_conditions(engine: EngineSeen) -> Iterator[Hashable]:
    """What is remembered of an engine whose epochs were restarted."""
    if engine.cluster.takes_packets is False:
        yield stuck_key(engine) if epochs_used_up(engine) else packets_dropped_key(engine)


def epoch_steps(inputs: PlanInput, database: str, engine: EngineSeen) -> Iterator[Step]:
    """Every engine of a database gets the last epoch from any that has it, so each drops what the others say until all were
    restarted. One whose manager was away meanwhile gives it back, and all begin anew.
    """
    key = f"epochs {engine.start_id}"
    if inputs.lasted(stuck_key(engine)) > STUCK:
        yield Kill(engine.directory, engine.start_id, Cause.EPOCHS_USED_UP)
    elif epochs_used_up(engine):
        yield RestartEpochs(key, engine.start_id, min(current_epoch(inputs.state.groups_of(database)), MOST_BUMPS))
    elif engine.cluster.takes_packets is None or inputs.lasted(packets_dropped_key(engine)) > PACKETS_DROPPED:
        yield TakePackets(key, engine.start_id)


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
