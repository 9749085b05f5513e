"""Simulation room: what goes wrong. Each run draws its own subset of faults from the seed (a swarm)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from dkv.domain.commands import ShutdownDatabase, ShutdownProcess, StartProcess
from dkv.domain.model import EngineType
from dkv.sim.probes import Probes
from dkv.sim.world import DATABASE, Machine, World

Fault = Callable[[], Awaitable[None]]


class Faults:
    """Strikes at moments drawn from the seed, until cancelled."""

    def __init__(self, world: World, probes: Probes) -> None:
        self._world = world
        self._probes = probes
        self._random = random.Random(f"faults {world.seed}")
        kinds: dict[str, Fault] = {
            "kill engine": self.kill_engine,
            "kill leader": self.kill_leader,
            "kill manager": self.kill_manager,
            "kill all engines": self.kill_all_engines,
            "kill everything": self.kill_everything,
            "restart machine": self.restart_machine,
            "pause manager": self.pause_manager,
            "stop engine": self.stop_engine,
            "lost answers": self.lost_answers,
            "backend away": self.backend_away,
            "lease lost": self.lease_lost,
            "slow backend": self.slow_backend,
            "slow loading": self.slow_loading,
            "lagging followers": self.lagging_followers,
            "cut machines": self.cut_machines,
            "isolate machine": self.isolate_machine,
            "freeze machine": self.freeze_machine,
            "stop instance": self.stop_instance,
            "kill instance": self.kill_instance,
            "stop store": self.stop_store,
        }
        names = [name for name in kinds if self._random.random() < 0.45] or ["kill leader"]
        self.chosen = {name: kinds[name] for name in names}
        self.pace = self._random.choice((0.7, 1.5, 3.0, 6.0))      # mean seconds between faults
        world.tell("fault", f"this run draws from: {', '.join(names)}; one about every {self.pace} s")

    async def run(self) -> None:
        """Strike until cancelled; each fault runs beside the others and ends by itself."""
        running: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._random.expovariate(1 / self.pace))
                name = self._random.choice(list(self.chosen))
                self._probes.fault(name)
                running.add(tasks.create_task(_quietly(self.chosen[name])))

    def _machine(self) -> Machine:
        return self._random.choice(list(self._world.machines.values()))

    async def _for(self, low: float, high: float) -> None:
        await asyncio.sleep(self._random.uniform(low, high))

    # -- engines -----------------------------------------------------------------------------------------------------

    async def kill_engine(self) -> None:
        """SIGKILL from nobody knows where."""
        machine = self._machine().hardware
        if machine.engines:
            start_id = self._random.choice(sorted(machine.engines))
            self._world.tell("fault", f"engine of process {start_id} is killed")
            machine.end(start_id)

    async def kill_leader(self) -> None:
        """The engine of a leader, at once or right after its followers began to lag."""
        groups = [g for g in self._world.state.groups.values() if g.leader_process is not None]
        if not groups:
            return
        start_id = self._random.choice(groups).leader_process
        for machine in self._world.machines.values():
            if start_id is not None and start_id in machine.hardware.engines:
                self._world.tell("fault", f"engine of process {start_id}, a leader, is killed")
                machine.hardware.end(start_id)

    async def kill_all_engines(self) -> None:
        """Every engine of the domain at the same instant."""
        self._world.tell("fault", "every engine is killed")
        for machine in self._world.machines.values():
            for start_id in list(machine.hardware.engines):
                machine.hardware.end(start_id)

    async def stop_engine(self) -> None:
        """SIGSTOP, and SIGCONT later."""
        machine = self._machine().hardware
        if not machine.engines:
            return
        start_id = self._random.choice(sorted(machine.engines))
        engine = machine.engines[start_id]
        self._world.tell("fault", f"engine of process {start_id} stands still")
        engine.stop()
        await self._for(0.5, 6.0)
        self._world.tell("fault", f"engine of process {start_id} goes on")
        engine.go_on()

    async def slow_loading(self) -> None:
        """The next engines of a machine take long to load."""
        machine = self._machine().hardware
        slowly = self._random.uniform(1.0, 15.0)
        self._world.tell("fault", f"engines of {machine.name} load in {slowly:.1f} s from now on")
        machine.loads = lambda: slowly
        await self._for(3.0, 20.0)
        machine.loads = lambda: 0.08

    async def lagging_followers(self) -> None:
        """The stream to a machine's followers trails under load."""
        machine = self._machine()
        self._world.net.lag[machine.name] = self._random.choice((0.05, 0.3, 1.0))
        self._world.tell("fault", f"replication to {machine.name} trails by up to {self._world.net.lag[machine.name]} s")
        await self._for(2.0, 15.0)
        self._world.net.lag[machine.name] = 0.0

    # -- managers and machines ---------------------------------------------------------------------------------------

    async def kill_manager(self) -> None:
        """SIGKILL at any await; started again after a while."""
        machine = self._machine()
        if machine.run is None:
            return
        run = machine.run
        self._world.loop.strike(run.owner, self._random.randrange(200), lambda: self._world.kill_manager(machine.name))
        await self._world.until(lambda: machine.run is not run, 5.0)
        self._world.loop.spare(run.owner)
        await self._for(0.3, 8.0)
        self._world.start_manager(machine.name)

    async def pause_manager(self) -> None:
        """Standing still from any await on, for less or more than its lease."""
        machine = self._machine()
        if machine.run is None:
            return
        run = machine.run
        self._world.loop.strike(run.owner, self._random.randrange(200), lambda: self._world.freeze_manager(machine.name))
        await self._world.until(lambda: machine.frozen or machine.run is not run, 5.0)
        self._world.loop.spare(run.owner)
        await self._for(0.2, 9.0)
        if machine.run is run:
            self._world.thaw_manager(machine.name)

    async def kill_everything(self) -> None:
        """All managers and all engines at once; managers are started again one by one."""
        self._world.tell("fault", "every process of the domain is killed")
        for machine in self._world.machines.values():
            self._world.kill_manager(machine.name)
            for start_id in list(machine.hardware.engines):
                machine.hardware.end(start_id)
        for name in self._random.sample(list(self._world.machines), len(self._world.machines)):
            await self._for(0.1, 3.0)
            self._world.start_manager(name)

    async def restart_machine(self) -> None:
        """Power off, and on after a while: a new boot."""
        machine = self._machine()
        if machine.down:
            return
        self._world.tell("fault", f"machine {machine.name} is switched off")
        machine.down = True
        self._world.kill_manager(machine.name)
        machine.hardware.restart()
        await self._for(0.5, 15.0)
        self._world.tell("fault", f"machine {machine.name} is switched on")
        machine.down = False
        self._world.start_manager(machine.name)

    async def cut_machines(self) -> None:
        """Two machines do not hear each other; both still reach the backend."""
        names = self._random.sample(list(self._world.machines), 2)
        self._world.tell("fault", f"{names[0]} and {names[1]} do not hear each other")
        self._world.net.cut(names[0], names[1])
        await self._for(0.5, 8.0)
        self._world.net.heal()
        self._world.tell("fault", "all machines hear each other")

    async def isolate_machine(self) -> None:
        """One machine hears no other and no backend; its clients still reach it."""
        machine = self._machine()
        away = self._random.uniform(0.5, 12.0)
        self._world.tell("fault", f"{machine.name} is isolated for {away:.1f} s")
        machine.weather.away_until = self._world.now() + away
        for name in self._world.machines:
            if name != machine.name:
                self._world.net.cut(machine.name, name)
        await asyncio.sleep(away)
        self._world.net.heal()
        self._world.tell("fault", "all machines hear each other")

    async def freeze_machine(self) -> None:
        """The whole virtual machine stands still, engines too, and goes on as if nothing had been."""
        machine = self._machine()
        engines = list(machine.hardware.engines.values())
        if machine.stands_still:
            return
        self._world.tell("fault", f"machine {machine.name} stands still")
        machine.stands_still = True
        self._world.freeze_manager(machine.name)
        for engine in engines:
            engine.stop()
        await self._for(0.5, 9.0)
        self._world.tell("fault", f"machine {machine.name} goes on")
        machine.stands_still = False
        if self._random.random() < 0.5:
            self._world.thaw_manager(machine.name)
        for engine in engines:
            engine.go_on()
        self._world.thaw_manager(machine.name)

    # -- the backend -------------------------------------------------------------------------------------------------

    async def backend_away(self) -> None:
        """For everybody."""
        away = self._random.uniform(0.5, 9.0)
        self._world.tell("fault", f"the backend is away for {away:.1f} s")
        self._world.weather.away_until = self._world.now() + away
        await asyncio.sleep(away)

    async def lease_lost(self) -> None:
        """One manager cannot reach the backend for longer than its lease."""
        machine = self._machine()
        away = self._random.uniform(2.5, 10.0)
        self._world.tell("fault", f"{machine.name} cannot reach the backend for {away:.1f} s")
        machine.weather.away_until = self._world.now() + away
        await asyncio.sleep(away)

    async def lost_answers(self) -> None:
        """Commits happen and nobody is told."""
        self._world.tell("fault", "answers of the backend get lost")
        self._world.weather.lose = self._random.choice((0.05, 0.3))
        await self._for(1.0, 8.0)
        self._world.weather.lose = 0.0

    async def slow_backend(self) -> None:
        """One manager's calls take long."""
        machine = self._machine()
        machine.weather.delay = self._random.choice((0.05, 0.3, 0.8))
        self._world.tell("fault", f"the backend is slow for {machine.name}")
        await self._for(1.0, 10.0)
        machine.weather.delay = 0.0

    # -- operators ---------------------------------------------------------------------------------------------------

    async def _stop_one(self, *, kill: bool) -> None:
        processes = self._world.state.processes_of(DATABASE)
        if not processes:
            return
        process = self._random.choice(processes)
        await self._world.order(ShutdownProcess(actor="operator", start_id=process.start_id, kill=kill,
                                                force=self._random.random() < 0.3))  # fmt: skip
        await self._for(0.2, 8.0)
        if process.archive_id is not None:
            await self._world.order(StartProcess(actor="operator", database=DATABASE, engine_type=EngineType.SM,
                                                 archive_id=process.archive_id))  # fmt: skip

    async def stop_instance(self) -> None:
        """Stop one process gracefully, start it again later."""
        await self._stop_one(kill=False)

    async def kill_instance(self) -> None:
        """The same without waiting for a graceful end."""
        await self._stop_one(kill=True)

    async def stop_store(self) -> None:
        """Stop everything; start it again when it has stopped, or much too early."""
        await self._world.order(ShutdownDatabase(actor="operator", name=DATABASE, force=self._random.random() < 0.15))
        if self._random.random() < 0.7:
            await self._world.until(lambda: not self._world.state.processes_of(DATABASE), 20.0)
        await self._for(0.0, 3.0)
        await self._world.start_all()


async def _quietly(fault: Fault) -> None:
    await fault()
