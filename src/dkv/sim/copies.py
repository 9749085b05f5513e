"""Simulation: hot copies of simulated engines: the same promises as engine/hot_copy_files.py, on simulated disks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, CutSeen, EngineRefused, Identity, QuiescePoint
from dkv.sim.disk import Disk

if TYPE_CHECKING:
    from dkv.sim.engine import SimEngine
    from dkv.sim.machine import SimMachine

APPLIED_WITHIN = 0.5  # seconds a follower is waited for
SLICE = 0.5  # seconds between two tellings of progress

Slots = tuple[tuple[int, int], ...]


@dataclass
class BackupPlace:
    """A directory that holds a hot copy, or what there is of one."""

    label: CopyLabel
    files: Disk | None = None  # None: unfinished


@dataclass
class BackupStore:
    """The cuts and copies of one machine."""

    cuts: dict[tuple[str, str], Disk] = field(default_factory=dict)  # (archive, name)
    places: dict[str, BackupPlace] = field(default_factory=dict)


def clone(disk: Disk, directory: str, identity: Identity | None) -> Disk:
    """The same files in another place."""
    other = Disk(directory, identity, True, True, dict(disk.base), [list(file) for file in disk.files])
    other.generation = disk.generation
    other.recount()
    return other


def stillness(engine: SimEngine) -> QuiescePoint:
    """What an engine holds."""
    assert engine.disk is not None
    name, size = engine.disk.newest()
    return QuiescePoint(engine.replication.offset, engine.replication.history, name, size)


class SimCopies:
    """What SimEngines offers for hot copies (`Backup` in engine/contract.py)."""

    machine: SimMachine

    async def _pause(self, longest: float = 0.002) -> None:
        raise NotImplementedError

    async def _on(self, start_id: int, act: Callable[[SimEngine], QuiescePoint]) -> QuiescePoint:
        engine = self.machine.living(start_id)
        return await self.machine.net.ask(self.machine.name, engine, lambda: act(engine), 2.0)

    async def pause(self, start_id: int, ms: int) -> QuiescePoint:
        """See the contract."""

        def held(engine: SimEngine) -> QuiescePoint:
            if engine.loading or engine.fenced or engine.held or engine.role != "leader":
                raise EngineRefused(f"engine {start_id} is fenced or no leader; its writes are not paused")
            engine.waits_until = engine.net.now() + ms / 1000
            return stillness(engine)

        return await self._on(start_id, held)

    async def resume(self, start_id: int) -> QuiescePoint:
        """See the contract."""

        def freed(engine: SimEngine) -> QuiescePoint:
            engine.waits_until = 0.0
            return stillness(engine)

        return await self._on(start_id, freed)

    async def note_cut(self, start_id: int, name: str, reached: QuiescePoint) -> CutSeen:
        """See the contract."""
        deadline = self.machine.net.now() + APPLIED_WITHIN
        while True:
            await self._pause()
            engine = self.machine.living(start_id)
            link, disk = engine.replication, engine.disk
            attached = engine.role == "leader" or link.state == "up"
            awake = not engine.silent
            if disk and awake and attached and link.history == reached.history and link.offset >= reached.offset:
                break
            if self.machine.net.now() > deadline:
                raise EngineRefused(f"engine {start_id} has not reached its leader's position")
            await asyncio.sleep(0.003)
        directory = engine.spec.directory
        if (directory, name) not in self.machine.shelf.cuts:
            await self.drop_cut(directory, "")
            self.machine.shelf.cuts[(directory, name)] = clone(disk, directory, disk.identity)
        cut = self.machine.shelf.cuts[(directory, name)]
        return CutSeen(*cut.newest(), cut.incremental_bytes)

    async def recognise(self, directory: str) -> CopyLabel | None:
        """See the contract."""
        await self._pause()
        place = self.machine.shelf.places.get(directory)
        return place.label if place and place.files else None

    async def drop_cut(self, directory: str, name: str) -> None:
        """See the contract."""
        cuts = self.machine.shelf.cuts
        for key in [key for key in cuts if key[0] == directory and name in ("", key[1])]:
            del cuts[key]

    async def claim_target(self, directory: str, target: str, label: CopyLabel) -> None:
        """See the contract."""
        await self._pause()
        if f"{target}/".startswith(f"{directory}/") or f"{directory}/".startswith(f"{target}/"):
            raise EngineRefused(f"{target} and the archive {directory} lie in each other")
        there = self.machine.shelf.places.get(target)
        if target in self.machine.disks or (there and there.label != label):
            raise EngineRefused(f"{target} is not empty")
        self.machine.shelf.places.setdefault(target, BackupPlace(label))

    async def write_copy(
        self, directory: str, name: str, target: str, label: CopyLabel, *, rate: int, tell: Callable[[int], Awaitable[None]]
    ) -> None:
        """See the contract."""
        await self._pause()
        shelf = self.machine.shelf
        place, cut = shelf.places.get(target), shelf.cuts.get((directory, name))
        if place and place.label == label and place.files:
            return
        if cut is None:
            raise EngineRefused(f"the cut {name} of {directory} is not there any more")
        if place is None or place.label != label:
            raise EngineRefused(f"{target} is another copy's by now")
        lasts, began = cut.incremental_bytes / rate if rate else 0.05, self.machine.net.now()
        while (gone := self.machine.net.now() - began) < lasts:
            await asyncio.sleep(min(SLICE, lasts - gone) + 0.001)
            await tell(min(99, int(100 * gone / lasts)))
        await self._pause()
        place.files = clone(cut, target, None)

    async def abandon_target(self, target: str, label: CopyLabel) -> None:
        """See the contract."""
        place = self.machine.shelf.places.get(target)
        if place and place.label == label and place.files is None:
            del self.machine.shelf.places[target]

    def _restored(self, directory: str, identity: Identity, slots: Slots) -> str:
        """The cut that a directory's hot copy was made of. Raises ArchiveRefused."""
        place = self.machine.shelf.places.get(directory)
        earlier = self.machine.disks.get(directory)
        was = earlier.identity if earlier else None
        if was and was != identity and replace(was, incarnation_of_name=identity.incarnation_of_name) == identity:
            return was.incarnation_of_name
        if was and was != identity:
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} is another archive")
        if place is None or place.files is None:
            raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} holds no hot copy that is whole")
        if place.label.slots != slots:
            raise ArchiveRefused(Cause.COPY_OF_ANOTHER_GROUP, f"{directory} is a copy of other slots")
        return place.label.cut
