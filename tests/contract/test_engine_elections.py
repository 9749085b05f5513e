"""Who takes over in a coordinated failover: the leaders of all groups vote (docs/reference/valkey.md#elections)."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.engine_harness import Machine, known_as_follower, seen, started
from tests.contract.handovers import failover_asked, handed_over
from tests.contract.test_engine_memory import half, told_of, two_leaders

MISSED = 6.0  # s: longer than a failover may take


async def two_groups(machine: Machine) -> None:
    """Process 1 leads a group, process 2 another, and process 3 is a copy of that; each knows the others and their slots."""
    leads, leader, follower = half(machine, 1, 1, "g0"), half(machine, 2, 2, "g1"), half(machine, 3, 3, "g1")
    low, high = await two_leaders(machine)
    await started(machine, replace(follower, peers=(low, high)))
    for start_id, peers in ((1, (leader, follower)), (2, (leads, follower)), (3, (leads, leader))):
        for spec in peers:
            await machine.engines.meet(start_id, told_of(spec, None))
    await machine.engines.replicate(3, high)
    await seen(machine, 3, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
    await known_as_follower(machine, leader, follower)
    await seen(machine, 3, lambda engine: {n.node_id for n in engine.cluster.nodes if n.slots} == {low.node_id, high.node_id})
    await seen(machine, 1, lambda engine: any(n.follows == high.node_id for n in engine.cluster.nodes))


def test_the_leaders_of_all_groups_elect_who_takes_over(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await two_groups(machine)
        await failover_asked(machine, 3)
        await handed_over(machine, 3, requested=True)

    engine_machine.play(scenario)


def test_nobody_takes_over_while_half_of_the_leaders_are_dead(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await two_groups(machine)
        machine.kill_from_outside(1)
        await failover_asked(machine, 3)
        await machine.pause(MISSED)
        assert [(await seen(machine, n)).role for n in (2, 3)] == ["leader", "follower"]

    engine_machine.play(scenario)
