"""Simulation: what strikes engines, managers, machines and disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dkv.domain.orders import Switchover
from dkv.engine.contract import Cause
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.net import CLIENTS
from dkv.sim.faults.kinds import Fault, Source
from dkv.sim.world import Machine, Run


class NodeFaults(Source):
    """Faults of one machine or of all of them."""

    def kinds(self) -> dict[str, Fault]:
        """By name."""
        return {
            "kill engine": self.kill_engine,
            "kill leader": self.kill_leader,
            "kill te": self.kill_te,
            "kill manager": self.kill_manager,
            "kill engine and manager": self.kill_engine_and_manager,
            "kill all engines": self.kill_all_engines,
            "kill everything": self.kill_everything,
            "restart machine": self.restart_machine,
            "stop engine": self.stop_engine,
            "pause manager": self.pause_manager,
            "pause manager before a command": self.pause_before_command,
            "kill manager before a command": self.kill_before_command,
            "freeze machine": self.freeze_machine,
            "long script": self.long_script,
            "slow loading": self.slow_loading,
            "slow disk": self.slow_disk,
            "full disk": self.full_disk,
            "failing disk": self.failing_disk,
        }

    # -- engines -----------------------------------------------------------------------------------------------------

    async def kill_engine(self) -> None:
        """SIGKILL from an unknown sender."""
        machine = self.machine().hardware
        if machine.running:
            start_id = self.random.choice(machine.running)
            self.struck("kill engine", f"engine of process {start_id} is killed")
            machine.end(start_id)

    async def kill_leader(self) -> None:
        """The engine of a leader."""
        groups = [g for g in self.world.state.groups.values() if g.leader_process is not None]
        if not groups:
            return
        start_id = self.random.choice(groups).leader_process
        for machine in self.world.machines.values():
            if start_id is not None and start_id in machine.hardware.engines:
                self.struck("kill leader", f"engine of process {start_id}, a leader, is killed")
                machine.hardware.end(start_id)

    async def kill_te(self) -> None:
        """All engines of a memory-only process."""

        def there() -> list[tuple[Machine, int]]:
            return [(machine, s) for machine in self.world.machines.values() for s in sorted(machine.hardware.memory)]

        await self.world.until(lambda: bool(there()), 6.0)
        if running := there():
            machine, start_id = self.random.choice(running)
            self.struck("kill te", f"memory-only process {start_id} is killed")
            machine.hardware.end(start_id)

    async def kill_all_engines(self) -> None:
        """Every engine of the domain at the same instant."""
        if any(machine.hardware.running for machine in self.world.machines.values()):
            self.struck("kill all engines", "every engine is killed")
        for machine in self.world.machines.values():
            self._kill_engines(machine)

    def _kill_engines(self, machine: Machine) -> None:
        for start_id in machine.hardware.running:
            machine.hardware.end(start_id)

    async def stop_engine(self) -> None:
        """SIGSTOP, and SIGCONT later."""
        machine = self.machine().hardware
        if not machine.running:
            return
        start_id = self.random.choice(machine.running)
        engine = self.random.choice(machine.followers(start_id))
        self.struck("pause engine", f"engine of process {start_id} stands still")
        engine.stop()
        await self.wait(0.5, 6.0)
        self.world.trace("fault", f"engine of process {start_id} goes on")
        engine.go_on()

    async def long_script(self) -> None:
        """A client's script writes at once and keeps a leader busy; half the time an operator wants another leader."""
        groups = [g for g in self.world.state.groups.values() if g.leader_process is not None]
        engine = self._engine(self.random.choice(groups).leader_process) if groups else None
        if engine is None:
            return
        seconds, key = self.random.uniform(6.0, 18.0), f"script-{self.random.getrandbits(32)}"
        self.world.net.post(CLIENTS, engine, engine.run_script, key, "1", seconds, lambda answer: None)
        try:
            if await self.world.until(lambda: engine.deaf, 1.0):
                self.struck("long script", f"a script keeps process {engine.start_id} for {seconds:.1f} s")
                await self._beside_a_script(engine, seconds)
        finally:
            engine.withdrawn.add(key)
            if engine.script is not None:
                engine.script_ends(engine.script)

    async def _beside_a_script(self, engine: SimEngine, seconds: float) -> None:
        before = self.random.uniform(0.3, 1.0) * seconds
        await asyncio.sleep(before)
        if self.random.random() < 0.7:
            database, group = engine.spec.identity.database, engine.group
            await self.world.order(Switchover(actor="operator", database=database, group=group))
        await asyncio.sleep(seconds - before)

    def _engine(self, start_id: int | None) -> SimEngine | None:
        engines = [machine.hardware.engines.get(start_id) for machine in self.world.machines.values() if start_id is not None]
        return next((engine for engine in engines if engine is not None), None)

    async def slow_loading(self) -> None:
        """The next engines of a machine take long to load: many values, or one large one, about which they say nothing."""
        machine = self.machine().hardware
        slowly = self.random.uniform(1.0, 15.0)
        machine.one_value = slowly % 1 < 0.5
        what = "one large value" if machine.one_value else "their values"
        self.struck("slow loading", f"engines of {machine.name} load {what} in {slowly:.1f} s from now on")
        machine.loads = lambda: slowly
        await self.wait(3.0, 15.0)
        machine.loads, machine.one_value = lambda: 0.08, False

    # -- disks -------------------------------------------------------------------------------------------------------

    async def slow_disk(self) -> None:
        """Each fsync takes long."""
        machine = self.machine().hardware
        machine.drive.slow = self.random.choice((0.02, 0.2, 1.5))
        self.struck("slow disk", f"the disk of {machine.name} takes up to {machine.drive.slow} s for each write")
        await self.wait(1.0, 10.0)
        machine.drive.slow = 0.0

    async def full_disk(self) -> None:
        """Engines that write end, and those that start too."""
        await self._spoil("full disk", Cause.DISK_FULL)

    async def failing_disk(self) -> None:
        """The same for another reason."""
        await self._spoil("failing disk", Cause.DISK_ERROR)

    async def _spoil(self, kind: str, cause: Cause) -> None:
        machine = self.machine().hardware
        if machine.drive.trouble:
            return
        self.struck(kind, f"each write to the disk of {machine.name} ends in: {cause}")
        machine.drive.trouble = cause
        await self.wait(0.3, 6.0)
        self.world.trace("fault", f"the disk of {machine.name} is well again")
        machine.drive.trouble = None

    # -- managers ----------------------------------------------------------------------------------------------------

    async def kill_manager(self) -> None:
        """SIGKILL at any await; started again after a while."""
        machine, run = machine_and_run(self.machine())
        if run is None:
            return
        self.world.loop.inject(run.owner, self.random.randrange(200), lambda: self._kill(machine, "kill manager"))
        await self.world.until(lambda: machine.run is not run, 5.0)
        self.world.loop.cancel_injection(run.owner)
        await self._start_again(machine)

    def _kill(self, machine: Machine, kind: str) -> None:
        self.probes.fault(kind)
        self.world.kill_manager(machine.name)

    async def _start_again(self, machine: Machine) -> None:
        await self.wait(0.3, 8.0)
        self.world.start_manager(machine.name)

    async def pause_manager(self) -> None:
        """Standing still from any await on, for less or more than its lease."""
        machine, run = machine_and_run(self.machine())
        if run is None:
            return
        self.world.loop.inject(run.owner, self.random.randrange(200), lambda: self._freeze(machine, "pause manager"))
        await self.world.until(lambda: machine.frozen or machine.run is not run, 5.0)
        self.world.loop.cancel_injection(run.owner)
        await self.wait(0.2, 9.0)
        if machine.run is run:
            self.world.thaw_manager(machine.name)

    def _freeze(self, machine: Machine, kind: str) -> None:
        self.probes.fault(kind)
        self.world.freeze_manager(machine.name)

    async def pause_before_command(self) -> None:
        """Standing still between its decision and an engine command, which it sends when it goes on."""
        machine, run = machine_and_run(self.machine())
        if run is None:
            return
        await self._at_a_command(machine, lambda: self._freeze(machine, "pause manager before a command"))
        await self.wait(0.2, 9.0)
        if machine.run is run:
            self.world.thaw_manager(machine.name)

    async def kill_before_command(self) -> None:
        """Dying between its decision and an engine command."""
        machine, run = machine_and_run(self.machine())
        if run is None:
            return
        if await self._at_a_command(machine, lambda: self._kill(machine, "kill manager before a command")):
            await self._start_again(machine)

    async def _at_a_command(self, machine: Machine, act: Callable[[], None]) -> bool:
        """Do something just before the manager's next command of some kind; whether there was one."""
        hardware, done = machine.hardware, asyncio.Event()
        wanted = self.random.choice(("", "", "", "take over", "replicate", "mark"))

        def before(command: str) -> None:
            if hardware.before is before and wanted in ("", command):
                hardware.before = lambda command: None
                self.world.trace("fault", f"just before {machine.name} orders an engine: {command}")
                done.set()
                act()

        hardware.before = before
        try:
            async with asyncio.timeout(8.0):
                await done.wait()
        except TimeoutError:
            pass
        finally:
            if hardware.before is before:
                hardware.before = lambda command: None
        return done.is_set()

    # -- machines ----------------------------------------------------------------------------------------------------

    async def kill_engine_and_manager(self) -> None:
        """Both at the same instant: the machine answers, and no process on it."""
        machine = self.machine()
        if machine.run is None or not machine.hardware.running:
            return
        self.struck("kill engine and manager", f"manager and engines of {machine.name} are killed")
        self.world.kill_manager(machine.name)
        self._kill_engines(machine)
        await self._start_again(machine)

    async def kill_everything(self) -> None:
        """All engines and all managers at the same instant."""
        self.struck("kill everything", "everything is killed")
        for machine in self.world.machines.values():
            self.world.kill_manager(machine.name)
            self._kill_engines(machine)
        for name in self.random.sample(list(self.world.machines), len(self.world.machines)):
            await self.wait(0.1, 3.0)
            self.world.start_manager(name)

    async def restart_machine(self) -> None:
        """Power off, and on after a while: a new boot."""
        machine = self.machine()
        if machine.down:
            return
        self.struck("restart machine", f"machine {machine.name} is switched off")
        self.world.switch_off(machine.name)
        await self.wait(0.5, 12.0)
        self.world.switch_on(machine.name)

    async def freeze_machine(self) -> None:
        """The whole virtual machine stands still, engines too, and goes on as if nothing had been."""
        machine = self.machine()
        engines = machine.hardware.all_engines()
        if machine.stands_still:
            return
        self.struck("pause machine", f"machine {machine.name} stands still")
        machine.stands_still = True
        self.world.freeze_manager(machine.name)
        for engine in engines:
            engine.stop()
        await self.wait(0.5, 9.0)
        self.world.trace("fault", f"machine {machine.name} goes on")
        machine.stands_still = False
        if self.random.random() < 0.5:
            self.world.thaw_manager(machine.name)
        for engine in engines:
            engine.go_on()
        self.world.thaw_manager(machine.name)


def machine_and_run(machine: Machine) -> tuple[Machine, Run | None]:
    """A machine and its manager's present run, if there is one."""
    return machine, machine.run
