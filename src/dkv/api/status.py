"""API: what can be looked at beside the stores: domain, processes, tombstones, identity, health."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from dkv import wire
from dkv.api import schemas_status as schemas
from dkv.api.context import Context, Manager
from dkv.api.problems import answer, waiting
from dkv.store.contract import StoreError

router = APIRouter(tags=["looking"])


@router.get("/admin/v1/domain", response_model=schemas.Domain)
async def domain(context: Context) -> Response:
    """The domain: its uid and its servers; `leaderServer` moves the domain clock."""
    view = context.view
    leader = await context.manager.leader_server()
    return JSONResponse(wire.domain_view(view.state, view.revision, leader, context.manager.server_id))


@router.get("/admin/v1/processes", response_model=schemas.Processes)
async def processes(context: Context, store: str | None = None) -> Response:
    """Every live process, by start id."""
    state = context.state
    found = [p for _, p in sorted(state.processes.items()) if store is None or p.database == store]
    return JSONResponse({"processes": [wire.process_view(state, process) for process in found]})


@router.get("/admin/v1/tombstones", response_model=schemas.Tombstones)
async def tombstones(context: Context, store: str | None = None) -> Response:
    """What is kept of processes that ended, with their causes; newest first."""
    state = context.state
    return JSONResponse({"tombstones": wire.tombstones_view(state, store)})


@router.get("/admin/v1/waiting", response_model=schemas.Waiting)
async def waiting_for(context: Context, store: str | None = None) -> Response:
    """Everything that waits, whole domain or one store: for whom, since when, why, and what helps."""
    state = context.state
    return JSONResponse({"waiting": wire.waiting_view(state, store)})


@router.get("/admin/v1/identity", response_model=schemas.Identity)
async def identity(manager: Manager) -> Response:
    """Who this manager is. `domainUid` is null while it waits for the domain."""
    domain_uid: str | None
    try:
        domain_uid = (await manager.submitter.view()).state.uid
    except StoreError:
        domain_uid = None
    said = {"product": "dkv", "serverId": manager.server_id, "uid": manager.uid, "domainUid": domain_uid}
    return JSONResponse(said)


@router.get("/healthz", response_model=schemas.Status)
async def healthz() -> Response:
    """Whether the manager's process works at all; asks nobody else."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", response_model=schemas.Ready)
async def readyz(manager: Manager) -> Response:
    """Whether the manager can read and change the domain; 503 with a sentence if not. When it can, `waiting` lists what
    keeps clients' writes from being taken anywhere: a manager that can help is ready, whatever it is to help with.
    """
    why = manager.readiness()
    if why:
        return answer(waiting(why), {"Retry-After": "1"})
    held = [one for one in wire.waiting_view((await manager.submitter.view()).state) if one["blocksWrites"]]
    return JSONResponse({"status": "ready", "waiting": held})
