"""Options of a database: set by people, obeyed by the rules at once, and by running engines when their managers say so."""

from __future__ import annotations

from dkv.domain.commands import OptionsSeen, SetDatabaseOptions
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import evolve
from dkv.domain.options import applied, effects, merged, too_many_in_sync
from dkv.domain.refusals import living_database, stale_fact
from dkv.domain.rules.processes import owned
from dkv.hints import to_json


def set_database_options(draft: Draft, command: SetDatabaseOptions) -> Refused | None:
    """Keep options as they were written and go by them. One that is neither in database_options.py nor NuoDB's own is refused."""
    database = living_database(draft.databases, command.name)
    if isinstance(database, Refused):
        return database
    before = database.default_options
    after = merged(before, command.options, command.replace_all)
    options = applied(database.options, dict(before), dict(after))
    if isinstance(options, Refused):
        return options
    if refused := too_many_in_sync(options):
        return refused
    if after != before:
        database = draft.put_database(database, options=options, default_options=after, options_at=draft.command.now)
        changed = sorted({name for name, _ in set(after) ^ set(before)})
        draft.note(
            "database.options",
            f"database {database.name}",
            f"an operator set its options: {', '.join(changed)}",
            database=database.name,
        )
        draft.answer.update(
            effects=[
                {"option": name, "effect": effect, "hint": str(cure), "hintParts": to_json(cure)}
                for name, effect, cure in effects(database, changed)
            ]
        )
    return None


def options_seen(draft: Draft, command: OptionsSeen) -> Refused | None:
    """A manager saw that the engines of a process run with other options than were known."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    runs = evolve(process.runs, append_fsync=command.append_fsync, max_memory=command.max_memory)
    if process.runs == runs:
        return stale_fact(f"that is known of process {process.start_id}")
    process = draft.put_process(process, runs=runs)
    memory = command.max_memory or "its share"
    fsync = f", append-fsync {command.append_fsync}" if command.append_fsync else ""
    draft.note(
        "process.options",
        f"process {process.start_id}",
        f"its manager saw that it runs with max-memory {memory}{fsync}",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None
