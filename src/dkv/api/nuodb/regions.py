"""API: /api/1/regions, and which region a server is in for a database.

A region is stored and shown (`regionName` of a process); nothing is placed by it.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Key
from dkv.api.nuodb import schemas
from dkv.api.nuodb.dependencies import database_of
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.nuodb.records import must, rewrite
from dkv.api.nuodb.registry_bodies import DefaultRegionBody, HostBody, RegionBody, ServerBody
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.control.submit import RequestKey
from dkv.domain import records
from dkv.domain.model import State
from dkv.domain.orders import PutRecord
from dkv.domain.refusals import nearest, unknown_server

router = Router()

REGIONS = "/regions"
REGION = "/regions/{region_id}"


def _json(number: int, name: str) -> schemas.Region:
    return {"id": number, "name": name}


def known_region(state: State, number: int) -> str:
    """The name of a region. Raises Refusal."""
    names = records.regions(state).names
    if number not in names:
        listed = ", ".join(f"{region_id} ({name})" for region_id, name in sorted(names.items())[:8])
        raise refuse("unknown_record", f"There is no region with number {number}.", f"Known: {listed}.")
    return names[number]


def _fresh_name(names: dict[int, str], name: str) -> None:
    must(records.unfit_name("Region", name))
    if name.casefold() in [known.casefold() for known in names.values()]:
        raise refuse("record_exists", f"There is a region named {name} already.", "Use that one, or another name.")


def _record(next_id: int, names: dict[int, str]) -> dict[str, Any]:
    others = {str(number): name for number, name in names.items() if number != records.DEFAULT[0]}
    return {"next": next_id, "names": others}


@router.get(REGIONS, openapi_extra=LISTED)
async def get_regions(request: Request, context: Context) -> schemas.Page[schemas.Region]:
    """Every region; number 0, Default, is always there."""
    names = records.regions(context.state).names
    return page(request, [_json(number, name) for number, name in sorted(names.items())])


@router.post(REGIONS, status_code=201)
async def create_region(body: RegionBody, manager: Manager, key: Key) -> schemas.Region:
    """A new region, with the next number."""

    def change(state: State, old: Any) -> dict[str, Any]:
        known = records.regions(state)
        names = dict(known.names)
        _fresh_name(names, body.name)
        return _record(known.next_id + 1, {**names, known.next_id: body.name})

    done = await rewrite(manager, _regions(), change, key, lambda value: {"number": value["next"] - 1})
    numbers = (number for number, name in records.regions(done.state).names.items() if name == body.name)
    number: Any = done.answer.get("number")  # of a repeated request: the region may have another name by now, or be gone
    return _json(next(numbers) if number is None else number, body.name)


@router.get(REGION)
async def get_region(region_id: int, context: Context) -> schemas.Region:
    """One region."""
    return _json(region_id, known_region(context.state, region_id))


@router.put(REGION)
async def rename_region(region_id: int, body: RegionBody, manager: Manager, key: Key) -> schemas.Region:
    """Another name for a region, if it has the one that the caller expects."""

    def change(state: State, old: Any) -> dict[str, Any]:
        name = _not_default(known_region(state, region_id), region_id)
        if body.old_name not in (None, name):
            raise refuse("record_changed", f"Region {region_id} is named {name}, not {body.old_name}.", "Look again.")
        known = records.regions(state)
        names = {number: region_name for number, region_name in known.names.items() if number != region_id}
        _fresh_name(names, body.name)
        return _record(known.next_id, {**names, region_id: body.name})

    await rewrite(manager, _regions(), change, key)
    return _json(region_id, body.name)


@router.delete(REGION)
async def delete_region(region_id: int, manager: Manager, key: Key) -> schemas.Nothing:
    """A region that no database uses."""

    def change(state: State, old: Any) -> dict[str, Any]:
        name = _not_default(known_region(state, region_id), region_id)
        used = records.assigned_to(state, region_id)
        if used:
            message = f"Region {name} has servers of {', '.join(used[:8])}."
            raise refuse("record_in_use", message, "Remove those region assignments first.")
        known = records.regions(state)
        return _record(known.next_id, {number: region_name for number, region_name in known.names.items() if number != region_id})

    await rewrite(manager, _regions(), change, key)
    return {}


def _regions() -> PutRecord:
    return PutRecord(kind="regions", key=records.ALL)


def _not_default(name: str, number: int) -> str:
    if number == records.DEFAULT[0]:
        raise refuse("bad_value", "Region 0, Default, is always there under that name.", "Make another one.")
    return name


# Which server is where -----------------------------------------------------------------------------------------------


@router.put("/databases/{name}/hosts")
async def assign_server(name: str, body: HostBody, manager: Manager, key: Key) -> schemas.Nothing:
    """Put a server into a region for one database."""
    await place(manager, name, {body.server_id: int(body.region_id)}, key=key)
    return {}


@router.delete("/databases/{name}/hosts")
async def unassign_server(name: str, body: ServerBody, manager: Manager, key: Key) -> schemas.Nothing:
    """Let a server be in the database's default region again. Takes its body although it is a DELETE."""

    def change(state: State, old: Any) -> dict[str, Any]:
        database = database_of(state, name)
        placed = records.placing(state, name)
        if body.server_id not in placed.servers:
            message = f"Server {body.server_id} is assigned to no region of {name}."
            raise refuse("unknown_record", message, nearest(body.server_id, placed.servers))
        servers = {server_id: number for server_id, number in placed.servers.items() if server_id != body.server_id}
        return {"uid": database.uid, "default": placed.default, "servers": servers}

    await rewrite(manager, PutRecord(kind="database_regions", key=name), change, key)
    return {}


@router.put("/databases/{name}/defaultRegion")
async def set_default_region(name: str, body: DefaultRegionBody, manager: Manager, key: Key) -> schemas.Nothing:
    """The region of all servers that were put nowhere else."""
    await place(manager, name, {}, int(body.region_id), key=key)
    return {}


async def place(
    manager: ManagerContext, name: str, servers: dict[str, int], default: int | None = None, *, key: RequestKey | None = None
) -> None:
    """Put servers of a database into regions, by number, and all others into `default`. Raises Refusal."""

    def change(state: State, old: Any) -> dict[str, Any]:
        database = database_of(state, name)
        placed = records.placing(state, name)
        for server_id in servers:
            if server_id not in state.servers:
                raise Refusal(unknown_server(server_id, state.servers))
        for number in [*servers.values(), *([] if default is None else [default])]:
            known_region(state, number)
        return {
            "uid": database.uid,
            "default": placed.default if default is None else default,
            "servers": {**placed.servers, **servers},
        }

    await rewrite(manager, PutRecord(kind="database_regions", key=name), change, key)
