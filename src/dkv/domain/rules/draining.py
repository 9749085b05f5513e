"""Draining: all that runs on a server is asked to leave in one decision, unless a group would not be served any more.

One process may always be ended alone: the order names it. An operator who drains a server may not know what runs there,
so that is checked here, and all of it or nothing leaves.
"""

from __future__ import annotations

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Archive, Group, Process, ProcessRole
from dkv.domain.orders import DrainServer, ShutdownProcess
from dkv.domain.refusals import living_database, no, unknown_server
from dkv.domain.rules.processes import shutdown_process
from dkv.hints import action


def drain_server(draft: Draft, command: DrainServer) -> Refused | None:
    """Memory-only processes first. The answer's `startIds` are all that were there, also those that leave already."""
    refused = _may_drain(draft, command)
    if refused:
        return refused
    there = draft.processes_on(command.server_id)
    leaving = [p for p in there if command.database in ("", p.database)]
    for process in sorted(leaving, key=lambda p: p.role is not ProcessRole.TE):
        refused = _leave(draft, process, command)
        if refused:
            return refused
    draft.answer.update(startIds=[p.start_id for p in leaving])
    return None


def _may_drain(draft: Draft, command: DrainServer) -> Refused | None:
    if command.server_id not in draft.servers:
        return unknown_server(command.server_id, draft.servers)
    database = living_database(draft.databases, command.database) if command.database else None
    if isinstance(database, Refused):
        return database
    carried = [g for g in _carried_by(draft, command.server_id) if command.database in ("", g.database)]
    meant = command.force or command.kill or command.evict
    return _last_copies(command.server_id, carried) if carried and not meant else None


def _last_copies(server_id: str, carried: list[Group]) -> Refused:
    groups, name = ", ".join(f"{g.name} of {g.database}" for g in carried), carried[0].database
    return no(
        "last_copy_on_server",
        f"Server {server_id} holds the last copy in sync of group {groups}: clients could neither read nor write there.",
        "Start a copy elsewhere first (",
        action("startStore", store=name),
        "), stop the whole (",
        action("stopStore", store=name),
        "), or force it (",
        action("stopServerProcesses", server=server_id),
        ").",
    )


def _leave(draft: Draft, process: Process, command: DrainServer) -> Refused | None:
    """One that leaves already, or went with one before it, needs nothing."""
    if process.start_id not in draft.processes:
        return None
    shutdown = ShutdownProcess(start_id=process.start_id, kill=command.kill, force=command.force, evict=command.evict)
    refused = shutdown_process(draft, shutdown)
    return None if refused is None or refused.code == "already_stopping" else refused


def _carried_by(draft: Draft, server_id: str) -> list[Group]:
    """The serving groups whose every copy that is in sync and stays is on that server: without it they are not served."""
    groups = []
    keys = {(archive.database, archive.group) for archive in draft.archives_on(server_id)}
    for group in (draft.groups[key] for key in sorted(keys & draft.groups.keys())):
        stay = [draft.archives[i] for i in group.in_sync if i in draft.archives and _stays(draft, draft.archives[i])]
        here = [a for a in stay if a.server_id == server_id]
        elsewhere = [a for a in stay if a.server_id != server_id and draft.server_alive(a.server_id)]
        if group.serving and here and not elsewhere:
            groups.append(group)
    return groups


def _stays(draft: Draft, archive: Archive) -> bool:
    process = draft.process_on(archive.archive_id)
    return process is not None and not process.leaving and not process.verdict and not draft.stopping(archive.database)
