"""Simulation: one run in two acts. First faults and writes; then everything is healed and progress is demanded."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from dkv.domain.model import Group, State
from dkv.domain.phases import HandingOver
from dkv.machine.observation import STOPPING
from dkv.sim.authorities import AuthorityChanges
from dkv.sim.checks.certificates import uncertified
from dkv.sim.checks.health import Health
from dkv.sim.checks.leadership import LeadershipChecks
from dkv.sim.checks.metadata import MetadataChecks
from dkv.sim.checks.orders import OrderChecks
from dkv.sim.checks.probes import Probes
from dkv.sim.checks.registers import RegisterChecks
from dkv.sim.checks.tables import TableChecks
from dkv.sim.checks.tail import Tails
from dkv.sim.checks.te_and_backup import TeAndBackupChecks
from dkv.sim.checks.waiting import WaitingChecks
from dkv.sim.checks.writes import Checkers
from dkv.sim.clients import Ledger, RegisterClient, RegisterHistory, Writer
from dkv.sim.faults.kinds import Faults
from dkv.sim.faults.moments import Moments
from dkv.sim.faults.network import NetworkFaults
from dkv.sim.faults.nodes import NodeFaults
from dkv.sim.faults.story import Story
from dkv.sim.faults.tail import TailStrikes
from dkv.sim.loop import Livelock
from dkv.sim.operators import Operators
from dkv.sim.users import UserChanges
from dkv.sim.world import Failure, Shape, World

FAULTY = 22.0  # virtual seconds of the first act
HEALED_WITHIN = 60.0  # virtual seconds the second act may take until everything is whole
CONFIRMED_WITHIN = 5.0  # virtual seconds in which each group of a whole domain confirms something
SETTLED = 1.5  # virtual seconds it must stay whole
ONCE_MORE = 0.5  # share of the runs in which every leader is killed once more in the healed world
ONE_VALUE = 0.5  # share of the machines whose engines load one large value then
GRACE_AND_MORE = (1.5, 7.0)  # virtual seconds that takes; failoverGrace is 2
REGISTERS = 0.4  # share of the runs in which clients also raise and read registers
TLS = 0.25  # share of the runs in which engines speak TLS
QUIET = 1.0  # virtual seconds without writes, before nothing is ordered any more
AT_REST = 1.5  # virtual seconds in which nothing may be ordered, before the books are compared


@dataclass(frozen=True)
class Outcome:
    """How one seed went."""

    seed: int
    failures: tuple[str, ...]
    trace: tuple[str, ...]
    counts: Counter[str]
    writes: int
    acknowledged: int
    confirmed: int
    lost: Counter[str]
    steps: int
    virtual: float
    story: Mapping[str, str] = field(default_factory=dict)  # the strikes that came to pass, by name
    variant: int = 0

    @property
    def name(self) -> str:
        """What the command line calls it: the seed, and its variant if it is one."""
        return f"{self.seed}.{self.variant}" if self.variant else f"{self.seed}"

    def summary(self) -> str:
        """One line."""
        word = "failed" if self.failures else "holds"
        lost = "".join(f", {count} acknowledged ones lost since {why}" for why, count in sorted(self.lost.items()))
        return (
            f"seed {self.name} {word}: {self.writes} writes, {self.acknowledged} acknowledged, {self.confirmed} "
            f"confirmed{lost}; {self.virtual:.0f} virtual seconds in {self.steps} steps"
        )


def shape_of(seed: int) -> Shape:
    """How large the domain of a seed is."""
    chance = random.Random(f"shape {seed}")
    servers = chance.choice((2, 2, 3, 3, 3))
    databases, groups = chance.choice(((1, 1), (1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (2, 2)))
    many = databases * groups > 2 or (servers == 3 and chance.random() < 0.3)
    return Shape(
        servers=servers,
        databases=databases,
        groups=groups,
        copies=2 if many else servers,
        min_in_sync=chance.choice((1, 1, 1, 2)),
        append_fsync=chance.choice((*["always"] * 7, "everysec")),
        twice=chance.random() < 0.15,
        tail_above=chance.choice((0, 100_000_000)),
        tls=chance.random() < TLS,
    )


class Scenario:
    """Two acts."""

    def __init__(self, seed: int, only: Collection[str] | None = None, variant: int = 0) -> None:
        self.world = World(seed, shape_of(seed), variant)
        self.variant = variant
        self.story = Story(None if only is None else frozenset(only))
        self.ledger = Ledger()
        self.history = RegisterHistory()
        self.registers = RegisterChecks(self.world, self.history)
        self.probes = Probes()
        self.checkers = Checkers(self.world, self.ledger)
        self.beside = TeAndBackupChecks(self.world, self.ledger)
        self.tails = Tails(self.world, self.probes)
        self.strikes = TailStrikes(self.world, self.probes, self.story)
        self.moments = Moments(self.world, self.probes, self.story)
        self.leadership = LeadershipChecks(self.world, self.ledger)
        health = Health(self.world)
        self.tables = TableChecks(self.world, health)
        named = [OrderChecks(self.world, health), self.tables, WaitingChecks(self.world, health)]
        checks = [MetadataChecks(self.world), self.checkers, self.beside, self.tails, self.leadership, *named]
        self.world.watchers = [self.probes, health, *checks, self.strikes, self.moments]

    def play(self) -> Outcome:
        """Run it to its end or to its first failure."""
        world = self.world
        try:
            world.loop.run_until_complete(self._acts())
        except Livelock as mistake:
            world.fail(str(mistake))
        except Failure:
            pass
        outcome = self._outcome()
        world.loop.close()
        return outcome

    async def _acts(self) -> None:
        world = self.world
        await world.create_domain()
        clients: list[Writer | RegisterClient] = [
            Writer(world, self.ledger, group.key, f"{group.database}-{group.name}-{kind}", confirms=kind == "confirmed")
            for group in world.state.groups.values()
            for kind in ("plain", "confirmed")
        ]
        if random.Random(f"registers {world.seed}").random() < REGISTERS:
            clients += [
                RegisterClient(world, self.history, key, reads=reads) for key in world.state.groups for reads in (False, True)
            ]
        writing = [asyncio.ensure_future(client.run()) for client in clients]
        striking = asyncio.ensure_future(self._faults().run())
        await self._watch(FAULTY, striking, *writing)
        striking.cancel()
        self.strikes.over = True
        self.moments.end()
        await asyncio.gather(striking, return_exceptions=True)
        await self._heal()
        await self._demand_progress(writing)
        if random.Random(f"once more {world.seed}").random() < ONCE_MORE:
            await self._kill_the_leaders()
            await self._demand_progress(writing)
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        await asyncio.sleep(QUIET)
        goes_home = any(archive.goes_home for archive in world.state.archives.values())  # seconds after all is whole
        self.leadership.at_rest = None if goes_home else []
        await asyncio.sleep(AT_REST)
        self.leadership.at_the_end()
        self.checkers.at_the_end()
        self.registers.at_the_end(self.checkers)
        self.tables.at_the_end()
        self.tails.at_the_end()
        self.beside.at_the_end()
        self._stop_at_failure()

    def _faults(self) -> Faults:
        sources = (NodeFaults, NetworkFaults, Operators, UserChanges, AuthorityChanges)
        return Faults(self.world, self.probes, sources, self.story)

    async def _watch(self, seconds: float, *tasks: asyncio.Future[None]) -> None:
        """Let time pass; end at the first failure."""
        deadline = self.world.now() + seconds
        while self.world.now() < deadline:
            await asyncio.sleep(0.25)
            for watcher in self.world.watchers:
                watcher.passed()
            self._stop_at_failure()
            for task in tasks:
                if task.done():
                    task.result()

    def _stop_at_failure(self) -> None:
        for trouble in self.world.loop.troubles[:1]:
            self.world.fail(f"an exception that was not awaited: {trouble.get('exception', trouble.get('message'))!r}")
        if self.world.failures:
            raise Failure(self.world.failures[0])

    async def _kill_the_leaders(self) -> None:
        """Once more, in a world without any other fault: others must be able to lead, and a leader that loads one large value,
        about which it says nothing for longer than failoverGrace, is waited for.
        """
        self.world.trace("act two", "every leader is killed once more")
        chance = random.Random(f"large values {self.world.seed}")
        for machine in self.world.machines.values():
            if chance.random() < ONE_VALUE:
                seconds = chance.uniform(*GRACE_AND_MORE)
                machine.hardware.loads, machine.hardware.one_value = partial(float, seconds), True
        self.checkers.nothing_stands_still = True
        for group in self.world.state.groups.values():
            engine = self.checkers.leader_engine(group)
            if engine is not None:
                self.world.machines[engine.machine].hardware.end(engine.start_id)

    def _lost_for_good(self) -> str:
        """A machine that never comes back, in some runs, if every group has a member of S elsewhere; else none."""
        state = self.world.state
        if any(d.state in STOPPING for d in state.databases.values()):  # it waits for a lost machine
            return ""
        for name in self.world.machines:
            elsewhere = all(
                any(state.archives[a].server_id != name for a in group.in_sync)
                and all(state.archives[a].server_id != name for a in _heard_first(group) if a in state.archives)
                and name not in _unproven(state, group)
                for group in state.groups.values()
            )
            if elsewhere and len(self.world.machines) > 2 and random.Random(f"lost {self.world.seed}").random() < 0.4:
                return name
        return ""

    async def _heal(self) -> None:
        """No faults any more: everything that can go on goes on, and everything is started."""
        world = self.world
        lost = self.checkers.lost_for_good = self._lost_for_good()
        world.trace(
            "act two",
            f"{f'{lost} is lost for good and everything else' if lost else 'everything'} is healed; "
            "progress is demanded from now on",
        )
        if lost:
            world.switch_off(lost)
        world.link.away_until, world.link.lose = 0.0, 0.0
        world.link.unsure = False
        world.net.heal()
        world.net.lag.clear()
        world.net.slow.clear()
        world.net.loses.clear()
        for name, machine in world.machines.items():
            if name == lost:
                continue
            machine.link.away_until, machine.link.delay, machine.link.watch_lag = 0.0, 0.0, 0.0
            machine.down = machine.stands_still = False
            machine.hardware.loads, machine.hardware.one_value = lambda: 0.08, False
            machine.hardware.before = lambda command: None
            machine.hardware.drive.slow, machine.hardware.drive.trouble = 0.0, None
            for engine in machine.hardware.all_engines():
                engine.go_on()
            if machine.run is not None:
                world.loop.cancel_injection(machine.run.owner)
            world.thaw_manager(name)
            world.start_manager(name)

    async def _demand_progress(self, writing: Sequence[asyncio.Future[None]]) -> None:
        world, deadline = self.world, self.world.now() + HEALED_WITHIN
        whole_since = world.now()
        while world.now() - whole_since < SETTLED:
            await world.restock()
            await world.start_all()
            await self._watch(0.5, *writing)
            lost = self.checkers.lost_for_good
            reasons = self.checkers.unhealthy() + self.beside.unhealthy(lost) + uncertified(world.state, lost)
            if reasons:
                whole_since = world.now()
            if world.now() > deadline:
                world.fail(f"not whole {HEALED_WITHIN:.0f} s after everything was healed: {'; '.join(reasons)}")
                self._stop_at_failure()
        before, deadline = self._confirmed(), world.now() + CONFIRMED_WITHIN
        while stuck := [key for key, count in self._confirmed().items() if count == before[key]]:
            await self._watch(0.25, *writing)
            if world.now() > deadline:
                world.fail(f"nothing of {stuck} could be confirmed in a whole domain for {CONFIRMED_WITHIN:.0f} s")
                self._stop_at_failure()

    def _confirmed(self) -> dict[tuple[str, str], int]:
        """How many writes of each group were confirmed."""
        return {key: len(self.ledger.confirmed.get(key, ())) for key in self.world.state.groups}

    def _outcome(self) -> Outcome:
        writes = self.ledger.writes
        return Outcome(
            seed=self.world.seed,
            failures=tuple(self.world.failures),
            trace=tuple(self.world.trace_lines),
            counts=self.probes.counts + self.world.net.seen,
            writes=len(writes),
            acknowledged=sum(w.acked_at is not None for w in writes),
            confirmed=sum(w.confirmed_at is not None for w in writes),
            lost=self.checkers.lost,
            steps=self.world.loop.steps,
            virtual=self.world.now(),
            story=self.story.told,
            variant=self.variant,
        )


def _heard_first(group: Group) -> set[int]:
    """The archives without whose report no other may lead: the enforced one, and those that may have led by a handover; some of
    them may be deleted."""
    handed = (group.leader, group.phase.to_archive) if isinstance(group.phase, HandingOver) else ()
    return {a for a in (group.enforced, *group.contested, *handed) if a is not None}


def _unproven(state: State, group: Group) -> set[str]:
    """The servers of processes that were given up without proof and may still lead: a group may wait for their return
    (docs/critiques.md)."""
    tombstones = [state.tombstones[start_id] for start_id in group.suspects if start_id in state.tombstones]
    return {tombstone.process.server_id for tombstone in tombstones}


def play(seed: int, only: Collection[str] | None = None, variant: int = 0) -> Outcome:
    """Run one seed; with these strikes only, if they are given. A variant has its faults, and messages take other times.

    Garbage is collected when it is over, not in the middle of it; never, if it never is.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return Scenario(seed, only, variant).play()
    finally:
        if collects:
            gc.enable()
            gc.collect()
