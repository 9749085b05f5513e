"""V1 to V4, M1, M2 and M4 of the model: schedules in which a write that only one disk has would be called confirmed.

Each is walked through the real rules, by which the write is acknowledged and no more, or which refuse the step that
would end badly; and once more without the clause that closes it, which ends in the loss of a confirmed write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dkv import confirm
from dkv.domain import decide, facts
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import JoinStage
from dkv.domain.phases import Assigned, Vacant
from dkv.domain.rules import groups
from dkv.machine import follower_steps, leader_steps, perform
from dkv.machine.steps import CheckMarker, Step, SubmitFact
from dkv.sim.world import DATABASE, Watcher
from tests.safety.safety_domain import A, Answer, B, C, KnownView, LeaderConnection, SafetyDomain, WriteOutcome

CONFIRMED = confirm.Outcome(confirm.Kind.CONFIRMED)
MERELY_ACKNOWLEDGED = WriteOutcome(acknowledged=True, confirmed=False, survived=False)
CONFIRMED_AND_LOST = WriteOutcome(acknowledged=True, confirmed=True, survived=False)


def by_count(needed: int | None, first: confirm.Role, second: confirm.Role) -> confirm.Outcome:
    """A judge who counts those that have it; None: as many as are attached now."""
    have = sum(offset >= first.offset for offset in second.replicas.values())
    enough = have >= (len(second.replicas) if needed is None else needed)
    return CONFIRMED if enough else confirm.Outcome(confirm.Kind.ACKNOWLEDGED)


# -- V1: a link is cut, so nobody is attached ------------------------------------------------------------------------


async def a_link_is_cut_and_then_the_machine_is_lost(domain: SafetyDomain) -> WriteOutcome:
    line = await domain.connect()
    await domain.break_link(B, A)
    answer = await line.write("w1")
    assert (domain.group.in_sync, domain.group.required) == ((0, 1), (1,)), "a lost link lowers nothing"
    confirmed = domain.confirmed(answer, await domain.look(), line)
    domain.lose(A)
    await domain.until(lambda: domain.leader == B)
    return WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def test_v01_a_write_that_the_cut_follower_lacks_is_not_confirmed() -> None:
    assert SafetyDomain.play(2, a_link_is_cut_and_then_the_machine_is_lost) == MERELY_ACKNOWLEDGED


def test_v01_counting_who_is_attached_now_would_confirm_and_lose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "judge", lambda first, second, *_: by_count(None, first, second))
    assert SafetyDomain.play(2, a_link_is_cut_and_then_the_machine_is_lost) == CONFIRMED_AND_LOST


# -- V2: a follower outside S comes back by itself -------------------------------------------------------------------


async def a_shrunk_follower_returns_and_another_lags(domain: SafetyDomain) -> WriteOutcome:
    line = await domain.connect()
    await domain.break_link(B, A)
    await domain.until(lambda: domain.group.in_sync == (0, 2))
    domain.mend(B, A)
    await domain.until(lambda: attached(domain, B), every=0.001)
    domain.cut(C, A)
    answer = await line.write("w1")
    assert domain.holds(B, "w1")
    assert not domain.holds(C, "w1")
    assert 1 not in domain.group.in_sync
    confirmed = domain.confirmed(answer, await domain.look(), line)
    domain.lose(A)
    await domain.until(lambda: domain.leader == C)
    return WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def attached(domain: SafetyDomain, server: str) -> bool:
    """Whether the engine of A has heard from that server's engine."""
    if not domain.runs(server):
        return False
    replica = domain.engine(A).replication.replicas.get(domain.engine(server).node_id)
    return replica is not None and replica.online


def test_v02_the_word_of_a_follower_outside_the_in_sync_set_confirms_nothing() -> None:
    assert SafetyDomain.play(3, a_shrunk_follower_returns_and_another_lags) == MERELY_ACKNOWLEDGED


def test_v02_counting_its_word_would_confirm_and_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "judge", lambda first, second, *_: by_count(1, first, second))
    assert SafetyDomain.play(3, a_shrunk_follower_returns_and_another_lags) == CONFIRMED_AND_LOST


# -- V3: a new view, and an old engine -------------------------------------------------------------------------------


async def a_client_brings_the_new_view_to_the_old_leader(domain: SafetyDomain) -> WriteOutcome:
    line = await domain.connect()
    domain.world.kill_manager(A)
    domain.world.kill_guard(A)
    domain.cut(A, B)
    await domain.until(lambda: domain.leader == B and domain.group.in_sync == (1,))
    view = await domain.look()
    assert view.group.required == ()
    answer = await line.write("w1", count=0)
    confirmed = domain.confirmed(answer, view, line)
    domain.world.start_manager(A)
    domain.mend(A, B)
    await domain.until(lambda: domain.group.in_sync == (1, 0))
    return WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def test_v03_a_write_to_an_engine_that_the_view_does_not_name_is_not_confirmed() -> None:
    assert SafetyDomain.play(2, a_client_brings_the_new_view_to_the_old_leader) == MERELY_ACKNOWLEDGED


def test_v03_judging_by_the_new_view_alone_would_confirm_and_lose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = confirm.judge

    def whoever_it_was(first: Any, second: Any, view: Any, age: float, engine: Any) -> confirm.Outcome:
        return judge(first, second, view, age, view.leader)

    monkeypatch.setattr(confirm, "judge", whoever_it_was)
    assert SafetyDomain.play(2, a_client_brings_the_new_view_to_the_old_leader) == CONFIRMED_AND_LOST


# -- V4: the same leader in a new term -------------------------------------------------------------------------------


class Assignments(Watcher):
    """Remembers what was required at the moment of each assignment."""

    def __init__(self) -> None:
        self.required: list[tuple[int, ...]] = []

    def committed(self, before: Any, after: Any, events: Any) -> None:
        group = after.groups.get((DATABASE, "g1"))
        if group and isinstance(group.phase, Assigned) and isinstance(before.groups[group.key].phase, Vacant):
            self.required.append(group.required)
            assert not group.open


ATTACHES_FIRST = 2  # the first world in which B attaches well before it is required


async def a_leader_is_chosen_again_and_a_restarted_follower_attaches(domain: SafetyDomain) -> WriteOutcome:
    assignments = Assignments()
    domain.world.watchers.append(assignments)
    domain.world.kill_manager(A)
    domain.engine(A).stop()
    await domain.until(lambda: domain.vacant)
    domain.kill_engine(B)
    domain.engine(A).go_on()
    domain.world.start_manager(A)
    await domain.until(lambda: domain.leader == A and domain.group.in_sync == (0, 2))
    assert assignments.required == [(1, 2)], "an assignment keeps what was required"
    line = await domain.connect()
    await domain.until(lambda: attached(domain, B), every=0.001)
    domain.cut(C, A)
    answer = await line.write("w1")
    assert domain.holds(B, "w1")
    assert (domain.group.in_sync, domain.group.required) == ((0, 2), (2,)), "it is attached, and not required yet"
    confirmed = domain.confirmed(answer, await domain.look(), line)
    domain.lose(A)
    await domain.until(lambda: domain.leader == C)
    return WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def test_v04_the_word_of_a_restarted_follower_confirms_nothing_in_the_new_term() -> None:
    assert (
        SafetyDomain.play(3, a_leader_is_chosen_again_and_a_restarted_follower_attaches, first=ATTACHES_FIRST)
        == MERELY_ACKNOWLEDGED
    )


def test_v04_counting_its_word_would_confirm_and_lose_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "judge", lambda first, second, view, *_: by_count(len(view.required), first, second))
    assert (
        SafetyDomain.play(3, a_leader_is_chosen_again_and_a_restarted_follower_attaches, first=ATTACHES_FIRST)
        == CONFIRMED_AND_LOST
    )


def test_v04_an_assignment_that_lowered_what_is_required_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from dkv.domain.rules import leadership

    assign = leadership.assign

    def lowering(draft: Draft, group: Any, *more: Any) -> None:
        assign(draft, group, *more)
        draft.put_group(draft.groups[group.key], required=(2,))

    monkeypatch.setattr(leadership, "assign", lowering)
    with pytest.raises(AssertionError, match="an assignment keeps what was required"):
        SafetyDomain.play(3, a_leader_is_chosen_again_and_a_restarted_follower_attaches, first=ATTACHES_FIRST)


# -- M1: somebody else shrinks S -------------------------------------------------------------------------------------


async def the_follower_takes_the_leader_out(domain: SafetyDomain) -> tuple[str, WriteOutcome]:
    line = await domain.connect()
    await domain.break_link(B, A)
    term = domain.group.term
    decision = await domain.world.order(
        facts.InSyncShrunk(
            server_id=B, database=DATABASE, group="g1", term=term, archive_id=0, reason="the follower heard nothing from it"
        )
    )
    answer = await line.write("w1")
    confirmed = domain.confirmed(answer, await domain.look(), line)
    domain.lose(A)
    await domain.until(lambda: domain.leader == B)
    code = decision.code if isinstance(decision, Refused) else "accepted"
    return code, WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def test_m1_only_the_leaders_manager_shrinks_the_in_sync_set() -> None:
    assert SafetyDomain.play(2, the_follower_takes_the_leader_out) == ("not_the_leader", MERELY_ACKNOWLEDGED)


def test_m1_anybody_who_may_would_make_a_confirmed_write_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def shrunk(draft: Draft, command: facts.InSyncShrunk) -> None:
        group = draft.groups[(command.database, command.group)]
        left = tuple(a for a in group.in_sync if a != command.archive_id)
        draft.put_group(group, in_sync=left, required=tuple(a for a in left if a != group.last_leader and a != 1))

    monkeypatch.setitem(decide.RULES, facts.InSyncShrunk, shrunk)
    monkeypatch.setattr("dkv.domain.invariants.check", lambda *_: None)
    monkeypatch.setattr("dkv.domain.invariants.check_all", lambda *_: None)
    assert SafetyDomain.play(2, the_follower_takes_the_leader_out) == ("accepted", CONFIRMED_AND_LOST)


# -- M2: S grows before the joiner holds everything ------------------------------------------------------------------


async def alone_with_a_confirmed_write(domain: SafetyDomain) -> tuple[LeaderConnection, Answer, KnownView]:
    """B was away, so S is the leader alone, and w1 is confirmed on its disk only."""
    domain.lose(B)
    await domain.until(lambda: domain.group.in_sync == (0,))
    line = await domain.connect()
    return line, await line.write("w1", count=0), await domain.look()


async def the_leader_is_lost_while_a_copy_is_filled(domain: SafetyDomain) -> tuple[tuple[int, ...], WriteOutcome]:
    line, answer, view = await alone_with_a_confirmed_write(domain)
    confirmed = domain.confirmed(answer, view, line)
    domain.switch_on(B)
    await domain.until(lambda: domain.runs(B) and domain.engine(B).replication.state == "resyncing", every=0.001)
    domain.cut(A, B)
    await domain.comes_true(lambda: len(domain.group.in_sync) == 2, 2.5)
    in_sync = domain.group.in_sync
    assert not domain.holds(B, "w1")
    domain.lose(A)
    if await domain.comes_true(lambda: domain.leader == B, 20.0):
        return in_sync, WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))
    domain.mend(A, B)
    term = domain.group.term
    domain.switch_on(A)
    await domain.until(lambda: domain.leader == A and domain.group.term > term)
    return in_sync, WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w1"))


def test_m2_a_copy_that_is_being_filled_is_not_in_sync_and_does_not_lead() -> None:
    assert SafetyDomain.play(2, the_leader_is_lost_while_a_copy_is_filled) == ((0,), WriteOutcome(True, True, survived=True))


def test_m2_believing_it_would_lose_a_confirmed_write(monkeypatch: pytest.MonkeyPatch) -> None:
    attach = follower_steps._attach_steps

    def hasty(inputs: Any, group: Any, process: Any, engine: Any) -> Iterator[Step]:
        joining = next((j for j in group.joining if j.stage is JoinStage.MARKED), None)
        if joining is None:
            yield from attach(inputs, group, process, engine)
        else:
            yield CheckMarker(engine.directory, process.start_id, engine.directory, group.term, joining.sequence, joining.nonce)

    async def believed(self: perform.Performer, step: Any) -> None:
        await self._submit(
            facts.JoinDurable(start_id=step.start_id, term=step.term, sequence=step.sequence, nonce=step.nonce, **self._header)
        )

    monkeypatch.setattr(follower_steps, "_attach_steps", hasty)
    monkeypatch.setattr(perform.Performer, "_check_marker", believed)
    monkeypatch.setattr(leader_steps, "_join_steps", grown_when_required(leader_steps._join_steps))
    monkeypatch.setattr(leader_steps, "acknowledges", lambda *_, **__: True)
    worlds = range(1, 100, 6)  # in some the lost leader is back before the copy is chosen
    assert any(
        SafetyDomain.play(2, the_leader_is_lost_while_a_copy_is_filled, first=seed) == ((0, 1), CONFIRMED_AND_LOST)
        for seed in worlds
    )


def grown_when_required(join: Any) -> Any:
    """A leader's manager that does not compare offsets."""

    def steps(inputs: Any, group: Any, engine: Any, archive: Any, joining: Any) -> Iterator[Step]:
        if joining is None or joining.stage is JoinStage.ANNOUNCED:
            yield from join(inputs, group, engine, archive, joining)
        elif joining.stage is JoinStage.REQUIRED:
            fact = facts.JoinCompleted(archive_id=archive.archive_id, **inputs.group_header(group))
            yield SubmitFact(f"copy {archive.archive_id}", fact)

    return steps


# -- M4: S grows before clients know of it ---------------------------------------------------------------------------


async def a_client_knows_the_store_as_it_was_just_before_it_grew(domain: SafetyDomain) -> WriteOutcome:
    line, _, view = await alone_with_a_confirmed_write(domain)
    domain.switch_on(B)
    while len(domain.group.in_sync) == 1:
        earlier = await domain.look()
        view = earlier if len(domain.group.in_sync) == 1 else view
    domain.cut(A, B)
    answer = await line.write("w2", count=len(view.group.required))
    confirmed = domain.confirmed(answer, view, line)
    assert not domain.holds(B, "w2")
    domain.lose(A)
    await domain.until(lambda: domain.leader == B)
    return WriteOutcome(answer.acknowledged, confirmed, domain.led_with("w2"))


def test_m4_what_is_required_grows_before_the_in_sync_set() -> None:
    assert SafetyDomain.play(2, a_client_knows_the_store_as_it_was_just_before_it_grew) == MERELY_ACKNOWLEDGED


def test_m4_requiring_it_only_afterwards_would_confirm_and_lose_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    durable = groups.join_durable

    def silently(draft: Draft, command: facts.JoinDurable) -> Refused | None:
        before = {key: group.required for key, group in draft.groups.items()}
        refused = durable(draft, command)
        for key, required in before.items():
            draft.put_group(draft.groups[key], required=required)
        return refused

    monkeypatch.setitem(decide.RULES, facts.JoinDurable, silently)
    monkeypatch.setattr("dkv.domain.invariants.check", lambda *_: None)
    monkeypatch.setattr("dkv.domain.invariants.check_all", lambda *_: None)
    assert SafetyDomain.play(2, a_client_knows_the_store_as_it_was_just_before_it_grew) == CONFIRMED_AND_LOST
