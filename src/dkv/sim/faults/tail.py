"""Simulation: strikes each process that takes part in giving a dead leader's tail, at each of its steps.

Where groups are large it also kills leaders so that there are tails to give. Like the faults of act one, and only then;
by a chance of its own, so that seeds without tails go as they go.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dkv.domain.decision import Event
from dkv.domain.model import Group, Process, State
from dkv.domain.phases import Open
from dkv.sim.checks.probes import Probes
from dkv.sim.engines.engine import SimEngine
from dkv.sim.faults.story import TAILS, Story
from dkv.sim.world import Watcher, World

ODDS, BRIEF = 0.35, 0.8  # that a step of a tail is struck; the first and the last, which are over soon
EVERY = (2.0, 5.0)  # seconds between two leaders that are killed


class TailStrikes(Watcher):
    """Watches tails go on, and strikes a moment later."""

    def __init__(self, world: World, probes: Probes, story: Story) -> None:
        self._world, self._probes = world, probes
        self._random = random.Random(f"tails {world.seed}")
        large = world.shape.tail_above == 0
        self.over = large and not story.has(
            TAILS, "leaders, and processes that take part in giving a tail"
        )  # or act two has begun
        if large and not self.over:
            world.net.later(self._random.uniform(*EVERY), self._kill_a_leader)

    def _kill_a_leader(self) -> None:
        if self.over:
            return
        groups = [g for g in self._world.state.groups.values() if g.serving and len(g.in_sync) > 1 and isinstance(g.phase, Open)]
        leader = self._process(self._random.choice(groups).leader_process) if groups else None
        if leader is not None:
            self._engine(leader, "ended")
        self._world.net.later(self._random.uniform(*EVERY), self._kill_a_leader)

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if self.over or group.tail is None or (old is not None and old.tail == group.tail):
                continue
            heir = group.tail.of(-1 if group.leader_process is None else group.leader_process)
            brief = not group.tail.history or (heir is not None and heir.whole)  # to be measured; to be opened
            if self._random.random() < (BRIEF if brief else ODDS):
                moment = self._random.choice((0.0, 0.001) if brief else (0.0, 0.001, 0.01, 0.1, 0.5))
                self._world.net.later(self._random.uniform(0, moment), self._strike, group)

    def _strike(self, group: Group) -> None:
        tail = group.tail
        assert tail is not None
        heir, source = self._process(group.leader_process), self._process(tail.source_process)
        others = [recipient.start_id for recipient in tail.fed if recipient.start_id != group.leader_process]
        other = self._process(self._random.choice(others)) if others else None
        how = self._random.choice(("ended", "stands still"))
        roles = {
            "feeding manager": source,
            "heir": heir,
            "heir's manager": heir,
            "other follower": other,
            "other follower's manager": other,
        }
        there = {who: process for who, process in roles.items() if process is not None}
        if self.over or not there:
            return
        who, process = self._random.choice(list(there.items()))
        self._probes.counts[f"tail struck: {who} {how}"] += 1
        self._world.trace("fault", f"{who} of {group.name} {how} while the tail is given")
        if who.endswith("manager"):
            self._manager(process.server_id, how)
        else:
            self._engine(process, how)

    def _process(self, start_id: int | None) -> Process | None:
        return self._world.state.processes.get(-1 if start_id is None else start_id)

    def _manager(self, name: str, how: str) -> None:
        world, pause = self._world, self._random.uniform(0.1, 6.0)
        if how == "ended":
            world.kill_manager(name)
            world.net.later(pause, world.start_manager, name)
        else:
            world.freeze_manager(name)
            world.net.later(pause, world.thaw_manager, name)

    def _engine(self, process: Process, how: str) -> None:
        hardware = self._world.machines[process.server_id].hardware
        engine: SimEngine | None = hardware.engines.get(process.start_id)
        if engine is None:
            return
        if how == "ended":
            hardware.end(process.start_id)
        else:
            engine.stop()
            self._world.net.later(self._random.uniform(0.1, 6.0), engine.go_on)
