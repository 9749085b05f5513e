"""Simulation: a memory-only process of one machine: its engines, one per group, live and end together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dkv.engine.contract import EngineRefused, EngineSpec, TeSeen, TeSpec
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.observe import look


@dataclass(frozen=True)
class SimMemory:
    """One of them."""

    spec: TeSpec
    pid: int
    engines: tuple[SimEngine, ...]

    @property
    def stopped(self) -> bool:
        """Whether one of its engines does not answer."""
        return any(engine.silent for engine in self.engines)

    def engine(self, group: str) -> SimEngine:
        """Its engine of that group. Raises EngineRefused."""
        of_group = next((engine for engine in self.engines if engine.group == group), None)
        if of_group is None:
            raise EngineRefused(f"process {self.spec.start_id} has no engine of group {group}")
        return of_group

    def look(self) -> TeSeen:
        """The process at one glance."""
        return TeSeen(self.spec.start_id, self.spec.directory, self.pid, tuple(look(engine) for engine in self.engines))


def launched(spec: TeSpec, pid: int, engine: Callable[[EngineSpec], SimEngine]) -> SimMemory:
    """A new one."""
    return SimMemory(spec, pid, tuple(engine(engine_spec) for engine_spec in spec.engines))
