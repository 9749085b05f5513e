"""Since when something is not as it should be: remembered by level.

The moment is only shown. That an engine is silent keeps planned handovers from it.
"""

from __future__ import annotations

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import EngineSilent, WritesRefused
from dkv.domain.model import Group, evolve
from dkv.domain.refusals import no, stale_fact
from dkv.domain.rules.processes import owned
from dkv.domain.writes_refused import WRITE_REFUSALS


def engine_silent(draft: Draft, command: EngineSilent) -> Refused | None:
    """An engine answers nothing, or answers again."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if bool(process.health.silent_at) == command.silent:
        return stale_fact(f"that is known of process {process.start_id}")
    health = evolve(process.health, silent_at=max(1, command.now) if command.silent else 0)
    draft.put_process(process, health=health)
    kind, because = ("silent", "its engine has not answered for 3 s")
    if not command.silent:
        kind, because = ("answers", "its engine answers again")
    draft.note(
        f"process.{kind}",
        f"process {process.start_id}",
        because,
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None


def writes_refused(draft: Draft, command: WritesRefused) -> Refused | None:
    """An engine that leads refuses its clients' writes for some reason, for another one, or takes them again."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    if process.health.refuses == command.why:
        return stale_fact(f"that is known of process {process.start_id}")
    if command.why and command.why not in WRITE_REFUSALS:
        return no(
            "bad_value", f"No engine refuses writes with {command.why!r}.", f"Known are {', '.join(sorted(WRITE_REFUSALS))}."
        )
    health = evolve(process.health, refuses=command.why, refuses_at=max(1, command.now) if command.why else 0)
    draft.put_process(process, health=health)
    kind, because = ("accepts", "its engine takes writes again")
    if command.why:
        kind, because = ("refuses", f"its engine refuses writes: {WRITE_REFUSALS[command.why].reason}")
    draft.note(
        f"process.{kind}",
        f"process {process.start_id}",
        because,
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None


def settle_under_replicated(draft: Draft, group: Group) -> None:
    """Since when a group that serves has fewer copies in sync than its writes need."""
    least = draft.databases[group.database].options.min_in_sync
    thin = group.serving and len(group.in_sync) < least
    if thin != bool(group.under_replicated_since):
        draft.put_group(group, under_replicated_since=max(1, draft.command.now) if thin else 0)
