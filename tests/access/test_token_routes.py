"""Tokens through the API: the secret is shown once, kept nowhere, and what makes no sense is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.access import tokens
from dkv.domain.access import Token
from dkv.domain.admission import DAY
from tests.api.world import World, scenario

TOKENS = "/admin/v1/tokens"


@scenario
async def test_a_token_is_made_shown_without_its_secret_taken_and_deleted(world: World) -> None:
    async with world.at("s1") as client:
        made = (await client.post(TOKENS, json={"role": "viewer", "name": "dashboard"})).json()
        stored = (await world.state()).tokens
        assert tokens.judge_token(made["secret"], stored, world.now) == stored[made["token"]["id"]]
        view = {"id": made["token"]["id"], "name": "dashboard", "role": "viewer", "user": "", "madeBy": made["token"]["madeBy"]}
        times = {"madeAt": world.now, "expiresAt": world.now + 90 * DAY, "expired": False, "lastUsed": None}
        shown = await client.get(TOKENS)
        assert shown.json() == {"tokens": [view | times]}
        state = (await client.get("/api/1/diagnostics/captureDomainState")).text
        secret, hashed = made["secret"].split("_", 2)[2], stored[view["id"]].hashed_secret
        assert secret not in shown.text + state and hashed not in shown.text + state
        gone = await client.delete(f"{TOKENS}/{view['id']}")
        assert gone.json() == {"result": "Deleted", "id": view["id"]}
    async with world.at("s2") as client:
        assert (await client.get(TOKENS)).json() == {"tokens": []}
    assert not isinstance(tokens.judge_token(made["secret"], (await world.state()).tokens, world.now), Token)
    kept_anywhere = str((await world.store.read()).records)
    assert secret not in kept_anywhere


@scenario
async def test_a_repeated_creation_makes_no_second_token_and_shows_no_secret(world: World) -> None:
    key = {"Idempotency-Key": "k"}
    async with world.at("s1") as client:
        made = (await client.post(TOKENS, json={"role": "viewer"}, headers=key)).json()
        written = await world.store.read()
        again = await client.post(TOKENS, json={"role": "viewer"}, headers=key)
    assert again.status_code == 409 and made["token"]["id"] in again.json()["detail"]
    assert made["secret"].split("_", 2)[2] not in again.text
    assert await world.store.read() == written and made["secret"].split("_", 2)[2] not in str(written.records)


@scenario
async def test_the_deletion_of_a_token_can_be_planned_and_its_creation_cannot(world: World) -> None:
    async with world.at("s1") as client:
        made = (await client.post(TOKENS, json={"role": "viewer"})).json()
        written = await world.store.read()
        steps = [{"method": "DELETE", "path": f"{TOKENS}/{made['token']['id']}"}]
        plan = (await client.post("/admin/v1/plan", json={"steps": steps})).json()
        assert [command["command"] for command in plan["steps"][0]["commands"]] == ["DeleteToken"]
        steps = [{"method": "POST", "path": TOKENS, "body": {"role": "viewer"}}]
        assert (await client.post("/admin/v1/plan", json={"steps": steps})).json()["code"] == "cannot_plan"
    assert await world.store.read() == written


BAD: list[tuple[dict[str, Any], str]] = [
    ({"role": "vewer"}, "Did you mean viewer?"),
    ({"role": "server"}, "no role named server"),
    ({"role": ""}, "role"),
    ({}, "role"),
    ({"role": "viewer", "lasts": 0}, "0 ms"),
    ({"role": "viewer", "lasts": -1}, "-1"),
    ({"role": "viewer", "lasts": 101 * 366 * DAY}, "hundred years"),
    ({"role": "viewer", "lasts": "1h"}, "lasts"),
    ({"role": "viewer", "name": "n" * 201}, "200 printable"),
    ({"role": "viewer", "name": "a\u001b]0;b\u0007"}, "printed"),
    ({"role": "viewer", "name": " a"}, "valid name"),
    ({"role": "viewer", "user": "eve"}, "no user named eve"),
    ({"role": "viewer", "uses": 0}, "uses"),
]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_bad_input_gets_one_sentence_and_changes_nothing(body: dict[str, Any], words: str) -> None:
    @scenario
    async def case(world: World) -> None:
        before = await world.store.read()
        async with world.at("s1") as client:
            answer = await client.post(TOKENS, json=body)
        problem = answer.json()
        assert 400 <= answer.status_code < 500 and words in problem["detail"] + problem["hint"], problem
        assert await world.store.read() == before

    case()


@scenario
async def test_a_token_that_is_not_there_cannot_be_deleted(world: World) -> None:
    async with world.at("s1") as client:
        answer = await client.delete(f"{TOKENS}/0123456789ab")
    assert answer.status_code == 404 and "no token with the id 0123456789ab" in answer.json()["detail"]


@scenario
async def test_the_number_of_tokens_is_bounded_and_expired_ones_make_room(world: World) -> None:
    from dkv.domain.orders import CreateToken
    from dkv.domain.rules.tokens import MOST

    for number in range(MOST):
        lasts = DAY if number else 1_000
        await world.submit(CreateToken(token_id=f"{number:012x}", hashed_secret="a" * 64, role="viewer", lasts=lasts))
    async with world.at("s1") as client:
        full = await client.post(TOKENS, json={"role": "viewer"})
        assert full.status_code == 409 and full.json()["code"] == "records_full"
        world.now += 2_000
        made = await client.post(TOKENS, json={"role": "viewer"})
    assert made.status_code == 201 and len((await world.state()).tokens) == MOST
