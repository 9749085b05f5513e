"""API: maintenance of a running store: hand leadership over, restart its processes, change its options."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from dkv.api import schemas
from dkv.api.bodies import OptionsBody, RestartBody, SwitchoverBody
from dkv.api.context import Context, Manager
from dkv.api.dependencies import Actor, Key, accepted, database_of, store_json
from dkv.domain.commands import RestartDatabase, SetDatabaseOptions, StopRestart, Switchover

router = APIRouter(prefix="/admin/v1/stores/{name}", tags=["maintenance"])


@router.post("/switchover", status_code=202, response_model=schemas.Asked)
async def switchover(name: str, body: SwitchoverBody, context: Context, key: Key, actor: Actor) -> Response:
    """Ask that groups are handed over: the named one, that of the target, or all. Returns at once; each group's
    `switchover` is null again when it is done or given up."""
    database_of(context.state, name)
    command = Switchover(actor=actor, database=name, group=body.group, to=body.to_start_id)
    done = accepted(await context.manager.submitter.submit(command, key))
    store = store_json(await context.manager.submitter.view(), name)
    return JSONResponse({"result": "Asked", "groups": done.answer.get("groups", []), "store": store}, 202)


@router.post("/restart", status_code=202, response_model=schemas.Restarting)
async def restart(name: str, body: RestartBody, context: Context, key: Key, actor: Actor) -> Response:
    """Begin to restart every process: with `rolling` one after the other while the store serves, else all at once.
    Returns at once; the store's `restart` tells how far it is and is null again when it has ended."""
    database_of(context.state, name)
    command = RestartDatabase(actor=actor, name=name, rolling=body.rolling, force=body.force)
    done = accepted(await context.manager.submitter.submit(command, key))
    store = store_json(await context.manager.submitter.view(), name)
    return JSONResponse({"result": "Restarting", "processes": done.answer.get("processes"), "store": store}, 202)


@router.delete("/restart", response_model=schemas.RestartStopped)
async def stop_restart(name: str, manager: Manager, key: Key, actor: Actor) -> Response:
    """End a restart where it stands."""
    accepted(await manager.submitter.submit(StopRestart(actor=actor, name=name), key))
    store = store_json(await manager.submitter.view(), name)
    return JSONResponse({"result": "Stopped", "store": store})


@router.post("/options", response_model=schemas.OptionsSet)
async def set_options(name: str, body: OptionsBody, context: Context, key: Key, actor: Actor) -> Response:
    """Change options while the store runs. `effects` says of each what comes of it, and which need a restart; the store's
    `options` lists the processes that lack one."""
    database_of(context.state, name)
    pairs = tuple(sorted(body.options.items()))
    command = SetDatabaseOptions(actor=actor, name=name, options=pairs, replace_all=body.replace_all)
    done = accepted(await context.manager.submitter.submit(command, key))
    store = store_json(await context.manager.submitter.view(), name)
    return JSONResponse({"result": "Set", "effects": done.answer.get("effects", []), "store": store})
