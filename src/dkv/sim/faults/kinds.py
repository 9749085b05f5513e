"""Simulation: what goes wrong, and when. Each run draws its own subset of faults from the seed (a swarm).

Faults of engines, managers and machines stand in faults/nodes.py, those of the backend and the clocks in faults/network.py,
orders of operators at bad moments in sim/operators.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from dkv.sim.checks.probes import Probes
from dkv.sim.faults.story import Story
from dkv.sim.world import Machine, World

Fault = Callable[[], Awaitable[None]]

RARE = (
    "kill leader",
    "switchover",
    "stop leader",
    "kill te",
    "stop te",
    "hot copy",
    "pause manager before a command",
    "kill manager before a command",
    "kill engine",
    "stop engine",
    "long script",
    "rotate authority",
    "prepare authority",
    "evict leader",
    "lost engine replies",
    "lost answers",
    "change users",
)
"""Kinds that often find nothing to strike, and are drawn more often for it."""
RAREST = ("evict leader", "switchover", "stop leader", "kill leader")
"""Those of them that hardly ever do."""
PACES = (0.4, 0.4, 0.65, 1.2, 2.4, 5.0)
"""Mean seconds between faults. What takes a whole domain to begin, such as a handover, is met by runs that are struck seldom."""


class Source:
    """One kind of trouble's share of the seed; says and counts what it did, not what it meant to do."""

    def __init__(self, world: World, probes: Probes, chance: random.Random) -> None:
        self.world = world
        self.probes = probes
        self.random = chance

    def kinds(self) -> dict[str, Fault]:
        """Its faults by name, those that this world can have."""
        return {}

    def struck(self, kind: str, what: str) -> None:
        """A fault really happened."""
        self.probes.fault(kind)
        self.world.trace("fault", what)

    def machine(self) -> Machine:
        """Any machine."""
        return self.random.choice(list(self.world.machines.values()))

    async def wait(self, low: float, high: float) -> None:
        """So many virtual seconds."""
        await asyncio.sleep(self.random.uniform(low, high))


class Faults:
    """Strikes at moments drawn from the seed, until cancelled. Each strike has a number and a chance of its own."""

    def __init__(self, world: World, probes: Probes, sources: Sequence[type[Source]], story: Story) -> None:
        self._world, self._probes, self._story = world, probes, story
        chance = self._random = random.Random(f"faults {world.seed}")
        self._source = {name: source for source in sources for name in source(world, probes, chance).kinds()}
        self.chosen = [name for name in self._source if chance.random() < (0.75 if name in RARE else 0.4)]
        often = dict.fromkeys(RARE, (4, 4, 1)) | dict.fromkeys(RAREST, (8, 8, 4))
        self._often = [chance.choice(often.get(name, (4, 1, 1, 1))) for name in self.chosen]
        self.pace = chance.choice(PACES)
        world.trace("fault", f"this run draws from: {', '.join(self.chosen)}; one about every {self.pace} s")

    async def run(self) -> None:
        """Strike until cancelled; each fault runs beside the others and ends by itself. Some come in pairs."""
        running: set[asyncio.Task[None]] = set()
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                pause = self._random.expovariate(1 / self.pace)
                await asyncio.sleep(pause if self._random.random() < 0.8 else self._random.uniform(0.0, 0.3))
                [name] = self._random.choices(self.chosen, self._often)
                number += 1
                if self._story.has(f"f{number}", name):
                    running.add(tasks.create_task(self._strike(number, name)))

    async def _strike(self, number: int, name: str) -> None:
        chance = random.Random(f"strike {self._world.seed} {number}")
        await self._source[name](self._world, self._probes, chance).kinds()[name]()
