"""Archives: created by name, ports and place; deleted by renaming their directory, never by removing data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT
from dkv.domain.actions import stop_instance
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import ArchiveRetired
from dkv.domain.model import SERVERS_AT, Archive, ArchiveState, Database, DatabaseState, Endpoint, Group
from dkv.domain.orders import BringBackArchive, CreateArchives, DeleteArchive, NewArchive
from dkv.domain.refusals import no, stale_fact, unknown_archive, unknown_server
from dkv.domain.spread import group_for
from dkv.domain.table import items_of
from dkv.domain.transport import misfit
from dkv.hints import action

LONGEST_PATH = 1_000
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
RESERVED = (
    "hotCopyStatus",
    "cancelHotCopy",
    "loadBalancerPolicy",
    "loadBalancerPolicies",
    "loadBalancerConfig",
    "loadBalancerConfigs",
    "dataEncryption",
)
"""Words that stand where a database's name does in the addresses of /api/1 (docs/reference/nuodb.md#transport)."""


def bad_name(what: str, name: str, reserved: Iterable[str] = ()) -> Refused | None:
    """Refuse a name that could not be typed, put in a path, or distinguished."""
    if name.casefold() in {word.casefold() for word in reserved}:
        return no("bad_name", f"{what} cannot be named {name}: that word is part of an address.", "Choose another name.")
    if NAME.fullmatch(name):
        return None
    return no(
        "bad_name",
        f"{what} {name!r} is not a valid name.",
        "Use a letter, then up to 62 letters, digits, dots, dashes or underscores.",
    )


def bad_path(what: str, path: str) -> Refused | None:
    """Refuse what is not the one way to write an absolute directory."""
    names = path.rstrip("/").split("/")
    if path.startswith("/") and len(names) > 1 and len(path) <= LONGEST_PATH and not {"", ".", ".."} & set(names[1:]):
        return None
    hint = "Give the whole path of a directory of its own from / on, as realpath prints it."
    return no("bad_value", f"{what} cannot be in {path[:60]!r}: that is not an absolute directory.", hint)


def create_archives(draft: Draft, command: CreateArchives) -> Refused | None:
    """Add archives to a database; all or none."""
    database = draft.databases.get(command.database)
    if database and database.state is DatabaseState.TOMBSTONE:
        database = None
    refused = None if database else bad_name("Store", command.database, RESERVED)
    if refused:
        return refused
    made = []
    for new in command.archives:
        archive = add(draft, command.database, database, new)
        if isinstance(archive, Refused):
            return archive
        made.append(archive.archive_id)
    draft.answer.update(archiveIds=made)
    return None


def add(draft: Draft, name: str, database: Database | None, new: NewArchive) -> Archive | Refused:
    """Draft one archive, filling in what was left open."""
    if new.server_id not in draft.servers:
        return unknown_server(new.server_id, draft.servers)
    if database and (refused := misfit(database, draft.servers[new.server_id])):
        return refused
    group = _group_for(draft, name, new) if database else ""
    if isinstance(group, Refused):
        return group
    ports = _ports_for(draft, new)
    archive = Archive(
        archive_id=draft.next_archive_id,
        database=name,
        database_uid=database.uid if database else "",
        group=group,
        server_id=new.server_id,
        name=new.name or _free_name(draft, name),
        path=new.path.rstrip("/") or new.path,
        cluster_port=ports[0],
        client_port=ports[1],
        restored=new.restored,
    )
    refused = bad_name("Instance", archive.name) or (bad_path("An archive", archive.path) if archive.path else None)
    refused = refused or _taken(draft, archive) or _port_conflict(draft, archive) or _bad_restored(draft, archive)
    if refused:
        return refused
    draft.next_archive_id += 1
    draft.put(archive)
    because = "it was created from data to be restored" if archive.restored else "it was created and holds no data yet"
    draft.note(
        "archive.created",
        f"archive {archive.archive_id}",
        because,
        database=name,
        change="(new) -> PROVISIONED",
        archive_id=archive.archive_id,
    )
    return archive


def _group_for(draft: Draft, database: str, new: NewArchive) -> str | Refused:
    """The named group, or the one that gains most by a copy there."""
    names = [g.name for g in draft.groups_of(database)]
    if new.group and new.group not in names:
        return no("unknown_group", f"{database} has no storage group {new.group}.", f"Known: {', '.join(names)}.")
    return new.group or group_for(draft, database, new.server_id)


def _free_name(draft: Draft, database: str) -> str:
    taken = {a.name.casefold() for a in draft.archives_of(database)}
    number = 1
    while f"{database}-{number}".casefold() in taken:
        number += 1
    return f"{database}-{number}"


def _ports_for(draft: Draft, new: NewArchive) -> tuple[int, int]:
    """The wanted ports, or the server's next free pair."""
    if new.cluster_port and new.client_port:
        return (new.cluster_port, new.client_port)
    pair = _free_pair(set(_used_ports(draft, draft.servers[new.server_id].host)))
    return (new.cluster_port or pair[0], new.client_port or pair[1])


def _free_pair(used: set[int]) -> tuple[int, int]:
    offset = 0
    while FIRST_CLUSTER_PORT + offset in used or FIRST_CLIENT_PORT + offset in used:
        offset += 1
    return (FIRST_CLUSTER_PORT + offset, FIRST_CLIENT_PORT + offset)


def endpoints(draft: Draft, database: str, server_id: str) -> tuple[Endpoint, ...]:
    """Where the engines of a new TE will be reached: the server's next free pair of ports for each group, by name."""
    used = set(_used_ports(draft, draft.servers[server_id].host))
    chosen = []
    for name in (group.name for group in draft.groups_of(database)):
        pair = _free_pair(used)
        used.update(pair)
        chosen.append(Endpoint(name, *pair))
    return tuple(chosen)


def _used_ports(draft: Draft, host: str) -> dict[int, str]:
    """Every port the domain uses on a host, and by what. A deleted archive, which has no process, uses none, even
    while its directory still waits to be renamed."""
    used: dict[int, str] = {}
    servers = items_of(draft.servers, SERVERS_AT, host)
    for server in servers:
        used[server.port] = used[server.nuodb_port] = f"the manager of {server.server_id}"
    for archive in (a for server in servers for a in draft.archives_on(server.server_id) if not a.removed):
        used[archive.cluster_port] = used[archive.client_port] = f"{archive.name} of {archive.database}"
    for process in (p for server in servers for p in draft.processes_on(server.server_id)):
        for endpoint in process.endpoints:
            used[endpoint.cluster_port] = used[endpoint.client_port] = f"TE {process.start_id} of {process.database}"
    return used


def _port_conflict(draft: Draft, archive: Archive) -> Refused | None:
    for port in (archive.cluster_port, archive.client_port):
        if not 1 <= port <= 65535:
            return no("bad_value", f"Port {port} of {archive.name} is not between 1 and 65535.", "Choose another.")
    host = draft.servers[archive.server_id].host
    used = _used_ports(draft, host)
    if archive.cluster_port == archive.client_port:
        return no("port_conflict", f"{archive.name} has port {archive.client_port} twice.", "Use two ports.")
    for port in (archive.cluster_port, archive.client_port):
        if port in used:
            free = _ports_for(draft, NewArchive(server_id=archive.server_id))
            return no(
                "port_conflict",
                f"Port {port} on {host} is used by {used[port]}.",
                "Free on that server: ",
                action("usePorts", clusterPort=free[0], clientPort=free[1]),
                ".",
            )
    return None


def _taken(draft: Draft, archive: Archive) -> Refused | None:
    host = draft.servers[archive.server_id].host
    for other in draft.archives.values():
        if other.database == archive.database and other.name.casefold() == archive.name.casefold():
            removed = f"; archive {other.archive_id} was removed and still holds that name" if other.removed else ""
            return no(
                "archive_exists", f"{archive.database} has an instance {other.name} already{removed}.", "Choose another name."
            )
        if archive.path and other.path == archive.path and draft.servers[other.server_id].host == host:
            return no(
                "path_conflict",
                f"{archive.path} is the archive of {other.name} of {other.database}.",
                "Give each archive a directory of its own.",
            )
    return None


def delete_archive(draft: Draft, command: DeleteArchive) -> Refused | None:
    """Take an archive out; never the last of its group, never the only copy in sync. A kept one can still be purged."""
    archive = draft.archives.get(command.archive_id)
    if archive and archive.kept and command.purge:
        draft.put_archive(archive, kept=False)
        draft.note(
            "archive.purged",
            f"archive {archive.archive_id}",
            "an operator purged it: its directory is renamed",
            database=archive.database,
            archive_id=archive.archive_id,
        )
        return None
    if archive is None or archive.removed:
        return unknown_archive(command.archive_id)
    process = draft.process_on(archive.archive_id)
    if process:
        return no(
            "archive_in_use", f"{archive.name} has a live process.", "Stop it first: ", stop_instance(archive, process), "."
        )
    group = draft.groups.get((archive.database, archive.group))
    if group:
        refused = _only_copy(draft, group, archive)
        if refused:
            return refused
        if group.enforced == archive.archive_id:
            group = draft.put_phase(group, enforced=None)
        draft.put_group(
            group,
            in_sync=tuple(a for a in group.in_sync if a != archive.archive_id),
            required=tuple(a for a in group.required if a != archive.archive_id),
        )
    remove(draft, archive, kept=not command.purge)
    return None


def _only_copy(draft: Draft, group: Group, archive: Archive) -> Refused | None:
    other = next((a for a in draft.archives_in(group) if a.archive_id != archive.archive_id), None)
    if other is None:
        return no("last_archive", f"{archive.name} is the last archive of group {group.name}.", "Delete the database instead.")
    if group.in_sync == (archive.archive_id,):
        return no(
            "holds_only_copy",
            f"{archive.name} is the only copy of {group.name} that is in sync.",
            "Start another copy beside it and wait until that is in sync. If this one is lost, another one leads by ",
            action("enforceLeader", store=group.database, group=group.name, archiveId=other.archive_id),
            ", which says what may be lost.",
        )
    return None


def remove(draft: Draft, archive: Archive, kept: bool = False) -> None:
    """Mark an archive deleted; its manager renames the directory, then it is gone. With `kept` nothing happens to it."""
    draft.put_archive(archive, removed=True, kept=kept)
    because = "an operator removed it; it is kept and can be brought back" if kept else "an operator deleted it"
    draft.note(
        "archive.removed" if kept else "archive.deleted",
        f"archive {archive.archive_id}",
        because,
        database=archive.database,
        archive_id=archive.archive_id,
    )


def _bad_restored(draft: Draft, archive: Archive) -> Refused | None:
    """Restored data may begin a group, and would be overwritten in one that has data already."""
    if not archive.restored:
        return None
    if not archive.path:
        return no("bad_value", "A restored archive needs the path of its data.", "Give its directory.")
    group = draft.groups.get((archive.database, archive.group))
    if group and group.last_leader is not None:
        return no(
            "bad_value",
            f"{archive.database} has data already, which would replace the restored data.",
            "Create it without restored, or restore into a new database.",
        )
    return None


def adopt(draft: Draft, archive: Archive, database: Database) -> Archive:
    """Give an archive without a database its place in one that exists now."""
    group = group_of_copy(draft, archive, database.name) or group_for(draft, database.name, archive.server_id)
    return draft.put_archive(archive, database_uid=database.uid, group=group)


def group_of_copy(draft: Draft, archive: Archive, database: str) -> str:
    """The group whose slots the hot copy in its directory has; empty when that is not known, or there is none."""
    slots = archive.copy.slots if archive.copy else ()
    return next((g.name for g in draft.groups_of(database) if g.slots == slots), "")


def bring_back_archive(draft: Draft, command: BringBackArchive) -> Refused | None:
    """A kept archive comes back under its id, with its data, outside the in-sync set; one that is there is answered."""
    archive = draft.archives.get(command.archive_id)
    if archive is None or (archive.removed and not archive.kept):
        return unknown_archive(command.archive_id)
    refused = _not_that(command, archive) or (_may_come_back(draft, command, archive) if archive.removed else None)
    if refused or not archive.removed:
        return refused
    ports = (archive.cluster_port, archive.client_port)
    if set(ports) & set(_used_ports(draft, draft.servers[archive.server_id].host)):
        ports = _ports_for(draft, NewArchive(server_id=archive.server_id))
    archive = draft.put_archive(
        archive, removed=False, kept=False, stopped_by_operator=True, cluster_port=ports[0], client_port=ports[1]
    )
    database = draft.databases.get(archive.database)
    if database and database.state is not DatabaseState.TOMBSTONE:
        if archive.database_uid != database.uid:
            fresh = archive.state is ArchiveState.PROVISIONED
            archive = draft.put_archive(archive, state=ArchiveState.PROVISIONED, restored=not fresh)
        if archive.database_uid != database.uid or (archive.database, archive.group) not in draft.groups:
            adopt(draft, archive, database)
    draft.note(
        "archive.brought_back",
        f"archive {archive.archive_id}",
        "an operator brought it back",
        database=archive.database,
        archive_id=archive.archive_id,
    )
    return None


def _not_that(command: BringBackArchive, archive: Archive) -> Refused | None:
    """An id names one archive: of that database, on that server, at that path."""
    if command.database != archive.database:
        return no(
            "archive_exists",
            f"Archive {archive.archive_id} belongs to {archive.database}, not {command.database}.",
            "Use ",
            action("useStore", store=archive.database),
            ".",
        )
    if command.server_id not in ("", archive.server_id):
        return no(
            "wrong_server",
            f"Archive {archive.archive_id} is on {archive.server_id}, not {command.server_id}.",
            "Use ",
            action("useServer", server=archive.server_id),
            ".",
        )
    if archive.path and command.path not in ("", archive.path):
        return no(
            "path_conflict",
            f"Archive {archive.archive_id} is at {archive.path}, not {command.path}.",
            "Use ",
            action("usePath", path=archive.path),
            ".",
        )
    return None


def _may_come_back(draft: Draft, command: BringBackArchive, archive: Archive) -> Refused | None:
    """Data of an earlier database of the name comes back only as restored data, and only into one without data."""
    if archive.server_id not in draft.servers:
        return unknown_server(archive.server_id, draft.servers)
    database = draft.databases.get(archive.database)
    living = database is not None and database.state is not DatabaseState.TOMBSTONE
    if not living or database is None or archive.database_uid in ("", database.uid):
        return None
    if not command.restored:
        return no(
            "archives_hold_data",
            f"Archive {archive.archive_id} holds data of an earlier {archive.database}.",
            "Purge it, or bring it back as restored.",
        )
    if any(g.last_leader is not None for g in draft.groups_of(database.name)):
        return no(
            "bad_value",
            f"{archive.database} has data already, which would replace the restored data.",
            "Restore into a new database.",
        )
    return None


def archive_retired(draft: Draft, command: ArchiveRetired) -> Refused | None:
    """The directory was renamed; nothing of it is left in the domain."""
    archive = draft.archives.get(command.archive_id)
    if archive is None or not archive.removed or archive.kept or archive.server_id != command.server_id:
        return stale_fact(f"archive {command.archive_id} is not waiting to be retired")
    nothing_runs_on(draft, archive)
    draft.move_archive(archive, "retired")
    return None


def nothing_runs_on(draft: Draft, archive: Archive) -> None:
    """Processes of this archive that had ended without proof are proven stopped: its lock is held, or its directory renamed
    by a manager that saw no engine on it. Nothing waits for them any more.
    """
    group = draft.groups.get((archive.database, archive.group))
    if group:
        ended = {
            s for s in group.suspects if s in draft.tombstones and draft.tombstones[s].process.archive_id == archive.archive_id
        }
        draft.put_group(group, suspects=tuple(s for s in group.suspects if s not in ended))
