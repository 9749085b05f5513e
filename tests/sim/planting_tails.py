"""The planted bugs of a dead leader's tail (docs/decisions/0011); among the others in planting.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dkv.domain.draft import Draft
from dkv.domain.positions import TailTransfer
from dkv.domain.rules import groups, leadership, tail
from dkv.engine import tail as feeders
from dkv.engine.contract import ByteRangeDigest
from dkv.machine.tail import handlers as tail_handlers
from dkv.machine.tail import plan as tail_plan
from dkv.machine.tail.steps import CheckTail
from dkv.sim import scenario
from dkv.sim.engines import tail as sim_feeders


def open_without_comparing() -> None:
    """A follower is believed to have everything as soon as it is fenced."""
    steps = tail_plan.recipient_steps

    def immediate(inputs: Any, group: Any, process: Any, engine: Any) -> Iterator[Any]:
        recipient = group.tail.of(process.start_id)
        if group.tail.history and recipient and not recipient.whole and engine.writes.fenced:
            yield CheckTail(
                engine.directory,
                process.start_id,
                group.term,
                engine.directory,
                (0, 0, ""),
                ByteRangeDigest(group.tail.size, group.tail.digest),
            )
            return
        yield from steps(inputs, group, process, engine)

    async def believed(self: Any, step: CheckTail) -> None:
        await self._submit(
            tail_handlers.TailFed(
                start_id=step.start_id, term=step.term, size=step.stretch.size, digest=step.stretch.digest, **self._header
            )
        )

    _every_group_is_large()
    tail_plan.recipient_steps = immediate
    tail_handlers.TailHandlers._check = believed  # type: ignore[method-assign]


def _every_group_is_large() -> None:
    shape_of = scenario.shape_of
    scenario.shape_of = lambda seed: replace(shape_of(seed), tail_above=0)  # type: ignore[assignment]


def move_the_last_leader_at_assign() -> None:
    """The heir counts as the last leader before it has everything."""
    _at_assign(lambda group, given: {"last_leader": group.leader})


def shrink_s_at_assign() -> None:
    """Whoever is not fed leaves S before the term is open, the dead leader too."""
    _at_assign(lambda group, given: {"in_sync": tuple(recipient.archive_id for recipient in given.fed)})


def _at_assign(change: Callable[[Any, TailTransfer], dict[str, Any]]) -> None:
    assign = leadership.assign

    def early(draft: Draft, group: Any, process: Any, given: TailTransfer | None = None) -> None:
        assign(draft, group, process, given)
        if given:
            draft.put_group(draft.groups[group.key], **change(draft.groups[group.key], given))

    leadership.assign = early  # type: ignore[assignment]


def keep_in_s_whoever_was_named() -> None:
    """A follower that was to be fed stays in S, compared or not."""
    groups.tail.whole_members = lambda draft, group, given: tuple(  # type: ignore[attr-defined]
        recipient.archive_id for recipient in given.fed if recipient.archive_id != group.leader
    )


def feed_without_the_lock() -> None:
    """Nobody looks who else has the archive."""

    async def unlocked(self: Any, plan: Any, identity: Any) -> None:
        feeders.check_identity(plan.directory, identity, False)
        await self._tails.serve(plan)

    feeders.TailSources.serve_tail = unlocked  # type: ignore[method-assign]


def an_heir_that_is_not_the_furthest() -> None:
    """The follower that is furthest behind is to lead."""
    planned = tail.planned

    def behind(draft: Draft, group: Any) -> Any:
        successor = planned(draft, group)
        if successor is None:
            return None
        last = min(successor[1].fed, key=lambda recipient: recipient.place)
        return draft.processes[last.start_id], successor[1]

    tail.planned = behind


def the_old_id() -> None:
    """The dead leader's history goes on, in which offsets also count what no file holds."""
    _every_group_is_large()
    TailTransfer.shift = property(lambda self: self.fed[0].offset - self.fed[0].place)  # type: ignore[assignment, method-assign]
    measured = tail.tail_measured

    def old(draft: Draft, command: Any) -> Any:
        process = draft.processes.get(command.start_id)
        group = draft.group_of(process) if process else None
        former = group.tail.former if group and group.tail else command.history
        return measured(draft, replace(command, history=former))

    _replace_rule("TailMeasured", old)
    tail_handlers.TailHandlers._check = _by_size_only  # type: ignore[method-assign]


async def _by_size_only(self: Any, step: CheckTail) -> None:
    """As the comparison, but a follower that is longer or different is left alone."""
    stretch = await self._engines.digest(step.directory, step.marker)
    if stretch == step.stretch:
        await self._submit(
            tail_handlers.TailFed(
                start_id=step.start_id, term=step.term, size=stretch.size, digest=stretch.digest, **self._header
            )
        )


def a_feeder_that_stood_still_goes_on() -> None:
    """What a manager served it goes on serving, whenever it wakes."""
    feeders._VALID = 3600.0
    sim_feeders.VALID = 3600.0


def _replace_rule(command: str, rule: Any) -> None:
    from dkv.domain import decide

    [kind] = [kind for kind in decide.RULES if kind.__name__ == command]
    decide.RULES[kind] = rule


TAILS: tuple[Callable[[], None], ...] = (
    open_without_comparing,
    move_the_last_leader_at_assign,
    shrink_s_at_assign,
    keep_in_s_whoever_was_named,
    feed_without_the_lock,
    an_heir_that_is_not_the_furthest,
    the_old_id,
    a_feeder_that_stood_still_goes_on,
)
