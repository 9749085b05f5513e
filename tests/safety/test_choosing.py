"""V5, V6, V8 and M3 of the model: schedules in which the wrong copy would be chosen to lead.

Each is walked through the real rules, and once more without the clause that closes it: then an acknowledged write is
lost although the archive that holds it was there at the choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dkv.domain.draft import Draft
from dkv.domain.model import Group, PositionReport
from dkv.domain.rules import leadership
from dkv.machine import perform
from dkv.sim.world import DATABASE, Watcher
from tests.safety.safety_domain import SOON, A, Answer, B, C, SafetyDomain

CHOICE = 30.0  # s in which a choice must have been made, if one can be


async def written_on_the_leader_alone(domain: SafetyDomain, key: str) -> None:
    """Acknowledged, on the disk of A, and never streamed."""
    line = await domain.connect()
    domain.cut(A, B)
    assert (await line.write(key)).acknowledged
    assert domain.holds(A, key)
    assert not domain.holds(B, key)


def forget_who_led(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that promotes the best that is ready, whoever led and whoever may still answer."""
    rank = leadership._rank
    monkeypatch.setattr(leadership, "_must_wait", lambda *_: False)
    monkeypatch.setattr(leadership, "_rank", lambda group, member: (False, *rank(group, member)[1:]))


# -- M3: the dead leader's disk is not asked ---------------------------------------------------------------------------


async def the_leaders_engine_dies_with_a_write_of_its_own(domain: SafetyDomain) -> tuple[str, bool]:
    """A's manager reports the end, and takes a second to say what the disk holds."""
    await written_on_the_leader_alone(domain, "w1")
    domain.kill_engine(A)
    domain.mend(A, B)
    await domain.until(lambda: domain.vacant, every=SOON)
    domain.world.freeze_manager(A)
    await asyncio.sleep(1.0)
    domain.world.thaw_manager(A)
    await domain.until(lambda: domain.group.term > 1 and bool(domain.leader), CHOICE)
    return domain.leader, domain.led_with("w1")


def test_m3_the_dead_leaders_disk_is_asked_first() -> None:
    assert SafetyDomain.play(2, the_leaders_engine_dies_with_a_write_of_its_own) == (A, True)


def test_m3_promoting_at_once_would_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_who_led(monkeypatch)
    assert SafetyDomain.play(2, the_leaders_engine_dies_with_a_write_of_its_own) == (B, False)


# -- V5: engine and manager die, the machine is fine ---------------------------------------------------------------------


async def engine_and_manager_die_on_a_machine_that_answers(domain: SafetyDomain) -> tuple[str, bool]:
    await written_on_the_leader_alone(domain, "w1")
    domain.world.kill_manager(A)
    domain.kill_engine(A)
    domain.mend(A, B)
    await domain.until(lambda: not domain.leader, every=SOON)
    await domain.comes_true(lambda: bool(domain.leader), 6.0)
    domain.world.start_manager(A)
    await domain.until(lambda: bool(domain.leader), CHOICE)
    return domain.leader, domain.led_with("w1")


def test_v05_a_machine_that_answers_is_waited_for_although_its_lease_ended() -> None:
    assert SafetyDomain.play(2, engine_and_manager_die_on_a_machine_that_answers) == (A, True)


def test_v05_skipping_it_with_its_lease_would_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_while_it_lives(draft: Draft, group: Group, member: leadership.Standing) -> bool:
        return member.process is not None and draft.server_alive(member.process.server_id)

    monkeypatch.setattr(leadership, "_awaitable", only_while_it_lives)
    assert SafetyDomain.play(2, engine_and_manager_die_on_a_machine_that_answers) == (B, False)


# -- V6: a rewrite that is cut off before its marker -----------------------------------------------------------------------


async def the_leader_lost_its_marker_and_dies(domain: SafetyDomain) -> tuple[str, bool]:
    await written_on_the_leader_alone(domain, "w1")
    await without_marker(domain, A)
    domain.kill_engine(A)
    domain.mend(A, B)
    await domain.until(lambda: domain.group.term > 1 and bool(domain.leader), CHOICE)
    return domain.leader, domain.led_with("w1")


async def without_marker(domain: SafetyDomain, server: str) -> None:
    """A rewrite whose marker did not come to be written: the archive's position is unknown."""
    domain.engine(server).rewrite(None)
    await domain.until(lambda: not domain.engine(server).rewriting, every=SOON)
    assert domain.position(server).term == 0


async def the_only_copy_in_sync_lost_its_marker_and_dies(domain: SafetyDomain) -> tuple[str, bool]:
    domain.lose(B)
    await domain.until(lambda: domain.group.in_sync == (0,))
    assert (await (await domain.connect()).write("w1", count=0)).acknowledged
    await without_marker(domain, A)
    domain.kill_engine(A)
    await domain.until(lambda: not domain.leader)
    await domain.comes_true(lambda: bool(domain.leader), CHOICE)
    return domain.leader, bool(domain.leader) and domain.led_with("w1")


def the_unknown_may_not_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = leadership.standing

    def known_only(draft: Draft, archive_id: int) -> leadership.Standing:
        candidate = standing(draft, archive_id)
        report = candidate.process.report if candidate.process else None
        unknown = report is not None and report.term == 0 and draft.groups[(DATABASE, "g1")].last_leader is not None
        return replace(candidate, ready=candidate.ready and not unknown)

    monkeypatch.setattr(leadership, "standing", known_only)


def test_v06_the_last_leader_leads_again_although_its_position_is_unknown() -> None:
    assert SafetyDomain.play(2, the_leader_lost_its_marker_and_dies) == (A, True)


def test_v06_a_lone_copy_leads_again_although_its_position_is_unknown() -> None:
    assert SafetyDomain.play(2, the_only_copy_in_sync_lost_its_marker_and_dies) == (A, True)


def test_v06_forbidding_the_unknown_to_lead_would_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    the_unknown_may_not_lead(monkeypatch)
    assert SafetyDomain.play(2, the_leader_lost_its_marker_and_dies) == (B, False)


def test_v06_forbidding_the_unknown_to_lead_would_leave_a_lone_copy_dead_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    the_unknown_may_not_lead(monkeypatch)
    assert SafetyDomain.play(2, the_only_copy_in_sync_lost_its_marker_and_dies) == ("", False)


# -- Trap 3: an older copy that wrote for itself -----------------------------------------------------------------------


async def an_older_copy_counted_distinct_and_the_store_starts_cold(domain: SafetyDomain) -> tuple[str, bool]:
    """B has a write of A's that C lacks; C counted distinct 10,000 times. All lose power, and A does not come back."""
    line = await domain.connect()
    assert (await line.write("visitors", count=2)).acknowledged
    domain.cut(A, C)
    assert (await line.write("w1")).acknowledged
    await domain.until(lambda: domain.holds(B, "w1"), every=SOON)
    for _ in range(10_000):
        assert domain.engine(C).count_distinct("visitors") == "OK"
    assert not domain.holds(C, "w1")
    assert set(domain.group.in_sync) == {0, 1, 2}
    assert domain.position(C).bytes_after > domain.position(B).bytes_after
    for server in (A, B, C):
        domain.lose(server)
    for server in (C, B):
        domain.switch_on(server)
    await domain.until(lambda: domain.group.term > 1 and bool(domain.leader), CHOICE + CHOICE)
    return domain.leader, domain.led_with("w1")


def test_an_older_copy_that_counted_distinct_does_not_lead() -> None:
    assert SafetyDomain.play(3, an_older_copy_counted_distinct_and_the_store_starts_cold) == (B, True)


def test_counting_what_it_wrote_for_itself_would_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PositionReport, "data_bytes", property(lambda self: self.bytes_after))
    assert SafetyDomain.play(3, an_older_copy_counted_distinct_and_the_store_starts_cold) == (C, False)


# -- V8: the position of a leader that still serves ------------------------------------------------------------------------


class Answered(Watcher):
    """What A said in the vacancy of how far its archive got."""

    def __init__(self) -> None:
        self.report: PositionReport | None = None

    def committed(self, before: Any, after: Any, events: Any) -> None:
        process = after.process_on(0)
        if self.report is None and process and process.report and not after.groups[(DATABASE, "g1")].open:
            self.report = process.report


async def a_leader_that_still_serves_is_asked_and_dies(
    domain: SafetyDomain, before_the_choice: Callable[[], None] = lambda: None
) -> tuple[bool, bool]:
    """Whether writes were acknowledged that its answer lacks, and whether they are all there in the end."""
    answered = Answered()
    domain.world.kill_manager(A)
    domain.engine(A).stop()
    await domain.until(lambda: domain.vacant)
    domain.engine(A).go_on()
    domain.world.watchers.append(answered)
    domain.cut(A, B)
    acknowledged: set[str] = set()
    writing = [asyncio.ensure_future(write_on(domain, f"w{n}", acknowledged)) for n in range(5)]
    await domain.until(lambda: bool(acknowledged), every=SOON)
    domain.world.start_manager(A)
    await domain.until(lambda: answered.report is not None, every=SOON)
    before_the_choice()
    domain.kill_engine(A)
    await asyncio.gather(*writing)
    report = answered.report
    assert report is not None
    late = {e.key for e in domain.disk(A).after((report.term, report.sequence, report.nonce), report.bytes_after)}
    late &= acknowledged
    domain.mend(A, B)
    await domain.until(lambda: bool(domain.leader), CHOICE)
    return bool(late), all(domain.led_with(key) for key in late)


async def write_on(domain: SafetyDomain, name: str, acknowledged: set[str]) -> None:
    """A plain client of A, until it is refused."""
    line, number, answer = domain.plainly(A), 0, Answer("OK")
    while answer.acknowledged:
        number += 1
        answer = await line.write(f"{name}-{number}", count=0)
        acknowledged |= {f"{name}-{number}"} if answer.acknowledged else set()


def no_fence_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    report = perform.Performer._report_position

    async def unfenced(self: perform.Performer, step: Any) -> None:
        await report(self, replace(step, leads=False))

    monkeypatch.setattr(perform.Performer, "_report_position", unfenced)


def test_v08_an_engine_is_fenced_before_it_says_how_far_it_got() -> None:
    assert SafetyDomain.play(2, a_leader_that_still_serves_is_asked_and_dies) == (False, True)


def test_v08_unfenced_it_would_acknowledge_what_its_answer_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost by that alone: the last leader is asked again, and first."""
    no_fence_before_the_answer(monkeypatch)
    assert SafetyDomain.play(2, a_leader_that_still_serves_is_asked_and_dies) == (True, True)


def test_v08_and_by_the_answers_alone_those_writes_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    no_fence_before_the_answer(monkeypatch)
    scenario = partial(a_leader_that_still_serves_is_asked_and_dies, before_the_choice=lambda: forget_who_led(monkeypatch))
    assert SafetyDomain.play(2, scenario) == (True, False)
