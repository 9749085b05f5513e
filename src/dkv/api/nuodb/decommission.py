"""API: servers that leave: POST peers/{id}/shutdown and removeDomainState, DELETE peers/{id} and peers/{id}/processes.

nuocmd clears a server by one DELETE of processes/{id} after the other, which cannot be told from ending those processes
for their own sake, and that is always allowed. So what clearing a server would cost is judged where it is asked for as
such: in DELETE peers/{id}/processes, which dkv uses, and in a shutdown with `evictLocal`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask

from dkv.api.context import Context, ManagerContext
from dkv.api.dependencies import Actor, Key, accepted
from dkv.api.nuodb import schemas
from dkv.api.problems import Refusal, refuse
from dkv.domain.commands import RemoveServer, RemoveServerState
from dkv.domain.decision import Refused
from dkv.domain.maintenance import DrainServer
from dkv.domain.model import Process, Server
from dkv.domain.refusals import unknown_server
from dkv.store.contract import StoreError

OTHER_WITHIN = 10.0  # s another manager has to answer
DRAIN_WITHIN = 90.0  # s processes have to leave before their manager stays after all
GO_WITHIN = 15.0  # s archives in sync are waited for, until their groups do without them
LOOK_EVERY = 0.25  # s

router = APIRouter(prefix="/peers/{server_id}")

Ask = Callable[[str, int, str, float], Awaitable[Mapping[str, Any]]]


async def ask_other(ask: Ask | None, server: Server, target: str) -> Mapping[str, Any]:
    """What another manager answers. Raises Refusal if it does not, or says no."""
    try:
        if ask is None:
            raise OSError("this manager asks nobody")
        found = await ask(server.host, server.port, target, OTHER_WITHIN)
        if "messages" in found:
            raise OSError(": ".join(found["messages"]))
        return found
    except OSError as error:
        said = f"The manager of {server.server_id} at {server.host}:{server.port} did not do it: {str(error).rstrip('.')}."
        raise refuse("manager_away", said, "Look whether it runs.") from error


@router.post("/shutdown", response_model=schemas.Nothing)
async def shutdown_server(server_id: str, rooms: Context, actor: Actor, evictLocal: bool = False) -> Response:
    """End a manager; its engines go on unless `evictLocal` asks them to leave first. Another one is asked to do it itself."""
    state = (await rooms.submitter.view()).state
    server = state.servers.get(server_id)
    if server is None:
        raise Refusal(unknown_server(server_id, state.servers))
    if rooms.dry_run and (server_id != rooms.server_id or not evictLocal):
        return JSONResponse({})
    if server_id != rooms.server_id:
        target = f"/api/1/peers/{server_id}/shutdown?evictLocal={evictLocal}"
        return JSONResponse(await ask_other(rooms.order, server, target))
    if not evictLocal:
        return JSONResponse({}, background=BackgroundTask(rooms.stop))
    decision = await rooms.submitter.submit(DrainServer(actor=actor, server_id=server_id))
    if isinstance(decision, Refused):
        raise Refusal(replace(decision, message=f"This manager stays. {decision.message}"))
    return JSONResponse({}, background=None if rooms.dry_run else BackgroundTask(_stop_when_empty, rooms))


async def _mine(rooms: ManagerContext) -> list[Process]:
    state = (await rooms.submitter.view()).state
    return [p for _, p in sorted(state.processes.items()) if p.server_id == rooms.server_id]


async def _stop_when_empty(rooms: ManagerContext) -> None:
    """End the manager once its processes have left; if they do not, it stays, and its tombstones and view say why."""
    for _ in range(int(DRAIN_WITHIN / LOOK_EVERY)):
        if rooms.closing():
            return  # it ends anyway
        try:
            if not await _mine(rooms):
                rooms.stop()
                return
        except StoreError:
            pass
        await asyncio.sleep(LOOK_EVERY)


@router.delete("/processes", response_model=schemas.Drained)
async def drain_server(
    server_id: str,
    rooms: Context,
    key: Key,
    actor: Actor,
    dbName: str = "",
    kill: bool = False,
    evict: bool = False,
    force: bool = False,
) -> Response:
    """End all processes of a server, or those of one database; answers at once with those that leave. Refused where a group
    has its last copy in sync there, unless one of `kill`, `evict` and `force` says that this is meant."""
    command = DrainServer(actor=actor, server_id=server_id, database=dbName, kill=kill, evict=evict, force=force)
    done = accepted(await rooms.submitter.submit(command, key))
    return JSONResponse({"startIds": [str(one) for one in _listed(done.answer["startIds"])]})


@router.post("/removeDomainState", response_model=schemas.Nothing)
async def remove_server_state(server_id: str, rooms: Context, actor: Actor) -> Response:
    """Give up what was on a server that is away. Its archives in sync are waited for a moment: they go when their groups do
    without them. Whatever has to stay is named in a refusal; the rest is done."""
    kept: list[str] = []
    for _ in range(1 if rooms.dry_run else int(GO_WITHIN / LOOK_EVERY)):
        decision = accepted(await rooms.submitter.submit(RemoveServerState(actor=actor, server_id=server_id)))
        kept = [str(one) for one in _listed(decision.answer.get("kept"))]
        if not decision.answer.get("pending"):
            break
        await asyncio.sleep(LOOK_EVERY)
    if kept:
        said = f"The processes of {server_id} were given up, but not all of its archives: {'; '.join(kept)}."
        raise refuse("server_in_use", said, "Repeat this later, delete those databases, or let the server come back.")
    return JSONResponse({})


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


@router.delete("", response_model=schemas.Nothing)
async def remove_server(server_id: str, rooms: Context, key: Key, actor: Actor) -> Response:
    """Take a server that is away and has nothing left out of the domain."""
    accepted(await rooms.submitter.submit(RemoveServer(actor=actor, server_id=server_id), key))
    return JSONResponse({})
