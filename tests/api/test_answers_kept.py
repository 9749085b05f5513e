"""An Idempotency-Key stands for one request. Answers are kept for the newest requests only: the state does not grow for ever."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from dkv.access.passwords import fits
from dkv.control.submit import ANSWERS, ANSWERS_KEPT, RequestKey, Submitter
from dkv.domain import records
from dkv.domain.decision import Accepted, Refused
from dkv.domain.orders import PutRecord
from dkv.store.memory import MemoryStore
from tests.api.world import World, orders, scenario


def test_no_more_answers_are_kept_than_the_bound_and_the_newest_are() -> None:
    async def main() -> None:
        store, count = MemoryStore(), itertools.count(1)
        submitter = Submitter(store, clock=lambda: next(count), token=lambda: f"token-{next(count)}")
        await submitter.create_domain("domain")
        for number in range(ANSWERS_KEPT + 20):
            put = PutRecord(actor="dba", kind="kvstore", key="same", value=str(number))
            await submitter.submit(put, RequestKey(f"key-{number}"))
        names = {name for name in (await store.read()).records if name.startswith(ANSWERS)}
        assert len(names) == ANSWERS_KEPT
        assert any(f"key-{ANSWERS_KEPT + 19}" in name for name in names)
        assert not any(name.endswith("key-0") for name in names)

    asyncio.run(main())


def test_what_the_first_caller_was_shown_beside_the_answer_is_shown_to_no_other() -> None:
    async def main() -> None:
        submitter = Submitter(MemoryStore(), clock=lambda: 1, token=lambda: "token")
        await submitter.create_domain("domain")
        put = PutRecord(actor="dba", kind="kvstore", key="same", value='"v"')
        await submitter.submit(put, RequestKey("key", "digest", "ann", {"shown": "once"}))
        again = await submitter.submit(put, RequestKey("key", "digest", "ann"))
        assert isinstance(again, Accepted)
        assert again.answer["shown"] == "once"
        other = await submitter.submit(put, RequestKey("key", "digest", "bob"))
        assert isinstance(other, Refused)
        assert other.code == "key_reused"

    asyncio.run(main())


KEY = {"Idempotency-Key": "the same one"}
EVE, CREDENTIALS, PLACE = "/api/1/policies/users/eve", "/api/1/policies/users/eve/credentials", "/api/1/kvstore/colour"


async def refused(world: World, method: str, path: str, **more: Any) -> None:
    """Another request with the key is refused, in one sentence, and nothing is changed."""
    before = await world.store.read()
    async with world.at("s2") as client:
        answer = await client.request(method, path, headers=KEY, **more)
    error = answer.json()
    assert answer.status_code == 409, error
    assert "key_reused" in (error.get("reason"), error.get("code"))
    assert error["detail"] == "The Idempotency-Key of this request was used for another request already."
    assert error["hint"].startswith("Give each change a key of its own")
    assert await world.store.read() == before


@scenario
async def test_a_second_password_under_the_key_of_the_first_is_refused(world: World) -> None:
    async with world.at() as client:
        await client.put(EVE, json={"password": "first"})
        for _ in range(2):
            changed = await client.post(CREDENTIALS, json={"newPassword": "second"}, headers=KEY)
            assert (changed.status_code, changed.json()["name"]) == (200, "eve")
    await refused(world, "POST", CREDENTIALS, json={"newPassword": "third"})
    password = records.value_of(await world.state(), "user", "eve")["password"]
    assert fits(b"second", password)
    assert not fits(b"third", password)


@scenario
async def test_a_key_is_bound_to_method_address_query_and_body(world: World) -> None:
    async with world.at() as client:
        assert (await client.put(PLACE, json={"newValue": "red"}, headers=KEY)).status_code == 200
        await client.put(EVE, json={"password": "first"})
        await client.post("/admin/v1/stores", json=orders())
    await refused(world, "PUT", PLACE, json={"newValue": "blue"})
    await refused(world, "PUT", "/api/1/kvstore/other", json={"newValue": "red"})
    await refused(world, "DELETE", EVE)
    await refused(world, "POST", "/admin/v1/stores", json=orders(name="Another"))
    await refused(world, "POST", "/admin/v1/stores/OrdersStore/stop")
    await refused(world, "POST", "/admin/v1/stores/OrdersStore/instances/orders-1/start")
    async with world.at("s2") as client:
        assert (await client.put(PLACE, json={"newValue": "red"}, headers=KEY)).json() == {"key": "colour", "value": "red"}


@scenario
async def test_a_force_that_was_not_asked_for_at_first_is_another_request(world: World) -> None:
    stop = "/admin/v1/stores/OrdersStore/stop"
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
        assert (await client.post(stop, headers=KEY)).status_code == 202
    await refused(world, "POST", f"{stop}?force=true")


@scenario
async def test_a_plan_refuses_a_key_that_it_meets_twice(world: World) -> None:
    step = {"method": "PUT", "path": PLACE, "key": "k"}
    async with world.at() as client:
        plan = (
            await client.post(
                "/admin/v1/plan", json={"steps": [{**step, "body": {"newValue": value}} for value in ("red", "red", "blue")]}
            )
        ).json()
    assert [step["status"] for step in plan["steps"]] == [200, 200, 409]


@scenario
async def test_what_is_kept_of_a_request_does_not_show_its_password(world: World) -> None:
    """Two requests that differ in their key only leave digests that differ: without the key nobody can try passwords."""
    async with world.at() as client:
        await client.put(EVE, json={"password": "first"})
        for key in ("one", "two"):
            await client.post(CREDENTIALS, json={"newPassword": "x"}, headers={"Idempotency-Key": key})
    answers = [text for name, text in (await world.store.read()).records.items() if name.startswith(ANSWERS)]
    assert len({text.partition('"request"')[2] for text in answers}) == 2
