"""Archives in the NuoDB dialect: created before their database, removed and kept, brought back, purged."""

from __future__ import annotations

from tests.api.nuodb.calls import archive, ask, database, ends, listed, refused, running, start
from tests.api.world import World, orders, scenario

OTHER = {"dbName": "test", "host": "s2", "path": "/data/test-on-s2", "restored": False}


@scenario
async def test_an_archive_is_created_before_its_database(world: World) -> None:
    view = await archive(world)
    assert view == {
        "id": 0,
        "dbName": "test",
        "host": "s1",
        "path": "/data/test-on-s1",
        "state": "PROVISIONED",
        "observerStorageGroups": [],
    }
    assert await listed(world, "archives", orderBy="id") == [view]
    assert await ask(world, "GET", "archives/0", params={"removed": "False"}) == view
    assert (await database(world))["processes"][0]["archiveId"] == 0


@scenario
async def test_a_removed_archive_is_kept_and_comes_back_under_its_id(world: World) -> None:
    await running(world)
    await archive(world, "s2")
    removed = await ask(world, "DELETE", "archives/1", params={"purge": "False"})
    assert removed["id"] == 1
    assert [a["id"] for a in await listed(world, "archives")] == [0]
    assert await listed(world, "archives", removed="True") == [removed]
    assert await ask(world, "GET", "archives/1", params={"removed": "True"}) == removed
    await refused(world, "GET", "archives/1", 404, "no archive 1", params={"removed": "False"})
    await refused(world, "PUT", "archives/1", 409, "is on s2", json={**OTHER, "host": "s1"})
    await refused(world, "PUT", "archives/1", 409, "is at /data/test-on-s2", json={**OTHER, "path": "/data/x"})
    assert await ask(world, "PUT", "archives/1", json=OTHER) == removed
    assert await ask(world, "PUT", "archives/1", json=OTHER) == removed
    assert [a["id"] for a in await listed(world, "archives")] == [0, 1]
    assert await listed(world, "archives", removed="True") == []


@scenario
async def test_a_purged_archive_does_not_come_back(world: World) -> None:
    await running(world)
    await archive(world, "s2")
    await ask(world, "DELETE", "archives/1", params={"purge": "False"})
    await ask(world, "DELETE", "archives/1", params={"purge": "True"})
    assert await listed(world, "archives", removed="True") == []
    await refused(world, "PUT", "archives/1", 404, "no archive 1", json=OTHER)
    await refused(world, "DELETE", "archives/1", 404, "no archive 1")


@scenario
async def test_both_vocabularies_see_the_same_archives(world: World) -> None:
    async with world.at("s1") as client:
        assert (await client.post("/admin/v1/stores", json=orders())).status_code == 201
    archives = await listed(world, "archives", filterBy="dbName", dbName="OrdersStore")
    assert [(a["id"], a["host"], a["path"]) for a in archives] == [
        (0, "s1", "/archives/OrdersStore/orders-1-0"),
        (1, "s2", "/archives/OrdersStore/orders-2-1"),
    ]
    await archive(world, "s2", "OrdersStore")
    async with world.at("s1") as client:
        store = (await client.get("/admin/v1/stores/OrdersStore")).json()
    assert [instance["instanceName"] for instance in store["instances"]] == ["orders-1", "orders-2", "OrdersStore-1"]


@scenario
async def test_an_archive_turns_with_its_process(world: World) -> None:
    await running(world)
    assert (await ask(world, "GET", "archives/0"))["state"] == "RUNNING"
    await refused(world, "DELETE", "archives/0", 409, "live process")
    await ask(world, "DELETE", "processes/0", params={"kill": "True"})
    await ends(world, 0, "operator kill", 137)
    assert (await ask(world, "GET", "archives/0"))["state"] == "NOT_RUNNING"
    await refused(world, "DELETE", "archives/0", 409, "last archive")
    await start(world, 0)


@scenario
async def test_what_an_archive_cannot_be_here_is_said(world: World) -> None:
    await running(world)
    good = {"dbName": "new", "host": "s1", "path": "/data/new"}
    await refused(world, "POST", "archives", 400, "one directory", json={**good, "journalPath": "/j"})
    await refused(world, "POST", "archives", 400, "only observe", json={**good, "storageGroupObservers": ["*"]})
    await refused(world, "POST", "archives", 400, "without a server", json={**good, "host": None, "remoteStart": True})
    await refused(world, "POST", "archives", 400, "from / on", json={**good, "path": "data"})
    await refused(world, "POST", "archives", 404, "no server s7", json={**good, "host": "s7"})
    await refused(world, "POST", "archives", 400, "part of an address", json={**good, "dbName": "dataEncryption"})
    await refused(world, "POST", "archives", 400, "not a valid name", json={**good, "dbName": "a b"})
    await refused(world, "POST", "archives", 409, "archive of", json={**good, "path": "/data/x/../test-on-s1/"})
    await refused(world, "POST", "archives", 400, "would replace", json={**good, "dbName": "test", "restored": True})
    placing = {"dbName": "test", "sgName": "X", "archiveId": "0"}
    await refused(world, "POST", "archives/addStorageGroup", 400, "one group", json=placing)
    await refused(world, "POST", "archives/removeStorageGroup", 400, "one group", json=placing)
    observing = {"promoteStorageGroups": [], "demoteStorageGroups": ["*"]}
    await refused(world, "POST", "archives/modifyObserverStatus/0", 400, "only observe", json=observing)
    await refused(world, "POST", "archives/modifyObserverStatus/7", 404, "no archive 7", json=observing)
    await ask(world, "POST", "archives/modifyObserverStatus/0", json={"promoteStorageGroups": ["*"]})
