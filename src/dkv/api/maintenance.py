"""API: maintenance of a running store: hand leadership over, restart its processes, change its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkv.api.bodies import OptionsBody, RestartBody, SwitchoverBody
from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key, accepted, database_of
from dkv.api.routing import Router
from dkv.domain.orders import RebalanceLeaders, RestartDatabase, SetDatabaseOptions, StopRestart, Switchover
from dkv.wire import schemas

router = Router(prefix="/admin/v1/stores/{name}", tags=["maintenance"])


@router.post("/switchover", status_code=202)
async def switchover(name: str, body: SwitchoverBody, context: Context, key: Key) -> schemas.Asked:
    """Ask that groups are handed over: the named one, that of the target, or all. Returns at once; each group's
    `switchover` is null again when it is done or given up."""
    database_of(context.state, name)
    command = Switchover(database=name, group=body.group, to=body.to_start_id)
    answer: Mapping[str, Any] = accepted(await context.manager.submitter.submit(command, key)).answer
    return {"result": "Asked", "groups": answer.get("groups", [])}


@router.post("/rebalance", status_code=202)
async def rebalance_leaders(name: str, context: Context, key: Key) -> schemas.Asked:
    """Ask for the handovers that spread the store's leaders evenly over its servers; without any if they are. Returns at once,
    as a switchover."""
    database_of(context.state, name)
    answer: Mapping[str, Any] = accepted(await context.manager.submitter.submit(RebalanceLeaders(database=name), key)).answer
    return {"result": "Asked", "groups": answer.get("groups", [])}


@router.post("/restart", status_code=202)
async def restart(name: str, body: RestartBody, context: Context, key: Key) -> schemas.Restarting:
    """Begin to restart every process: with `rolling` one after the other while the store serves, else all at once.
    Returns at once; the store's `restart` shows how far it is and is null again when it has ended."""
    database_of(context.state, name)
    command = RestartDatabase(name=name, rolling=body.rolling, force=body.force)
    answer: Mapping[str, Any] = accepted(await context.manager.submitter.submit(command, key)).answer
    return {"result": "Restarting", "processes": answer.get("processes")}


@router.delete("/restart")
async def stop_restart(name: str, manager: Manager, key: Key) -> schemas.RestartStopped:
    """End a restart where it stands."""
    accepted(await manager.submitter.submit(StopRestart(name=name), key))
    return {"result": "Stopped"}


@router.post("/options")
async def set_options(name: str, body: OptionsBody, context: Context, key: Key) -> schemas.OptionsSet:
    """Change options while the store runs. `effects` says of each what comes of it, and which need a restart; the store's
    `options` lists the processes that lack one."""
    database_of(context.state, name)
    pairs = tuple(sorted(body.options.items()))
    command = SetDatabaseOptions(name=name, options=pairs, replace_all=body.replace_all)
    answer: Mapping[str, Any] = accepted(await context.manager.submitter.submit(command, key)).answer
    return {"result": "Set", "effects": answer.get("effects", [])}
