"""API: /api/1/databases: created, planned, captured, given options, stopped, deleted."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.database_users import hashed
from dkv.api.dependencies import Judged, Key, accepted, repeated
from dkv.api.nuodb import schemas, views
from dkv.api.nuodb.bodies import DatabaseBody, Options, PlanBody
from dkv.api.nuodb.dependencies import database_of, external, lease_ages, not_supported, pairs
from dkv.api.nuodb.pagination import LISTED, any_parameters, page
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import startplan
from dkv.domain.decision import Refused
from dkv.domain.model import DatabaseState, EngineState, Process, ProcessRole, ProcessState, State
from dkv.domain.orders import CreateDatabase, DeleteDatabase, PutRecord, SetDatabaseOptions, ShutdownDatabase
from dkv.domain.records import regions, value_of
from dkv.domain.refusals import nearest

router = Router(prefix="/databases")


@router.get("", openapi_extra=LISTED)
async def list_databases(request: Request, context: Context, judged: Judged) -> schemas.Page[schemas.Database]:
    """Every database by name; deleted ones too, as TOMBSTONE."""
    state = context.state
    return page(request, [views.database(state, database, judged=judged) for _, database in sorted(state.databases.items())])


@router.get("/{name}")
async def get_database(name: str, context: Context, judged: Judged, maskPassword: bool = True) -> schemas.Database:
    """One database; its password only with `maskPassword=False`."""
    state = context.state
    return views.database(state, database_of(state, name, deleted=True), maskPassword, judged=judged)


@router.put("/{name}")
async def create_database(
    name: str, body: DatabaseBody, context: Context, key: Key, judged: Judged, mayExist: bool = False
) -> schemas.StartPlan:
    """Create a database and answer with the plan that starts it. Starting is up to the asker."""
    if await repeated(context.manager, key):
        await _place(context.manager, name, body, again=True)
        return await _planned(context.manager, name, body.te_hosts, reusable=False)
    state = context.state
    _check(state, body)
    known = state.databases.get(name)
    if not (mayExist and known and known.state is not DatabaseState.TOMBSTONE):
        password = body.database_dba_password or ""
        command = CreateDatabase(
            name=name,
            uid=context.manager.new_id(),
            secret=context.manager.new_id(),
            options=context.manager.options,
            open=body.open or context.manager.opens_stores,
            default_options=pairs(body.default_options),
            dba_user=body.database_dba_user or "",
            dba_password="" if judged else password,
            hashed_dba_password=hashed(password) if judged and password and body.database_dba_user else "",
        )
        done = accepted(await context.manager.submitter.submit(command, key))
        if not done.answer.get("created", True) and not mayExist:
            raise refuse("database_exists", f"The database {name} exists already.", "Start it with start database.")
        await _place(context.manager, name, body)
    return await _planned(context.manager, name, body.te_hosts, reusable=False)


def _check(state: State, body: DatabaseBody) -> None:
    """Refuse, before anything is written, what the plan or the regions would refuse afterwards."""
    if body.sm_hosts or (body.default_options or {}).get("ext-start") == "true":
        raise external("A process of this database")
    for server in [*(body.te_hosts or ()), *(body.host_assignments or {})]:
        if server not in state.servers:
            raise refuse("unknown_server", f"There is no server {server} in this domain.", nearest(server, state.servers))
    known = regions(state).names
    for region in [body.default_region_id or 0, *(body.host_assignments or {}).values()]:
        if region not in known:
            raise refuse("bad_value", f"There is no region {region}.", "show regions lists them.")


async def _place(manager: ManagerContext, name: str, body: DatabaseBody, again: bool = False) -> None:
    """Write down which region the database's servers are in, if it was given; `again` only if nothing is written yet,
    because the first request did not get so far."""
    if not body.host_assignments and not body.default_region_id:
        return
    state = (await manager.submitter.view()).state
    uid = database_of(state, name).uid
    if again and (value_of(state, "database_regions", name) or {}).get("uid") == uid:
        return
    text = json.dumps({"uid": uid, "default": body.default_region_id or 0, "servers": body.host_assignments or {}})
    accepted(await manager.submitter.submit(PutRecord(kind="database_regions", key=name, value=text)))


@router.post("/{name}/startplan")
async def start_plan(name: str, body: PlanBody, manager: Manager) -> schemas.StartPlan:
    """The plan that starts a database, or what of it does not run; changes nothing."""
    if body.sm_hosts:
        raise external("A process of this database")
    return await _planned(manager, name, body.te_hosts, body.reusable)


async def _planned(manager: ManagerContext, name: str, te_servers: list[str] | None, reusable: bool) -> schemas.StartPlan:
    state = (await manager.submitter.view()).state
    return _answered(startplan.start_plan(state, name, te_servers or (), reusable))


def _answered(plan: startplan.Plan | Refused) -> schemas.StartPlan:
    if isinstance(plan, Refused):
        raise Refusal(plan)
    return views.plan(plan)


@router.get("/{name}/capture")
async def capture(name: str, context: Context, checkState: bool = True) -> schemas.StartPlan:
    """The processes that are there as a plan; with `checkState` only of a database that runs whole."""
    return _answered(startplan.capture(context.state, name, checkState))


@router.post("/{name}/options")
async def set_options(
    name: str, body: Options, manager: Manager, key: Key, judged: Judged, replaceAll: bool = False
) -> schemas.DatabaseSet:
    """Set options; with `replaceAll` those that are not named are unset."""
    command = SetDatabaseOptions(name=name, options=pairs(body), replace_all=replaceAll)
    done = accepted(await manager.submitter.submit(command, key))
    effects: Any = done.answer.get("effects", [])  # the original answers nothing here, so that more may be said
    database = database_of(done.state, name, deleted=True)
    return {**views.database(done.state, database, judged=judged), "effects": effects}


@router.post("/{name}/shutdown")
async def shutdown_database(name: str, manager: Manager, key: Key) -> schemas.Nothing:
    """Stop a database whole: its TEs first, then its SMs, all at the same position."""
    accepted(await manager.submitter.submit(ShutdownDatabase(name=name), key))
    return {}


@router.delete("/{name}")
async def delete_database(name: str, manager: Manager, key: Key, purge: bool = False) -> schemas.Nothing:
    """Delete a stopped database; its archives stay. With `purge` they go too, and its history is forgotten."""
    command = DeleteDatabase(name=name, purge=purge, forget=purge)
    accepted(await manager.submitter.submit(command, key))
    return {}


@router.get("/{name}/storageGroups", openapi_extra=LISTED)
async def storage_groups(name: str, request: Request, context: Context) -> schemas.Page[schemas.StorageGroup]:
    """The database's storage groups, with who may lead each."""
    state = context.state
    return page(request, views.storage_groups(state, database_of(state, name).name))


@router.delete("/{name}/storageGroups/{group}", status_code=400, response_model=schemas.Error)
async def delete_storage_group(name: str, group: str, context: Context) -> Response:
    """Refused: the groups of a database share its keys from its creation."""
    database_of(context.state, name)
    raise not_supported("A storage group cannot be deleted: its keys would belong to nobody.", "Delete the database instead.")


@router.get("/{name}/sqlConnection", response_model=schemas.Process, responses={204: {"description": "No process serves."}})
@any_parameters  # connection properties of the client, none of them ours
async def connection(name: str, context: Context) -> schemas.Process | Response:
    """A process clients can connect to, TEs before SMs; an empty answer if there is none."""
    view = context.view
    database_of(view.state, name)
    processes = sorted((p for p in view.state.processes_of(name) if _serves(view.state, p)), key=_closeness)
    if not processes:
        return Response(status_code=204)
    return views.process(view.state, processes[0], await lease_ages(context.manager, view))


def _serves(state: State, process: Process) -> bool:
    runs = (process.state, process.engine_state) == (ProcessState.MONITORED, EngineState.RUNNING)
    return runs and state.server_alive(process.server_id)


def _closeness(process: Process) -> tuple[bool, int]:
    return (process.role is not ProcessRole.TE, process.start_id)
