"""The frame of the NuoDB dialect: the shape of every answer, whoever is asked whatever."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.world import World, scenario


def error_of(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """An error in the only shape nuocmd reads, with these words in its sentence."""
    body: dict[str, Any] = answer.json()
    assert answer.status_code == body["code"] == status, body
    assert answer.headers["content-type"] == "application/json"
    (sentence,) = body["messages"]
    assert all(word in sentence for word in words), sentence
    return body


@scenario
async def test_exactly_one_server_is_the_one_that_answers(world: World) -> None:
    async with world.at("s2") as client:
        peers = (await client.get("/api/1/peers", params={"orderBy": "id", "offset": 0, "limit": 20})).json()
    assert [(peer["id"], peer["isLocal"]) for peer in peers["data"]] == [("s1", False), ("s2", True)]
    assert peers["hasNext"] is False
    assert {peer["localRoleInfo"]["leaderServerId"] for peer in peers["data"]} == {"s1"}


@scenario
async def test_every_no_has_the_shape_that_nuocmd_reads(world: World) -> None:
    async with world.at() as client:
        error_of(await client.get("/api/1/peers/s3"), 404, "no server s3", "Known: s1, s2.")
        error_of(await client.get("/api/1/nothing"), 404, "nothing at /api/1/nothing")
        error_of(await client.get("/api/1"), 404, "nothing at /api/1")
        error_of(await client.patch("/api/1/peers"), 405, "PATCH", "GET")
        error_of(await client.get("/api/1/peers", params={"lmit": "3"}), 400, "lmit", "limit")
        error_of(await client.get("/api/1/peers", params={"limit": "many"}), 400, "limit", "'many'")
        error_of(await client.get("/api/1/peers", params={"filterBy": "id", "id": "("}), 400, "regular expression")
        error_of(await client.get("/api/1/peers", headers={"Host": "evil.example"}), 403, "evil.example")
        error_of(await client.get("/api/1/peers", headers={"Origin": "http://evil.example"}), 403, "evil.example")


@scenario
async def test_a_domain_that_is_away_is_answered_in_the_same_shape(world: World) -> None:
    world.away = True
    async with world.at() as client:
        error_of(await client.get("/api/1/peers"), 503, "waiting for the domain")
