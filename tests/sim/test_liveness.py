"""A lease that nobody could renew is no news: while the backend is away for everybody no server is lost."""

from __future__ import annotations

import asyncio

from dkv.sim.world import Shape, World


def test_after_an_outage_of_the_backend_for_everybody_no_server_is_called_lost() -> None:
    world = World(1, Shape(servers=3))
    try:
        world.loop.run_until_complete(an_outage(world))
    finally:
        world.loop.close()


async def an_outage(world: World) -> None:
    """Longer than every lease; one manager is slower than the others to come back."""
    await world.create_domain()
    await asyncio.sleep(5.0)
    for number, machine in enumerate(world.machines.values()):
        machine.link.away_until = world.now() + 6.0 + 0.4 * number
    await asyncio.sleep(15.0)
    assert not [line for line in world.trace_lines if "server.lost" in line]
    assert not world.failures
    assert all(server.alive for server in world.state.servers.values())
