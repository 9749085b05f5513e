"""Simulation: what strikes the backend, the wires between machines, and the clocks."""

from __future__ import annotations

import asyncio

from dkv.sim.faults.kinds import Fault, Source
from dkv.sim.store import LinkConditions
from dkv.sim.world import Machine

RATES = (0.95, 0.99, 1.01, 1.05)
"""Far more than a clock may be wrong by; half a lease and half the age of a view are what the rules leave for it."""


class NetworkFaults(Source):
    """Faults between machines."""

    def kinds(self) -> dict[str, Fault]:
        """By name."""
        return {
            "backend away": self.backend_away,
            "lease lost": self.lease_lost,
            "slow backend": self.slow_backend,
            "lost answers": self.lost_answers,
            "lost engine replies": self.lost_replies,
            "lagging followers": self.lagging_followers,
            "cut machines": self.cut_machines,
            "isolate machine": self.isolate_machine,
            "isolate leader": self.isolate_leader,
            "clock jump": self.clock_jump,
            "cut one way": self.cut_one_way,
            "slow network": self.slow_network,
            "backend changes leader": self.backend_changes_leader,
            "lagging watch": self.lagging_watch,
            "clock drift": self.clock_drift,
        }

    # -- the backend -------------------------------------------------------------------------------------------------

    async def backend_away(self) -> None:
        """For all managers."""
        away = self.random.uniform(0.5, 9.0)
        self.struck("backend away", f"the backend is away for {away:.1f} s")
        self._cannot_reach_backend(self.world.link, away)
        await asyncio.sleep(away)

    async def lease_lost(self) -> None:
        """One manager cannot reach the backend for longer than its lease."""
        machine = self.machine()
        away = self.random.uniform(2.5, 10.0)
        self.struck("lease lost", f"{machine.name} cannot reach the backend for {away:.1f} s")
        self._cannot_reach_backend(machine.link, away)
        await asyncio.sleep(away)

    async def lost_answers(self) -> None:
        """Commits happen and no answer says so; each is counted where it happens."""
        self.world.trace("fault", "answers of the backend get lost")
        self.world.link.lose = self.random.choice((0.05, 0.3))
        await self.wait(1.0, 6.0)
        self.world.link.lose = 0.0

    async def backend_changes_leader(self) -> None:
        """It answers nothing for a while, and nothing says whether it did what was under way."""
        link = self.world.link
        for _ in range(self.random.choice((1, 1, 3))):
            away = self.random.uniform(0.2, 2.0)
            self.struck("backend changes leader", f"the backend changes its leader, which takes {away:.1f} s")
            link.away_until, link.unsure = self.world.now() + away, True
            await asyncio.sleep(away)
            link.unsure = False
            await self.wait(0.05, 0.5)

    async def lagging_watch(self) -> None:
        """One manager's news of commits are late; its reads are not."""
        machine = self.machine()
        machine.link.watch_lag = self.random.choice((0.3, 1.0, 3.0))
        self.struck("lagging watch", f"news of commits reach {machine.name} up to {machine.link.watch_lag} s late")
        await self.wait(2.0, 10.0)
        machine.link.watch_lag = 0.0

    async def slow_backend(self) -> None:
        """One manager's calls take long."""
        machine = self.machine()
        machine.link.delay = self.random.choice((0.05, 0.3, 0.8))
        self.struck("slow backend", f"the backend is slow for {machine.name}")
        await self.wait(1.0, 8.0)
        machine.link.delay = 0.0

    # -- the wires ---------------------------------------------------------------------------------------------------

    async def lost_replies(self) -> None:
        """Engine commands are carried out and their replies are lost; each is counted where it happens."""
        machine = self.machine()
        self.world.trace("fault", f"replies of the engines of {machine.name} get lost")
        self.world.net.loses[machine.name] = self.random.choice((0.2, 0.6))
        await self.wait(1.0, 8.0)
        self.world.net.loses[machine.name] = 0.0

    async def lagging_followers(self) -> None:
        """The stream to a machine's followers trails under load."""
        machine, lag = self.machine(), self.random.choice((0.05, 0.3, 1.0))
        self.world.net.lag[machine.name] = lag
        self.struck("lagging followers", f"replication to {machine.name} trails by up to {lag} s")
        await self.wait(2.0, 12.0)
        self.world.net.lag[machine.name] = 0.0

    async def cut_machines(self) -> None:
        """Two machines are cut from each other; both still reach the backend."""
        names = self.random.sample(list(self.world.machines), 2)
        self.struck("cut machines", f"{names[0]} and {names[1]} do not hear each other")
        self.world.net.cut(names[0], names[1])
        await self.wait(0.5, 8.0)
        self.world.net.heal((names[0], names[1]))
        self.world.trace("fault", f"{names[0]} and {names[1]} hear each other")

    async def cut_one_way(self) -> None:
        """One machine hears nothing of another, which hears it."""
        source, destination = self.random.sample(list(self.world.machines), 2)
        self.struck("cut one way", f"{destination} does not hear {source}")
        self.world.net.cut_one_way(source, destination)
        await self.wait(0.5, 9.0)
        self.world.net.heal((source, destination))
        self.world.trace("fault", f"{destination} hears {source} again")

    async def slow_network(self) -> None:
        """Messages from and to one machine take long, and overtake each other."""
        machine, slow = self.machine(), self.random.choice((0.02, 0.2, 0.8))
        self.world.net.slow[machine.name] = slow
        self.struck("slow network", f"messages from and to {machine.name} take up to {slow} s")
        await self.wait(1.0, 8.0)
        self.world.net.slow.pop(machine.name, None)

    async def isolate_machine(self) -> None:
        """One machine is cut from all others and the backend; its clients still reach it. Half the time its manager ends too,
        before that or in the middle of it, and its guard is in charge.
        """
        machine, managed = self.machine(), self.random.choice((True, False))
        if not managed and self.random.choice((True, False)):
            self.world.kill_manager(machine.name)
            await self.wait(0.0, 4.0)
        await self._isolate("isolate machine", machine, managed=managed)
        if not managed:
            await self.wait(0.0, 3.0)
            self.world.start_manager(machine.name)

    async def isolate_leader(self) -> None:
        """The machine of a leader that serves, for longer than a lease."""
        state = self.world.state
        leaders = [leader for g in state.groups.values() if g.serving and (leader := state.leader_of(g)) is not None]
        if leaders:
            await self._isolate("isolate leader", self.world.machines[self.random.choice(leaders).server_id], least=4.0)

    async def _isolate(self, kind: str, machine: Machine, least: float = 0.5, *, managed: bool = True) -> None:
        away = self.random.uniform(least, 12.0)
        others = [name for name in self.world.machines if name != machine.name]
        self.struck(kind, f"{machine.name} is isolated for {away:.1f} s")
        self._cannot_reach_backend(machine.link, away)
        for name in others:
            self.world.net.cut(machine.name, name)
        alone = min(away, self.random.uniform(0.0, 2.5))
        await asyncio.sleep(alone)
        if not managed:
            self.world.kill_manager(machine.name)
        await asyncio.sleep(away - alone)
        for name in others:
            self.world.net.heal((machine.name, name))
        self.world.trace("fault", f"{machine.name} is not isolated any more")

    def _cannot_reach_backend(self, link: LinkConditions, seconds: float) -> None:
        link.away_until = max(link.away_until, self.world.now() + seconds)

    # -- the clocks --------------------------------------------------------------------------------------------------

    async def clock_drift(self) -> None:
        """The monotonic clock of a manager goes too fast or too slowly, until the end of the run."""
        machine = self.machine()
        rate = self.random.choice(RATES)
        self.struck("clock drift", f"the clock of {machine.name} goes {rate} times as fast as it should")
        machine.clock.drift(self.world.now(), rate)

    async def clock_jump(self) -> None:
        """A machine's wall clock jumps; nothing but what is shown, and the restart budget, goes by it."""
        machine = self.machine()
        machine.wall_ahead += int(1000 * self.random.choice((-86_400, -60, -5, 5, 60, 86_400)))
        self.struck("clock jump", f"the wall clock of {machine.name} is {machine.wall_ahead / 1000:.0f} s ahead")
