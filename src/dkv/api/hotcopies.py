"""API: hot copies under /admin/v1: asked for, looked at, cancelled."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from dkv.api import schemas
from dkv.api.bodies import HotCopyBody
from dkv.api.context import Context, ManagerContext
from dkv.api.dependencies import Actor, Key, accepted, database_of, instance_of, repeated
from dkv.api.problems import refuse
from dkv.domain.commands import CancelHotCopy, CopyTarget, RequestHotCopy
from dkv.domain.decision import Accepted
from dkv.domain.hotcopy import CopyStage, HotCopy
from dkv.domain.model import State
from dkv.wire.hotcopy import hot_copy_view

router = APIRouter(prefix="/admin/v1/stores/{name}/hot-copies", tags=["hot copies"])

PREPARED_LOOKS, PREPARED_EVERY = 40, 0.05  # how often, and every how many s, the managers' word is looked for


@router.post("", status_code=202, response_model=schemas.HotCopy)
async def request_hot_copy(name: str, body: HotCopyBody, rooms: Context, key: Key, actor: Actor) -> Response:
    """Copy instances of a running store, all at one moment; answers when the directories were looked at, which is soon, or
    refuses; the copy is made meanwhile.

    Writes wait for the moment of the cut and see no error. Each copied directory can start a new store (`restored`).
    """
    if known := await repeated(rooms, key):
        return await _now(rooms, name, await prepared(rooms, known), 202)
    state = (await rooms.submitter.view()).state
    targets = tuple(
        CopyTarget(archive_id=instance_of(state, name, one.instance_name).archive_id, path=one.path) for one in body.targets
    )
    command = RequestHotCopy(
        actor=actor,
        database=name,
        targets=targets,
        default_path=body.default_path,
        shared=body.shared,
        whole=not body.partial,
        max_rate=body.max_rate,
    )
    done = accepted(await rooms.submitter.submit(command, key))
    return await _now(rooms, name, await prepared(rooms, done), 202)


@router.get("", response_model=schemas.HotCopies)
async def list_hot_copies(name: str, rooms: Context) -> Response:
    """The store's hot copies, newest first; finished ones are kept for a while."""
    state = (await rooms.submitter.view()).state
    database_of(state, name)
    found = [hot_copy_view(state, c) for _, c in sorted(state.copies.items(), reverse=True) if c.database == name]
    return JSONResponse({"hotCopies": found})


@router.get("/{copy_id}", response_model=schemas.HotCopy)
async def get_hot_copy(name: str, copy_id: int, rooms: Context) -> Response:
    """One hot copy and how far it is."""
    return await _now(rooms, name, copy_id, 200)


@router.delete("/{copy_id}", status_code=202, response_model=schemas.HotCopy)
async def cancel_hot_copy(name: str, copy_id: int, rooms: Context, key: Key, actor: Actor) -> Response:
    """End a hot copy; what an unfinished one left is removed. One that ended already is answered as it is."""
    _found((await rooms.submitter.view()).state, name, copy_id)
    done = await rooms.submitter.submit(CancelHotCopy(actor=actor, copy_id=copy_id), key)
    if isinstance(done, Accepted) or done.code != "copy_over":
        accepted(done)
    return await _now(rooms, name, copy_id, 202)


async def prepared(rooms: ManagerContext, done: Accepted) -> int:
    """Wait a little until the managers have looked at the directories of a hot copy; its id. Raises Refusal if one is not fit."""
    copy_id = int(str(done.answer["copyId"]))
    for _ in range(0 if rooms.dry_run else PREPARED_LOOKS):
        copy = (await rooms.submitter.view()).state.copies.get(copy_id)
        if copy is not None and copy.stage is CopyStage.FAILED:
            raise refuse(
                "cannot_copy",
                f"Hot copy {copy_id} of {copy.database} failed: {copy.message}.",
                "Give each archive an empty directory of its own, with room; then ask again.",
            )
        if copy is None or copy.stage is not CopyStage.PREPARING or rooms.closing():
            break
        await asyncio.sleep(PREPARED_EVERY)
    return copy_id


def _found(state: State, name: str, copy_id: int) -> HotCopy:
    copy = state.copies.get(copy_id)
    if copy is None or copy.database != name:
        raise refuse("unknown_copy", f"{name} has no hot copy {copy_id}.", "Finished ones are kept for a while only.")
    return copy


async def _now(rooms: ManagerContext, name: str, copy_id: int, status: int) -> Response:
    state = (await rooms.submitter.view()).state
    return JSONResponse(hot_copy_view(state, _found(state, name, copy_id)), status)
