"""API: /api/1/archives: created, removed and kept, brought back, purged."""

from __future__ import annotations

import posixpath
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Key, accepted, repeated
from dkv.api.nuodb import schemas, views
from dkv.api.nuodb.bodies import ArchiveBody, ObserverBody, PlacementBody
from dkv.api.nuodb.dependencies import archive_of, not_supported
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.problems import Refusal
from dkv.api.routing import Router
from dkv.api.topology import check_directories
from dkv.api.waiting import until
from dkv.domain.model import State
from dkv.domain.orders import BringBackArchive, CreateArchives, DeleteArchive, NewArchive
from dkv.domain.refusals import unknown_archive

router = Router(prefix="/archives")


@router.get("", openapi_extra=LISTED)
async def list_archives(request: Request, context: Context, removed: bool = False) -> schemas.Page[schemas.Archive]:
    """The archives in use; with `removed` those that were removed and are kept."""
    state = context.state
    archives = [a for _, a in sorted(state.archives.items()) if a.removed == removed and (a.kept or not removed)]
    return page(request, [views.archive(state, archive) for archive in archives])


@router.post("/addStorageGroup", status_code=400, response_model=schemas.Error)
async def add_storage_group(body: PlacementBody) -> Response:
    """Refused: an archive belongs to one group for ever."""
    raise _fixed(body)


@router.post("/removeStorageGroup", status_code=400, response_model=schemas.Error)
async def remove_storage_group(body: PlacementBody) -> Response:
    """Refused: an archive belongs to one group for ever."""
    raise _fixed(body)


def _fixed(body: PlacementBody) -> Exception:
    return not_supported(
        f"The storage group of archive {body.archive_id} cannot be changed: an archive belongs to one group from its creation.",
        "Create an archive for that group, or delete this one.",
    )


@router.post("/modifyObserverStatus/{archive_id}")
async def observe(archive_id: int, body: ObserverBody, context: Context) -> schemas.Nothing:
    """Refused unless it asks for nothing: every archive takes part in its group."""
    archive_of(context.state, archive_id, removed=False)
    if body.demote_storage_groups:
        raise not_supported(
            "Archives that only observe are not supported: every SM takes part in its group.",
            "Use a TE for reading, or another database for a passive copy.",
        )
    return {}


@router.get("/{archive_id}")
async def get_archive(archive_id: int, context: Context, removed: bool = False) -> schemas.Archive:
    """One archive."""
    state = context.state
    return views.archive(state, archive_of(state, archive_id, removed))


@router.post("")
async def create_archive(body: ArchiveBody, manager: Manager, key: Key) -> schemas.Archive:
    """Create an archive; its database may come later. Nothing is started."""
    new = NewArchive(server_id=_server(body), path=_path(body), restored=body.restored)
    done = await repeated(manager, key)
    if done is None:
        await check_directories(manager, (new,))
        command = CreateArchives(database=body.db_name, archives=(new,))
        done = accepted(await manager.submitter.submit(command, key))
    made: Any = done.answer["archiveIds"]
    if body.restored:
        await _read(manager, made[0])
    return _shown(done.state, made[0])


@router.put("/{archive_id}")
async def bring_back(archive_id: int, body: ArchiveBody, manager: Manager, key: Key) -> schemas.Archive:
    """Take a removed archive back under its id; one that is in use is answered as it is."""
    command = BringBackArchive(
        archive_id=archive_id, database=body.db_name, server_id=body.host or "", path=_path(body), restored=body.restored
    )
    done = accepted(await manager.submitter.submit(command, key))
    return _shown(done.state, archive_id)


@router.delete("/{archive_id}")
async def delete_archive(archive_id: int, context: Context, key: Key, purge: bool = False) -> schemas.Archive | schemas.Nothing:
    """Remove an archive; with `purge` it is forgotten and its directory renamed, else it can be brought back."""
    before = context.state
    done = accepted(await context.manager.submitter.submit(DeleteArchive(archive_id=archive_id, purge=purge), key))
    if purge:
        await _retired(context.manager, archive_id)
    known = done.state.archives.get(archive_id) or before.archives.get(archive_id)
    return views.archive(done.state, known) if known else {}


def _shown(state: State, archive_id: int) -> schemas.Archive:
    """An archive in use or removed. Raises Refusal for one that is gone when a request about it is repeated."""
    if archive_id not in state.archives:
        raise Refusal(unknown_archive(archive_id))
    return views.archive(state, state.archives[archive_id])


async def _read(manager: ManagerContext, archive_id: int) -> None:
    """Wait a little for its manager to say what is to be restored: a database created next gets the groups of that."""

    def looked_at(state: State) -> bool:
        archive = state.archives.get(archive_id)
        return archive is None or not archive.unread or not state.server_alive(archive.server_id)

    await until(manager, looked_at, manager.peers.acts_within)


async def _retired(manager: ManagerContext, archive_id: int) -> None:
    """Wait a little for its manager to rename the directory, so that its name may be used again at once."""

    def retired(state: State) -> bool:
        archive = state.archives.get(archive_id)
        return archive is None or not state.server_alive(archive.server_id)

    await until(manager, retired, manager.peers.acts_within)


def _server(body: ArchiveBody) -> str:
    if body.remote_start or not body.host:
        raise not_supported(
            "An archive without a server cannot be used: engines are started by the manager of their server.",
            "Name it with --server-id.",
        )
    return body.host


def _path(body: ArchiveBody) -> str:
    """The archive's directory, in the one way to write it. Raises Refusal for what an archive does not have here."""
    if body.journal_path or body.snapshot_archive_path:
        raise not_supported(
            "An archive has one directory: its journal and its data lie in it together.",
            "Leave --journal-path and --snapshot-archive-path out.",
        )
    if body.storage_group_observers:
        raise not_supported("Archives that only observe are not supported.", "Leave --observers and --passive out.")
    if not body.path:
        return ""
    return posixpath.normpath(body.path)  # what it may be is the domain's to say
