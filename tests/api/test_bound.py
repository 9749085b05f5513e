"""Orders that are bound to the revision of a plan: done as planned, or refused because the domain is another one by now."""

from __future__ import annotations

import itertools
import json
from typing import Any

from dkv.api.plan import PLANNABLE
from dkv.api.rights import ROUTES
from dkv.domain.orders import PutRecord
from dkv.store.contract import Conflict
from dkv.store.memory import MemoryStore
from tests.access.test_routes import example
from tests.api.world import World, orders, scenario

STORE = "/admin/v1/stores/OrdersStore"
Step = dict[str, Any]
COLOURS = itertools.count()


async def planned(world: World, *steps: Step) -> int:
    """The revision of the plan of these requests, none of which is refused."""
    async with world.at() as client:
        plan = (await client.post("/admin/v1/plan", json={"steps": list(steps)})).json()
    assert all(step["status"] < 400 for step in plan["steps"]), plan
    return int(plan["revision"])


async def send(world: World, step: Step, revision: int | str, key: str = "") -> Any:
    bound = f'"{revision}"' if isinstance(revision, int) else revision
    headers = {"If-Match": bound, **({"Idempotency-Key": key} if key else {})}
    async with world.at() as client:
        return await client.request(step["method"], step["path"], json=step.get("body"), headers=headers)


async def elsewhere(world: World) -> None:
    """Something else happens in the domain."""
    await world.submit(PutRecord(kind="kvstore", key="colour", value=json.dumps(next(COLOURS))))


CREATE: Step = {"method": "POST", "path": "/admin/v1/stores", "body": orders()}
START: Step = {"method": "POST", "path": f"{STORE}/instances/orders-1/start"}
LIFE: tuple[Step, ...] = (
    CREATE,
    {"method": "POST", "path": f"{STORE}/options", "body": {"options": {"max-memory": "100000000"}}},
    START,
    {"method": "POST", "path": f"{STORE}/instances/orders-1/stop"},
    {"method": "POST", "path": f"{STORE}/stop?force=true"},
    {"method": "DELETE", "path": f"{STORE}/instances/orders-2"},
    {"method": "PUT", "path": "/api/1/kvstore/greeting", "body": {"newValue": "hello"}},
)
"""Orders of both dialects, each of which can be carried out after those before it."""


@scenario
async def test_an_order_is_done_at_the_revision_of_its_plan_and_at_no_other(world: World) -> None:
    for step in LIFE:
        revision = await planned(world, step)
        await elsewhere(world)
        before = await world.store.read()
        refused = await send(world, step, revision)
        assert refused.status_code == 412, (step, refused.text)
        if "/api/1" not in step["path"]:
            problem = refused.json()
            assert problem["code"] == "domain_changed" and f"revision {revision}" in problem["detail"], problem
            assert str(before.revision) in problem["detail"] and "Plan again" in problem["hint"]
        assert (await world.store.read()).revision == before.revision, step
        done = await send(world, step, await planned(world, step))
        assert done.status_code < 300, (step, done.text)


class Racing(MemoryStore):
    """A store in which another manager commits first, once that is asked for."""

    race: World | None = None

    async def commit(self, *arguments: Any, **named: Any) -> Any:
        if world := self.race:
            self.race = None
            await elsewhere(world)
            raise Conflict
        return await super().commit(*arguments, **named)


@scenario
async def test_another_managers_commit_between_look_and_commit_refuses_it_too(plain: World) -> None:
    store = Racing(plain.domain)
    world = World(store)
    await world.begin()
    revision = await planned(world, CREATE)
    store.race = world
    assert (await send(world, CREATE, revision)).json()["code"] == "domain_changed"
    assert not (await world.state()).databases


@scenario
async def test_a_repeated_request_is_answered_as_before_although_the_domain_went_on(world: World) -> None:
    revision = await planned(world, CREATE)
    first = await send(world, CREATE, revision, "k1")
    await elsewhere(world)
    again = await send(world, CREATE, revision, "k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert (await send(world, START, revision, "k2")).status_code == 412, "another one is not"


@scenario
async def test_what_follows_from_the_first_command_of_a_request_is_not_refused_by_it(world: World) -> None:
    """To stop an instance is tried again where its process was replaced meanwhile: the binding is for what was planned."""
    for step in (CREATE, START):
        await send(world, step, await planned(world, step))
    stop = {"method": "POST", "path": f"{STORE}/instances/orders-1/stop"}
    assert (await send(world, stop, await planned(world, stop))).json()["result"] == "Stopping"


@scenario
async def test_what_no_revision_is_is_refused_and_what_is_no_command_cannot_be_bound(world: World) -> None:
    before = await world.store.read()
    for text in ("*", "17", '"x"', 'W/"17"', '"1", "2"', '""'):
        answer = await send(world, CREATE, text)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_value"), text
    for template, methods in ROUTES.items():
        path = example(template)
        for method in set(methods) - {"GET"}:
            answer = await send(world, {"method": method, "path": path, "body": {}}, before.revision + 5)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            if not PLANNABLE.fullmatch(path):
                assert "cannot be bound" in answer.text, (method, path, answer.text)
    assert (await world.store.read()).revision == before.revision and not world.stopped
