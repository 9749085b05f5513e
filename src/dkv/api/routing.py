"""API: routes that send what their endpoint returns: its annotation is held by mypy, and is what OpenAPI describes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute


class Route(APIRoute):
    """A route that answers with what its endpoint returns, as JSON; a Response is answered as it is.

    FastAPI would hold each answer against its model once more: a mistake in a description would then make a failure of a
    change that was made.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Any]], **options: Any) -> None:
        status = options.get("status_code") or 200
        _prepared_when_described(options.get("response_model") or get_type_hints(endpoint).get("return"))

        @wraps(endpoint)
        async def answer(*arguments: Any, **named: Any) -> Response:
            answered = await endpoint(*arguments, **named)
            return answered if isinstance(answered, Response) else JSONResponse(answered, status)

        super().__init__(path, answer, **options)


def _prepared_when_described(shape: Any) -> None:
    """Have pydantic prepare the shape of an answer only when it is described: that takes milliseconds for each route, and a
    manager that starts needs none of it.
    """
    if isinstance(shape, type) and hasattr(shape, "__total__"):  # a TypedDict
        shape.__pydantic_config__ = {"defer_build": True}  # type: ignore[attr-defined]


class Router(APIRouter):
    """A router of such routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=Route, **options)
