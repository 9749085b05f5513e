"""API: what an operator does when something is lost: make an archive lead, take the state as a backup."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request

from dkv.address import is_loopback
from dkv.api.bodies import LeaderBody
from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key, accepted, database_of, repeated
from dkv.api.origin import CALLER
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import losses
from dkv.domain.model import State
from dkv.domain.orders import EnforceLeader
from dkv.domain.refusals import nearest, unknown_archive
from dkv.hints import action
from dkv.wire import schemas, views

router = Router(tags=["recovery"])

LEADER = "/admin/v1/stores/{name}/groups/{group}/leader"


@router.get(LEADER)
async def leader_bound(
    name: str, group: str, context: Context, archive_id: Annotated[int, Query(alias="archiveId", ge=0)]
) -> schemas.LeaderBound:
    """What making that archive lead could cost at most, as far as the domain knows. Changes nothing."""
    state = context.state
    return {"bound": _bound(state, name, group, archive_id)}


@router.post(LEADER, status_code=202)
async def enforce_leader(name: str, group: str, body: LeaderBody, context: Context, key: Key) -> schemas.Enforced:
    """Make an archive lead although it may lack writes; refused without `allowDataLoss` and a reason.

    Answers with the bound as it was before. The group keeps a record of it for ever.
    """
    done = await repeated(context.manager, key)
    bound: Any = done.answer["bound"] if done else _bound(context.state, name, group, body.archive_id)
    if done is None:
        command = EnforceLeader(
            database=name, group=group, archive_id=body.archive_id, allow_data_loss=body.allow_data_loss, reason=body.reason
        )
        bound_key = (
            replace(key, beside={"bound": bound}) if key else None
        )  # a repeated request must not be answered that nothing is lost
        accepted(await context.manager.submitter.submit(command, bound_key))
    return {"result": "Enforced", "bound": bound}


def _bound(state: State, name: str, group: str, archive_id: int) -> schemas.Bound:
    database_of(state, name)
    group_state = state.groups.get((name, group))
    if group_state is None:
        known = [other.name for other in state.groups_of(name)]
        raise refuse("unknown_group", f"{name} has no storage group {group}.", nearest(group, known))
    archive = state.archives.get(archive_id)
    if archive is None or archive.removed or (archive.database, archive.group) != group_state.key:
        raise Refusal(unknown_archive(archive_id))
    return views.bound_view(losses.bound(state, group_state, archive))


@router.get("/admin/v1/state")
async def state(manager: Manager, request: Request) -> schemas.Records:
    """The whole domain state at one revision, as records; for a backup, and only to this machine: it holds secrets."""
    caller = request.client.host if request.client else ""
    if not request.scope.get(CALLER) and not is_loopback(caller):  # under access control its right was judged
        raise refuse(
            "forbidden_host",
            "The state holds secrets and is given to this machine only.",
            "On the manager's own machine: ",
            action("backUpState"),
            ".",
        )
    snapshot = await manager.submitter.snapshot()
    uid = (await manager.submitter.view()).state.uid
    return {"uid": uid, "revision": snapshot.revision, "records": dict(snapshot.records)}
