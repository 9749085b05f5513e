"""API: the OpenAPI description, made from the routes themselves: one of each API, and one of everything.

Bodies and parameters come from the routes' signatures, answers from what they return, and every refusal from here:
whatever a route refuses, it refuses in the one shape of its dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response

ADDRESS = "/openapi.json"
NEGOTIATED = "accept"  # a header that OpenAPI describes by the kinds of content

TIMES = "Times called `at`, `since` or ending in `At` are wall-clock milliseconds."
SCHEMAS = "#/components/schemas/"

Json = dict[str, Any]

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Dialect:
    """One of the two APIs: its application, and the name of the schema and the media type of its refusals."""

    app: FastAPI
    refusal: str
    media_type: str


class Described(Protocol):
    """What is described: the native API, then the NuoDB dialect. `documents` are those that were made."""

    @property
    def dialects(self) -> tuple[Dialect, Dialect]: ...
    @property
    def documents(self) -> dict[bool | None, Json]: ...


@router.get(ADDRESS)
async def everything(request: Request) -> Response:
    """Both APIs."""
    return JSONResponse(describe(request.app.state.api))


@router.get("/admin/v1" + ADDRESS)
async def native(request: Request) -> Response:
    """The native API, and whether the manager works."""
    return JSONResponse(describe(request.app.state.api, of_nuodb=False))


def describe(api: Described, of_nuodb: bool | None = None) -> Json:
    """The description of one API, or of both. Made once for each manager."""
    if of_nuodb not in api.documents:
        api.documents[of_nuodb] = _described(api.dialects if of_nuodb is None else (api.dialects[of_nuodb],))
    return api.documents[of_nuodb]


def _described(dialects: tuple[Dialect, ...]) -> Json:
    document = _document(dialects)
    schemas: Json = document.get("components", {}).get("schemas", {})
    for dialect in dialects:
        for path in (document if len(dialects) == 1 else _document((dialect,)))["paths"]:
            for operation in document["paths"][path].values():
                _say_how_it_refuses(operation, dialect.refusal)
                _leave_out_negotiation(operation)
    refusals = {dialect.refusal: _refusal(dialect) for dialect in dialects}
    used = _reached([document["paths"], refusals], schemas)
    for name in used - set(refusals):
        _close(schemas[name])
    components = {"schemas": {name: schemas[name] for name in sorted(used)}, "responses": dict(sorted(refusals.items()))}
    named: Json = _renamed(document | {"components": components}, _short_names(used))
    return named


def _document(dialects: tuple[Dialect, ...]) -> Json:
    app = dialects[0].app
    routes = [route for dialect in dialects for route in dialect.app.routes]
    return get_openapi(title=app.title, version=app.version, description=TIMES, routes=routes)


def _reached(part: Any, schemas: Json) -> set[str]:
    """The schemas that a part of the document refers to, and those that these refer to."""
    reached: set[str] = set()
    waiting = list(_references(part))
    while waiting:
        name = waiting.pop()
        if name in schemas and name not in reached:
            reached.add(name)
            waiting += _references(schemas[name])
    return reached


def _references(part: Any) -> Iterator[str]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and str(part.get("$ref", "")).startswith(SCHEMAS):
        yield part["$ref"].removeprefix(SCHEMAS)
    for part_inside in inner:
        yield from _references(part_inside)


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """FastAPI names a schema by its whole module when two manager use one word; in one description one word is enough."""
    short = {name: name.rsplit("__", 1)[-1] for name in names}
    return {name: short_name for name, short_name in short.items() if list(short.values()).count(short_name) == 1}


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_renamed(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if str(part.get("$ref", "")).startswith(SCHEMAS):
        name = part["$ref"].removeprefix(SCHEMAS)
        return {"$ref": SCHEMAS + names.get(name, name)}
    return {names.get(name, name): _renamed(value, names) for name, value in part.items()}


def _close(schema: Json) -> None:
    """No object has a field that is not described."""
    if schema.get("type") == "object" and not schema.get("additionalProperties"):
        schema["additionalProperties"] = False


def _say_how_it_refuses(operation: Json, shape: str) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    responses.pop("400", None)
    for status in ("4XX", "503"):
        responses[status] = {"$ref": f"#/components/responses/{shape}"}


def _leave_out_negotiation(operation: Json) -> None:
    parameters = [parameter for parameter in operation.get("parameters", ()) if parameter["name"] != NEGOTIATED]
    if parameters:
        operation["parameters"] = parameters
    else:
        operation.pop("parameters", None)


def _refusal(dialect: Dialect) -> Json:
    meaning = "A refusal: nothing was changed. 503: the domain's state, or another manager, cannot be reached."
    content = {dialect.media_type: {"schema": {"$ref": SCHEMAS + dialect.refusal}}}
    return {"description": meaning, "content": content}
