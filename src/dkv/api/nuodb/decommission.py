"""API: servers that leave: POST peers/{id}/shutdown and removeDomainState, DELETE peers/{id} and peers/{id}/processes.

nuocmd clears a server by one DELETE of processes/{id} after the other, which cannot be distinguished from ending those processes
for their own sake, and that is always allowed. So what clearing a server would cost is judged where it is asked for as
such: in DELETE peers/{id}/processes, which dkv uses, and in a shutdown with `evictLocal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Actor, Key, accepted
from dkv.api.nuodb import schemas
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.api.waiting import until
from dkv.domain.decision import Refused
from dkv.domain.model import Server, State
from dkv.domain.orders import DrainServer, RemoveServer, RemoveServerState
from dkv.domain.refusals import unknown_server
from dkv.store.contract import StoreError

OTHER_WITHIN = 10.0  # s another manager has to answer
DRAIN_WITHIN = 90.0  # s processes have to leave before their manager stays after all
GO_WITHIN = 15.0  # s archives in sync are waited for, until their groups do without them

router = Router(prefix="/peers/{server_id}")

Ask = Callable[[Server, str, float], Awaitable[Mapping[str, Any]]]


async def ask_other(ask: Ask, server: Server, target: str) -> Mapping[str, Any]:
    """What another manager answers. Raises Refusal if it does not, or says no."""
    try:
        answer = await ask(server, target, OTHER_WITHIN)
        if "messages" in answer:
            raise OSError(": ".join(answer["messages"]))
        return answer
    except OSError as error:
        message = (
            f"The manager of {server.server_id} at {server.host}:{server.port} did not carry it out: {str(error).rstrip('.')}."
        )
        raise refuse("manager_away", message, "Check whether it runs.") from error


@router.post("/shutdown", response_model=schemas.Nothing)
async def shutdown_server(server_id: str, context: Context, actor: Actor, evictLocal: bool = False) -> Response:
    """End a manager; its engines go on unless `evictLocal` has them leave first. Another server: its manager gets the request."""
    state = context.state
    server = state.servers.get(server_id)
    if server is None:
        raise Refusal(unknown_server(server_id, state.servers))
    if context.manager.dry_run and (server_id != context.manager.server_id or not evictLocal):
        return JSONResponse({})
    if server_id != context.manager.server_id:
        target = f"/api/1/peers/{server_id}/shutdown?evictLocal={evictLocal}"
        order = partial(context.manager.peers.order, actor)
        return JSONResponse(await ask_other(order, server, target))
    if not evictLocal:
        return JSONResponse({}, background=BackgroundTask(context.manager.stop))
    decision = await context.manager.submitter.submit(DrainServer(server_id=server_id))
    if isinstance(decision, Refused):
        raise Refusal(replace(decision, message=f"This manager stays. {decision.message}"))
    return JSONResponse({}, background=None if context.manager.dry_run else BackgroundTask(_stop_when_empty, context.manager))


async def _stop_when_empty(manager: ManagerContext) -> None:
    """End the manager once its processes have left; if they do not, it stays, and its tombstones and view say why."""

    def is_empty(state: State) -> bool:
        return not any(process.server_id == manager.server_id for process in state.processes.values())

    with suppress(StoreError):
        if is_empty(await until(manager, is_empty, DRAIN_WITHIN)) and not manager.closing():
            manager.stop()


@router.delete("/processes")
async def drain_server(
    server_id: str, manager: Manager, key: Key, dbName: str = "", kill: bool = False, evict: bool = False, force: bool = False
) -> schemas.Drained:
    """End all processes of a server, or those of one database; answers at once with those that leave. Refused where a group
    has its last copy in sync there, unless one of `kill`, `evict` and `force` says that this is meant."""
    command = DrainServer(server_id=server_id, database=dbName, kill=kill, evict=evict, force=force)
    done = accepted(await manager.submitter.submit(command, key))
    return {"startIds": [str(start_id) for start_id in _listed(done.answer["startIds"])]}


@router.post("/removeDomainState")
async def remove_server_state(server_id: str, manager: Manager) -> schemas.Nothing:
    """Give up what was on a server that is away. Its archives in sync are waited for a moment: they go when their groups do
    without them. Whatever has to stay is named in a refusal; the rest is done."""
    command, clock = RemoveServerState(server_id=server_id), asyncio.get_running_loop().time
    done, end = accepted(await manager.submitter.submit(command)), clock() + GO_WITHIN
    while done.answer.get("pending") and clock() < end and not (manager.dry_run or manager.closing()):
        await until(manager, partial(_groups_differ, done.state), end - clock())
        done = accepted(await manager.submitter.submit(command))
    archives = [str(archive) for archive in _listed(done.answer.get("kept"))]
    if archives:
        message = f"The processes of {server_id} were given up, but not all of its archives: {'; '.join(archives)}."
        raise refuse("server_in_use", message, "Repeat this later, delete those databases, or let the server come back.")
    return {}


def _groups_differ(before: State, now: State) -> bool:
    return now.groups != before.groups


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


@router.delete("")
async def remove_server(server_id: str, manager: Manager, key: Key) -> schemas.Nothing:
    """Take a server that is away and has nothing left out of the domain."""
    accepted(await manager.submitter.submit(RemoveServer(server_id=server_id), key))
    return {}
