"""Simulation: what can be done to one process, its manager and its machine; each act ends by itself after a while."""

from __future__ import annotations

import random
from collections.abc import Callable

from dkv.domain.model import Process
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Machine, World

LONGEST = 6.0  # seconds until what stands still goes on
TRAILS = (0.05, 0.2, 0.5)  # seconds


class Acts:
    """Acts by name on the process of a role. Nothing is undone after `over`: all was healed then."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world, self._random = world, chance
        self.over = False
        self.kinds: dict[str, Callable[[Process], None]] = {
            "engine ends": self.engine_ends,
            "engine stands still": self.engine_stands_still,
            "manager ends": self.manager_ends,
            "manager stands still": self.manager_stands_still,
            "engine and manager end": self.both_end,
            "machine stands still": self.machine_stands_still,
            "machine loses its power": self.machine_restarts,
            "machine is isolated": self.isolated,
            "machine cannot reach the backend": self.cannot_reach_backend,
            "stream trails": self.trails,
            "is not heard by another": self.not_heard,
        }

    def _machine(self, process: Process) -> Machine:
        return self._world.machines[process.server_id]

    def _later(self, undo: Callable[..., None], *arguments: object, within: float = LONGEST) -> None:
        self._world.net.later(self._random.uniform(0.1, within), self._undo, undo, *arguments)

    def _undo(self, undo: Callable[..., None], *arguments: object) -> None:
        if not self.over:
            undo(*arguments)

    # -- engines and managers --------------------------------------------------------------------------------------------

    def engine_ends(self, process: Process) -> None:
        """SIGKILL."""
        self._machine(process).hardware.end(process.start_id)

    def engine_stands_still(self, process: Process) -> None:
        """SIGSTOP, and SIGCONT later."""
        engine: SimEngine | None = self._machine(process).hardware.engines.get(process.start_id)
        if engine is not None:
            engine.stop()
            self._later(engine.go_on)

    def manager_ends(self, process: Process) -> None:
        """SIGKILL; it is started again later."""
        self._world.kill_manager(process.server_id)
        self._later(self._world.start_manager, process.server_id)

    def manager_stands_still(self, process: Process) -> None:
        """What it had sent is carried out."""
        self._world.freeze_manager(process.server_id)
        self._later(self._world.thaw_manager, process.server_id)

    def both_end(self, process: Process) -> None:
        """At the same instant, and the machine goes on."""
        self.manager_ends(process)
        self.engine_ends(process)

    # -- machines ----------------------------------------------------------------------------------------------------------

    def machine_stands_still(self, process: Process) -> None:
        """Engines, manager and what is on its way to them."""
        machine = self._machine(process)
        if machine.stands_still or machine.down:
            return
        machine.stands_still = True
        self._world.freeze_manager(machine.name)
        engines = machine.hardware.all_engines()
        for engine in engines:
            engine.stop()
        self._later(self._goes_on, machine, engines)

    def _goes_on(self, machine: Machine, engines: list[SimEngine]) -> None:
        machine.stands_still = False
        for engine in engines:
            engine.go_on()
        self._world.thaw_manager(machine.name)

    def machine_restarts(self, process: Process) -> None:
        """Off, and on later."""
        if not self._machine(process).down:
            self._world.switch_off(process.server_id)
            self._later(self._world.switch_on, process.server_id)

    def cannot_reach_backend(self, process: Process) -> None:
        """For less or more than a lease."""
        self._machine(process).link.away_until = self._world.now() + self._random.uniform(0.5, LONGEST)

    def isolated(self, process: Process) -> None:
        """From all other machines and the backend; its clients still reach it."""
        machine, until = self._machine(process), self._random.uniform(0.5, LONGEST)
        machine.link.away_until = self._world.now() + until
        for name in self._world.machines:
            if name != machine.name:
                self._world.net.cut(machine.name, name)
                self._world.net.later(until, self._undo, self._world.net.heal, (machine.name, name))

    def not_heard(self, process: Process) -> None:
        """One other machine hears nothing of it; the way back is open."""
        others = [name for name in self._world.machines if name != process.server_id]
        other = self._random.choice(others)
        self._world.net.cut_one_way(process.server_id, other)
        self._later(self._world.net.heal, (process.server_id, other))

    def trails(self, process: Process) -> None:
        """What it replicates arrives late."""
        lag = self._world.net.lag
        lag[process.server_id] = self._random.choice(TRAILS)
        self._later(lag.__setitem__, process.server_id, 0.0)
