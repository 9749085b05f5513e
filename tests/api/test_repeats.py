"""A repeated request gets its first answer, whatever became true since: a route that judges asks for the answer first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from dkv.api.app import create_app
from dkv.domain.facts import ArchiveRetired
from tests.api.world import World, orders, scenario

Request = tuple[str, str, dict[str, Any] | None]

USERS, ROLES, BALANCING = "/api/1/policies/users", "/api/1/policies/roles", "/api/1/databases/loadBalancerPolicy"
STORES, STORE = "/admin/v1/stores", "/admin/v1/stores/OrdersStore"
HOSTS = "/api/1/databases/OrdersStore/hosts"
THIRD = {"instances": [{"instanceName": "orders-3", "server": "s1", "clustronPort": 7813, "clientPort": 7863}]}


def put(path: str, /, **body: Any) -> Request:
    return ("PUT", path, body)


def post(path: str, /, **body: Any) -> Request:
    return ("POST", path, body)


def delete(path: str, /, **body: Any) -> Request:
    return ("DELETE", path, body or None)


EVE = put(f"{USERS}/eve", password="x", roles=["reader"])
READER = put(f"{ROLES}/reader")
NORTH = post("/api/1/regions", name="north")
CREATE = post(STORES, **orders())
ARCHIVE = post("/api/1/archives", host="s1", dbName="later", path="/data/later")

CASES: list[tuple[str, list[Request], Request, list[Request]]] = [
    ("a deleted user", [READER, EVE], delete(f"{USERS}/eve"), []),
    ("a created user", [READER], EVE, [post(f"{USERS}/eve/roles", rolesToRemove=["reader"])]),
    (
        "a user's roles",
        [READER, EVE],
        post(f"{USERS}/eve/roles", rolesToAdd=["reader"]),
        [
            post(f"{USERS}/eve/roles", rolesToRemove=["reader"]),
            delete(f"{ROLES}/reader"),
            put(f"{ROLES}/reader"),
            post(f"{USERS}/eve/roles", rolesToAdd=["reader"]),
        ],
    ),
    ("a deleted role", [READER], delete(f"{ROLES}/reader"), []),
    (
        "a created role",
        [READER],
        put(f"{ROLES}/writer", subRoles=["reader"]),
        [post(f"{ROLES}/writer", subRolesToRemove=["reader"]), post(f"{ROLES}/reader", subRolesToAdd=["writer"])],
    ),
    ("a created region", [], NORTH, []),
    ("a created region that was renamed", [], NORTH, [put("/api/1/regions/1", name="south")]),
    ("a created region that is gone", [], NORTH, [delete("/api/1/regions/1")]),
    ("a renamed region", [NORTH], put("/api/1/regions/1", name="south", oldName="north"), []),
    ("a deleted region", [NORTH], delete("/api/1/regions/1"), []),
    (
        "a server put into a region",
        [CREATE, NORTH],
        put(HOSTS, serverId="s1", regionId="1"),
        [delete(HOSTS, serverId="s1"), delete("/api/1/regions/1")],
    ),
    (
        "a server taken out of its region",
        [CREATE, NORTH, put(HOSTS, serverId="s1", regionId="1")],
        delete(HOSTS, serverId="s1"),
        [],
    ),
    ("a deleted policy", [post(f"{BALANCING}/any", lbQuery="random(any)")], delete(f"{BALANCING}/any"), []),
    ("an added instance", [CREATE], post(f"{STORE}/instances", **THIRD), []),
    ("a removed instance", [CREATE, post(f"{STORE}/instances", **THIRD)], delete(f"{STORE}/instances/orders-3"), []),
    ("a database", [ARCHIVE], put("/api/1/databases/later", hostAssignments={"s1": 0}), []),
    (
        "a database whose servers were put elsewhere",
        [NORTH],
        put("/api/1/databases/later", hostAssignments={"s1": 1}),
        [put("/api/1/databases/later/hosts", serverId="s1", regionId="0")],
    ),
    (
        "a database of a region that is gone",
        [NORTH],
        put("/api/1/databases/later", hostAssignments={"s1": 1}),
        [delete("/api/1/databases/later/hosts", serverId="s1"), delete("/api/1/regions/1")],
    ),
    ("an archive", [], ARCHIVE, []),
]


async def ask(client: httpx.AsyncClient, request: Request, key: str = "") -> httpx.Response:
    method, path, body = request
    more = {} if body is None else {"json": body}
    return await client.request(method, path, headers={"Idempotency-Key": key} if key else {}, **more)


async def done(client: httpx.AsyncClient, request: Request) -> None:
    answer = await ask(client, request)
    assert answer.status_code < 300, (request, answer.json())


@pytest.mark.parametrize(("before", "request_", "after"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_repeated_request_gets_its_first_answer(before: list[Request], request_: Request, after: list[Request]) -> None:
    @scenario
    async def case(world: World) -> None:
        async with world.at("s1") as client:
            for request in before:
                await done(client, request)
            first = await ask(client, request_, "k")
            assert first.status_code < 300, first.json()
            for request in after:
                await done(client, request)
        written = await world.store.read()
        async with world.at("s2") as client:
            again = await ask(client, request_, "k")
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert await world.store.read() == written

    case()


@scenario
async def test_who_asks_again_for_an_enforced_leader_hears_what_it_could_cost_when_it_was_enforced(world: World) -> None:
    enforce = post(f"{STORE}/groups/UNPARTITIONED/leader", archiveId=1, allowDataLoss=True, reason="s1 burnt")
    async with world.at() as client:
        await done(client, CREATE)
        first, again = await ask(client, enforce, "k"), await ask(client, enforce, "k")
    assert first.json()["bound"]["verdict"].startswith("Confirmed writes made since")
    assert again.json()["bound"] == first.json()["bound"]


@scenario
async def test_a_directory_that_became_an_archives_is_no_reason_to_refuse_its_creation_again(world: World) -> None:
    full = False
    context = world.context("s1")
    machine = replace(context.machine, unfit=lambda path, restored: "it is not empty" if full else "")
    manager = replace(context, machine=machine)
    world.apps["s1"] = create_app(manager)
    async with world.at("s1") as client:
        first = await ask(client, ARCHIVE, "k")
        full = True
        again = await ask(client, ARCHIVE, "k")
        other = await ask(client, post("/api/1/archives", host="s1", dbName="later", path="/data/another"), "other")
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (200, first.json())
    assert (other.status_code, other.json()["reason"]) == (409, "unfit_directory")


@scenario
async def test_an_archive_that_is_gone_is_named_when_its_request_is_repeated(world: World) -> None:
    async with world.at("s1") as client:
        first = await ask(client, ARCHIVE, "k")
        await done(client, delete(f"/api/1/archives/{first.json()['id']}?purge=true"))
        await world.submit(ArchiveRetired(server_id="s1", archive_id=first.json()["id"], path="/away"))
        again = await ask(client, ARCHIVE, "k")
    assert again.status_code == 404
    assert again.json()["detail"].startswith(f"There is no archive {first.json()['id']}")
