"""Planted bugs that the field met first: each is a failure that operators of other systems reported, as it would look here.

What is planted is the mistake, not its setting: what triggers it has to come from the faults that the simulation draws. Each
docstring says what happened elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dkv.control.liveness import Liveness
from dkv.control.submit import Submitter
from dkv.domain.phases import HandingOver
from dkv.domain.rules import leadership
from dkv.engine.contract import Identity, Position
from dkv.machine import follower_steps, handover, leader_steps, plan
from dkv.machine.observation import node_id, peer
from dkv.machine.steps import Replicate
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.engines import SimEngines
from dkv.sim.engines.replication import Replication
from dkv.store.contract import Conflict


def start_as_a_leader() -> None:
    """A primary without its newest data restarted fast, and its replicas copied what it had."""
    begin = SimEngine._loaded

    def loaded(self: SimEngine) -> None:
        begin(self)
        if not self.loading and self.disk is not None and self.follows == self.phantom_id:
            self._lead(self.current_epoch + 1)
            self.fenced, self.admits, self.takes_clients = False, True, True

    SimEngine._loaded = loaded  # type: ignore[method-assign]


def compare_offsets_of_other_histories() -> None:
    """A replica that had just changed its primary won with the offset it had under the old one."""
    rank = leadership._rank

    def ranked(group: Any, member: Any) -> Any:
        first, _, _, order, archive_id = rank(group, member)
        return (first, True, member.process.report.offset, order, archive_id)

    leadership._rank = ranked


def a_returning_leader_keeps_its_role() -> None:
    """A primary that came back won a collision of epochs and took its slots back."""
    begin = SimEngine._loaded

    def loaded(self: SimEngine) -> None:
        begin(self)
        position = self.disk.position() if self.disk is not None else None
        if not self.loading and position and position.term and self.follows != self.phantom_id:
            self._lead(self.current_epoch + 2)

    SimEngine._loaded = loaded  # type: ignore[method-assign]


def start_cold_with_the_lowest() -> None:
    """After everything had been stopped, the file of one node said who leads, and the newest copy was not looked for."""
    leadership._must_wait = lambda *_: False
    leadership._rank = lambda group, member: (False, False, 0, (0, 0, 0), -member.archive_id)


def refresh_at_every_look() -> None:
    """An operator reset what its sentinels had learnt at each reconciliation, and no failover ever ended."""
    steps = follower_steps.follower_steps

    def refreshed(inputs: Any, group: Any, process: Any, engine: Any) -> Iterator[Any]:
        yield from steps(inputs, group, process, engine)
        if group.serving and engine.role == "follower" and not isinstance(group.phase, HandingOver):
            leader = peer(inputs.state, inputs.state.archives[group.leader])
            yield Replicate(engine.directory, process.start_id, leader, None)

    plan.follower_steps = refreshed  # type: ignore[attr-defined]


def empty_what_was_cut_off() -> None:
    """After the restart of a host the recovery reset the cluster and, where that failed, deleted all keys."""
    prepare = SimEngines.prepare

    async def emptied(self: SimEngines, directory: str, identity: Identity, fresh: bool, restored: Any = None) -> Position:
        position = await prepare(self, directory, identity, fresh, restored)
        if self.machine.boot > 1 and directory in self.machine.disks and not fresh:
            self.machine.disks[directory].replace({})
        return position

    SimEngines.prepare = emptied  # type: ignore[method-assign]


def wait_for_every_member() -> None:
    """An election waited for ever for the position of a member that was dead for good."""
    wait = leadership._must_wait

    def waits(draft: Any, group: Any, members: Any) -> bool:
        return wait(draft, group, members) or any(not m.ready for m in members)

    leadership._must_wait = waits


def a_leader_that_is_cut_off_is_not_fenced() -> None:
    """Two and three primaries under partitions and killed nodes: the old one went on by itself."""
    leader_steps._cut_off = lambda *_: False


def commit_on_what_another_wrote() -> None:
    """Members of the state differed after a kill under load: what was decided and what was applied were not one step."""
    commit = Submitter._commit

    async def anyway(self: Submitter, snapshot: Any, before: Any, decision: Any, key: Any) -> None:
        while True:
            try:
                await commit(self, snapshot, before, decision, key)
                return
            except Conflict:
                newer = await self._store.read()
                snapshot = replace(snapshot, revision=newer.revision)

    Submitter._commit = anyway  # type: ignore[method-assign]


def removed_nodes_come_back() -> None:
    """A node that was removed came back by gossip once it was not banned any more."""
    table = leader_steps.table_steps

    def known(inputs: Any, group: Any, engine: Any) -> Iterator[Any]:
        yield from (step for step in table(inputs, group, engine) if type(step).__name__ != "Forget")

    leader_steps.table_steps = follower_steps.table_steps = known


def a_backend_outage_fences_leaders() -> None:
    """The store of the configuration had a hiccup, and healthy leaders were demoted for it."""
    leader_steps._cut_off = lambda inputs, group, engine: not inputs.seen.lease_is_fresh


def acknowledge_before_the_disk_has_it() -> None:
    """The last replica in sync lost its tail in a power cut, was elected again, and the others truncated what they had."""
    append, cron = Disk.append, SimEngine._cron

    def lazily(self: Disk, entry: Any, synced: bool = True) -> None:
        append(self, entry, synced=False)

    def once_a_second(self: SimEngine) -> None:
        if self.alive and self.disk is not None:
            self.disk.unsynced = 0
        cron(self)

    Disk.append = lazily  # type: ignore[method-assign]
    SimEngine._cron = once_a_second  # type: ignore[method-assign]


def a_clock_jump_is_a_death() -> None:
    """A step of the clock was taken for the silence of a member."""
    begin = Liveness.__init__

    def by_the_wall(self: Liveness, store: Any, submitter: Any, here: Any, monotonic: Any) -> None:
        begin(self, store, submitter, here, lambda: submitter._clock() / 1000)

    Liveness.__init__ = by_the_wall  # type: ignore[method-assign]


def a_switchover_needs_every_copy() -> None:
    """A switchover hung for as long as one standby was down."""
    careful = handover.successor

    def with_all(state: Any, group: Any, engine: Any, only: int | None = None) -> int | None:
        copies = [a for a in state.archives.values() if (a.database, a.group) == group.key and not a.removed]
        whole = {node_id(state.uid, a.archive_id) for a in copies} <= {node.node_id for node in engine.cluster.nodes}
        return careful(state, group, engine, only) if whole and len(group.in_sync) == len(copies) else None

    handover.successor = with_all


def a_resync_answers_for_the_old_history() -> None:
    """A follower went on with its old offset after it was given to another leader, and was believed."""
    attach = Replication.attach

    def any_history(self: Replication, follower: Any, token: int, history: str, offset: int) -> None:
        attach(self, follower, token, self.history if self._begins() <= offset <= self.offset else history, offset)

    Replication.attach = any_history  # type: ignore[method-assign]


FIELD: tuple[Callable[[], None], ...] = (
    start_as_a_leader,
    a_returning_leader_keeps_its_role,
    start_cold_with_the_lowest,
    refresh_at_every_look,
    empty_what_was_cut_off,
    wait_for_every_member,
    commit_on_what_another_wrote,
    removed_nodes_come_back,
    acknowledge_before_the_disk_has_it,
    a_clock_jump_is_a_death,
    a_resync_answers_for_the_old_history,
    a_backend_outage_fences_leaders,
)

NOT_YET_FOUND: tuple[Callable[[], None], ...] = (
    compare_offsets_of_other_histories,
    a_leader_that_is_cut_off_is_not_fenced,
    a_switchover_needs_every_copy,
)
"""Those that no seed of the present fleet was seen to find. Of offsets: a restarted engine counts from 0, who shares no history
leaves S when a term opens, and a confirmed write needs every member by name; only a handover whose target led and died is left.
"""
