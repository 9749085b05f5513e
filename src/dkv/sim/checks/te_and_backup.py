"""Simulation: what must hold for what stands beside the copies: memory-only processes (TEs) and hot copies.

A TE never leads, and is whole at the end. A hot copy that is said to be complete holds every write that was confirmed
before it was asked for, and all archives of one group hold the same in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from dkv.domain.decision import Event
from dkv.domain.hotcopy import CopyPart, CopyStage, HotCopy
from dkv.domain.model import Group, ProcessRole, ProcessState, State
from dkv.sim.clients import Ledger
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Watcher, World


class TeAndBackupChecks(Watcher):
    """Watches commits; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self._asked: dict[int, float] = {}  # hot copy -> when it was asked for, virtual seconds

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        self._tes(after)
        for copy_id, copy in after.copies.items():
            self._asked.setdefault(copy_id, self._world.now())
            old = before.copies.get(copy_id)
            if copy.stage is CopyStage.COMPLETED and old is not None and old.stage is not CopyStage.COMPLETED:
                self._complete(after, copy)

    def _tes(self, state: State) -> None:
        for group in state.groups.values():
            leader = state.processes.get(group.leader_process) if group.leader_process is not None else None
            if leader is not None and leader.role is ProcessRole.TE:
                self._world.fail(f"{group.name} is led by process {leader.start_id}, a TE")
        for engine in self._memory_engines():
            if engine.role == "leader":
                self._world.fail(f"the engine of process {engine.start_id}, a TE, leads {engine.group}")

    def _memory_engines(self) -> list[SimEngine]:
        machines = self._world.machines.values()
        return [engine for machine in machines for te in machine.hardware.memory.values() for engine in te.engines]

    def _complete(self, state: State, copy: HotCopy) -> None:
        """What a finished hot copy has to hold."""
        held = {part: self._held(part) for part in copy.parts}
        for part, keys in held.items():
            group = (copy.database, part.group)
            early = [w.key for w in self._ledger.confirmed.get(group, ()) if (w.confirmed_at or 0.0) < self._asked[copy.copy_id]]
            lacking = set(early) - keys - self._given_up(state, copy)
            if lacking:
                self._world.fail(
                    f"hot copy {copy.copy_id} of archive {part.archive_id} lacks {len(lacking)} writes that "
                    f"were confirmed before, such as {min(lacking)}"
                )
            for other, theirs in held.items():
                if other.group == part.group and theirs != keys:
                    self._world.fail(f"hot copy {copy.copy_id}: archives {part.archive_id} and {other.archive_id} differ")
                    return

    def _held(self, part: CopyPart) -> set[str]:
        place = self._world.machines[part.server_id].hardware.backups.places.get(part.path)
        if place is None or place.files is None:
            self._world.fail(f"the hot copy of archive {part.archive_id} is complete, and nothing is in {part.path}")
            return set()
        return set(place.files.load())

    def _given_up(self, state: State, copy: HotCopy) -> set[str]:
        """Writes that a database which did not wait for its disks, or an operator's word, allowed to be lost."""
        groups = [group for group in state.groups.values() if group.database == copy.database]
        enforced = any(group.enforcements for group in groups)
        return {w.key for w in self._ledger.writes if enforced or not w.waited}

    def unhealthy(self, lost: str) -> list[str]:
        """What keeps the TEs from being whole; `lost`: a machine that never comes back."""
        tes = [p for p in self._world.state.processes.values() if p.role is ProcessRole.TE and p.server_id != lost]
        return [f"process {p.start_id}, a TE, is {p.state}" for p in tes if p.state is not ProcessState.MONITORED]

    def at_the_end(self) -> None:
        """Every TE holds what the leaders hold."""
        for engine in self._memory_engines():
            group = self._world.state.groups.get((engine.spec.identity.database, engine.group))
            leader = self._leader_of(group) if group else None
            lacking = set(leader.data) - set(engine.data) if leader else set()
            if lacking:
                self._world.fail(
                    f"the engine of process {engine.start_id}, a TE, lacks {len(lacking)} writes of {engine.group}, "
                    f"such as {min(lacking)}"
                )

    def _leader_of(self, group: Group) -> SimEngine | None:
        process = self._world.state.processes.get(group.leader_process) if group.leader_process is not None else None
        return self._world.machines[process.server_id].hardware.engines.get(process.start_id) if process else None
