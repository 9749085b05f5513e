"""API: stores and their instances, on the paths that the cmdlets call (docs/reference/cmdlets.md). Each change is one command."""

from __future__ import annotations

from typing import Any, Literal

from fastapi.responses import JSONResponse, Response

from dkv.api.bodies import InstancesBody, StoreBody
from dkv.api.context import Context, Manager, ManagerContext, RequestContext
from dkv.api.dependencies import Judged, Key, accepted, database_of, instance_of, repeated, store_json, store_now
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.api.topology import add_command, check_directories, check_sockets, create_command
from dkv.api.waiting import until
from dkv.control.submit import RequestKey, View
from dkv.domain import status
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import Archive, ProcessRole, State
from dkv.domain.orders import CreateDatabase, DeleteArchive, DeleteDatabase, ShutdownDatabase, ShutdownProcess, StartProcess
from dkv.wire import schemas, views

router = Router(prefix="/admin/v1/stores", tags=["stores"])

STOP_TRIES = 3


@router.get("")
async def list_stores(context: Context, judged: Judged) -> schemas.Stores:
    """All stores with their groups and instances."""
    view = context.view
    names = [database.name for database in views.stores_of(view.state)]
    return {"stores": [store_json(view, name, judged) for name in names]}


@router.get("/{name}")
async def get_store(name: str, context: Context, judged: Judged) -> schemas.Store:
    """One store: status, incarnation, groups (term, leader, in-sync set, whom it waits for), instances."""
    return store_json(context.view, name, judged)


@router.post("", status_code=201, response_model=schemas.Store, responses={200: {"model": schemas.Store | schemas.StoreChecked}})
async def create_store(body: StoreBody, context: Context, key: Key, judged: Judged, check: bool = False) -> Response:
    """Create a store with all its instances, none of them started. 200 if the same store was there already. Where there is access
    control its engines let in its users only, unless `open` is said.

    With `check=true` nothing is written: names, ports, overlaps and this machine's sockets are looked at.
    """
    done = None if check else await repeated(context.manager, key)
    if done is None:
        state = context.state
        command = create_command(context.manager, state, body, is_open=body.open or context.manager.opens_stores)
        if check:
            return await _check(context.manager, state, command)
        await check_directories(context.manager, command.archives)
        check_sockets(context.manager, state, body.name, command.archives)
        done = accepted(await context.manager.submitter.submit(command, key))
    store = await store_now(context.manager, body.name, judged)
    return JSONResponse(store, 201 if done.answer.get("created", True) else 200)


async def _check(manager: ManagerContext, state: State, command: CreateDatabase) -> Response:
    done = accepted(await manager.submitter.check(command))
    await check_directories(manager, command.archives)
    check_sockets(manager, state, command.name, command.archives)
    checked: schemas.StoreChecked = {"ok": True, "exists": not done.answer.get("created", True)}
    return JSONResponse(checked)


@router.delete("/{name}")
async def delete_store(name: str, manager: Manager, key: Key) -> schemas.StoreRemoved:
    """Delete a stopped store with its archives; their directories are renamed, never removed.

    Answers when the managers that are there have renamed them, so that the name may be used again at once.
    """
    accepted(await manager.submitter.submit(DeleteDatabase(name=name, purge=True), key))
    await _retired(manager, name)
    return {"name": name, "result": "Removed"}


async def _retired(manager: ManagerContext, name: str) -> None:
    """Wait a little for the directories of a deleted store to be renamed."""

    def retired(state: State) -> bool:
        archives = (a for a in state.archives.values() if a.database == name and a.removed)
        return not any(state.server_alive(archive.server_id) for archive in archives)

    await until(manager, retired, manager.peers.acts_within)


@router.post("/{name}/stop", status_code=202)
async def stop_store(name: str, manager: Manager, key: Key, force: bool = False) -> schemas.StoreStopping:
    """Stop a store whole: writes are fenced, all of the in-sync set catches up, then everything stops."""
    accepted(await manager.submitter.submit(ShutdownDatabase(name=name, force=force), key))
    return {"name": name, "result": "Stopping"}


# Instances ---------------------------------------------------------------------------------------------------


@router.post("/{name}/instances", status_code=201)
async def add_instances(name: str, body: InstancesBody, context: Context, key: Key, judged: Judged) -> schemas.Store:
    """Add copies, all or none; each joins the group it names, else the one with the fewest."""
    if await repeated(context.manager, key) is None:
        state = context.state
        command = add_command(context.manager, state, name, body)
        database_of(state, name)  # the domain also takes archives of a database to come; a store has to be there
        await check_directories(context.manager, command.archives)
        check_sockets(context.manager, state, name, command.archives)
        accepted(await context.manager.submitter.submit(command, key))
    return await store_now(context.manager, name, judged)


@router.delete("/{name}/instances/{instance}")
async def remove_instance(name: str, instance: str, context: Context, key: Key) -> schemas.InstanceRemoved:
    """Take a stopped instance out of its store; its directory is renamed, never removed."""
    if await repeated(context.manager, key) is None:
        archive = instance_of(context.state, name, instance)
        accepted(await context.manager.submitter.submit(DeleteArchive(archive_id=archive.archive_id), key))
    return {"instanceName": instance, "result": "Removed"}


@router.post("/{name}/instances/{instance}/start", status_code=202)
async def start_instance(name: str, instance: str, context: Context, key: Key) -> schemas.InstanceStarted:
    """Request an instance's process. Returns at once; the store's view shows how far it is."""
    result: Literal["Started", "Already running"] = "Started"
    done: Accepted | Refused | None = await repeated(context.manager, key)
    if done is None:
        archive = instance_of(context.state, name, instance)
        command = StartProcess(database=name, role=ProcessRole.SM, archive_id=archive.archive_id)
        done = await context.manager.submitter.submit(command, key)
    if isinstance(done, Accepted):
        start_id: Any = done.answer.get("startId")
    elif done.code == "already_running":
        result, start_id = "Already running", _running(await context.manager.submitter.view(), archive)
    else:
        raise Refusal(done)
    return {"instanceName": instance, "result": result, "startId": start_id}


def _running(view: View, archive: Archive) -> int | None:
    """The start id of an instance that runs. Raises Refusal if it is stopping."""
    if status.instance_state(view.state, archive) == "Stopping":
        raise refuse("archive_in_use", f"{archive.name} is stopping.", "Start it again when it has stopped.")
    process = view.state.process_on(archive.archive_id)
    return process.start_id if process else None


@router.post("/{name}/instances/{instance}/stop", status_code=202)
async def stop_instance(name: str, instance: str, context: Context, key: Key, force: bool = False) -> schemas.InstanceStopped:
    """Stop an instance gracefully, handing its lead over; with `force` at once, without any check."""
    stopping = await repeated(context.manager, key) is not None or await _stop(context, name, instance, force, key=key)
    result: Literal["Stopping", "Already stopped"] = "Stopping" if stopping else "Already stopped"
    return {"instanceName": instance, "result": result}


async def _stop(context: RequestContext, name: str, instance: str, force: bool, *, key: RequestKey | None) -> bool:
    """Whether there was a process to stop. It may be replaced by its successor meanwhile, which is then the one to stop."""
    archive = instance_of(context.state, name, instance)
    for _ in range(STOP_TRIES):
        process = (await context.manager.submitter.view()).state.process_on(archive.archive_id)
        if process is None:
            return False
        command = ShutdownProcess(start_id=process.start_id, kill=force, force=force)
        done = await context.manager.submitter.submit(command, key)
        if isinstance(done, Accepted) or done.code == "already_stopping":
            return True
        if done.code != "unknown_process":
            raise Refusal(done)
    return False
