"""Domain: what becomes of a state that is put back from a backup. Pure.

The domain may have moved on after the backup was taken. So nothing that runs is believed, ids and terms go on far
above what may have been given out since, and every archive with data is asked for its position before one leads.
"""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.model import Archive, ArchiveState, Database, DatabaseState, Group, State
from dkv.domain.phases import Vacant

START_IDS = 1_000_000  # how many start ids may have been given out since; none of them is ever used again
ARCHIVE_IDS = 1_000  # and archive ids
TERMS = 1_000  # and terms of a group


def restored(old: State) -> State:
    """The state to begin with: nothing runs, no server is believed alive, and every database starts cold."""
    return replace(
        old,
        next_archive_id=old.next_archive_id + ARCHIVE_IDS,
        next_start_id=old.next_start_id + START_IDS,
        servers={key: replace(server, alive=False) for key, server in old.servers.items()},
        databases={key: _database(database) for key, database in old.databases.items()},
        groups={key: _group(old, group) for key, group in old.groups.items()},
        archives={key: _archive(archive) for key, archive in old.archives.items()},
        processes={},
    )


def recovered(state: State, recovery_id: str) -> State:
    """The state of a domain that is begun anew, with the event that says so counted. The id, random, tells this recovery from
    another one of the same domain.
    """
    ids = (*state.recovery_ids, recovery_id)
    return replace(state, events=state.events + 1, recoveries=state.recoveries + 1, recovery_ids=ids)


def unknown(old: State) -> tuple[str, ...]:
    """What a backup cannot know, in the order of how much it matters."""
    clauses = [
        "which engines run: end every engine on every server first; one that is forgotten may go on taking writes",
        "who is in sync now: every archive with data is asked, and the newest position on disk leads. Start all instances "
        "of a store at once, with all servers up, or an older copy may lead",
        "stores and instances made since: their directories stay, and nothing uses them",
        "stores and instances deleted since: they are in the backup again; delete them again",
        "tokens, users, passwords and servers deleted or changed since: what the backup has is taken again, also what was "
        "stolen; delete or change it again",
    ]
    fresh = sorted(a.name for a in old.archives.values() if a.state is ArchiveState.PROVISIONED and not a.removed)
    if fresh:
        clauses.append(f"whether {', '.join(fresh)} got data since: if so it is refused at its start; then rebuild the state")
    clauses.append(f"ids and terms given out since: start ids go on at {old.next_start_id + START_IDS}, terms {TERMS} higher")
    clauses.append("what happened since: tombstones end where the backup does, and events are not part of it")
    return tuple(clauses)


def _database(database: Database) -> Database:
    if database.state is DatabaseState.TOMBSTONE:
        return database
    return replace(database, state=DatabaseState.NOT_RUNNING, numbered=False, restart=None)


def _archive(archive: Archive) -> Archive:
    state = ArchiveState.NOT_RUNNING if archive.state is ArchiveState.RUNNING else archive.state
    return replace(archive, state=state)


def _group(old: State, group: Group) -> Group:
    """Vacant. All its archives with data may lead and are asked; a group that never led begins as it would have."""
    holders = [a.archive_id for a in old.archives.values() if (a.database, a.group) == group.key and not a.removed]
    data = tuple(sorted(i for i in holders if old.archives[i].state is not ArchiveState.PROVISIONED))
    led = group.last_leader is not None
    return Group(
        group.database,
        group.name,
        group.shard_id,
        group.slots,
        Vacant(contested=data if led else ()),
        term=group.term + TERMS if group.term else 0,
        in_sync=data if led else (),
        last_leader=group.last_leader,
        epoch=group.epoch,
        enforcements=group.enforcements,
    )
