"""Databases: created with groups and archives, stopped whole, deleted; their states (docs/reference/nuodb.md#life-cycles)."""

from __future__ import annotations

from dataclasses import replace

from dkv.constants import SLOTS
from dkv.domain.access import DatabaseUser
from dkv.domain.database_users import unfit_user
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.lifecycle import NEW, row
from dkv.domain.model import (
    ARCHIVES_MISSING,
    GROUPS_OF,
    PROCESSES_OF,
    PROCESSES_REQUESTED,
    PROCESSES_STAYING,
    TES_OF,
    TOMBSTONES_OF,
    Archive,
    ClientAccess,
    Database,
    DatabaseState,
    EngineState,
    Group,
    ProcessRole,
    ProcessState,
    Server,
)
from dkv.domain.options import applied, bad_values, merged, too_many_in_sync
from dkv.domain.orders import CreateDatabase, DeleteDatabase, NewArchive, NewGroup, ShutdownDatabase
from dkv.domain.refusals import living_database, no, unknown_database
from dkv.domain.rules.archives import RESERVED, add, adopt, bad_name, remove
from dkv.domain.rules.process_lifecycle import Ending, end
from dkv.domain.rules.restoring import groups_of_copies
from dkv.domain.table import items_of, keys_of
from dkv.domain.transport import chosen
from dkv.hints import action

UNPARTITIONED = "UNPARTITIONED"


def create_database(draft: Draft, command: CreateDatabase) -> Refused | None:
    """Create a database; the same one again is answered, not refused."""
    refused = bad_name("Store", command.name, RESERVED) or _bad_options(command) or _bad_slots(command)
    if refused:
        return refused
    known = _same_name(draft, command.name)
    if known and known.state is not DatabaseState.TOMBSTONE:
        return _again(draft, known, command)
    groups = groups_of_copies(draft, command)
    held = _still_held(draft, command.name) or (groups if isinstance(groups, Refused) else None)
    if held or isinstance(groups, Refused):
        return held
    if known:
        draft.drop(known)
    options = applied(command.options, {}, dict(command.default_options))
    if isinstance(options, Refused):
        return options
    dba = _administrator(command)
    if refused := too_many_in_sync(options) or (unfit_user(dba) if dba else None):
        return refused
    if dba:
        draft.put(dba)
    transport = chosen(command.name, options, _servers_of(draft, command))
    if isinstance(transport, Refused):
        return transport
    database = Database(
        command.name,
        command.uid,
        command.secret,
        options,
        created_at=command.now,
        access=ClientAccess(command.open, command.dba_user, command.dba_password),
        default_options=merged((), command.default_options, True),
        major=known.major if known else 0,  # what was planned for the deleted one of that name must not fit this one
        transport=transport,
    )
    draft.put(database)
    source = DatabaseState.TOMBSTONE if known else NEW
    draft.note(
        "database.created",
        f"database {database.name}",
        row("database", source, "created").because,
        database=database.name,
        change=f"{source} -> {database.state}",
    )
    if transport.insecure:
        note_insecure(draft, database)
    return _fill(draft, database, replace(command, groups=command.groups or groups))


def _administrator(command: CreateDatabase) -> DatabaseUser | None:
    """The database's first user, where its engines are to know it."""
    if not command.hashed_dba_password:
        return None
    passwords = (command.hashed_dba_password,)
    now = command.now
    return DatabaseUser(command.name, command.dba_user, passwords, made_by=command.actor, made_at=now, changed_at=now)


def _servers_of(draft: Draft, command: CreateDatabase) -> list[Server]:
    """Where its engines are to be: with its archives, those that were made before it too; else anywhere."""
    early = [a.server_id for a in draft.archives_of(command.name) if not a.database_uid and not a.removed]
    named = {*early, *(archive.server_id for archive in command.archives)} or set(draft.servers)
    return [draft.servers[server_id] for server_id in sorted(named & set(draft.servers))]


def note_insecure(draft: Draft, database: Database) -> None:
    """Say that its engines are open to the network, and that this was accepted."""
    because = "an operator accepted engines without TLS off loopback: clients' data and the cluster bus are open to the network"
    draft.note("database.insecure_traffic", f"database {database.name}", because, database=database.name)


def _still_held(draft: Draft, name: str) -> Refused | None:
    """Archives that hold data of an earlier database of that name block it until they are deleted. Kept removed ones do
    not: they are out of every database until an operator brings them back."""
    held = [a for _, a in sorted(draft.archives.items()) if a.database.casefold() == name.casefold() and a.database_uid]
    names = ", ".join(f"{a.name} (archive {a.archive_id})" for a in held if not a.kept)
    if not names:
        return None
    return no(
        "archives_hold_data",
        f"Archives of a deleted {name} still hold its data: {names}.",
        "Delete them first (with purge); their directories are renamed, not removed.",
    )


def _same_name(draft: Draft, name: str) -> Database | None:
    """Names are unique whatever their case: PowerShell users do not type case."""
    return next((d for d in draft.databases.values() if d.name.casefold() == name.casefold()), None)


def _fill(draft: Draft, database: Database, command: CreateDatabase) -> Refused | None:
    for new in command.groups or (_whole(command),):
        group = Group(database.name, new.name, new.shard_id, new.slots)
        draft.put(group)
        draft.note(
            "group.created",
            f"group {database.name}/{group.name}",
            row("group", NEW, "created").because,
            database=database.name,
            change=f"{NEW} -> {group.phase.name}",
        )
    early = [a for a in draft.archives_of(database.name) if not a.database_uid]
    for archive in early:  # created before their database
        if not archive.removed:
            adopt(draft, archive, database)
    for wanted in command.archives:
        archive_or_no = add(draft, database.name, database, wanted)
        if isinstance(archive_or_no, Refused):
            return archive_or_no
    draft.answer.update(created=True)
    return None


def _whole(command: CreateDatabase) -> NewGroup:
    return NewGroup(name=UNPARTITIONED, shard_id=(command.uid * 40)[:40], slots=((0, SLOTS - 1),))


def _bad_options(command: CreateDatabase) -> Refused | None:
    if refused := bad_values(command.options):
        return refused
    if command.archives and len(command.archives) < len(command.groups):
        return no(
            "bad_value",
            f"{len(command.archives)} instances cannot hold {len(command.groups)} groups.",
            "Use fewer groups or more instances.",
        )
    return None


def _bad_slots(command: CreateDatabase) -> Refused | None:
    if not command.groups:
        return None
    names = [g.name for g in command.groups]
    ranges = sorted(r for g in command.groups for r in g.slots)
    expected = 0
    for low, high in ranges:
        if low != expected or high < low:
            break
        expected = high + 1
    if expected != SLOTS or ranges[-1][1] != SLOTS - 1 or len(set(names)) != len(names):
        return no(
            "bad_slots",
            f"The storage groups do not cover each of the {SLOTS} hash slots exactly once.",
            "Leave the slots out to have them divided evenly.",
        )
    return bad_name("Group", next((n for n in names if not n), names[0]))


def _again(draft: Draft, known: Database, command: CreateDatabase) -> Refused | None:
    same = known.name == command.name and known.default_options == merged((), command.default_options, True)
    options = applied(command.options, {}, dict(command.default_options))
    same = same and (known.access.open, known.access.dba_user) == (command.open, command.dba_user)
    if same and known.options == options and _same_topology(draft, command):
        draft.answer.update(created=False)
        return None
    return no(
        "database_exists",
        f"A different store named {known.name} exists already.",
        "Choose another name, or delete it: ",
        action("removeStore", store=known.name),
        ".",
    )


def _same_topology(draft: Draft, command: CreateDatabase) -> bool:
    groups = {(g.name, g.slots) for g in draft.groups_of(command.name)}
    wanted_groups = {(g.name, g.slots) for g in command.groups or (_whole(command),)}
    archives = [a for a in draft.archives_of(command.name) if not a.removed]
    pairs = zip(archives, command.archives, strict=False)
    return groups == wanted_groups and len(archives) == len(command.archives) and all(_fits(*pair) for pair in pairs)


def _fits(archive: Archive, new: NewArchive) -> bool:
    """Whether the archive is what was asked for; what was left open then was chosen by the domain."""
    placement = (archive.server_id, archive.name, archive.group, archive.path, archive.cluster_port, archive.client_port)
    requested = (new.server_id, new.name, new.group, new.path, new.cluster_port, new.client_port)
    return all(not wanted or wanted == present for present, wanted in zip(placement, requested, strict=True))


def delete_database(draft: Draft, command: DeleteDatabase) -> Refused | None:
    """A database that does not run becomes a tombstone; with `purge` its archives are deleted too."""
    database = draft.databases.get(command.name)
    deleted = database is not None and database.state is DatabaseState.TOMBSTONE
    if database is None or (deleted and not command.forget):
        return unknown_database(command.name, [d.name for d in draft.databases.values() if d is not database])
    if draft.has_processes(command.name):
        return no(
            "database_running",
            f"{command.name} has live processes.",
            "Stop it first: ",
            action("stopStore", store=command.name),
            ".",
        )
    if not deleted:
        draft.move_database(database, DatabaseState.TOMBSTONE)
    authority = draft.authorities.get(database.uid)
    for thing in (*draft.groups_of(command.name), *draft.users_of(command.name), *((authority,) if authority else ())):
        draft.drop(thing)
    if command.purge:
        for archive in [a for a in draft.archives_of(command.name) if not a.removed]:
            remove(draft, archive)
    if command.forget:
        _forget(draft, command.name)
    return None


def _forget(draft: Draft, name: str) -> None:
    """No event or tombstone of it is kept; archives that are left are archives of a database to come, with old data."""
    draft.drop(draft.databases[name])
    for tombstone in items_of(draft.tombstones, TOMBSTONES_OF, name):
        draft.drop(tombstone)
    draft.note("database.forgotten", f"database {name}", "an operator deleted it with its history", database=name)


# Stopping ---------------------------------------------------------------------------------------------------------


def shutdown_database(draft: Draft, command: ShutdownDatabase) -> Refused | None:
    """Stop everything: TEs first, then SMs once all of S has what the leader has."""
    database = living_database(draft.databases, command.name)
    if isinstance(database, Refused):
        return database
    for archive in draft.archives_of(command.name):
        draft.put_archive(archive, stopped_by_operator=True)
    if command.force:
        _force(draft, command.name)
    live = draft.processes_of(command.name)
    if not live:
        return None
    if not draft.stopping(command.name):
        draft.move_database(
            draft.databases[command.name], DatabaseState.REQUESTED_TE_SHUTDOWN, "an operator asked for its shutdown"
        )
    for process in live:
        if process.role is ProcessRole.TE and process.state is not ProcessState.REQUESTED_SHUTDOWN:
            draft.move_process(draft.processes[process.start_id], "stop", engine_state=EngineState.SHUTTING_DOWN)
    return None


def _force(draft: Draft, name: str) -> None:
    """Kill what can be reached; what is on a server that is away ends unproven, so that nothing waits for it."""
    if draft.has_processes(name):
        draft.note("database.forced_stop", f"database {name}", "an operator forced its stop", database=name)
    for known in draft.processes_of(name):
        process = draft.put_process(draft.processes[known.start_id], kill=True)  # an end before it may have moved it
        if not draft.server_alive(process.server_id):
            away = f"its server {process.server_id} was away when an operator forced the stop"
            end(draft, process, Ending("server away", away, 255, planned=True, reaped=False))


def settle_database(draft: Draft, database: Database) -> None:
    """Bring a database's state up to what its processes and groups make true."""
    if database.state is DatabaseState.TOMBSTONE:
        return
    if draft.stopping(database.name):
        _settle_stopping(draft, database)
        return
    target = _state_of(draft, database)
    if target is not database.state:
        draft.move_database(database, target)


def _settle_stopping(draft: Draft, database: Database) -> None:
    if not draft.has_processes(database.name):
        draft.move_database(database, DatabaseState.NOT_RUNNING)
        return
    if keys_of(draft.processes, TES_OF, database.name):
        return
    if database.state is DatabaseState.REQUESTED_TE_SHUTDOWN:
        draft.move_database(database, DatabaseState.REQUESTED_SM_SHUTDOWN)
    for process in items_of(draft.processes, PROCESSES_STAYING, database.name):
        group = draft.group_of(process)
        if group is None or _may_stop(draft, group):
            draft.move_process(process, "stop", engine_state=EngineState.SHUTTING_DOWN)


def _may_stop(draft: Draft, group: Group) -> bool:
    """SMs leave once their group reached a clean stop, or when there is no leader who could bring it about."""
    leader = draft.leader_of(group)
    if group.clean_stop or leader is None or leader.kill or not group.serving:
        return True
    return not draft.server_alive(leader.server_id)


def _state_of(draft: Draft, database: Database) -> DatabaseState:
    if not draft.has_processes(database.name):
        return DatabaseState.NOT_RUNNING
    entry = draft.groups[keys_of(draft.groups, GROUPS_OF, database.name)[0]]  # the first by name
    if entry.serving:
        missing = keys_of(draft.archives, ARCHIVES_MISSING, database.name)
        return DatabaseState.AWAITING_ARCHIVE_HISTORIES_INC if missing else DatabaseState.RUNNING
    if entry.leader is None and entry.last_leader is not None:
        return DatabaseState.AWAITING_ARCHIVE_HISTORIES_MSG
    live = keys_of(draft.processes, PROCESSES_OF, database.name)
    started = len(live) > len(keys_of(draft.processes, PROCESSES_REQUESTED, database.name))
    return DatabaseState.STARTED if started else DatabaseState.REQUESTED
