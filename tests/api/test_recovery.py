"""What an operator needs when something is lost: what an enforced leader may cost, the override, the state as a backup."""

from __future__ import annotations

import httpx

from dkv.store import codec
from tests.api.world import World, orders, scenario

LEADER = "/admin/v1/stores/OrdersStore/groups/UNPARTITIONED/leader"


@scenario
async def test_the_bound_is_asked_without_changing_anything(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        before = world.domain.snapshot.revision
        answer = await client.get(LEADER, params={"archiveId": 1})
    assert answer.status_code == 200
    assert answer.json()["bound"]["verdict"].startswith("Confirmed writes made since orders-2 left it")
    assert world.domain.snapshot.revision == before


@scenario
async def test_what_does_not_exist_is_named(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        nothing = await client.get(LEADER, params={"archiveId": 9})
        nowhere = await client.get(LEADER.replace("UNPARTITIONED", "g7"), params={"archiveId": 1})
        nobody = await client.post(LEADER.replace("Orders", "Order"), json={"archiveId": 1})
        strange = await client.post(LEADER, json={"archiveId": 1, "allowDataloss": True})
    codes = [answer.json()["code"] for answer in (nothing, nowhere, nobody, strange)]
    assert codes == ["unknown_archive", "unknown_group", "unknown_database", "unknown_field"]
    assert "allowDataLoss" in strange.json()["hint"]


@scenario
async def test_without_leave_and_reason_nothing_is_enforced(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        before = world.domain.snapshot.revision
        answer = await client.post(LEADER, json={"archiveId": 1, "allowDataLoss": True, "reason": " "})
    assert (answer.status_code, answer.json()["code"]) == (409, "data_loss_not_allowed")
    assert world.domain.snapshot.revision == before


@scenario
async def test_the_state_is_given_whole_and_without_answered_keys(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders(), headers={"Idempotency-Key": "k"})
        answer = (await client.get("/admin/v1/state")).json()
    state = await world.state()
    assert (answer["uid"], answer["revision"]) == (state.uid, world.domain.snapshot.revision)
    assert answer["records"] == codec.encode(state)


@scenario
async def test_the_state_holds_secrets_and_stays_on_this_machine(world: World) -> None:
    transport = httpx.ASGITransport(world.apps["s1"], client=("192.0.2.7", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.11:7801") as stranger:
        answer = await stranger.get("/admin/v1/state")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_host")
    assert "secret" in answer.json()["detail"]
