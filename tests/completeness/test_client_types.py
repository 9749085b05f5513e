"""The client of managers is typed by what the routes answer: each call is traced to its route, and the types are compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from starlette.routing import Match

from dkv.api.app import NATIVE
from dkv.client import Endpoint, ManagerClient, ManagerUnreachable, Reply, Request
from dkv.wire import schemas

GENERIC = ("read", "change", "request", "ready")  # any address, or an answer that is only looked at for its status
STREAMS = ("follow_events", "follow_live")  # end without an error where nothing answers
VALUES: dict[Any, Any] = {str: "orders", int: 1, bool: True, float: 1.0}


class Recording:
    """A transport that notes the request, and answers nothing."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        self.requests.append(request)
        raise ManagerUnreachable(str(endpoint), "nothing listens there")

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        self.requests.append(request)
        yield from ()


def calls() -> list[str]:
    """The calls of ManagerClient that name a route."""
    return [name for name, _ in inspect.getmembers(ManagerClient, inspect.isfunction) if name[0] != "_" and name not in GENERIC]


def request_of(name: str) -> Request:
    """The request that a call sends."""
    transport = Recording()
    call: Callable[..., Any] = getattr(ManagerClient(Endpoint("127.0.0.1", 7801), transport), name)
    hints = hints_of(name)
    named = {parameter: _value(hints[parameter]) for parameter in inspect.signature(call).parameters if parameter != "key"}
    with pytest.raises(ManagerUnreachable) if name not in STREAMS else pytest.MonkeyPatch.context():
        answer = call(**named)
        list(answer if isinstance(answer, Iterator) else ())
    return transport.requests[0]


def _value(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Mapping, dict):
        return {}
    if origin is Sequence:
        return []
    plain = next((part for part in get_args(hint) if part is not type(None)), hint)
    return VALUES[plain]


def hints_of(name: str) -> dict[str, Any]:
    """The annotations of a call; `schemas` is imported by type checkers only."""
    return get_type_hints(getattr(ManagerClient, name), localns={"schemas": schemas})


def answer_of(request: Request) -> Any:
    """The type that the route of a request is described to answer with."""
    path = request.target.partition("?")[0]
    scope = {"type": "http", "method": request.method, "path": path, "headers": []}
    routes = [route for module in NATIVE for route in module.router.routes]
    (route,) = (route for route in routes if route.matches(scope)[0] is Match.FULL)
    return route.response_model


def test_each_call_gives_the_type_that_its_route_answers_with() -> None:
    given = 0
    for name in calls():
        decoded = hints_of(name)["return"]
        if decoded is type(None):
            continue  # the caller only learns that it was not refused
        if get_origin(decoded) is tuple:
            decoded = get_args(decoded)[1]  # beside whether it is new
        answer = answer_of(request_of(name))
        fits = (answer, *get_type_hints(answer).values())
        if get_origin(decoded) is Iterator:  # of what the route lists, or of what it answers at once, again and again
            decoded = get_args(decoded)[0]
            fits = (answer, *(get_args(part)[0] for part in fits if get_origin(part) is list))
        assert decoded in fits, f"{name} gives {decoded}, its route {answer}"
        given += 1
    assert given > 15


def test_no_call_gives_plain_json() -> None:
    for name in calls():
        assert "dict" not in str(hints_of(name)["return"]), name
