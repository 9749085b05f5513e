"""Simulation: a whole domain: machines, managers that come and go, its databases, and its trace, line by line.

The databases are made through the same commands as anywhere else. Faults come from faults/, writes from clients.py,
and checks/ watch what must hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from dkv.control.submit import ANSWERS, RequestKey, Submitter, View, view_of
from dkv.domain.command import Command
from dkv.domain.decide import decide, decide_looking_at_all
from dkv.domain.decision import Accepted, Decision, Event, Refused
from dkv.domain.held_back import rest_of
from dkv.domain.model import Archive, DatabaseOptions, Group, ProcessRole, State
from dkv.domain.orders import CreateArchives, CreateDatabase, DeleteDatabase, NewArchive, NewGroup, StartProcess
from dkv.engine.contract import EngineError
from dkv.guarding import guarded, others
from dkv.machine.observation import LocalServer
from dkv.machine.steps import Step
from dkv.manager import Manager, ManagerError, ManagerHooks
from dkv.sim.engines.certificates import certify
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.engines import SimEngines
from dkv.sim.engines.machine import SimMachine
from dkv.sim.engines.net import SimNet
from dkv.sim.guard import SimGuard
from dkv.sim.loop import SimLoop
from dkv.sim.store import LinkConditions, SimStore, WatchedDomain
from dkv.store import codec
from dkv.store.contract import Snapshot, StoreError

DATABASE = "orders"  # the first database; the second one is called stock
EPOCH_MS = 1_700_000_000_000  # the wall clock at virtual second 0
MEMORY = 8 << 30


class Failure(AssertionError):
    """Something that must hold did not. The sentence says what, and the trace says how it came about."""


@dataclass(frozen=True)
class Shape:
    """What a run is made of."""

    servers: int = 3
    databases: int = 1
    groups: int = 1  # of each database
    copies: int = 0  # archives of each group; 0: one on each server
    min_in_sync: int = 1
    append_fsync: str = "always"  # of the last database
    twice: bool = False  # the first database is deleted and created again before it is used
    tail_above: int = 100_000_000  # bytes; no run is that large, so 0 or never
    tls: bool = False  # between engines


@dataclass
class Run:
    """One run of a manager, from its start to its death."""

    owner: str
    manager: Manager
    engines: SimEngines
    store: SimStore


@dataclass
class DriftingClock:
    """A monotonic clock that goes too fast or too slowly, and never back."""

    rate: float = 1.0
    _base: float = 0.0  # what it showed when its rate changed last
    _since: float = 0.0  # virtual seconds of that

    def read(self, now: float) -> float:
        """What it shows at `now`, in seconds."""
        return self._base + (now - self._since) * self.rate

    def drift(self, now: float, rate: float) -> None:
        """Another rate from now on."""
        self._base, self._since, self.rate = self.read(now), now, rate


@dataclass
class Machine:
    """One server: its hardware, its path to the backend, and its manager's present run."""

    name: str
    hardware: SimMachine
    link: LinkConditions = field(default_factory=LinkConditions)
    run: Run | None = None
    runs: int = 0
    guard: str = ""  # owner of the guard that its last manager left; "" while there is none
    frozen: bool = False
    down: bool = False
    stands_still: bool = False
    wall_ahead: int = 0  # ms its wall clock is wrong by
    moving_since: float = 0.0  # when its manager was started, or went on after it stood still
    clock: DriftingClock = field(default_factory=lambda: DriftingClock())


class World:
    """Everything, for one seed."""

    def __init__(self, seed: int, shape: Shape, variant: int = 0) -> None:
        self.seed = seed
        timing = f"{seed}.{variant}" if variant else f"{seed}"
        self.shape = shape
        self.loop = SimLoop(timing)  # type: ignore[abstract]  # asyncio does not insist, its stubs do
        self.net: SimNet[SimEngine] = SimNet(self.loop, timing)
        self.now = self.loop.time  # virtual seconds
        self.net.histories.complain = self.fail
        self.random = random.Random(f"world {seed}")
        self.tokens = random.Random(f"tokens {seed}")
        self.trace_lines: list[str] = []
        self.failures: list[str] = []
        self.watchers: list[Watcher] = []
        self.link = LinkConditions()
        self.domain = WatchedDomain(self.net.now, self._committed)
        self.state = State()
        self.databases = (DATABASE, "stock")[: shape.databases]
        self.machines = {name: self._machine(name, number) for number, name in enumerate(self._names(), start=1)}
        self.people = Submitter(
            SimStore(self.net, self.domain, LinkConditions(), self.link), self.wall, self.token, judge=self._judge
        )

    def _names(self) -> list[str]:
        return [f"s{number}" for number in range(1, self.shape.servers + 1)]

    def _machine(self, name: str, number: int) -> Machine:
        machine = Machine(name, SimMachine(self.net, name, f"10.0.0.{number}"))
        machine.hardware.sent = partial(self._ordered, machine)
        return machine

    def _ordered(self, machine: Machine, order: str, engine: SimEngine) -> None:
        for watcher in self.watchers:
            watcher.ordered(machine, order, engine)

    # -- clocks, chance, trace ---------------------------------------------------------------------------------------

    def wall(self) -> int:
        """The wall clock in ms."""
        return EPOCH_MS + int(self.now() * 1000)

    def _wall_of(self, name: str) -> int:
        return self.wall() + self.machines[name].wall_ahead

    def _monotonic_of(self, name: str) -> float:
        return self.machines[name].clock.read(self.now())

    def token(self) -> str:
        """A word that was never there before."""
        return f"{self.tokens.getrandbits(128):032x}"

    def trace(self, who: str, what: str) -> None:
        """One line of the trace."""
        self.trace_lines.append(f"{self.now():9.3f}  {who:<12}  {what}")

    def fail(self, sentence: str) -> None:
        """Something that must hold does not."""
        self.trace("FAILURE", sentence)
        self.failures.append(sentence)

    def _judge(self, state: State, command: Command) -> Decision:
        """What decide() answers. Looking at everything instead of what was touched has to give the same."""
        decision = decide(state, command)
        if decision != decide_looking_at_all(state, command):
            self.fail(f"{type(command).__name__} is decided otherwise where all of the domain is looked at")
        return decision

    def _committed(self, snapshot: Snapshot, events: Sequence[str]) -> None:
        before, self.state = self.state, view_of(snapshot).state
        new_events = [codec.from_text(Event, text) for text in events]
        for event in new_events:
            change = f" [{event.change}]" if event.change else ""
            self.trace(event.actor or "domain", f"{event.kind}: {event.subject}{change}, because {event.because}")
        for watcher in self.watchers:
            watcher.committed(before, self.state, new_events)

    # -- managers ----------------------------------------------------------------------------------------------------

    def start_manager(self, name: str) -> None:
        """A manager begins to run, unless one does or its machine is down."""
        machine = self.machines[name]
        if machine.run is not None or machine.down:
            return
        machine.runs += 1
        machine.moving_since = self.now()
        owner = f"{name}#{machine.runs}"
        hardware = machine.hardware
        engines = SimEngines(hardware)
        store = SimStore(self.net, self.domain, machine.link, self.link)
        server = LocalServer(
            name, f"uid-{name}", hardware.address, 7801, 8888, hardware.boot_id, "/data", MEMORY, engine_tls=self.shape.tls
        )
        outside = ManagerHooks(
            partial(self._monotonic_of, name),
            partial(self._wall_of, name),
            self.token,
            partial(self._probe, name),
            partial(self._accepts, name),
            on_error=partial(self._complain, owner),
            judge=self._judge,
            certify=partial(certify, token=self.token),
        )
        machine.run = Run(owner, Manager(server, store, engines, outside), engines, store)
        self.trace(owner, "the manager starts")
        self.loop.start(owner, self._live(machine.run))

    async def _live(self, run: Run) -> None:
        """What the daemon does: join, then run; whatever else ends it is a mistake of ours."""
        try:
            while True:
                try:
                    await run.manager.join()
                    break
                except StoreError:
                    await self.net.sleep(0.5)
            await run.manager.run()
        except ManagerError as trouble:
            self.fail(f"manager {run.owner} could not join: {trouble.message}")
        except Exception as mistake:  # noqa: BLE001 - the edge: any exception out of a manager is what we look for
            self.fail(f"manager {run.owner} crashed: {_words(mistake)}")

    def kill_manager(self, name: str) -> None:
        """SIGKILL: it stops between two awaits; its engines go on, and its guard begins to try the other machines."""
        machine = self.machines[name]
        if machine.run is None:
            return
        self.trace("fault", f"manager {machine.run.owner} is killed")
        machine.run.engines.revoke()
        machine.run.store.revoke()
        self.loop.kill(machine.run.owner)
        run, machine.run, machine.frozen = machine.run, None, False
        view = run.manager.newest() if _acts(run) else None
        if view is not None and others(view.state, name):
            self._leave_guard(machine, run.owner, set(guarded(view.state, name)))

    def _leave_guard(self, machine: Machine, manager: str, start_ids: set[int]) -> None:
        """A manager that acted on a view ended. The guard of the one before, if it still runs, has nothing more to do."""
        self.kill_guard(machine.name)
        owner = machine.guard = f"guard of {manager}"

        def needed() -> bool:
            taken_over = machine.run is not None and _acts(machine.run)
            return not taken_over and not machine.down and bool(start_ids & machine.hardware.engines.keys())

        engines = SimEngines(machine.hardware)
        guard = SimGuard(
            self.now, engines, start_ids, partial(self._hears_another, machine), needed, lambda: machine.stands_still
        )
        self.loop.start(owner, guard.run())

    def kill_guard(self, name: str) -> None:
        """SIGKILL, too."""
        machine = self.machines[name]
        if machine.guard:
            self.loop.kill(machine.guard)
            machine.guard = ""

    def _hears_another(self, machine: Machine) -> bool:
        """Whether any other machine answers; a refused connection is an answer."""
        return any(
            not other.down and not other.stands_still and not self.net.apart(machine.name, other.name)
            for other in self.machines.values()
            if other is not machine
        )

    def freeze_manager(self, name: str) -> None:
        """It stands still, as a paused virtual machine does; what it had sent is carried out."""
        machine = self.machines[name]
        if machine.run is not None and not machine.frozen:
            machine.frozen = True
            self.trace("fault", f"manager {machine.run.owner} stands still")
            self.loop.freeze(machine.run.owner)

    def thaw_manager(self, name: str) -> None:
        """It goes on as if nothing had been."""
        machine = self.machines[name]
        if machine.run is not None and machine.frozen:
            machine.frozen, machine.moving_since = False, self.now()
            self.trace("fault", f"manager {machine.run.owner} goes on")
            self.loop.thaw(machine.run.owner)

    def switch_off(self, name: str) -> None:
        """The machine loses its power: nothing of it goes on, and what no fsync reached is gone."""
        machine = self.machines[name]
        machine.down = True
        self.kill_manager(name)
        self.kill_guard(name)
        machine.hardware.restart()

    def switch_on(self, name: str) -> None:
        """The machine boots, and its manager starts."""
        machine = self.machines[name]
        if machine.down:
            self.trace("fault", f"machine {name} is switched on")
            machine.down = False
            self.start_manager(name)

    async def _probe(self, source: str, host: str, port: int) -> bool:
        """Whether a machine answers another; a refused connection is an answer."""
        await self.net.sleep(self.net.hop())
        machine = next((m for m in self.machines.values() if m.hardware.address == host), None)
        if machine is None or machine.down or machine.stands_still or self.net.apart(source, machine.name):
            await self.net.sleep(1.0)
            return False
        return True

    async def _accepts(self, source: str, host: str, port: int) -> bool:
        """Whether an engine's process is there behind a machine that answers; a stopped one still accepts."""
        if not await self._probe(source, host, port):
            return False
        machine = next(m for m in self.machines.values() if m.hardware.address == host)
        return any(e.alive and e.takes_clients and e.spec.client_port == port for e in machine.hardware.engines.values())

    def _complain(self, owner: str, step: Step | None, trouble: Exception, times: int) -> None:
        what = type(step).__name__ if step else "looking"
        self.trace(owner, f"{what} failed: {trouble}")
        if not isinstance(trouble, EngineError | StoreError | OSError):
            self.fail(f"{what} of {owner} raised {_words(trouble)}")

    async def until(self, true: Callable[[], bool], within: float) -> bool:
        """Wait for something in virtual time; whether it came true."""
        deadline = self.now() + within
        while True:
            if true() or self.now() >= deadline:
                return true()
            await self.net.sleep(0.1)

    # -- people ------------------------------------------------------------------------------------------------------

    async def order(self, command: Command) -> Accepted | Refused:
        """An operator gives an order, and tries again, under the same key, until the domain answers."""
        key = RequestKey(self.token())
        while True:
            try:
                answer = await self.people.submit(command, key)
            except StoreError:
                await self.net.sleep(0.5)
                continue
            verdict = f"refused: {answer.message}" if isinstance(answer, Refused) else "accepted"
            self.trace("operator", f"{type(command).__name__} {_about(command)}: {verdict}")
            if isinstance(answer, Accepted):
                self._can_be_read(command, key, answer)
            return answer

    def _can_be_read(self, command: Command, key: RequestKey, answer: Accepted) -> None:
        """What was answered "accepted" is there for every reader from then on."""
        log = {event.text for event in self.domain.log}
        start_id = answer.answer.get("startId")
        written = ANSWERS + key.name in self.domain.snapshot.records
        if not written or any(codec.to_text(event) not in log for event in answer.events):
            self.fail(f"{type(command).__name__} was accepted and nothing of it can be read")
        if start_id is not None and start_id not in self.state.processes and start_id not in self.state.tombstones:
            self.fail(f"process {start_id} was accepted and is not there")

    async def view(self) -> View:
        """A linearizable read, from outside."""
        return await self.people.view()

    async def create_domain(self) -> None:
        """Managers on all machines, the databases with all their archives, and everything started."""
        for name in self.machines:
            self.start_manager(name)
        await self.until(lambda: len(self.state.servers) == len(self.machines), 30.0)
        for name in self.databases:
            await self.order(self._creation(name))
            if self.shape.twice and name == DATABASE:
                await self.order(DeleteDatabase(actor="operator", name=name, purge=True))
                await self.until(lambda: not self.state.archives, 10.0)
                await self.order(self._creation(name, again="b"))
        await self.start_all()

    def _creation(self, name: str, again: str = "a") -> CreateDatabase:
        size = 16384 // self.shape.groups
        groups = [
            NewGroup(
                name=f"g{n + 1}",
                shard_id=f"{n + 1:040x}",
                slots=((n * size, 16383 if n == self.shape.groups - 1 else (n + 1) * size - 1),),
            )
            for n in range(self.shape.groups)
        ]
        archives = [
            NewArchive(server_id=server, group=group.name)
            for number, group in enumerate(groups)
            for server in self._homes(number)
        ]
        fsync = self.shape.append_fsync if name == self.databases[-1] else "always"
        options = DatabaseOptions(
            replication_factor=self.copies,
            min_in_sync=min(self.shape.min_in_sync, self.copies),
            append_fsync=fsync,
            tail_above=self.shape.tail_above,
            engine_tls="on" if self.shape.tls else "auto",
            insecure_engine_traffic="no" if self.shape.tls else "yes",  # they reach each other by addresses of a network
        )
        return CreateDatabase(
            actor="operator",
            name=name,
            uid=f"{self.databases.index(name)}{again}" * 16,
            secret="secret",
            options=options,
            groups=tuple(groups),
            archives=tuple(archives),
        )

    @property
    def copies(self) -> int:
        """How many archives each group is to have."""
        return self.shape.copies or self.shape.servers

    def _homes(self, number: int) -> list[str]:
        """The servers that get a copy of a database's group, by the group's number."""
        names = list(self.machines)
        return [names[(number + copy) % len(names)] for copy in range(self.copies)]

    def archives_of(self, group: Group) -> list[Archive]:
        """The archives of a group that are not deleted, by id."""
        return [a for a in self.state.archives_of(group.database) if a.group == group.name and not a.removed]

    async def restock(self) -> None:
        """A new archive for each one that was deleted or lost for good, on a server that has none of that group."""
        for group in list(self.state.groups.values()):
            homes = [a.server_id for a in self.archives_of(group) if not self.machines[a.server_id].down]
            free = [name for name in self.machines if name not in homes and not self.machines[name].down]
            for name in free[: max(0, self.copies - len(homes))]:
                await self.order(
                    CreateArchives(
                        actor="operator", database=group.database, archives=(NewArchive(server_id=name, group=group.name),)
                    )
                )

    async def start_all(self) -> None:
        """Start-DkvStore: an SM on each archive that has none, and those that are held back begin now."""
        for archive in list(self.state.archives.values()):
            process = self.state.process_on(archive.archive_id)
            if (process is None or rest_of(process)) and not archive.removed:
                await self.order(
                    StartProcess(actor="operator", database=archive.database, role=ProcessRole.SM, archive_id=archive.archive_id)
                )


class Watcher:
    """A check, or a fault, that looks at every commit and at every order of a manager to an engine."""

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""

    def ordered(self, machine: Machine, order: str, engine: SimEngine) -> None:
        """A manager sends an order to an engine of its machine."""

    def passed(self) -> None:
        """A quarter of a second passed, about."""


def _acts(run: Run) -> bool:
    """Whether a manager has begun to act on what it read; until then an earlier one's guard is in charge."""
    return run.manager.observed() is not None


def _words(mistake: BaseException) -> str:
    """An exception and all it carries, in one line."""
    if isinstance(mistake, BaseExceptionGroup):
        return "; ".join(_words(exception) for exception in mistake.exceptions)
    where = mistake.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" at {where.tb_frame.f_code.co_name}:{where.tb_lineno}" if where else ""
    return f"{type(mistake).__name__}: {mistake}{place}"


def _about(command: Command) -> str:
    for name in ("start_id", "archive_id", "name", "database"):
        value = getattr(command, name, None)
        if value not in (None, ""):
            return f"{name.replace('_', ' ')} {value}"
    return ""
