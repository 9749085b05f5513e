"""Bad input at the native API: each mistake gets one clear sentence and a hint, and nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dkv.domain.facts import ServerJoined
from tests.api.world import World, orders, scenario

STORES = "/admin/v1/stores"


def without(field: str) -> dict[str, Any]:
    body = orders()
    del body["instances"][0][field]
    return body


def with_instance(**changes: Any) -> dict[str, Any]:
    body = orders()
    body["instances"][0].update(changes)
    return body


MISTAKES: list[tuple[str, dict[str, Any], int, str, str, str]] = [
    # what, the request, status, code, in the sentence, in the hint
    ("unknown field", {"json": orders(replicationfactor=2)}, 400, "unknown_field", "replicationfactor", "replicationFactor"),
    ("snake case", {"json": orders(min_in_sync=1)}, 400, "unknown_field", "min_in_sync", "minInSync"),
    ("unknown inner field", {"json": with_instance(clientport=1)}, 400, "unknown_field", "instances[0].clientport", "clientPort"),
    ("missing field", {"json": without("clustronPort")}, 400, "bad_value", "instances[0].clustronPort is missing", ""),
    ("no server", {"json": without("manager")}, 400, "bad_value", "instances[0] names no server", "host:port"),
    ("port as text", {"json": with_instance(clientPort="7861")}, 400, "bad_value", "clientPort is '7861'", "integer"),
    ("port too high", {"json": with_instance(clientPort=70000)}, 400, "bad_value", "70000", "65535"),
    ("port zero", {"json": with_instance(clustronPort=0)}, 400, "bad_value", "clustronPort is 0", "1"),
    ("one port twice", {"json": with_instance(clientPort=7811)}, 409, "port_conflict", "7811", ""),
    ("the manager's port", {"json": with_instance(clientPort=7801)}, 409, "port_conflict", "7801", "client port"),
    (
        "unknown manager",
        {"json": with_instance(manager="127.0.0.13:7801")},
        404,
        "unknown_server",
        "127.0.0.13:7801",
        "127.0.0.12:7801",
    ),
    ("unknown server", {"json": with_instance(server="s3")}, 404, "unknown_server", "s3", "s2"),
    ("unknown group", {"json": with_instance(group="g9")}, 404, "unknown_group", "g9", "UNPARTITIONED"),
    ("bad store name", {"json": orders(name="no spaces")}, 400, "bad_name", "'no spaces'", "letter"),
    ("bad instance name", {"json": with_instance(instanceName="1st")}, 400, "bad_name", "'1st'", "letter"),
    ("no instance name", {"json": with_instance(instanceName="")}, 400, "bad_value", "instanceName is ''", "1 char"),
    ("one name twice", {"json": with_instance(instanceName="orders-2")}, 409, "archive_exists", "orders-2", ""),
    ("too much minInSync", {"json": orders(minInSync=3)}, 400, "bad_value", "min-in-sync 3", ""),
    ("unknown fsync", {"json": orders(appendFsync="sometimes")}, 400, "bad_value", "sometimes", "always"),
    ("slots with a gap", {"json": orders(groups=[{"name": "g1", "slots": [[0, 100]]}])}, 400, "bad_slots", "16384", ""),
    ("slots not pairs", {"json": orders(groups=[{"name": "g1", "slots": [[1]]}])}, 400, "bad_value", "slots[0]", ""),
    ("a list", {"json": [1]}, 400, "bad_request", "JSON object", ""),
    ("not JSON", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_request", "not JSON", ""),
    ("no body", {}, 400, "bad_request", "JSON object", ""),
    ("a form", {"data": {"name": "x"}}, 400, "bad_request", "JSON object", ""),
    ("unknown parameter", {"json": orders(), "params": {"chek": "true"}}, 400, "unknown_parameter", "chek", "check"),
    ("parameter not a flag", {"json": orders(), "params": {"check": "perhaps"}}, 400, "bad_value", "check", "boolean"),
    ("a long key", {"json": orders(), "headers": {"Idempotency-Key": "k" * 201}}, 400, "bad_value", "Idempotency-Key", ""),
    (
        "another host",
        {"json": orders(), "headers": {"Host": "evil.example"}},
        403,
        "forbidden_host",
        "evil.example",
        "127.0.0.11:7801",
    ),
    (
        "another origin",
        {"json": orders(), "headers": {"Origin": "http://evil.example"}},
        403,
        "forbidden_origin",
        "evil.example",
        "",
    ),
    ("a page of a file", {"json": orders(), "headers": {"Origin": "null"}}, 403, "forbidden_origin", "null", ""),
    ("a huge body", {"content": b" " * 1_000_001}, 400, "bad_request", "1000001", "100000"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_refused_in_one_sentence_and_changes_nothing(mistake: Any) -> None:
    _, request, status, code, sentence, hint = mistake

    async def run() -> None:
        world = World()
        await world.begin()
        revision = (await world.submitter.view()).revision
        async with world.at() as client:
            answer = await client.post(STORES, **request)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(problem) == {"type", "title", "status", "code", "detail", "hint", "hintParts"}
        assert sentence in problem["detail"]
        assert hint in problem["hint"]
        assert "\n" not in problem["detail"]
        assert (await world.submitter.view()).revision == revision

    asyncio.run(run())


@scenario
async def test_addresses_and_methods_that_do_not_exist_say_so(world: World) -> None:
    async with world.at() as client:
        missing = await client.get("/admin/v1/storse")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert "/docs" in missing.json()["hint"]
        wrong = await client.put(STORES, json={})
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
        assert wrong.headers["content-type"] == "application/problem+json"
        slash = await client.get(f"{STORES}/")
        assert slash.status_code == 404


@scenario
async def test_hosts_of_the_domain_and_the_own_page_are_let_in(world: World) -> None:
    async with world.at() as client:
        for host in ("127.0.0.11:7801", "localhost:7801", "127.0.0.1", "[::1]:7801", "127.0.0.12"):
            assert (await client.get(STORES, headers={"Host": host})).status_code == 200, host
        own = await client.get(STORES, headers={"Origin": "http://127.0.0.11:7801"})
        assert own.status_code == 200


@scenario
async def test_a_host_of_the_domain_that_is_not_loopback_is_known_by_name(world: World) -> None:
    await world.submit(ServerJoined(server_id="s3", uid="u3", host="db3.internal", port=7801, nuodb_port=8888, boot_id="b"))
    async with world.at() as client:
        assert (await client.get(STORES, headers={"Host": "DB3.internal:7801"})).status_code == 200


@scenario
async def test_without_the_domain_every_route_says_that_it_waits(world: World) -> None:
    world.away = True
    async with world.at() as client:
        for method, path in [
            ("GET", STORES),
            ("GET", "/admin/v1/domain"),
            ("DELETE", f"{STORES}/x"),
            ("POST", f"{STORES}/x/stop"),
            ("GET", "/admin/v1/metrics"),
        ]:
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "waiting_for_domain")
            assert "waiting for the domain" in answer.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/admin/v1/identity")).json()["domainUid"] is None


@scenario
async def test_our_own_mistake_is_answered_and_logged_under_one_mark(world: World) -> None:
    world.counters["s1"] = [{"nonsense": 1}]
    async with world.at() as client:
        answer = await client.get("/admin/v1/metrics")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (500, "internal")
    assert problem["correlationId"] in problem["detail"]
    assert "KeyError" not in answer.text
