"""API: hot copies under /admin/v1: asked for, looked at, cancelled."""

from __future__ import annotations

from dkv.api.bodies import HotCopyBody
from dkv.api.context import Context, ManagerContext
from dkv.api.dependencies import Key, accepted, database_of, instance_of, repeated
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.api.waiting import until
from dkv.domain.decision import Accepted
from dkv.domain.hotcopy import CopyStage, HotCopy
from dkv.domain.model import State
from dkv.domain.orders import CancelHotCopy, CopyTarget, RequestHotCopy
from dkv.wire import schemas
from dkv.wire.hotcopy import hot_copy_view

router = Router(prefix="/admin/v1/stores/{name}/hot-copies", tags=["hot copies"])


@router.post("", status_code=202)
async def request_hot_copy(name: str, body: HotCopyBody, context: Context, key: Key) -> schemas.HotCopy:
    """Copy instances of a running store, all at one moment; answers when the directories were looked at, which is soon, or
    refuses; the copy is made meanwhile.

    Writes wait for the moment of the cut and see no error. Each copied directory can start a new store (`restored`).
    """
    if known := await repeated(context.manager, key):
        return await _now(context.manager, name, await prepared(context.manager, known))
    state = context.state
    targets = tuple(
        CopyTarget(archive_id=instance_of(state, name, target.instance_name).archive_id, path=target.path)
        for target in body.targets
    )
    command = RequestHotCopy(
        database=name,
        targets=targets,
        default_path=body.default_path,
        shared=body.shared,
        whole=not body.partial,
        max_rate=body.max_rate,
    )
    done = accepted(await context.manager.submitter.submit(command, key))
    return await _now(context.manager, name, await prepared(context.manager, done))


@router.get("")
async def list_hot_copies(name: str, context: Context) -> schemas.HotCopies:
    """The store's hot copies, newest first; finished ones are kept for a while."""
    state = context.state
    database_of(state, name)
    copies = [hot_copy_view(state, c) for _, c in sorted(state.copies.items(), reverse=True) if c.database == name]
    return {"hotCopies": copies}


@router.get("/{copy_id}")
async def get_hot_copy(name: str, copy_id: int, context: Context) -> schemas.HotCopy:
    """One hot copy and how far it is."""
    return hot_copy_view(context.state, _copy_of(context.state, name, copy_id))


@router.delete("/{copy_id}", status_code=202)
async def cancel_hot_copy(name: str, copy_id: int, context: Context, key: Key) -> schemas.HotCopy:
    """End a hot copy; what an unfinished one left is removed. One that ended already is answered as it is."""
    _copy_of(context.state, name, copy_id)
    done = await context.manager.submitter.submit(CancelHotCopy(copy_id=copy_id), key)
    if isinstance(done, Accepted) or done.code != "copy_ended":
        accepted(done)
    return await _now(context.manager, name, copy_id)


async def prepared(manager: ManagerContext, done: Accepted) -> int:
    """Wait a little until the managers have looked at the directories of a hot copy; its id. Raises Refusal if one is not fit."""
    copy_id = int(str(done.answer["copyId"]))

    def looked_at(state: State) -> bool:
        copy = state.copies.get(copy_id)
        return copy is None or copy.stage is not CopyStage.PREPARING

    copy = (await until(manager, looked_at, manager.peers.acts_within)).copies.get(copy_id)
    if copy is not None and copy.stage is CopyStage.FAILED:
        raise refuse(
            "cannot_copy",
            f"Hot copy {copy_id} of {copy.database} failed: {copy.message}.",
            "Give each archive an empty directory of its own, with room; then ask again.",
        )
    return copy_id


def _copy_of(state: State, name: str, copy_id: int) -> HotCopy:
    copy = state.copies.get(copy_id)
    if copy is None or copy.database != name:
        raise refuse("unknown_copy", f"{name} has no hot copy {copy_id}.", "Finished hot copies are kept for a while only.")
    return copy


async def _now(manager: ManagerContext, name: str, copy_id: int) -> schemas.HotCopy:
    state = (await manager.submitter.view()).state
    return hot_copy_view(state, _copy_of(state, name, copy_id))
