"""Simulation: what `dkv show waiting` says is true of the simulated world.

- what it names as awaited (a manager, an engine, an archive, room on a disk) is really missing, or comes a moment later;
- a group that takes no writes for long is named, or its leader is, or its leader's server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence

from dkv.domain.blocked import BlockedItem, blocked
from dkv.domain.model import Archive, Group, Process, State
from dkv.domain.phases import HandingOver
from dkv.domain.states import RESTING, STOPPING
from dkv.sim.checks.health import Health
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Watcher, World

EVERY = 1.0  # seconds between two looks
UNTRUE_FOR = 10.0  # seconds a sentence may name what is there: what it was missing for has to be done yet
UNNAMED_FOR = 8.0  # seconds a group may take no writes unnamed: a lease ends after 3, silence is believed after 3 more
JUDGES_WITHIN = 4.0  # seconds after which a manager that is well may be the one that judges leases
BY_TIME = frozenset(("an operator", "its restart", "its next try"))  # nothing in the world is named

Sentences = Callable[[State], Sequence[BlockedItem]]


class WaitingChecks(Watcher):
    """Looks now and then; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, health: Health, sentences: Sentences = blocked) -> None:
        self._world, self._health, self._sentences = world, health, sentences
        self._next = 0.0
        self._untrue: dict[Hashable, float] = {}  # since when a sentence names what is there
        self._mute: dict[Hashable, float] = {}  # since when a group takes no writes and nothing says so

    def passed(self) -> None:
        """Some time has passed."""
        now = self._world.now()
        if now < self._next:
            return
        self._next = now + EVERY
        state = self._world.state
        items = self._sentences(state)
        untrue = {(item.subject, item.waits_for, item.reason): item for item in items if not self._is_missing(state, item)}
        self._untrue = {key: self._untrue.get(key, now) for key in untrue}
        for key, item in untrue.items():
            if now - self._untrue[key] > UNTRUE_FOR:
                said = f"{item.subject} is said to wait for {item.waits_for}"
                self._world.fail(f"{said}, which is there for {UNTRUE_FOR:.0f} s: {item.reason}")
        mute = [group for group in state.groups.values() if self._is_mute(state, group, items)]
        self._mute = {group.key: self._mute.get(group.key, now) for group in mute}
        for group in mute:
            if now - self._mute[group.key] > UNNAMED_FOR:
                self._world.fail(f"{group.name} takes no writes for {UNNAMED_FOR:.0f} s, and nothing is said to be waited for")

    # -- what is named is missing ----------------------------------------------------------------------------------------

    def _is_missing(self, state: State, item: BlockedItem) -> bool:
        """Whether something of what a sentence names, or of its subject, is not as it should be."""
        if item.waits_for in BY_TIME:
            return True
        if any(
            str(copy.copy_id) in re.findall(r"hot copy (\d+)", item.waits_for) for copy in state.copies.values() if not copy.over
        ):
            return True
        words = re.split(r"[\s,()]+", f"{item.subject} {item.waits_for}")
        named = [archive for archive in state.archives.values() if not archive.removed and archive.name in words]
        processes = [state.processes[n] for n in _numbers(item) if n in state.processes]
        groups = [
            g for g in state.groups.values() if g.subject == item.subject or (g.database == item.database and g.name in words)
        ]
        groups += [state.groups[(p.database, p.group)] for p in processes if (p.database, p.group) in state.groups]
        if any(isinstance(group.phase, HandingOver) for group in groups):  # it ends within a bound: checks/orders.py
            return True
        members = [state.archives[a] for group in groups for a in group.in_sync if a in state.archives]
        servers = {name for name in self._world.machines if name in words}
        servers |= {archive.server_id for archive in (*named, *members)} | {process.server_id for process in processes}
        if any(not self._health.well(server) or self._loads(server) for server in servers):
            return True
        if item.kind == "database" and processes:
            return any(self._lives(process) for process in processes)
        return any(not self._is_up(state, archive) for archive in named) or any(not self._works(p) for p in processes)

    def _loads(self, server: str) -> bool:
        return any(engine.loading for engine in self._world.machines[server].hardware.all_engines())

    def _lives(self, process: Process) -> bool:
        return process.start_id in self._world.machines[process.server_id].hardware.running

    def _is_up(self, state: State, archive: Archive) -> bool:
        process = state.process_on(archive.archive_id)
        return process is not None and self._works(process)

    def _works(self, process: Process) -> bool:
        """Whether its engines lead or are linked with a leader."""
        hardware = self._world.machines[process.server_id].hardware
        engines = hardware.followers(process.start_id) if process.start_id in hardware.running else ()
        return bool(engines) and all(engine.role == "leader" or engine.replication.state == "up" for engine in engines)

    # -- what is missing is named ----------------------------------------------------------------------------------------

    def _is_mute(self, state: State, group: Group, items: Sequence[BlockedItem]) -> bool:
        """Whether a group that is to run takes no writes, and no sentence is about it."""
        database = state.databases.get(group.database)
        if database is None or database.state in (*RESTING, *STOPPING):
            return False
        if not any(self._health.well(name, JUDGES_WITHIN) for name in self._world.machines):  # none could say what it sees
            return False
        if any(self._takes_writes(engine, group) for engine in self._engines()):
            return False
        leader = state.leader_of(group)
        about = [group.subject, *([f"process {leader.start_id}", f"server {leader.server_id}"] if leader else [])]
        return not any(item.subject.partition(" (")[0] in about for item in items)

    def _engines(self) -> Iterator[SimEngine]:
        for machine in self._world.machines.values():
            yield from machine.hardware.engines.values()

    def _takes_writes(self, engine: SimEngine, group: Group) -> bool:
        mine = (engine.spec.identity.database, engine.group) == group.key and engine.role == "leader"
        shut = engine.fenced or engine.held or engine.silent or engine.busy or engine.robbed
        return mine and engine.takes_clients and not shut


def _numbers(item: BlockedItem) -> list[int]:
    """The start ids of the processes that a sentence is about or names."""
    return [int(number) for number in re.findall(r"process (\d+)", f"{item.subject} {item.waits_for}")]
