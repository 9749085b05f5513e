"""Simulation: the cuts and hot copies that one machine keeps, on simulated disks."""

from __future__ import annotations

from dataclasses import dataclass, field

from dkv.engine.contract import CopyLabel, Identity
from dkv.sim.engines.disk import Disk


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
