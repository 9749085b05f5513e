"""Switchover and restart through the native API: asked, shown while they last, refused with a sentence."""

from __future__ import annotations

from dkv.domain.facts import (
    HandoverBegun,
    HandoverDone,
    JoinAnnounced,
    JoinCompleted,
    JoinDurable,
    JoinMarked,
    ProcessConfigured,
    ProcessStarted,
    ProcessTracked,
)
from dkv.domain.model import PositionReport
from tests.api.test_stores import led
from tests.api.world import World, scenario

STORE = "/admin/v1/stores/OrdersStore"
QUOTE = {"server_id": "s1", "database": "OrdersStore", "group": "UNPARTITIONED", "term": 1}


async def both(world: World) -> tuple[int, int]:
    """orders-1 leads, orders-2 is in sync; their start ids."""
    first = await led(world)
    async with world.at() as client:
        second = (await client.post(f"{STORE}/instances/orders-2/start")).json()["startId"]
    await world.submit(ProcessStarted(server_id="s2", start_id=second, report=PositionReport()))
    await world.submit(ProcessConfigured(server_id="s2", start_id=second, pid=4712))
    await world.submit(ProcessTracked(server_id="s2", start_id=second, pid=4712))
    await world.submit(JoinAnnounced(archive_id=1, **QUOTE))  # type: ignore[arg-type]
    await world.submit(JoinMarked(archive_id=1, sequence=2, nonce="n", **QUOTE))  # type: ignore[arg-type]
    await world.submit(JoinDurable(server_id="s2", start_id=second, term=1, sequence=2, nonce="n"))
    await world.submit(JoinCompleted(archive_id=1, **QUOTE))  # type: ignore[arg-type]
    return first, second


@scenario
async def test_a_switchover_is_shown_until_it_is_done(world: World) -> None:
    _, second = await both(world)
    async with world.at() as client:
        answer = await client.post(f"{STORE}/switchover", json={"toStartId": second})
        assert (answer.status_code, answer.json()["groups"]) == (202, ["UNPARTITIONED"])
        (group,) = (await client.get(STORE)).json()["groups"]
        assert group["switchover"] == {"to": "orders-2", "since": world.now, "reason": "an operator asked for it"}
        await world.submit(HandoverBegun(to_archive=1, **QUOTE))  # type: ignore[arg-type]
        await world.submit(HandoverDone(start_id=second, epoch=2, history="b" * 40, **QUOTE))  # type: ignore[arg-type]
        (group,) = (await client.get(STORE)).json()["groups"]
    assert (group["leader"], group["switchover"]) == ("orders-2", None)


@scenario
async def test_a_rolling_restart_is_shown_with_what_it_waits_for(world: World) -> None:
    _, second = await both(world)
    async with world.at() as client:
        answer = await client.post(f"{STORE}/restart", json={"rolling": True})
        assert (answer.status_code, answer.json()["processes"]) == (202, 2)
        shown = (await client.get(STORE)).json()["restart"]
        assert (shown["processes"], shown["replaced"], shown["since"]) == (2, 0, world.now)
        assert (shown["waitsFor"], shown["reason"]) == (f"process {second} (orders-2)", "it is stopping")
        assert (await client.post(f"{STORE}/restart", json={})).json()["code"] == "restart_running"
        ended = await client.delete(f"{STORE}/restart")
        assert (ended.status_code, ended.json()) == (200, {"result": "Stopped"})
        assert (await client.get(STORE)).json()["restart"] is None
        assert (await client.delete(f"{STORE}/restart")).json()["code"] == "not_restarting"


@scenario
async def test_a_store_with_one_copy_in_sync_is_not_restarted_while_it_serves(world: World) -> None:
    await led(world)
    before = world.domain.snapshot.revision
    async with world.at() as client:
        alone = (await client.post(f"{STORE}/switchover", json={})).json()
        strange = (await client.post(f"{STORE}/restart", json={"rollin": True})).json()
        nobody = (await client.post(f"{STORE}/switchover", json={"toStartId": 99})).json()
        nowhere = (await client.post(f"{STORE.replace('Orders', 'Order')}/restart", json={})).json()
        wrong = (await client.post(f"{STORE}/switchover", json={"group": "g7"})).json()
    assert [refusal["code"] for refusal in (alone, strange, nobody, nowhere, wrong)] == [
        "cannot_switch_over",
        "unknown_field",
        "unknown_process",
        "unknown_database",
        "unknown_group",
    ]
    assert alone["hint"] == "Wait for a copy to be in sync, or add one."
    assert "rolling" in strange["hint"]
    assert world.domain.snapshot.revision == before


@scenario
async def test_the_newest_events_can_be_asked_for(world: World) -> None:
    await both(world)
    headers = {"Accept": "application/json"}
    async with world.at() as client:
        every = (await client.get("/admin/v1/events", headers=headers)).json()["events"]
        last = (await client.get("/admin/v1/events?newest=3", headers=headers)).json()["events"]
        mine = (await client.get("/admin/v1/events?newest=2&store=OrdersStore", headers=headers)).json()["events"]
        all_mine = (await client.get("/admin/v1/events?newest=10000&store=OrdersStore", headers=headers)).json()["events"]
        none = (await client.get("/admin/v1/events?newest=5&store=Nothing", headers=headers)).json()["events"]
    assert last == every[-3:]
    assert all_mine == [e for e in every if e["database"] == "OrdersStore"]
    assert mine == all_mine[-2:]
    assert none == []


@scenario
async def test_what_waits_is_listed_for_the_domain_and_for_one_store(world: World) -> None:
    await led(world)
    async with world.at() as client:
        assert (await client.get("/admin/v1/waiting")).json() == {"waiting": []}
        start_id = (await client.post(f"{STORE}/instances/orders-2/start")).json()["startId"]
        (item,) = (await client.get("/admin/v1/waiting", params={"store": "OrdersStore"})).json()["waiting"]
        assert item == {
            "kind": "process",
            "subject": f"process {start_id} (orders-2)",
            "store": "OrdersStore",
            "for": "the manager of s2",
            "since": world.now,
            "reason": "its manager has not taken the request yet",
            "hint": "Look at the log of the manager of s2.",
            "hintParts": [{"text": "Look at the log of the manager of s2.", "action": None, "arguments": {}}],
            "blocksWrites": False,
        }
        assert (await client.get(STORE)).json()["waiting"] == [item]
        assert (await client.get("/admin/v1/waiting", params={"store": "Nothing"})).json() == {"waiting": []}
