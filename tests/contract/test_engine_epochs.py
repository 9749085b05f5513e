"""The engine contract: a forged packet brings epochs to the end of their 64 bits (docs/reference/valkey.md#epochs)."""

from __future__ import annotations

from dkv.engine.contract import EPOCHS, LAST_EPOCHS
from tests.contract.engine_harness import Machine, following, known_as_follower, leading, seen
from tests.contract.handovers import failover_asked, handed_over
from tests.contract.test_engine_elections import MISSED

RESTARTED = 5_000


async def used_up(machine: Machine) -> None:
    """A leader and its follower, both of which know the last epoch: one from a packet, the other from the first."""
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await following(machine, follower, leader)
    await known_as_follower(machine, leader, follower)
    await machine.forge_epoch(2, leader, EPOCHS - 1)
    for start_id in (1, 2):
        await seen(machine, start_id, lambda engine: engine.cluster.current_epoch >= LAST_EPOCHS)


async def restarted(machine: Machine, *start_ids: int) -> None:
    for start_id in start_ids:
        await machine.engines.restart_epochs(start_id, RESTARTED)
    for start_id in start_ids:
        await seen(
            machine, start_id, lambda engine: engine.cluster.current_epoch <= RESTARTED and engine.cluster.takes_packets is False
        )


def test_nobody_is_elected_once_the_epochs_are_used_up(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await used_up(machine)
        await failover_asked(machine, 2)
        await machine.pause(MISSED)
        assert [(await seen(machine, start_id)).role for start_id in (1, 2)] == ["leader", "follower"]

    engine_machine.play(scenario)


def test_a_follower_is_elected_again_when_the_epochs_of_all_engines_were_restarted(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        await used_up(machine)
        await restarted(machine, 1, 2)
        await machine.pause(1.5)  # longer than an engine takes from one packet to the next
        for start_id in (1, 2):
            await machine.engines.take_packets(start_id)
        await seen(machine, 1, lambda engine: engine.cluster.takes_packets is True and engine.cluster.current_epoch < LAST_EPOCHS)
        engine = await handed_over(machine, 2)
        assert 0 < engine.cluster.epoch < LAST_EPOCHS

    engine_machine.play(scenario)


def test_an_engine_that_drops_packets_does_not_get_the_last_epoch_back_from_one_that_was_not_restarted(
    engine_machine: Machine,
) -> None:
    async def scenario(machine: Machine) -> None:
        await used_up(machine)
        await restarted(machine, 1)
        await machine.pause(1.5)
        assert (await seen(machine, 1)).cluster.current_epoch <= RESTARTED

    engine_machine.play(scenario)


def test_a_leader_in_the_last_epoch_keeps_it(engine_machine: Machine) -> None:
    async def scenario(machine: Machine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        await known_as_follower(machine, leader, follower)
        await machine.forge_epoch(2, leader, EPOCHS - 2)
        await seen(machine, 2, lambda engine: engine.cluster.current_epoch == EPOCHS - 2)
        await machine.engines.take_over(2)
        await seen(machine, 2, lambda engine: engine.role == "leader" and engine.cluster.epoch == EPOCHS - 1)
        await machine.engines.restart_epochs(2, RESTARTED)
        assert (await seen(machine, 2)).cluster.epoch == EPOCHS - 1

    engine_machine.play(scenario)
