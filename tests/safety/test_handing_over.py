"""V7, V9 and V11 of the model: leadership would be passed to a copy that cannot prove what it holds, or much too late.

Each is walked through the real rules, and once more without the clause that closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dkv.domain import orders
from dkv.domain.orders import Switchover
from dkv.domain.phases import Open
from dkv.engine.contract import EngineRefused, Position
from dkv.machine import follower_steps, handover, perform, shutdown_steps
from dkv.machine.steps import Failover, Step
from dkv.sim.world import DATABASE
from tests.safety.safety_domain import SOON, A, B, C, SafetyDomain

CHOICE = 30.0  # s in which a choice must have been made, if one can be
SOME_WORLDS = range(1, 40, 6)  # a planted fault does its harm in some of them only
LATEST = 1 << 30  # the sequence of a marker that is newer than any
TRIED = 8.0  # s after which a handover that could be made would have been


async def asked_to_hand_over(domain: SafetyDomain) -> None:
    await domain.world.order(Switchover(actor="operator", database=DATABASE, group="g1"))


async def written_on_the_target_before_it_dies(domain: SafetyDomain) -> tuple[bool, bool]:
    """Whether B came to lead at all, and whether what was then acknowledged is there in the end.

    B's manager dies before it could say that B leads, so its term has no marker yet, and its engine dies.
    """
    led = await domain.comes_true(lambda: domain.engine(B).role == "leader", TRIED, every=SOON)
    if not led:
        assert (await domain.plainly(A).write("w1", count=0)).acknowledged
    else:
        domain.world.kill_manager(B)
        assert (await domain.plainly(B).write("w1", count=0)).acknowledged
        assert not domain.holds(A, "w1")
    domain.kill_engine(B)
    await asyncio.sleep(0.1)
    if led:
        domain.world.start_manager(B)
    await domain.until(
        lambda: isinstance(domain.group.phase, Open) and domain.group.serving and domain.runs(domain.leader), CHOICE
    )
    return led, domain.led_with("w1")


async def a_usual_handover(domain: SafetyDomain) -> tuple[bool, bool]:
    await asked_to_hand_over(domain)
    return await written_on_the_target_before_it_dies(domain)


def test_a_target_that_dies_before_anybody_heard_that_it_led_is_not_waited_for_in_vain() -> None:
    """The engine that led before says that it steps down: then both disks are asked, and the target's is newer."""
    assert SafetyDomain.play(2, a_usual_handover) == (True, True)


# -- V7: the target rewrote its archive, and its marker is gone ----------------------------------------------------------


async def the_target_has_no_marker(domain: SafetyDomain) -> tuple[bool, bool]:
    domain.engine(B).rewrite(None)
    await domain.until(lambda: not domain.engine(B).rewriting, every=SOON)
    assert domain.position(B).term == 0
    await asked_to_hand_over(domain)
    return await written_on_the_target_before_it_dies(domain)


def test_v07_a_copy_whose_marker_is_gone_takes_over_with_a_new_one() -> None:
    assert SafetyDomain.play(2, the_target_has_no_marker) == (True, True)


def test_v07_handing_over_to_it_would_lose_what_it_then_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unchecked(self: perform.Performer, step: Failover) -> None:
        await self._engines.unfence(step.start_id)
        await self._engines.failover(step.start_id)

    take_every_position_for_known(monkeypatch)
    monkeypatch.setattr(perform.Performer, "_failover", unchecked)
    assert SafetyDomain.play(2, the_target_has_no_marker) == (True, False)


def take_every_position_for_known(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """The target's plan looks at an engine that has the handover's marker, whatever is on its disk; and its leader, which
    knows no better, writes none for it.
    """
    steps = handover.handover_steps_of_target
    monkeypatch.setattr(handover, "_lacks_marker", lambda *_: False)
    monkeypatch.setattr(handover, "UNMARKED", handover.DEADLINE)

    def blind(inputs: Any, group: Any, phase: Any, engine: Any) -> Iterator[Step]:
        marked = replace(engine.files, marker=Position(group.term, LATEST, "n", initialised=True))
        yield from steps(inputs, group, phase, replace(engine, files=marked, replication=replace(engine.replication, **more)))

    monkeypatch.setattr(follower_steps, "handover_steps_of_target", blind)


# -- V11: the target is in the middle of an automatic full resync ----------------------------------------------------------


async def filled_anew(domain: SafetyDomain) -> None:
    """B's link was away for more than the backlog holds, so it is filled anew without anybody's order; that takes long."""
    domain.world.net.backlog = 4
    await domain.break_link(B, A)
    for number in range(20):
        assert (await domain.plainly(A).write(f"before-{number}", count=0)).acknowledged
    domain.mend(B, A)
    await domain.until(lambda: domain.engine(B).replication.state == "resyncing", every=SOON)
    assert domain.group.in_sync == (0, 1)
    assert domain.position(B).term == 1, "its disk is the old one"
    domain.cut(A, B)


async def the_target_is_being_filled(domain: SafetyDomain) -> tuple[bool, bool]:
    await filled_anew(domain)
    await asked_to_hand_over(domain)
    await asyncio.sleep(0.5)
    domain.mend(A, B, lost=False)
    return await written_on_the_target_before_it_dies(domain)


def test_v11_a_copy_that_is_being_filled_takes_over_once_it_is_whole() -> None:
    assert SafetyDomain.play(2, the_target_is_being_filled) == (True, True)


def test_v11_going_by_its_old_disk_would_lose_what_it_then_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def looked_at_before(self: perform.Performer, step: Failover) -> None:
        if (await self._engines.read_position(step.directory)).term != step.term:
            return
        await self._engines.unfence(step.start_id)
        for _ in range(200):
            try:
                await self._engines.failover(step.start_id)
                return
            except EngineRefused:
                await asyncio.sleep(0.02)

    monkeypatch.setattr(handover, "successor", lambda *_, **__: 1)
    take_every_position_for_known(monkeypatch, link_up=True, resyncing=False)
    monkeypatch.setattr(perform.Performer, "_failover", looked_at_before)
    assert any(SafetyDomain.play(2, the_target_is_being_filled, first=seed) == (True, False) for seed in SOME_WORLDS)


async def the_leader_is_stopped_while_the_other_copy_is_filled(domain: SafetyDomain) -> tuple[bool, bool]:
    """Whether B came to lead, and whether what only A had acknowledged is there in the end."""
    await filled_anew(domain)
    process = domain.world.state.process_on(0)
    assert process is not None
    await domain.world.order(orders.ShutdownProcess(actor="operator", start_id=process.start_id))
    await domain.until(lambda: not domain.runs(A))
    domain.mend(A, B, lost=False)
    led = await domain.comes_true(lambda: domain.leader == B, TRIED)
    await domain.world.start_all()
    await domain.until(lambda: bool(domain.leader) and len(domain.group.in_sync) == 2, CHOICE)
    return led, domain.led_with("before-19")


async def the_leader_is_stopped_just_after_the_other_copys_engine_died(domain: SafetyDomain) -> tuple[bool, bool]:
    """As before, but B lacks something because its engine ended a moment ago."""
    domain.kill_engine(B)
    assert (await domain.plainly(A).write("before-19", count=0)).acknowledged
    process = domain.world.state.process_on(0)
    assert process is not None
    await domain.world.order(orders.ShutdownProcess(actor="operator", start_id=process.start_id, force=True))
    await domain.until(lambda: not domain.runs(A))
    led = await domain.comes_true(lambda: domain.leader == B, TRIED)
    await domain.world.start_all()
    await domain.until(lambda: bool(domain.leader) and len(domain.group.in_sync) == 2, CHOICE)
    return led, domain.led_with("before-19")


STOPS = pytest.mark.parametrize(
    "schedule",
    [the_leader_is_stopped_while_the_other_copy_is_filled, the_leader_is_stopped_just_after_the_other_copys_engine_died],
)


@STOPS
def test_v11_a_leader_that_is_asked_to_stop_leaves_no_copy_to_lead_that_is_behind(schedule: Any) -> None:
    assert SafetyDomain.play(2, schedule) == (False, True)


@STOPS
def test_v11_ending_at_once_would_lose_what_only_it_had(monkeypatch: pytest.MonkeyPatch, schedule: Any) -> None:
    monkeypatch.setattr(shutdown_steps, "_a_member_lags", lambda *_: False)
    assert any(SafetyDomain.play(2, schedule, first=seed) == (True, False) for seed in SOME_WORLDS)


# -- V9: a TAKEOVER that a frozen machine executes much too late -----------------------------------------------------------


async def taken_over_much_too_late(domain: SafetyDomain) -> None:
    """B's engine leads when C's does, which has a confirmed write that B lacks."""
    frozen: list[str] = []

    def freeze(server: str, order: str) -> None:
        if order == "take over" and not frozen:
            frozen.append(server)
            domain.world.freeze_manager(server)

    for server in (B, C):
        domain.world.machines[server].hardware.before = partial(freeze, server)
    domain.lose(A)
    await domain.until(lambda: bool(frozen), every=SOON)
    assert frozen == [B], "of equals the lowest archive id is chosen"
    domain.cut(B, C)
    await domain.until(lambda: domain.leader == C)
    line, view = await domain.connect(), await domain.look()
    answer = await line.write("w1", count=len(view.group.required))
    assert domain.confirmed(answer, view, line)
    domain.world.thaw_manager(B)
    await domain.until(lambda: domain.engine(B).role == "leader", 5.0, SOON)


async def the_true_leader_hears_of_it(domain: SafetyDomain) -> tuple[bool, bool]:
    """Whether B's engine let anybody attach, and whether the confirmed write stayed on the disk of C all the time."""
    await taken_over_much_too_late(domain)
    admitted = await domain.comes_true(lambda: domain.runs(B) and domain.engine(B).admits, 1.0, SOON)
    domain.world.freeze_manager(B)
    domain.mend(B, C)
    held = True
    for _ in range(100):
        held = held and domain.holds(C, "w1")
        await asyncio.sleep(0.02)
    return admitted, held


async def the_true_leader_steps_down_for_it(domain: SafetyDomain) -> tuple[str, bool]:
    """Who leads in the end, and whether the confirmed write is there."""
    await taken_over_much_too_late(domain)
    term = domain.group.term
    domain.world.freeze_manager(B)
    domain.mend(B, C)
    await domain.until(lambda: domain.vacant or domain.group.term > term)  # the vacancy may be shorter than a look
    domain.world.thaw_manager(B)
    await domain.comes_true(lambda: bool(domain.leader), CHOICE)
    return domain.leader, bool(domain.leader) and domain.led_with("w1")


def b_outbids_c(domain: SafetyDomain) -> bool:
    """Both took over without hearing of each other, with equal epochs: then the lower node id raises its own, and wins."""
    return domain.engine(B).node_id < domain.engine(C).node_id


def test_v09_a_takeover_much_too_late_wipes_no_confirmed_write() -> None:
    assert SafetyDomain.play(3, the_true_leader_hears_of_it, where=b_outbids_c) == (False, True)


def test_v09_admitting_replicas_at_once_would_wipe_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def believes(self: perform.Performer, step: object) -> bool:
        return True

    monkeypatch.setattr(perform.Performer, "_still_leads", believes)
    worlds = range(1, 200, 10)  # in most the true leader leads again before it has copied anything
    assert any(
        SafetyDomain.play(3, the_true_leader_hears_of_it, where=b_outbids_c, first=seed) == (True, False) for seed in worlds
    )


def test_v09_the_true_leader_leads_again() -> None:
    assert SafetyDomain.play(3, the_true_leader_steps_down_for_it, where=b_outbids_c) == (C, True)
