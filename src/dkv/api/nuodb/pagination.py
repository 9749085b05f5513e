"""API: paging, filters and order of every list of the NuoDB dialect (docs/reference/nuodb.md#transport).

`page(request, items)` is all a list route needs: the objects as JSON, whole, in the order they have when nobody asks
for another. The query's `filterBy`, `orderBy`, `offset` and `limit` do the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request

from dkv.api.nuodb.safe_regex import BadPattern, matches
from dkv.api.nuodb.schemas import Page
from dkv.api.problems import refuse, refuse_unknown

Item = Mapping[str, Any]
Route = TypeVar("Route", bound=Callable[..., object])
T = TypeVar("T", bound=Mapping[str, Any])

MAX_LIMIT = 1000  # announced: nuocmd doubles its pages up to this; larger ones are answered whole all the same
MISSING = object()

LIST_PARAMETERS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "offset": ({"type": "integer", "minimum": 0, "maximum": 999_999_999}, "How many elements to pass over."),
    "limit": ({"type": "integer", "minimum": 0, "maximum": 999_999_999}, "How many elements to answer at most."),
    "orderBy": ({"type": "string"}, "Dotted fields, with commas between them."),
    "descendingFields": ({"type": "string"}, "Those of `orderBy` whose largest value comes first."),
    "filterBy": (
        {"type": "array", "items": {"type": "string"}},
        "Fields to filter by; each is then a parameter of its own, a pattern that the whole value has to fit.",
    ),
}
"""What every list takes besides one parameter for each filtered field: its schema and what it says."""

LISTED: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": dict(schema), "description": says}
        for name, (schema, says) in LIST_PARAMETERS.items()
    ]
}
"""What a list route says of itself in the description (`openapi_extra`); `known_parameters` lets them pass."""


def any_parameters(endpoint: Route) -> Route:
    """Mark a route that takes any parameters and passes them over."""
    endpoint.any_parameters = True  # type: ignore[attr-defined]
    return endpoint


async def known_parameters(request: Request) -> None:
    """Refuse parameters of the address that the route does not know; those of a list are known, and so are its filters."""
    route = request.scope["route"]
    if getattr(route.endpoint, "any_parameters", False):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    if listed := (route.openapi_extra or {}).get("parameters"):
        known += [parameter["name"] for parameter in listed] + request.query_params.getlist("filterBy")
    refuse_unknown(request, known)


def page(request: Request, items: Iterable[T]) -> Page[T]:
    """One page of a list: filtered, ordered, cut. Raises Refusal for a pattern or a number that is none."""
    matching = _ordered(request, [item for item in items if _fits(request, item)])
    offset, limit = _number(request, "offset", 0), _number(request, "limit", len(matching))
    end = offset + limit
    return {"data": matching[offset:end], "hasNext": end < len(matching), "maxLimit": MAX_LIMIT}


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise refuse("bad_value", f"The parameter {name} is '{text}'.", "It is a whole number from 0.")
    return int(text)


def field(item: Item, path: str) -> Any:
    """The value at a dotted path, or MISSING."""
    value: Any = item
    for part in path.split("."):
        if not isinstance(value, Mapping) or value.get(part) is None:
            return MISSING
        value = value[part]
    return value


# Filters -----------------------------------------------------------------------------------------------------


def _fits(request: Request, item: Item) -> bool:
    query = request.query_params
    return all(
        _matches(name, pattern, field(item, name))
        for name in dict.fromkeys(query.getlist("filterBy"))
        for pattern in query.getlist(name)
    )


def _matches(name: str, pattern: str, value: Any) -> bool:
    """The whole value as text has to fit: the filter archiveId=1 does not find 10. What is not there fits nothing."""
    try:
        return matches(pattern, _text(value)) and value is not MISSING
    except BadPattern as error:
        message = f"The filter of {name}, '{pattern[:60]}', is not a regular expression: {error}."
        raise refuse("bad_value", message, "Write for example test or te.* or TE|SM.") from error


def _text(value: Any) -> str:
    """A value as text, as JSON writes it; a long one is cut, since no filter needs more."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:1000]


# Order -------------------------------------------------------------------------------------------------------


def _ordered(request: Request, items: list[T]) -> list[T]:
    descending = set(_names(request, "descendingFields"))
    for name in reversed(_names(request, "orderBy")):
        items.sort(key=lambda item: _rank(field(item, name)), reverse=name in descending)
    return items


def _names(request: Request, parameter: str) -> list[str]:
    return [name for text in request.query_params.getlist(parameter) for name in text.split(",") if name]


def _rank(value: Any) -> tuple[int, Sequence[int], str]:
    """Numbers, also written as text like start ids, before words; an incarnation by (major, minor); nothing last."""
    if value is MISSING:
        return (2, (), "")
    if isinstance(value, Mapping):
        return (0, (int(value.get("major", 0)), int(value.get("minor", 0))), "")
    text = _text(value)
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        return (0, (int(text),), "")
    return (1, (), text)
