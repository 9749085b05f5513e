"""Stores and instances through the native API, one scenario a route; the rules behind are the real ones."""

from __future__ import annotations

from dkv.domain.facts import LeaderServing, OpenTerm, ProcessConfigured, ProcessExited, ProcessStarted, ProcessTracked
from dkv.domain.model import DatabaseState, PositionReport
from tests.api.world import World, orders, scenario

STORE = "/admin/v1/stores/OrdersStore"


async def created(world: World) -> None:
    async with world.at() as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 201


async def led(world: World) -> int:
    """orders-1 started and leading; its start id."""
    await created(world)
    async with world.at() as client:
        start = (await client.post(f"{STORE}/instances/orders-1/start")).json()["startId"]
    await world.submit(ProcessStarted(server_id="s1", start_id=start, report=PositionReport()))
    await world.submit(ProcessConfigured(server_id="s1", start_id=start, pid=4711))
    await world.submit(ProcessTracked(server_id="s1", start_id=start, pid=4711))
    lead = {"server_id": "s1", "database": "OrdersStore", "group": "UNPARTITIONED", "term": 1, "start_id": start}
    await world.submit(OpenTerm(**lead))  # type: ignore[arg-type]
    await world.submit(LeaderServing(**lead, epoch=1, history="h"))  # type: ignore[arg-type]
    return int(start)


@scenario
async def test_a_store_is_created_stopped_with_all_its_instances(world: World) -> None:
    async with world.at() as client:
        answer = await client.post("/admin/v1/stores", json=orders())
        assert answer.status_code == 201
        store = answer.json()
        assert (store["name"], store["status"], store["state"]) == ("OrdersStore", "Stopped", "NOT_RUNNING")
        assert store["createdAt"] == world.now
        assert store["incarnation"] == {"major": 0, "minor": 0}
        (group,) = store["groups"]
        assert (group["name"], group["slots"], group["leader"]) == ("UNPARTITIONED", [[0, 16383]], None)
        assert group["waitsFor"] is None
        first, second = store["instances"]
        assert (first["manager"], first["clientPort"], first["state"]) == ("127.0.0.11:7801", 7861, "Created")
        assert (second["server"], second["host"], second["group"]) == ("s2", "127.0.0.12", "UNPARTITIONED")
        assert first["process"] is None
        assert first["reason"] == "it was not started yet"
        assert (await client.get("/admin/v1/stores")).json() == {"stores": [(await client.get(STORE)).json()]}


@scenario
async def test_a_store_is_created_with_the_options_that_it_is_given(world: World) -> None:
    given = {"maxmemoryPolicy": "allkeys-lfu", "notifyKeyspaceEvents": "Ex", "maxClients": 500, "leaders": "stay"}
    async with world.at() as client:
        assert (await client.post("/admin/v1/stores", json=orders(**given))).status_code == 201
        wrong = orders(notifyKeyspaceEvents="q") | {"name": "Other"}
        refused = await client.post("/admin/v1/stores", json=wrong)
    options = (await world.state()).databases["OrdersStore"].options
    assert (options.maxmemory_policy, options.notify_keyspace_events, options.max_clients) == ("allkeys-lfu", "xE", 500)
    assert options.leaders == "stay"
    assert refused.status_code == 400 and "notify-keyspace-events" in refused.json()["detail"]


@scenario
async def test_groups_with_their_slots_are_kept(world: World) -> None:
    body = orders(groups=[{"name": "g1", "slots": [[0, 8191]]}, {"name": "g2", "slots": [[8192, 16383]]}])
    body["instances"][0]["group"], body["instances"][1]["group"] = "g1", "g2"
    async with world.at() as client:
        store = (await client.post("/admin/v1/stores", json=body)).json()
    assert [(g["name"], g["slots"]) for g in store["groups"]] == [("g1", [[0, 8191]]), ("g2", [[8192, 16383]])]
    state = await world.state()
    assert len({g.shard_id for g in state.groups.values()}) == 2
    assert all(len(g.shard_id) == 40 for g in state.groups.values())


@scenario
async def test_the_same_store_again_is_a_success_and_a_different_one_is_not(world: World) -> None:
    await created(world)
    async with world.at("s2") as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 200
        answer = await client.post("/admin/v1/stores", json=orders(minInSync=2))
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "database_exists"


@scenario
async def test_one_key_gets_one_answer_through_any_manager(world: World) -> None:
    for server in ("s1", "s2", "s1"):
        async with world.at(server) as client:
            answer = await client.post("/admin/v1/stores", json=orders(), headers={"Idempotency-Key": "k1"})
            assert answer.status_code == 201
    async with world.at() as client:
        starts = [
            (await client.post(f"{STORE}/instances/orders-1/start", headers={"Idempotency-Key": "k2"})).json() for _ in range(2)
        ]
        assert [s["result"] for s in starts] == ["Started", "Started"]
        assert starts[0]["startId"] == starts[1]["startId"]
        again = await client.post(f"{STORE}/instances/orders-1/start")
        assert again.json()["result"] == "Already running"


@scenario
async def test_a_check_says_no_and_writes_nothing(world: World) -> None:
    async with world.at() as client:
        before = (await client.get("/admin/v1/domain")).json()["revision"]
        assert (await client.post("/admin/v1/stores?check=true", json=orders())).json()["ok"] is True
        bad = await client.post("/admin/v1/stores?check=true", json=orders(name="9lives"))
        assert (bad.status_code, bad.json()["code"]) == (400, "bad_name")
        world.listening.add(("127.0.0.11", 7861))
        busy = await client.post("/admin/v1/stores?check=true", json=orders())
        assert (await client.get("/admin/v1/domain")).json()["revision"] == before
    assert (busy.status_code, busy.json()["code"]) == (409, "port_conflict")
    assert busy.json()["hint"] == "Free on that server: cluster port 7812, client port 7862."


@scenario
async def test_each_manager_looks_at_the_sockets_of_its_own_machine(world: World) -> None:
    world.listening.add(("127.0.0.12", 7811))
    async with world.at("s2") as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 409
    async with world.at("s1") as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 201
    world.listening.add(("127.0.0.11", 7861))  # its own engines listen: the same store again is no conflict
    async with world.at("s1") as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 200
        taken = (await client.post("/admin/v1/stores", json={**orders(), "replicationFactor": 1})).json()
        assert taken["code"] != "port_conflict"  # the name is the trouble; the port is no other program's
        taken = (await client.post("/admin/v1/stores", json=orders(name="Others"))).json()
    assert (taken["code"], "OrdersStore" in taken["detail"]) == ("port_conflict", True)


@scenario
async def test_an_instance_starts_leads_and_the_view_follows_it(world: World) -> None:
    start = await led(world)
    async with world.at("s2") as client:
        store = (await client.get(STORE)).json()
    (group,) = store["groups"]
    assert (group["term"], group["open"], group["serving"]) == (1, True, True)
    assert (group["leader"], group["leaderStartId"]) == ("orders-1", start)
    assert group["leaderEndpoint"] == "127.0.0.11:7861"
    assert (group["inSync"], group["required"], group["requiredEndpoints"]) == (["orders-1"], [], [])
    assert (group["canLoseForConfirmed"], group["canLoseForWrites"]) == (0, 0)
    first, second = store["instances"]
    assert (first["state"], first["role"], first["inSync"], first["reason"]) == ("Running", "leader", True, None)
    assert first["process"]["pid"] == 4711
    assert first["process"]["nodeId"] == 1
    assert (second["state"], store["status"]) == ("Created", "Partial")


@scenario
async def test_a_stop_is_requested_once_and_a_stopped_instance_stays_stopped(world: World) -> None:
    start = await led(world)
    async with world.at() as client:
        for expected in ("Stopping", "Stopping"):
            answer = await client.post(f"{STORE}/instances/orders-1/stop")
            assert (answer.status_code, answer.json()["result"]) == (202, expected)
        busy = await client.post(f"{STORE}/instances/orders-1/start")
        assert (busy.status_code, busy.json()["code"]) == (409, "archive_in_use")
        await world.submit(
            ProcessExited(server_id="s1", start_id=start, cause="graceful stop", detail="it was stopped", exit_code=0)
        )
        answer = await client.post(f"{STORE}/instances/orders-1/stop")
        assert answer.json()["result"] == "Already stopped"
        store = (await client.get(STORE)).json()
        assert store["instances"][0]["state"] == "Stopped"
        (tombstone,) = (await client.get("/admin/v1/tombstones?store=OrdersStore")).json()["tombstones"]
    assert (tombstone["instanceName"], tombstone["cause"], tombstone["exitCode"]) == ("orders-1", "graceful stop", 0)
    assert tombstone["incarnation"] == {"major": 1, "minor": 1}


@scenario
async def test_stopping_what_does_not_run_touches_no_other_process(world: World) -> None:
    start = await led(world)
    assert start == 0  # the first start id there is
    async with world.at() as client:
        answer = await client.post(f"{STORE}/instances/orders-2/stop?force=true")
    assert answer.json()["result"] == "Already stopped"
    assert not (await world.process(start)).kill


@scenario
async def test_force_kills_at_once(world: World) -> None:
    start = await led(world)
    async with world.at() as client:
        answer = await client.post(f"{STORE}/instances/orders-1/stop?force=true")
    assert answer.json()["result"] == "Stopping"
    assert (await world.process(start)).kill


@scenario
async def test_a_whole_stop_announces_itself(world: World) -> None:
    await led(world)
    async with world.at() as client:
        answer = await client.post(f"{STORE}/stop")
        store = (await client.get(STORE)).json()
    assert (answer.status_code, answer.json()) == (202, {"name": "OrdersStore", "result": "Stopping"})
    assert store["state"] == "REQUESTED_SM_SHUTDOWN"
    assert store["instances"][0]["state"] == "Stopping"


@scenario
async def test_a_running_store_is_not_deleted_and_a_stopped_one_is(world: World) -> None:
    await created(world)
    async with world.at() as client:
        await client.post(f"{STORE}/instances/orders-1/start")
        busy = await client.delete(STORE)
        assert (busy.status_code, busy.json()["code"]) == (409, "database_running")
        assert (await client.post(f"{STORE}/stop")).status_code == 202
        start = (await client.get("/admin/v1/processes")).json()["processes"][0]["startId"]
        await world.submit(ProcessExited(server_id="s1", start_id=start, cause="graceful stop", detail="", exit_code=0))
        for _ in range(2):
            gone = await client.delete(STORE, headers={"Idempotency-Key": "away"})
            assert gone.status_code == 200
        assert (await client.get(STORE)).status_code == 404
        assert (await client.get("/admin/v1/stores")).json() == {"stores": []}
    state = await world.state()
    assert state.databases["OrdersStore"].state is DatabaseState.TOMBSTONE
    assert all(archive.removed for archive in state.archives.values())


@scenario
async def test_instances_are_added_and_removed(world: World) -> None:
    await created(world)
    more = {"instances": [{"instanceName": "orders-3", "clustronPort": 7812, "clientPort": 7862}]}
    async with world.at("s2") as client:
        added = await client.post(f"{STORE}/instances", json=more)
        assert added.status_code == 201
        assert added.json()["instances"][2]["server"] == "s2"  # none was named: the manager that was asked
        twice = await client.post(f"{STORE}/instances", json=more)
        assert (twice.status_code, twice.json()["code"]) == (409, "archive_exists")
        for _ in range(2):
            key = {"Idempotency-Key": "gone"}
            removed = await client.delete(f"{STORE}/instances/orders-3", headers=key)
            assert removed.status_code == 200
        names = [i["instanceName"] for i in (await client.get(STORE)).json()["instances"]]
        assert names == ["orders-1", "orders-2"]
        again = await client.delete(f"{STORE}/instances/orders-3")
        assert (again.status_code, again.json()["code"]) == (404, "unknown_archive")
        missing = await client.post("/admin/v1/stores/Nowhere/instances", json=more)
        assert missing.status_code == 404


@scenario
async def test_unknown_names_come_with_the_nearest_known(world: World) -> None:
    await created(world)
    async with world.at() as client:
        store = (await client.get("/admin/v1/stores/OrderStore")).json()
        assert (store["code"], store["status"], store["hint"]) == ("unknown_database", 404, "Did you mean OrdersStore?")
        instance = (await client.post(f"{STORE}/instances/order-2/start")).json()
        assert (instance["code"], instance["status"], instance["hint"]) == ("unknown_archive", 404, "Did you mean orders-2?")
