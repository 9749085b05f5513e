"""API: /api/1/processes, requested, looked at and ended as nuocmd does it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key, accepted
from dkv.api.nuodb import errors, schemas, views
from dkv.api.nuodb.bodies import ProcessBody
from dkv.api.nuodb.dependencies import external, lease_ages, not_supported, pairs
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.nuodb.query import filter_of
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.api.waiting import until
from dkv.domain.decision import Refused
from dkv.domain.model import ProcessRole
from dkv.domain.orders import ShutdownProcess, StartProcess
from dkv.domain.refusals import unknown_process

router = Router(prefix="/processes")

LONGEST_HOLD = 3600  # s an answer may be held at most

Seconds = Annotated[int, Query(ge=0, le=LONGEST_HOLD)]


@router.get("", openapi_extra=LISTED)
async def list_processes(request: Request, context: Context, filterQuery: str = "any") -> schemas.Page[schemas.Process]:
    """Every live process, by start id; `filterQuery` keeps those that a load-balancer query chooses."""
    chosen = filter_of(filterQuery)
    view = context.view
    ages = await lease_ages(context.manager, view)
    processes = (views.process(view.state, p, ages) for _, p in sorted(view.state.processes.items()))
    return page(request, [process for process in processes if chosen(process)])


@router.get("/exited", openapi_extra=LISTED)
async def list_exited(request: Request, context: Context, filterQuery: str = "any") -> schemas.Page[schemas.Tombstone]:
    """What is kept of processes that ended; newest first. `filterQuery` keeps those that a load-balancer query chooses."""
    chosen = filter_of(filterQuery)
    state = context.state
    newest = sorted(state.tombstones.items(), reverse=True)
    tombstones = (views.tombstone(state, ended) for _, ended in newest)
    return page(request, [tombstone for tombstone in tombstones if chosen(tombstone["process"])])


@router.get("/availableOptions")
async def available_options() -> schemas.ProcessOptions:
    """Options a process can be given of its own; there is none that an engine obeys."""
    return {"options": {}}


@router.post("/externalStartup", status_code=400, response_model=schemas.Error)
async def start_outside(request: Request) -> Response:
    """Refused: a manager starts every engine of its server itself."""
    raise external()


@router.get("/{start_id}", response_model=schemas.Process)
async def get_process(start_id: int, context: Context) -> schemas.Process | Response:
    """A process; one that ended is an error that carries its tombstone."""
    view = context.view
    if start_id in view.state.processes:
        return views.process(view.state, view.state.processes[start_id], await lease_ages(context.manager, view))
    if start_id in view.state.tombstones:
        ended = views.tombstone(view.state, view.state.tombstones[start_id])
        return errors.error(404, [f"Process {start_id} ended: {ended['reason']}"], **ended)
    raise Refusal(unknown_process(start_id))


@router.get("/{start_id}/options")
async def get_options(start_id: int, context: Context) -> dict[str, str]:
    """The options of a process: its own, and its database's where it has none."""
    state = context.state
    if start_id not in state.processes:
        raise Refusal(unknown_process(start_id))
    return views.process(state, state.processes[start_id], {})["options"]


@router.post("")
async def start_process(body: ProcessBody, manager: Manager, key: Key) -> schemas.Process:
    """Request a process; answers with it as it was requested. Its manager starts it a moment later."""
    expected = body.expected_incarnation
    command = StartProcess(
        database=body.db_name,
        role=_engine_type(body),
        server_id=body.host or "",
        archive_id=body.archive_id,
        expected=(expected.major, expected.minor) if expected else None,
        labels=pairs(body.labels),
        options=pairs(body.override_options),
    )
    done = accepted(await manager.submitter.submit(command, key))
    start_id: Any = done.answer["startId"]
    started = done.state.processes.get(start_id)
    if started is None and start_id in done.state.tombstones:  # a repeated request whose process ended meanwhile
        started = done.state.tombstones[start_id].process
    if started is None:  # and of which nothing is kept any more
        raise Refusal(unknown_process(start_id))
    return views.process(done.state, started, {})


def _engine_type(body: ProcessBody) -> ProcessRole:
    named = body.engine_type or ("TE" if body.archive_id is None else "SM")
    if named == "SSM":
        raise not_supported("Snapshot storage managers are not supported.", "Use --engine-type SM or TE.")
    if named not in ("SM", "TE"):
        raise refuse("bad_value", f"The engine type is {named}.", "It is SM or TE.")
    if named == "TE" and body.archive_id is not None:
        raise refuse("bad_value", "A TE has no archive.", "Leave --archive-id out, or ask for an SM.")
    if named == "SM" and body.archive_id is None:
        raise refuse("bad_value", "An SM needs an archive.", "Name it with --archive-id; show archives lists them.")
    if (body.override_options or {}).get("ext-start") == "true":
        raise external()
    return ProcessRole(named)


@router.delete("/{start_id}")
async def end_process(
    start_id: int,
    manager: Manager,
    key: Key,
    kill: bool = False,
    evict: bool = False,
    killWithCore: bool = False,
    timeout: Seconds = 0,
) -> schemas.Nothing:
    """End a process: gracefully, or at once with `kill`; `evict` forgets one that cannot be reached. With `timeout` the
    answer waits that many seconds at most until it is gone."""
    if killWithCore:
        raise not_supported("Core files of engines are not supported.", "Use --kill.")
    command = ShutdownProcess(start_id=start_id, kill=kill, evict=evict)
    done = await manager.submitter.submit(command, key)
    if isinstance(done, Refused) and done.code != "already_stopping":
        raise Refusal(done)
    await until(manager, lambda state: start_id not in state.processes, timeout)
    return {}
