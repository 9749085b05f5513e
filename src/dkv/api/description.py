"""API: the OpenAPI description, made from the routes themselves: one of each API, and one of everything.

Bodies and parameters come from the routes' signatures, answers from their `response_model`, and every refusal from here:
whatever a route refuses, it refuses in the one shape of its dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response

from dkv.api import schemas
from dkv.api.nuodb import errors
from dkv.api.nuodb import schemas as dialect

NATIVE = "/admin/v1"
ADDRESS = "/openapi.json"
NEGOTIATED = "accept"  # a header that OpenAPI describes by the kinds of content

SCHEMAS = "#/components/schemas/"

Json = dict[str, Any]

router = APIRouter(include_in_schema=False)


@router.get(ADDRESS)
async def everything(request: Request) -> Response:
    """Both APIs."""
    return JSONResponse(describe(request.app))


@router.get(NATIVE + ADDRESS)
async def native(request: Request) -> Response:
    """The native API, and whether the manager works."""
    return JSONResponse(describe(request.app, of_nuodb=False))


@router.get(errors.ROOT + ADDRESS)
async def nuodb(request: Request) -> Response:
    """The NuoDB dialect."""
    return JSONResponse(describe(request.app, of_nuodb=True))


def describe(app: FastAPI, of_nuodb: bool | None = None) -> Json:
    """The description of one API, or of both. Made once for each application."""
    made: dict[bool | None, Json] = app.state.descriptions
    if of_nuodb not in made:
        made[of_nuodb] = _described(app, of_nuodb)
    return made[of_nuodb]


def _described(app: FastAPI, of_nuodb: bool | None) -> Json:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    paths = {path: ways for path, ways in document["paths"].items() if of_nuodb in (None, errors.speaks(path))}
    for path, methods in paths.items():
        for operation in methods.values():
            _say_how_it_refuses(operation, "Error" if errors.speaks(path) else "Problem")
            _leave_out_negotiation(operation)
    told = {"Error", "Problem"} if of_nuodb is None else {"Error"} if of_nuodb else {"Problem"}
    schemas = document.get("components", {}).get("schemas", {}) | {name: _schema(name) for name in told}
    used = _reached({"paths": paths, "told": [{"$ref": SCHEMAS + name} for name in told]}, schemas)
    components = {
        "schemas": {name: schemas[name] for name in sorted(used)},
        "responses": {name: _refusal(name) for name in sorted(told)},
    }
    named: Json = _renamed(document | {"paths": paths, "components": components}, _short_names(used))
    return named


def _reached(part: Any, schemas: Json) -> set[str]:
    """The schemas that a part of the document refers to, and those that these refer to."""
    found: set[str] = set()
    waiting = list(_references(part))
    while waiting:
        name = waiting.pop()
        if name in schemas and name not in found:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(part: Any) -> Iterator[str]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and str(part.get("$ref", "")).startswith(SCHEMAS):
        yield part["$ref"].removeprefix(SCHEMAS)
    for one in inner:
        yield from _references(one)


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """FastAPI names a schema by its whole module when two rooms use one word; in one description one word is enough."""
    short = {name: name.rsplit("__", 1)[-1] for name in names}
    return {name: one for name, one in short.items() if list(short.values()).count(one) == 1}


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_renamed(one, names) for one in part]
    if not isinstance(part, dict):
        return part
    if str(part.get("$ref", "")).startswith(SCHEMAS):
        name = part["$ref"].removeprefix(SCHEMAS)
        return {"$ref": SCHEMAS + names.get(name, name)}
    return {names.get(name, name): _renamed(one, names) for name, one in part.items()}


def _say_how_it_refuses(operation: Json, shape: str) -> None:
    told = operation["responses"]
    told.pop("422", None)
    told.pop("400", None)
    for status in ("4XX", "503"):
        told[status] = {"$ref": f"#/components/responses/{shape}"}


def _leave_out_negotiation(operation: Json) -> None:
    kept = [one for one in operation.get("parameters", ()) if one["name"] != NEGOTIATED]
    if kept:
        operation["parameters"] = kept
    else:
        operation.pop("parameters", None)


def _schema(name: str) -> Json:
    model = schemas.Problem if name == "Problem" else dialect.Error
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def _refusal(name: str) -> Json:
    kind = "application/problem+json" if name == "Problem" else "application/json"
    says = "A refusal: nothing was changed. 503: the domain's state, or another manager, cannot be reached."
    return {"description": says, "content": {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
