"""Simulation: no engine knows a node for long that the domain removed: a deleted archive, or a memory-only process that ended."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dkv.domain.decision import Event
from dkv.domain.hotcopy import cutting
from dkv.domain.model import Group, ProcessRole, State
from dkv.domain.phases import Open
from dkv.machine.observation import node_id, te_node_id
from dkv.sim.checks.health import Health
from dkv.sim.world import Watcher, World

KNOWN_FOR = 6.0  # seconds an engine may know a node that is gone; tables are read anew within 5
CALM = 3.0  # seconds in which its manager had nothing else to do: one step of that kind is taken at each look


class TableChecks(Watcher):
    """Watches commits and time; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, health: Health) -> None:
        self._world, self._health = world, health
        self._gone: dict[str, float] = {}  # node id -> when it was removed, virtual seconds
        self._calm: dict[Hashable, float] = {}  # since when a group is open by one leader with one in-sync set

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        now = self._world.now()
        if before.archives is not after.archives or before.processes is not after.processes:
            nodes = after.memoized(_nodes)
            self._gone |= dict.fromkeys(before.memoized(_nodes) - nodes, now)
            self._gone = {node: at for node, at in self._gone.items() if node not in nodes}
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if old is not group and (old is None or _led(old) != _led(group)):
                self._calm[key] = now

    def at_the_end(self) -> None:
        """After a time in which nothing happened."""
        self.passed()

    def passed(self) -> None:
        """Some time has passed."""
        state, now = self._world.state, self._world.now()
        old = {node for node, at in self._gone.items() if now - at > KNOWN_FOR}
        for key, group in state.groups.items() if old else ():
            calm = isinstance(group.phase, Open) and now - self._calm.get(key, now) > CALM and group.intrusion is None
            if not calm or cutting(state.copies.values(), *key) is not None:
                continue
            for archive_id in group.in_sync:
                process = state.process_on(archive_id)
                engine = self._health.engine_of(process)
                if process is None or engine is None or process.leaving or not self._health.well(process.server_id, CALM):
                    continue
                ghosts = sorted(old & set(engine.known))
                if ghosts and now - engine.born_at > CALM:
                    gone = now - self._gone[ghosts[0]]
                    self._world.fail(
                        f"process {process.start_id} of {group.name} still knows node {ghosts[0]}, removed {gone:.0f} s ago"
                    )


def _led(group: Group) -> tuple[object, ...]:
    """By whom, and with whom in sync."""
    return (group.term, group.in_sync, type(group.phase))


def _nodes(state: State) -> frozenset[str]:
    """The node ids of all archives and memory-only processes that the domain has."""
    archives = (node_id(state.uid, a.archive_id) for a in state.archives.values() if not a.removed)
    tes = (
        te_node_id(state.uid, process.start_id, group.name)
        for process in state.processes.values()
        if process.role is ProcessRole.TE
        for group in state.groups_of(process.database)
    )
    return frozenset((*archives, *tes))
