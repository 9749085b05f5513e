"""Options of a database: set by people, obeyed by the rules at once, and by running engines when their managers say so."""

from __future__ import annotations

from dkv.database_options import OPTIONS
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import OptionsSeen
from dkv.domain.model import Database, DatabaseOptions, Transport, evolve
from dkv.domain.options import applied, effects, merged, passed_on, too_many_in_sync
from dkv.domain.orders import SetDatabaseOptions
from dkv.domain.refusals import living_database, no, stale_fact
from dkv.domain.rules.databases import note_insecure
from dkv.domain.rules.processes import owned
from dkv.domain.transport import chosen, same
from dkv.hints import action, to_json


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
    transport = _transport(draft, database, options)
    if isinstance(transport, Refused):
        return transport
    if after != before:
        if transport.insecure and not database.transport.insecure:
            note_insecure(draft, database)
        now = draft.command.now
        database = draft.put_database(database, transport=transport, options=options, default_options=after, options_at=now)
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


def _transport(draft: Draft, database: Database, options: DatabaseOptions) -> Transport | Refused:
    """The transport by these options: another one than before only of a database that does not run."""
    if same(database.options, options):
        return database.transport
    servers = [draft.servers[a.server_id] for a in draft.archives_of(database.name) if not a.removed]
    transport = chosen(database.name, options, servers or list(draft.servers.values()))
    if isinstance(transport, Refused) or transport.tls == database.transport.tls or not draft.has_processes(database.name):
        return transport
    return no(
        "database_running",
        f"The transport of the engines of {database.name} is fixed while it has processes.",
        "Stop it first: ",
        action("stopStore", store=database.name),
        ".",
    )


def options_seen(draft: Draft, command: OptionsSeen) -> Refused | None:
    """A manager saw that the engines of a process run with other options than were known."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    runs = evolve(
        process.runs,
        append_fsync=command.append_fsync,
        max_memory=command.max_memory,
        maxmemory_policy=command.maxmemory_policy,
        notify_keyspace_events=command.notify_keyspace_events,
        max_clients=command.max_clients,
    )
    if process.runs == runs:
        return stale_fact(f"that is known of process {process.start_id}")
    process = draft.put_process(process, runs=runs)
    memory = command.max_memory or "its share"
    fsync = f", append-fsync {command.append_fsync}" if command.append_fsync else ""
    rest = "".join(f", {name} {value}" for name, value in passed_on(runs).items() if value != OPTIONS[name].default)
    draft.note(
        "process.options",
        f"process {process.start_id}",
        f"its manager saw that it runs with max-memory {memory}{fsync}{rest}",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None
