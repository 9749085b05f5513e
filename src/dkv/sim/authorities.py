"""Simulation: people change the authority of engines that speak TLS, let the change stop half way, or go on without a server."""

from __future__ import annotations

from dkv.domain.decision import Accepted
from dkv.domain.orders import RotateAuthority
from dkv.sim.engines.certificates import new_authority
from dkv.sim.faults.kinds import Fault, Source

WITHOUT = 0.3  # of the orders leave out what is away


class AuthorityChanges(Source):
    """Orders about authorities, where engines have any."""

    def kinds(self) -> dict[str, Fault]:
        """By name; none where engines speak plain."""
        return {"rotate authority": self.rotate, "prepare authority": self.prepare} if self.world.shape.tls else {}

    async def rotate(self) -> None:
        """Begin a change, or let one go on that is held. One that is under way refuses it."""
        await self._order(hold=False)

    async def prepare(self) -> None:
        """Begin one that is held, and goes on some time later."""
        if await self._order(hold=True):
            await self.wait(0.0, 8.0)
            await self._order(hold=False)

    async def _order(self, *, hold: bool) -> bool:
        database = self.world.state.databases.get(self.random.choice(self.world.databases))
        if database is None:
            return False
        away = tuple(name for name, server in sorted(self.world.state.servers.items()) if not server.alive)
        without = away if self.random.random() < WITHOUT else ()
        made = new_authority(self.world.token())
        order = RotateAuthority(
            actor="operator", owner=database.uid, certificate=made, key=f"sealed key of {made}", without=without, hold=hold
        )
        accepted = isinstance(await self.world.order(order), Accepted)
        if accepted:
            self.probes.order("rotate authority")
        return accepted
