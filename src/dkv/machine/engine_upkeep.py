"""What every engine needs, whether it leads or follows: a file that does not grow for ever, and a true node table. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.model import Group
from dkv.engine.contract import EngineSeen
from dkv.machine.observation import Observation, PlanInput, next_sequence
from dkv.machine.steps import Forget, LetNobodyIn, Meet, RenewRewriteLease, Rewrite, Step

REWRITE_FROM = 1 << 20  # bytes of incremental file worth a leader's rewrite: killed, it replays them first
FOLLOWERS_FROM = 64 << 20  # for a follower: no client waits for it to load, and its rewrite takes its marker away
REWRITE_LEASE = 5.0  # s a turn at rewriting outlasts its last renewal
OTHERS_FIRST = 3.0  # s after its lease in which the group's other copies may take their turn


def rewrite_steps(seen: Observation, group: Group, engine: EngineSeen, leads: bool) -> Iterator[Step]:
    """A rewrite when the incremental file outgrew what it may have; never without room for it.

    A copy that just had its turn waits until the others could take theirs: under a steady load it would else take turn
    after turn, and its leader's file would grow without end.
    """
    worth = max(REWRITE_FROM, engine.files.base_bytes // 2) if leads else max(FOLLOWERS_FROM, engine.files.base_bytes)
    size = engine.files.incremental_bytes + engine.files.base_bytes
    lease = f"rewrite/{group.database}/{group.name}"
    if engine.files.rewriting:
        yield RenewRewriteLease(f"rewrite {engine.start_id}", engine.start_id, lease)
    elif (
        engine.files.incremental_bytes <= worth
        or engine.replication.resyncing
        or group.joining
        or just_had_its_turn(seen, engine)
    ):
        return
    elif engine.files.free_bytes >= 2 * size:
        marker = (group.term, next_sequence(group, engine)) if leads else None
        yield Rewrite(f"rewrite {engine.start_id}", engine.start_id, lease, marker)


def just_had_its_turn(seen: Observation, engine: EngineSeen) -> bool:
    """Whether its group's other copies may rewrite before it does so again."""
    taken_at = seen.rewrite_leases.get(engine.start_id)
    return taken_at is not None and seen.conditions.now < taken_at + (REWRITE_LEASE + OTHERS_FIRST) * 1000


def table_steps(inputs: PlanInput, group: Group, engine: EngineSeen) -> Iterator[Step]:
    """Forget nodes the domain does not know; meet those this engine does not know; then let no other node in.

    A follower comes here once it is in sync, and is in sync only once its leader knows it, so that it is not met any more.
    """
    if not engine.cluster.takes_packets:
        return
    table = inputs.table(group.database)
    for node in engine.cluster.nodes:
        if node.node_id not in table.known and node.node_id != engine.follows and not node.handshake:
            yield Forget(f"table {engine.start_id}", engine.start_id, node.node_id)
            return
    listed = {n.node_id for n in engine.cluster.nodes}
    for peer in table.answering:
        if peer.node_id not in listed:
            yield Meet(f"table {engine.start_id}", engine.start_id, peer)
            return
    if engine.cluster.lets_in and group.leader_process is not None and _stays(inputs, engine):
        yield LetNobodyIn(f"table {engine.start_id}", engine.start_id)


def _stays(inputs: PlanInput, engine: EngineSeen) -> bool:
    """Whether it is of an archive. A TE attaches without an order, and an engine that does not know it has to let it in."""
    return inputs.state.processes[engine.start_id].archive_id is not None
