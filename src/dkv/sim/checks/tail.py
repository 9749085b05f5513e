"""Simulation: dead leaders' tails, counted by how they ended; a term that opens by one has all of its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dkv.domain.decision import Event
from dkv.domain.model import Archive, Group, State
from dkv.machine.observation import directory_of
from dkv.sim.checks.probes import Probes
from dkv.sim.engines.disk import Disk
from dkv.sim.world import Watcher, World


class Tails(Watcher):
    """Counts tails by how they ended, and compares disks when a term opens by one."""

    def __init__(self, world: World, probes: Probes) -> None:
        self._world = world
        self._counts: Counter[str] = probes.counts

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        for key, old in before.groups.items():
            group = after.groups.get(key)
            if old.tail is None or group is None or group.tail is not None:
                continue
            if group.open:
                self._counts["tail given to the end"] += 1
                self._opened(after, old, group)
            else:
                self._counts[f"tail dropped {_step(old)}"] += 1
                self._counts["tail dropped"] += 1

    def _opened(self, after: State, old: Group, group: Group) -> None:
        assert old.tail is not None
        marker = (old.tail.term, old.tail.sequence, old.tail.nonce)
        wanted = self._disk(after.archives[old.tail.source]).after(marker, 0)
        for archive_id in group.in_sync:
            if self._disk(after.archives[archive_id]).after(marker, 0)[: len(wanted)] != wanted:
                self._world.fail(f"archive {archive_id} is in S of {group.name} and lacks bytes of the dead leader's tail")
        self._counts["tail other members kept"] += len(group.in_sync) - 1

    def _disk(self, archive: Archive) -> Disk:
        return self._world.machines[archive.server_id].hardware.disks[directory_of("/data", archive)]

    def at_the_end(self) -> None:
        """No write is on any disk twice."""
        for machine in self._world.machines.values():
            for disk in machine.hardware.disks.values():
                twice = [
                    key for key, count in Counter(e.key for e in disk.entries() if e.key and not e.rises).items() if count > 1
                ]
                if twice:
                    self._world.fail(f"{disk.directory} holds {twice[0]} twice")


def _step(group: Group) -> str:
    """How far it had got."""
    tail = group.tail
    assert tail is not None and group.leader_process is not None
    if not tail.history:
        return "before it was measured"
    recipient = tail.of(group.leader_process)
    return "when the heir had everything" if recipient and recipient.whole else "while it was being fed"
