"""The guard (decision 0092): a manager is dead and its leader's machine is cut off, which was two leaders seen by clients.

Each schedule is walked by real rules and the real judgement of the guard, and once more without a guard: then the old leader
goes on to acknowledge writes beside the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.safety.safety_domain import A, B, C, SafetyDomain

CHOICE = 30.0  # s in which a choice must have been made, if one can be
LONG = 60.0  # s


@dataclass
class Writer:
    """A plain client of one engine: when each of its writes was acknowledged or refused, in virtual seconds."""

    domain: SafetyDomain
    server: str
    acknowledged: list[tuple[float, str]] = field(default_factory=list)
    refused: int = 0

    async def run(self) -> None:
        """Write every 20 ms until cancelled."""
        number = 0
        while True:
            number += 1
            key = f"{self.server}-{number}"
            answer = await self.domain.plainly(self.server).write(key, count=0)
            if answer.acknowledged:
                self.acknowledged.append((self.domain.world.now(), key))
            else:
                self.refused += 1
            await asyncio.sleep(0.02)


def cut_off(domain: SafetyDomain, server: str) -> None:
    """From all others; the backend is theirs."""
    domain.world.machines[server].link.away_until = domain.world.now() + LONG
    for other in domain.world.machines:
        if other != server:
            domain.cut(server, other)


async def join_again(domain: SafetyDomain, server: str) -> None:
    domain.world.machines[server].link.away_until = 0.0
    for other in domain.world.machines:
        if other != server:
            domain.mend(server, other)
    domain.world.start_manager(server)


Scenario = Callable[[SafetyDomain], Awaitable[tuple[float, int]]]


async def the_manager_is_dead_and_its_machine_is_cut_off(
    domain: SafetyDomain, dead_for: float = 10.0, guarded: bool = True
) -> tuple[float, int]:
    """Until when A acknowledged after the cut, in s; and how many writes it acknowledged once another led."""
    writer = Writer(domain, A)
    writing = asyncio.ensure_future(writer.run())
    await asyncio.sleep(2.0)
    domain.world.kill_manager(A)
    if not guarded:
        domain.world.kill_guard(A)
    await asyncio.sleep(dead_for)
    assert not writer.refused, "the end of a manager alone stops nothing"
    cut_off(domain, A)
    began = domain.world.now()
    await domain.until(lambda: domain.leader not in ("", A), CHOICE)
    chosen = domain.world.now()
    await asyncio.sleep(5.0)
    writing.cancel()
    last = writer.acknowledged[-1][0]
    both = [key for at, key in writer.acknowledged if at > chosen]
    await join_again(domain, A)
    await domain.until(lambda: set(domain.group.in_sync) == set(range(domain.world.shape.servers)), LONG)
    before = [key for at, key in writer.acknowledged if at < began - 1.0]
    assert before and all(domain.led_with(key) for key in before), "what was streamed before the cut is there"
    return last - began, len(both)


@pytest.mark.parametrize("servers", [2, 3])
@pytest.mark.parametrize("dead_for", [0.0, 0.5, 2.0, 10.0])
def test_it_is_fenced_before_another_leads_however_long_the_manager_was_dead(servers: int, dead_for: float) -> None:
    scenario = partial(the_manager_is_dead_and_its_machine_is_cut_off, dead_for=dead_for)
    acknowledged_for, beside = SafetyDomain.play(servers, scenario)
    assert acknowledged_for < 1.6
    assert beside == 0


@pytest.mark.parametrize("servers", [2, 3])
def test_without_a_guard_two_leaders_would_take_writes(servers: int) -> None:
    scenario = partial(the_manager_is_dead_and_its_machine_is_cut_off, guarded=False)
    acknowledged_for, beside = SafetyDomain.play(servers, scenario)
    assert acknowledged_for > 5.0
    assert beside > 100


async def it_is_cut_off_first_and_its_manager_dies_a_moment_later(domain: SafetyDomain, later: float) -> int:
    """The manager dies before it fences, or just when it would."""
    writer = Writer(domain, A)
    writing = asyncio.ensure_future(writer.run())
    await asyncio.sleep(1.0)
    cut_off(domain, A)
    await asyncio.sleep(later)
    domain.world.kill_manager(A)
    await domain.until(lambda: domain.leader not in ("", A), CHOICE)
    chosen = domain.world.now()
    await asyncio.sleep(5.0)
    writing.cancel()
    return len([key for at, key in writer.acknowledged if at > chosen])


@pytest.mark.parametrize("later", [0.1, 0.7, 1.0, 1.4, 1.7, 2.5])
def test_a_manager_that_dies_while_it_is_cut_off_leaves_no_gap(later: float) -> None:
    assert SafetyDomain.play(3, partial(it_is_cut_off_first_and_its_manager_dies_a_moment_later, later=later)) == 0


# What must not be fenced --------------------------------------------------------------------------------------------------


async def refused_while(domain: SafetyDomain, what: Callable[[SafetyDomain], Awaitable[None]], seconds: float) -> int:
    """How many writes to A were refused in so many seconds after this happened."""
    writer = Writer(domain, A)
    writing = asyncio.ensure_future(writer.run())
    await what(domain)
    await asyncio.sleep(seconds)
    writing.cancel()
    assert writer.acknowledged
    return writer.refused


async def its_manager_dies(domain: SafetyDomain) -> None:
    domain.world.kill_manager(A)


async def all_managers_die(domain: SafetyDomain) -> None:
    for server in domain.world.machines:
        domain.world.kill_manager(server)


async def one_machine_is_lost_too(domain: SafetyDomain) -> None:
    domain.world.kill_manager(A)
    domain.lose(C)


async def the_backend_is_lost_too(domain: SafetyDomain) -> None:
    domain.world.kill_manager(A)
    domain.backend_away(LONG)


@pytest.mark.parametrize("what", [its_manager_dies, all_managers_die, one_machine_is_lost_too, the_backend_is_lost_too])
def test_whoever_is_reached_by_one_other_machine_goes_on(what: Callable[[SafetyDomain], Awaitable[None]]) -> None:
    assert SafetyDomain.play(3, lambda domain: refused_while(domain, what, LONG - 1.0)) == 0


async def it_is_not_heard_for_a_moment(domain: SafetyDomain, seconds: float) -> int:
    async def happens(domain: SafetyDomain) -> None:
        domain.world.kill_manager(A)
        await asyncio.sleep(2.0)
        for other in (B, C):
            domain.cut(A, other)
        await asyncio.sleep(seconds)
        for other in (B, C):
            domain.mend(A, other, lost=False)

    return await refused_while(domain, happens, 10.0)


def test_a_hiccup_of_a_second_fences_nothing() -> None:
    assert SafetyDomain.play(3, partial(it_is_not_heard_for_a_moment, seconds=0.9)) == 0


# What is fenced, and opened again -----------------------------------------------------------------------------------------


async def the_others_lose_their_power(domain: SafetyDomain) -> tuple[bool, bool, bool]:
    """Whether A was fenced, whether it stayed so when B was back, and whether its own manager opened it."""
    domain.world.kill_manager(A)
    for server in (B, C):
        domain.lose(server)
    await domain.until(lambda: domain.engine(A).fenced, 5.0)
    domain.world.machines[B].down = False  # it answers again; no manager runs there yet
    await asyncio.sleep(5.0)
    stayed = domain.engine(A).fenced
    domain.world.start_manager(A)
    await domain.until(lambda: domain.leader == A and not domain.engine(A).fenced, CHOICE)
    return True, stayed, not domain.engine(A).fenced


def test_only_a_manager_opens_what_a_guard_fenced() -> None:
    assert SafetyDomain.play(3, the_others_lose_their_power) == (True, True, True)


async def the_next_manager_cannot_read_the_domain(domain: SafetyDomain) -> bool:
    """The service manager starts it again at once, and it does not come to act: the guard stays in charge."""
    domain.world.kill_manager(A)
    await asyncio.sleep(0.1)
    cut_off(domain, A)
    domain.world.start_manager(A)
    return await domain.comes_true(lambda: domain.engine(A).fenced, 3.0)


def test_a_manager_that_cannot_act_yet_relieves_no_guard() -> None:
    assert SafetyDomain.play(3, the_next_manager_cannot_read_the_domain)
