"""API: what can be looked at beside the stores: domain, processes, tombstones, identity, health."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from fastapi import Request

from dkv.api.access import READER
from dkv.api.context import Context, Manager
from dkv.api.routing import Router
from dkv.domain.access import MANAGERS
from dkv.domain.identities import fingerprint_of
from dkv.store.contract import StoreError
from dkv.wire import schemas, views
from dkv.wire.maintenance import waiting_view

router = Router(tags=["looking"])


@router.get("/admin/v1/domain")
async def domain(request: Request, context: Context) -> schemas.Domain:
    """The domain: its uid and its servers; `leaderServer` moves the domain clock."""
    view = context.view
    leader = await context.manager.peers.leader_server()
    manager, control = context.manager, request.app.state.api.access_control
    return views.domain_view(view.state, view.revision, leader, manager.server_id, manager.clock(), control=control)


@router.get("/admin/v1/processes")
async def processes(context: Context, store: str | None = None) -> schemas.Processes:
    """Every live process, by start id."""
    state = context.state
    processes = [p for _, p in sorted(state.processes.items()) if store is None or p.database == store]
    return {"processes": [views.process_view(state, process) for process in processes]}


@router.get("/admin/v1/tombstones")
async def tombstones(context: Context, store: str | None = None) -> schemas.Tombstones:
    """What is kept of processes that ended, with their causes; newest first."""
    state = context.state
    return {"tombstones": views.tombstones_view(state, store)}


@router.get("/admin/v1/waiting")
async def waiting_for(context: Context, store: str | None = None) -> schemas.Waiting:
    """Everything that waits, whole domain or one store: for whom, since when, why, and what helps."""
    state = context.state
    return {"waiting": waiting_view(state, store, context.manager.clock())}


@router.get("/admin/v1/identity")
async def identity(request: Request, manager: Manager) -> schemas.Identity:
    """Who this manager is. `domainUid` is null while it waits for the domain, `authority` while it has none. Who may not read the
    domain gets no more than that.
    """
    short: schemas.Identity = {"product": "dkv", "domainUid": None, "authority": None, "recoveries": []}
    with suppress(StoreError):
        state = (await manager.submitter.view()).state
        authority = state.authorities.get(MANAGERS)
        shown = fingerprint_of(authority.current) if authority else None
        short |= {"domainUid": state.uid, "authority": shown, "recoveries": list(state.recovery_ids)}
    api = request.app.state.api
    if api.control and not request.scope[READER]:
        return short
    refused = dict(api.control.attempts.counted) if api.control else {}
    more = {"serverId": manager.server_id, "uid": manager.uid, "accessControl": api.access_control, "refusedRequests": refused}
    return cast(schemas.Identity, short | more)


@router.get("/healthz")
async def healthz() -> schemas.Status:
    """Whether the manager's process works at all; reads nothing else."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(manager: Manager) -> schemas.Ready:
    """Whether the manager can read and change the domain; 503 with a sentence if not. When it can, `waiting` lists what
    keeps clients' writes from being taken anywhere: a manager that can help is ready, whatever it is to help with.
    """
    if error := manager.readiness():
        raise error
    held = [reason for reason in waiting_view((await manager.submitter.view()).state) if reason["blocksWrites"]]
    return {"status": "ready", "waiting": held}
