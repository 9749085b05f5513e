"""Simulation: which machines are well, and for how long: what other checks need before they call a delay or a refusal wrong.

A machine is well while its manager runs and reaches the backend at once, its disk is as fast as ever, none of its engines stands
still or is inside a script, and nothing between it and the others is cut, slow or lossy.
"""

from __future__ import annotations

from dkv.domain.model import Process
from dkv.sim.engines.engine import SimEngine
from dkv.sim.store import LinkConditions
from dkv.sim.world import Machine, Watcher, World

JUST_NOW = 0.5  # seconds: a call to the backend that had trouble since then counts


class Health(Watcher):
    """Looks at every machine whenever some time has passed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ill_at = dict.fromkeys(world.machines, 0.0)  # when each was last seen not to be well, virtual seconds

    def passed(self) -> None:
        """Some time has passed."""
        for name, machine in self._world.machines.items():
            if self._ails(machine):
                self._ill_at[name] = self._world.now()

    def well(self, name: str, seconds: float = 0.0) -> bool:
        """Whether a machine is well, and was for so many seconds."""
        machine, now = self._world.machines[name], self._world.now()
        return min(now - self._ill_at[name], now - machine.moving_since) >= seconds and not self._ails(machine)

    def engine_of(self, process: Process | None) -> SimEngine | None:
        """The engine of a process with an archive, if it lives."""
        return self._world.machines[process.server_id].hardware.engines.get(process.start_id) if process else None

    def _ails(self, machine: Machine) -> bool:
        run, now, drive = machine.run, self._world.now(), machine.hardware.drive
        if run is None or machine.frozen or machine.down or machine.stands_still or now - run.store.troubled_at < JUST_NOW:
            return True
        if any(self._hampers(link) for link in (machine.link, self._world.link)) or drive.slow or drive.trouble is not None:
            return True
        return self._wires_ail(machine.name) or any(engine.silent or engine.busy for engine in machine.hardware.all_engines())

    def _hampers(self, link: LinkConditions) -> bool:
        return link.away_until > self._world.now() or bool(link.delay or link.lose or link.watch_lag)

    def _wires_ail(self, name: str) -> bool:
        net = self._world.net
        hampered = net.slow.get(name, 0.0) or net.lag.get(name, 0.0) or net.loses.get(name, 0.0)
        return bool(hampered) or any(name in cut for cut in net.cuts)
