"""Simulation: faults aimed at the moments that matter, which chance alone seldom meets.

A moment is a commit, or an order under way to an engine. Each run draws which moments are struck and how often. What is struck
has a part in it (the leader, the joiner, the target of a handover, another member of S), or its manager, or its machine; at
once, or a moment later.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dkv.domain.decision import Event
from dkv.domain.model import Group, JoinStage, State
from dkv.domain.phases import Assigned, HandingOver, Open, Vacant
from dkv.sim.checks.probes import Probes
from dkv.sim.engines.engine import SimEngine
from dkv.sim.faults.acts import Acts
from dkv.sim.faults.story import Story
from dkv.sim.world import Machine, Watcher, World

MOMENTS = (
    "vacant",
    "assigned",
    "opened",
    "takeover",
    "serving",
    "joiner marked",
    "joiner required",
    "in-sync set grown",
    "in-sync set shrunk",
    "handing over",
    "failing over",
    "handed over",
)
ODDS = (0.0, 0.0, 0.0, 0.1, 0.4)  # of one moment in one run
RARE = ("vacant", "in-sync set shrunk", "failing over", "handed over")
SPARED = ("handing over",)  # in half of the runs not at all: else hardly any handover would get further
SPARED_ODDS = (0.0, 0.0, 0.7, 1.0)
RARE_ODDS = (0.7, 1.0, 1.0)  # of moments that come seldom
SOON = (0.0, 0.0005, 0.005, 0.05, 0.4)  # seconds until the strike, at most
TWICE = 0.25  # of the moments that are struck are struck twice
MOST = 12  # moments struck in one run


@dataclass(frozen=True)
class Came:
    """A moment that came, and which archives have which part in it."""

    moment: str
    group: Group
    roles: tuple[tuple[str, int], ...]


class Moments(Watcher):
    """Watches for moments until `over`."""

    def __init__(self, world: World, probes: Probes, story: Story) -> None:
        self._world, self._probes, self._story = world, probes, story
        chance = random.Random(f"moments {world.seed}")
        often = dict.fromkeys(RARE, RARE_ODDS) | dict.fromkeys(SPARED, SPARED_ODDS)
        self._odds = {moment: chance.choice(often.get(moment, ODDS)) for moment in MOMENTS}
        self._come = 0
        self._acts: list[Acts] = []
        self._over = False

    def end(self) -> None:
        """All is healed: nothing is struck any more, and nothing undone."""
        self._over = True
        for acts in self._acts:
            acts.over = True

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        if self._over:
            return
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if old is not None and old is not group:
                for came in _moments(old, group):
                    self._meet(came)

    def ordered(self, machine: Machine, order: str, engine: SimEngine) -> None:
        """A manager sends an order to an engine of its machine."""
        if order not in ("take over", "fail over") or self._over:
            return
        for group in self._world.state.groups.values():
            phase = group.phase
            if order == "take over" and group.leader_process == engine.start_id and group.leader is not None:
                self._meet(Came("takeover", group, (("leader", group.leader), *_others(group))))
            elif order == "fail over" and isinstance(phase, HandingOver) and phase.to_process == engine.start_id:
                self._meet(Came("failing over", group, (("leader", phase.leader), ("target", phase.to_archive))))

    def _meet(self, came: Came) -> None:
        """Draw whether it is struck, whom and how: always the same for the same number, whatever else is left out."""
        self._come += 1
        chance = random.Random(f"moment {self._world.seed} {came.moment} {self._come}")
        if chance.random() >= self._odds[came.moment] or len(self._acts) >= MOST:
            return
        acts = Acts(self._world, chance)
        strikes = [(*chance.choice(came.roles), chance.choice(list(acts.kinds)), chance.choice(SOON))]
        if chance.random() < TWICE:
            strikes.append((*chance.choice(came.roles), chance.choice(list(acts.kinds)), chance.choice(SOON)))
        name = f"m{self._come}"
        what = f"{came.moment}: " + " and ".join(f"{role} of {came.group.name}, {act}" for role, _, act, _ in strikes)
        if not self._story.has(name, what):
            return
        self._acts.append(acts)
        for _, archive_id, act, within in strikes:
            told = f"{name}, {what}" if len(strikes) == 1 else f"{name}, {what}: {act}"
            self._world.net.later(chance.uniform(0.0, within), self._strike, acts, act, archive_id, came.moment, told)

    def _strike(self, acts: Acts, act: str, archive_id: int, moment: str, what: str) -> None:
        process = self._world.state.process_on(archive_id)
        if self._over or process is None:
            return
        self._probes.fault(f"at: {moment}")
        self._world.trace("fault", what)
        acts.kinds[act](process)


def _others(group: Group) -> Iterator[tuple[str, int]]:
    yield from (("member", archive_id) for archive_id in group.in_sync if archive_id != group.leader)


def _moments(old: Group, group: Group) -> Iterator[Came]:
    """The moments that one commit is."""
    phase, others = group.phase, tuple(_others(group))
    if isinstance(phase, Vacant) and not isinstance(old.phase, Vacant) and group.in_sync:
        yield Came("vacant", group, tuple(("member", archive_id) for archive_id in group.in_sync))
    if isinstance(phase, Vacant) or group.leader is None:
        return
    parts = (("leader", group.leader), *others)
    if isinstance(phase, Assigned) and old.term != group.term:
        yield Came("assigned", group, parts)
    if isinstance(phase, Open) and isinstance(old.phase, Assigned):
        yield Came("opened", group, parts)
    if isinstance(phase, Open) and phase.serving and not old.serving:
        yield Came("serving", group, parts)
    if isinstance(phase, HandingOver) and not isinstance(old.phase, HandingOver):
        yield Came("handing over", group, (("leader", group.leader), ("target", phase.to_archive)))
    if isinstance(phase, Open) and isinstance(old.phase, HandingOver):
        yield Came("handed over", group, parts)
    yield from _of_the_set(old, group, group.leader)


def _of_the_set(old: Group, group: Group, leader: int) -> Iterator[Came]:
    stages = {(j.archive_id, j.stage) for j in old.joining}
    for joining in group.joining:
        if (joining.archive_id, joining.stage) not in stages and joining.stage is not JoinStage.ANNOUNCED:
            moment = "joiner required" if joining.stage is JoinStage.REQUIRED else "joiner marked"
            yield Came(moment, group, (("leader", leader), ("joiner", joining.archive_id)))
    if grown := set(group.in_sync) - set(old.in_sync):
        yield Came("in-sync set grown", group, (("leader", leader), *(("joiner", archive_id) for archive_id in sorted(grown))))
    if shrunk := set(old.in_sync) - set(group.in_sync):
        yield Came("in-sync set shrunk", group, (("leader", leader), *(("left", archive_id) for archive_id in sorted(shrunk))))
