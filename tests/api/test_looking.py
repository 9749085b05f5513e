"""What can be looked at: domain, events, processes, metrics, health and the page that explains the API."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from dkv.api import events, metrics
from dkv.api.streams import Streams
from dkv.client import read_events
from dkv.domain.facts import ProcessStarted, ServerLost
from tests.api.world import HOSTS, World, orders, scenario


@scenario
async def test_the_domain_shows_its_servers(world: World) -> None:
    await world.submit(ServerLost(server_id="s2", uid="uid-of-s2"))
    async with world.at() as client:
        domain = (await client.get("/admin/v1/domain")).json()
    assert domain["leaderServer"] == "s1"
    assert domain["revision"] > 0
    first, second = domain["servers"]
    assert first == {
        "serverId": "s1",
        "manager": "127.0.0.11:7801",
        "host": "127.0.0.11",
        "port": 7801,
        "alive": True,
        "bootId": "boot-1",
        "labels": {},
        "isLocal": True,
        "certificateUntil": None,
        "certificateDaysLeft": None,
        "engine": {"release": "", "tls": False, "certificateDaysLeft": None},
        "stateMember": None,
        "release": None,
        "level": None,
    }
    assert (second["alive"], second["isLocal"]) == (False, False)


@scenario
async def test_identity_and_health(world: World) -> None:
    async with world.at() as client:
        identity = (await client.get("/admin/v1/identity")).json()
        assert (identity["product"], identity["serverId"], identity["uid"]) == ("dkv", "s1", "uid-of-s1")
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "waiting": []})
        world.ready = "waiting for the domain since 09:41:07"
        waiting = await client.get("/readyz")
    assert waiting.status_code == 503
    assert "waiting for the domain since 09:41:07" in waiting.json()["detail"]


@scenario
async def test_processes_are_listed(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await client.post("/admin/v1/stores/OrdersStore/instances/orders-2/start")
        (process,) = (await client.get("/admin/v1/processes")).json()["processes"]
        assert (await client.get("/admin/v1/processes?store=Other")).json() == {"processes": []}
    assert (process["instanceName"], process["server"], process["state"]) == ("orders-2", "s2", "REQUESTED")
    assert (process["requester"], process["pid"], process["nodeId"]) == ("operator", None, None)


@scenario
async def test_events_are_paged_and_say_why_and_who(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        events = (await client.get("/admin/v1/events?store=OrdersStore")).json()["events"]
        last = events[-1]["sequence"]
        assert (await client.get(f"/admin/v1/events?after={last}")).json() == {"events": [], "oldest": 1}
        assert len((await client.get("/admin/v1/events?limit=1")).json()["events"]) == 1
    first = events[0]
    assert (first["cause"], first["ordered"]) == (None, True), "somebody asked for it"
    assert (first["kind"], first["database"], first["command"]) == ("database.created", "OrdersStore", "CreateDatabase")
    assert (first["because"], first["change"]) == ("it was created", "(new) -> NOT_RUNNING")
    assert first["actor"].startswith("operator")
    assert first["at"] == world.now
    assert next(e["archiveId"] for e in events if e["kind"] == "archive.created") == 0


@scenario
async def test_an_event_says_what_it_follows_from_back_to_where_that_began(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
        await world.submit(ProcessStarted(server_id="s1", start_id=0))
        events = (await client.get("/admin/v1/events")).json()["events"]
        newest = events[-1]
        assert newest["kind"] == "database.started"
        chain = (await client.get(f"/admin/v1/events/{newest['sequence']}")).json()
        assert [e["kind"] for e in chain["events"]] == ["database.started", "process.started", "process.requested"]
        assert [e["cause"] for e in chain["events"]] == [*(e["sequence"] for e in chain["events"][1:]), None]
        assert chain["trimmed"] is False
        missing = await client.get("/admin/v1/events/4711")
    assert (missing.status_code, missing.json()["detail"]) == (404, "There is no event 4711 in the log.")
    assert missing.json()["hint"] == f"It holds 1 to {newest['sequence']}."


@scenario
async def test_a_chain_that_leaves_the_log_says_so(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
        await world.submit(ProcessStarted(server_id="s1", start_id=0))
        newest = (await client.get("/admin/v1/events?newest=1")).json()["events"][0]["sequence"]
        world.domain.log[:] = [event for event in world.domain.log if event.sequence >= newest]
        chain = (await client.get(f"/admin/v1/events/{newest}")).json()
        assert (await client.get("/admin/v1/events")).json()["oldest"] == newest
    assert (len(chain["events"]), chain["trimmed"]) == (1, True)


@scenario
async def test_an_event_stream_resumes_and_follows(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
    manager = world.context("s1")
    seen: list[str] = []
    streams = Streams(manager)
    stream = events._stream(manager, streams, events._resumed("3", 0), events.Wanted(None, None), events.Judging())
    streams.answer("127.0.0.1", stream)
    async for chunk in stream:
        seen.append(chunk)
        if len(seen) == 2:
            async with world.at() as client:
                await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
        if "process.requested" in chunk:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    await streams.close()
    assert seen[0].startswith(":")
    parsed = list(read_events(iter("".join(seen).split("\n"))))
    assert [event["sequence"] for event in parsed] == list(range(4, 4 + len(parsed)))
    assert f"id: {parsed[-1]['sequence']}\n" in seen[-1]
    named = [line for line in "".join(seen).split("\n") if line.startswith("event:")]
    assert not named, "a browser's onmessage is called for events without a name only"
    requested = next(event for event in parsed if event["kind"] == "process.requested")
    assert requested["text"] == f"{requested['subject']} was requested"


@scenario
async def test_without_asking_for_json_the_answer_is_a_stream(world: World) -> None:
    messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    path = "/admin/v1/events"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.11:7801"), (b"accept", b"*/*")],
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.11", 7801),
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    hung_up = asyncio.Event()

    async def receive() -> dict[str, object]:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        await messages.put(message)

    serving = asyncio.create_task(world.apps["s1"](scope, receive, send))  # type: ignore[arg-type]
    start = await messages.get()
    headers = dict(start["headers"])  # type: ignore[call-overload]
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"events follow" in (await messages.get())["body"]  # type: ignore[operator]
    hung_up.set()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


def counters(start_id: int, at_ms: int, puts: int) -> dict[str, int]:
    return {
        "start_id": start_id,
        "gets": 10,
        "puts": puts,
        "removes": 0,
        "keys": 7,
        "used_memory": 1,
        "clients": 1,
        "at_ms": at_ms,
    }


async def two_started(world: World) -> list[int]:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        starts = [
            (await client.post(f"/admin/v1/stores/OrdersStore/instances/{name}/start")).json()["startId"]
            for name in ("orders-1", "orders-2")
        ]
    for server, start in zip(HOSTS, starts, strict=True):
        world.counters[server] = [counters(start, 1000, 100)]
    return starts


@scenario
async def test_metrics_of_all_nodes_come_from_the_manager_that_is_asked(world: World) -> None:
    await two_started(world)
    async with world.at() as client:
        metrics = (await client.get("/admin/v1/metrics?windowSec=5")).json()
        own = (await client.get("/admin/v1/metrics?local=true")).json()
    assert metrics["updated"] == world.now
    rows = metrics["metrics"]
    assert [row["instanceName"] for row in rows] == ["orders-1"] * 4 + ["orders-2"] * 4
    assert [row["metric"] for row in rows[:4]] == ["Get", "Put", "Remove", "Count"]
    put, count = rows[1], rows[3]
    assert (put["category"], put["rate"], put["total"]) == ("DKV", None, 100)  # one sample gives no rate yet
    assert (count["rate"], count["total"]) == (None, 7)
    assert rows[0]["node"].startswith("127.0.0.11/")
    assert len(rows[0]["node"].split("/")[1]) == 8
    assert {row["instanceName"] for row in own["metrics"]} == {"orders-1"}
    for app in world.apps.values():
        await app.sampler.close()


@scenario
async def test_rates_are_means_over_the_window_and_a_restarted_count_gives_none(world: World) -> None:
    (start, _) = await two_started(world)
    sampler = metrics.Sampler(world.context("s1"))
    for second, puts in enumerate([0, 10, 20, 1020, 1030]):
        world.counters["s1"] = [counters(start, 1000 * second, puts)]
        await sampler.sample()
    for window, expected in [(1, 10.0), (2, 505.0), (60, 257.5)]:
        counted = sampler.counted(start, window)
        assert counted is not None
        assert counted[1]["Put"] == expected
    world.counters["s1"] = [counters(start, 5000, 3)]
    await sampler.sample()
    counted = sampler.counted(start, 1)
    assert counted is not None
    assert counted[1]["Put"] is None
    assert sampler.counted(999, 5) is None


@scenario
async def test_who_asks_while_the_first_sample_is_taken_waits_for_it(world: World) -> None:
    (start, _) = await two_started(world)
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> list[dict[str, int]]:
        began.set()
        await go_on.wait()
        return [counters(start, 1000, 100)]

    context = world.context("s1")
    sampler = metrics.Sampler(replace(context, machine=replace(context.machine, counters=slowly)))
    first = asyncio.create_task(sampler.keep_sampling())
    await began.wait()
    second = asyncio.create_task(sampler.keep_sampling())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    await asyncio.gather(first, second)
    assert sampler.counted(start, 5) is not None
    await sampler.close()


@scenario
async def test_a_manager_that_does_not_answer_costs_only_its_own_rows(world: World) -> None:
    await two_started(world)
    world.counters["s2"] = [{"nonsense": 1}]
    async with world.at() as client:
        metrics = (await client.get("/admin/v1/metrics")).json()
    assert metrics["silentServers"] == ["s2"]
    assert {row["instanceName"] for row in metrics["metrics"]} == {"orders-1"}
    for app in world.apps.values():
        await app.sampler.close()


@scenario
async def test_the_page_of_the_api_needs_no_other_host(world: World) -> None:
    async with world.at() as client:
        page = (await client.get("/docs")).text
        document = (await client.get("/openapi.json")).json()
    assert "/admin/v1/stores/{name}/instances/{instance}/start" in page
    assert "clustronPort" in page
    assert "//" not in page.replace("application//", "")
    assert "<script" not in page
    assert json.dumps(document["paths"]["/admin/v1/stores"]["post"]).count("StoreBody") == 1
