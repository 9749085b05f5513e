"""No request holds the manager's loop: its lease is renewed, its engines are looked at and others are answered meanwhile.

The requests are made from the descriptions of both APIs, so that a route that comes is covered when it comes: each of its fields
is filled until the body is as long as that address takes, or as wide as any may be.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dkv.api.description import describe
from dkv.api.guard import largest_body
from dkv.api.problems import WIDEST
from tests.api.furnished import KNOWN, FurnishedWorld, Said, Stage, answered
from tests.api.world import World, scenario

LONGEST = 0.2  # s of processor time between two turns of the loop
TRIES = 3  # a turn in which the interpreter tidied its memory is not the request's
BELOW = {"roles": "reader", "users": "ada", "loadBalancerPolicy": "fastest", "kvstore": "Backups"}  # else what KNOWN says
JSON = ((b"content-type", b"application/json"),)

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Body:
    """One hostile body of a route."""

    method: str
    path: str
    how: str
    value: Any

    @property
    def text(self) -> bytes:
        return self.value if isinstance(self.value, bytes) else json.dumps(self.value, separators=(",", ":")).encode()


class Maker:
    """Bodies made from one description. `size` is how many bytes a body may have."""

    def __init__(self, document: Schema, size: int) -> None:
        self._document = document
        self._size = size

    def plain(self, schema: Schema) -> dict[str, Any]:
        """A schema without references and without "or null"."""
        while "$ref" in schema or "anyOf" in schema or "oneOf" in schema:
            if "$ref" in schema:
                schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            else:
                ways = schema.get("anyOf") or schema["oneOf"]
                schema = next(way for way in ways if way.get("type") != "null")
        return dict(schema)

    def smallest(self, schema: Schema, number: int = 1, name: str = "") -> Any:
        """A value that fits, one that names something that is there if its name shows of what, else another for each number."""
        schema = self.plain(schema)
        if "enum" in schema or "const" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if schema.get("type") == "object":
            inner, needed = schema.get("properties", {}), schema.get("required", ())
            return {name: self.smallest(inner[name], number, name) for name in inner if name in needed}
        if schema.get("type") == "array":
            return [self.smallest(schema["items"], number + n, name) for n in range(schema.get("minItems", 1))]
        if schema.get("type") in ("integer", "number", "boolean"):
            return {"integer": schema.get("minimum", 0) + number % 60_000, "number": 1, "boolean": True}[schema["type"]]
        known = KNOWN.get(name) or [f"/admin/v1/stores?x={number}" if "pattern" in schema else f"n{number}"]
        return str(known[number % len(known)])

    def filled(self, schema: Schema, name: str = "", size: int = 0) -> Iterator[tuple[str, Any]]:
        """Values of one field that make a body full."""
        schema, size = self.plain(schema), size or self._size
        kind = schema.get("type")
        yield "a long text", "x" * size
        if kind in ("array", "object"):
            yield "lists of lists", [[0] * WIDEST] * min(WIDEST, size // (2 * WIDEST + 2))
        if kind == "array":
            yield from self._many(schema, name, size)
        elif kind == "object" and not schema.get("properties"):
            for count in {min(WIDEST, size // 20), size // 20}:
                yield f"{count} names", {f"n{n}": f"v{n}" for n in range(count)}
                yield f"{count} wrong values", {f"n{n}": [] for n in range(count)}
            yield "long names", {f"{n}" + "x" * (size // 100 - 20): "v" for n in range(100)}
        elif kind == "object":
            for name, inner in schema["properties"].items():
                for how, value in self.filled(inner, name, size):
                    yield f"{name}: {how}", {**self.smallest(schema), name: value}

    def _many(self, schema: Schema, name: str, size: int) -> Iterator[tuple[str, Any]]:
        items, most = schema["items"], min(WIDEST, schema.get("maxItems", WIDEST))
        each = len(json.dumps(self.smallest(items, 10_000, name), separators=(",", ":"))) + 1
        for count in {min(most, size // each), size // each}:
            yield f"{count} good ones", [self.smallest(items, n, name) for n in range(count)]
        yield "wrong ones", [{"x": n} for n in range(min(most, size // 12))]
        inner = self.plain(items)
        for name, part in inner.get("properties", {}).items():
            for how, value in self.filled(part, name, size - each):
                yield f"one with {name}: {how}", [{**self.smallest(inner), name: value}]


def bodies() -> Iterator[Body]:
    """Of every operation that takes a body."""
    app = World().apps["s1"]
    for document in (describe(app, False), describe(app, True)):
        for template, methods in document["paths"].items():
            for method, operation in methods.items():
                content = operation.get("requestBody", {}).get("content", {}).get("application/json")
                if content:
                    path = there(template)
                    yield from bodies_of(method.upper(), path, content["schema"], Maker(document, largest_body(path) - 600))


def there(template: str) -> str:
    """An address at which something is."""
    for kind, name in BELOW.items():
        template = template.replace(kind + "/{name}", f"{kind}/{name}")
    for name, values in KNOWN.items():
        template = template.replace("{" + name + "}", str(values[0]))
    return template.replace("{", "").replace("}", "")


def bodies_of(method: str, path: str, schema: Schema, maker: Maker) -> Iterator[Body]:
    size = largest_body(path) - 600
    yield Body(method, path, "deep objects", b'{"a":' * (size // 7) + b"1" + b"}" * (size // 7))
    yield Body(method, path, "objects of objects", b"[" + b'{"a":0},' * (size // 8 - 1) + b"{}]")
    yield Body(method, path, "unknown names", {f"n{n}": n for n in range(size // 16)})
    yield Body(method, path, "as many unknown names as are read", {f"n{n}": n for n in range(min(WIDEST, size // 16))})
    for how, value in maker.filled(schema):
        yield Body(method, path, how, value)


class Turns:
    """How much processor time the loop spent between two of its turns, at most."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)  # without a pause it would keep the state's thread from its work
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


async def status_and_time(world: FurnishedWorld, request: Said) -> tuple[int, float]:
    """The status, and the longest turn."""
    await world.put_back()
    turns = Turns()
    watching = asyncio.create_task(turns.watch())
    await asyncio.sleep(0.002)
    try:
        answer = await answered(world, request)
        await asyncio.sleep(0.002)
    finally:
        watching.cancel()
    return answer.status_code, turns.longest


async def holds(world: FurnishedWorld, body: Body) -> str:
    """What is wrong with how a body was answered; "" for nothing."""
    request = Said(body.method, body.path.encode(), JSON, body.text)
    assert len(request.body) <= largest_body(body.path), (body.path, body.how, len(request.body))
    longest = 0.0
    for _ in range(TRIES):
        status, longest = await status_and_time(world, request)
        if not 0 < status < 500:
            return f"{body.method} {body.path} with {body.how}: {status}"
        if longest < LONGEST:
            return ""
    return f"{body.method} {body.path} with {body.how}: {status}, {longest:.2f} s"


async def all_that_hold(world: FurnishedWorld, bodies: Iterable[Body]) -> list[str]:
    return [wrong for wrong in [await holds(world, body) for body in bodies] if wrong]


def test_no_body_holds_the_loop(stage: Stage) -> None:
    hostile = list(bodies())
    assert len({(body.method, body.path) for body in hostile}) > 30, "the descriptions list the bodies that routes take"
    wrong = stage.runner.run(all_that_hold(stage.world, hostile))
    assert not wrong, "\n".join(wrong)


def test_a_plan_of_many_large_requests_gives_others_their_turns(stage: Stage) -> None:
    role = {"authorizedRequests": [{"method": "GET", "url": f"/x/{n}"} for n in range(30)]}
    roles = [{"method": "PUT", "path": f"/api/1/policies/roles/r{n}", "body": role} for n in range(200)]
    stores = [
        {
            "method": "POST",
            "path": "/admin/v1/stores",
            "body": {
                "name": f"S{store}",
                "instances": [
                    {"instanceName": f"n{n}", "server": "s1", "clustronPort": 9_000 + n, "clientPort": 19_000 + n}
                    for n in range(10)
                ],
            },
        }
        for store in range(200)
    ]
    plans = [Body("POST", "/admin/v1/plan", how, {"steps": steps}) for how, steps in (("stores", stores), ("roles", roles))]
    wrong = stage.runner.run(all_that_hold(stage.world, plans))
    assert not wrong, "\n".join(wrong)


@scenario
async def test_what_is_too_wide_or_too_long_is_refused_in_both_dialects(world: World) -> None:
    async with world.at() as client:
        many = {"authorizedRequests": [{"method": "GET", "url": f"/{n}"} for n in range(WIDEST + 1)]}
        wide = (await client.put("/api/1/policies/roles/r", json=many)).json()
        assert (wide["reason"], wide["detail"]) == ("bad_value", "The field authorizedRequests has 1001 entries.")
        assert wide["hint"] == "Send at most 1000 at once."
        options = {"options": {f"n{n}": "v" for n in range(WIDEST + 1)}}
        wide = (await client.post("/admin/v1/stores/OrdersStore/options", json=options)).json()
        assert (wide["code"], wide["detail"]) == ("bad_value", "An object of the body has 1001 fields.")
        long = (await client.put("/api/1/kvstore/k", json={"newValue": "x" * largest_body("/api/1/kvstore/k")})).json()
        assert (long["reason"], long["hint"]) == ("bad_request", "At most 100000 are taken at this address.")
        assert (await client.put("/api/1/kvstore/k", json={"newValue": "x" * 65_000})).status_code == 200
