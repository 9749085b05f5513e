"""Simulation: one machine with its disks and processes, which survive every manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dkv.engine.contract import Cause, EngineRefused, EngineSpec, EngineUnreachable, ExitSeen, TeSpec
from dkv.sim.engines.backup_store import BackupStore
from dkv.sim.engines.disk import Disk, Drive, Entry
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.net import SimNet
from dkv.sim.engines.te import SimMemory, launched

LAST_WORDS = ("Ready to accept connections", "(the rest is silence)")


@dataclass
class SimMachine:
    """What survives every manager of one server."""

    net: SimNet[SimEngine]
    name: str
    address: str
    boot: int = 1
    loads: Callable[[], float] = lambda: 0.08  # seconds the next engine takes to load
    one_value: bool = False  # what it loads is one large value, during which it says nothing
    disks: dict[str, Disk] = field(default_factory=dict)
    engines: dict[int, SimEngine] = field(default_factory=dict)
    memory: dict[int, SimMemory] = field(default_factory=dict)
    exits: dict[int, ExitSeen] = field(default_factory=dict)
    intents: dict[int, Cause] = field(default_factory=dict)
    locks: dict[str, object] = field(default_factory=dict)  # directory -> who holds it
    backups: BackupStore = field(default_factory=BackupStore)
    kept_files: dict[str, list[list[Entry]]] = field(default_factory=dict)  # files as they were before deletions, by path
    retired: list[str] = field(default_factory=list)
    started: list[int] = field(default_factory=list)  # every start id ever launched here
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    before: Callable[[str], None] = lambda command: None  # called with each order just before it is sent
    sent: Callable[[str, SimEngine], None] = lambda order, engine: None  # called with each order when it is sent
    drive: Drive = field(default_factory=Drive)

    @property
    def running(self) -> list[int]:
        """Start ids of all processes, memory-only ones too."""
        return sorted([*self.engines, *self.memory])

    @property
    def boot_id(self) -> str:
        """Changes with every restart of the machine."""
        return f"{self.name}-boot-{self.boot}"

    @property
    def _next_pid(self) -> int:
        return 1001 + len(self.started)

    def start(self, spec: EngineSpec) -> SimEngine:
        """A new engine process on an archive."""
        disk = self.disks[spec.directory]
        disk.has_data = True
        engine = SimEngine(self.net, self.name, spec, disk, pid=self._next_pid, loads=self.loads(), one_value=self.one_value)
        engine.perish = partial(self._perish, spec.start_id)
        self.engines[spec.start_id] = engine
        self.locks[spec.directory] = engine
        self.started.append(spec.start_id)
        return engine

    def start_memory(self, spec: TeSpec) -> SimMemory:
        """A new memory-only process."""
        pid, loads = self._next_pid, self.loads()
        process = launched(spec, pid, lambda engine_spec: SimEngine(self.net, self.name, engine_spec, None, pid=pid, loads=loads))
        self.memory[spec.start_id] = process
        self.locks[spec.directory] = process
        self.started.append(spec.start_id)
        return process

    def _perish(self, start_id: int, cause: Cause) -> None:
        """An engine ends itself, because of its disk."""
        self.intents[start_id] = cause
        self.end(start_id, exit_code=1)

    def end(self, start_id: int, exit_code: int = 137, group: str = "") -> None:
        """An engine ends, or a memory-only process with all of its engines; 128 + 9 unless it left by itself.

        `group` is that of the engine of a memory-only process which ended first.
        """
        process = self.engines.pop(start_id, None) or self.memory.pop(start_id, None)
        if process is None:
            return
        signal = exit_code - 128 if exit_code > 128 else None
        default = Cause.KILLED_BY_SIGNAL if signal else Cause.TERMINATED_FROM_OUTSIDE
        cause = self.intents.pop(start_id, default)
        if cause is Cause.GRACEFUL_STOP and signal:
            cause = Cause.KILLED_BY_SIGNAL
        detail = f"{cause} {signal}, sender unknown" if cause is Cause.KILLED_BY_SIGNAL else f"{cause}"
        if group and isinstance(process, SimMemory) and len(process.engines) > 1:
            detail = f"its engine of {group}: {detail}"
        self.exits[start_id] = ExitSeen(start_id, process.spec.directory, cause, detail, exit_code, signal, LAST_WORDS, True)
        for engine in process.engines if isinstance(process, SimMemory) else (process,):
            if signal and engine.disk is not None and self.net.random.random() < 0.1:
                engine.disk.lose(self.net.random.randint(0, engine.disk.unsynced))  # docs/reference/valkey.md#durability
            engine.die()
        self.locks.pop(process.spec.directory, None)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def restart(self) -> None:
        """The machine is switched off and on: no manager saw its engines end."""
        for start_id in [*self.engines, *self.memory]:
            self.intents[start_id] = Cause.MACHINE_RESTARTED
            self.end(start_id, exit_code=255)
        for disk in self.disks.values():
            disk.lose(self.net.random.randint(0, disk.unsynced))
        self.boot += 1

    def living(self, start_id: int) -> SimEngine:
        """An archive's living engine. Raises EngineRefused for a stranger, EngineUnreachable for one that ended."""
        engine = self.engines.get(start_id)
        if engine is not None:
            return engine
        if start_id in self.memory:
            raise EngineRefused(f"process {start_id} is memory only and never leads")
        if start_id in self.exits:
            raise EngineUnreachable(f"engine {start_id} ended")
        raise EngineRefused(f"engine {start_id} is not known on this machine")

    def all_engines(self) -> list[SimEngine]:
        """Every engine here, those of memory-only processes too."""
        return [engine for start_id in self.running for engine in self.followers(start_id)]

    def followers(self, start_id: int) -> tuple[SimEngine, ...]:
        """An archive's living engine, or all engines of a memory-only process. Raises as `living` does."""
        process = self.memory.get(start_id)
        return process.engines if process is not None else (self.living(start_id),)
