"""Databases in the NuoDB dialect: created with a plan, captured, given options, stopped, deleted and forgotten."""

from __future__ import annotations

from dkv.domain.facts import CleanStopReached
from tests.api.nuodb.calls import archive, ask, comes_up, database, ends, leads, listed, refused, running, start
from tests.api.world import World, scenario


async def stopped(world: World) -> None:
    """A database that ran once."""
    await running(world)
    await ask(world, "POST", "databases/test/shutdown")
    await world.submit(CleanStopReached(server_id="s1", database="test", group="UNPARTITIONED", term=1, reached=(0,)))
    await ends(world, 0)


@scenario
async def test_creating_a_database_answers_with_the_plan_that_starts_it(world: World) -> None:
    await archive(world)
    await archive(world, "s2")
    expected = {"major": 1, "minor": 0}
    common = {"dbName": "test", "expectedIncarnation": expected, "labels": {}, "overrideOptions": {}}
    assert await database(world, teHosts=["s2"]) == {
        "incremental": False,
        "processes": [
            {"archiveId": 0, "engineType": "SM", "host": "s1", **common},
            {"archiveId": 1, "engineType": "SM", "host": "s2", **common},
            {"engineType": "TE", "host": "s2", **common},
        ],
    }
    assert await listed(world, "processes") == []


@scenario
async def test_a_database_shows_its_password_only_to_who_asks_for_it(world: World) -> None:
    await database(world)
    masked = await ask(world, "GET", "databases/test")
    assert masked == {
        "name": "test",
        "state": "NOT_RUNNING",
        "incarnation": {"major": 0, "minor": 0},
        "defaultRegionId": 0,
        "hostAssignments": {},
        "databaseOptions": {},
        "transport": {"tls": False, "insecure": False, "authorities": ""},
    }
    assert await listed(world, "databases", orderBy="name") == [masked]
    clear = await ask(world, "GET", "databases/test", params={"maskPassword": "False"})
    assert clear["dbPassword"] == "secret"


@scenario
async def test_a_plan_is_reusable_or_for_one_time_and_lists_what_is_missing(world: World) -> None:
    await running(world)
    await archive(world, "s2")
    body = {"reusable": False, "teHosts": ["s1"], "smHosts": {}}
    plan = await ask(world, "POST", "databases/test/startplan", json=body)
    assert plan["incremental"]
    assert [(p["engineType"], p.get("archiveId")) for p in plan["processes"]] == [("SM", 1), ("TE", None)]
    assert plan["processes"][0]["expectedIncarnation"] == {"major": 1, "minor": 0}
    plan = await ask(world, "POST", "databases/test/startplan", json={"reusable": True, "smHosts": {}})
    assert "expectedIncarnation" not in plan["processes"][0]


@scenario
async def test_a_capture_is_the_plan_of_what_runs(world: World) -> None:
    await archive(world)
    await database(world)
    plan = await ask(world, "POST", "databases/test/startplan", json={"reusable": True})
    await refused(world, "GET", "databases/test/capture", 409, "NOT_RUNNING", params={"checkState": "True"})
    await ask(world, "POST", "processes", json=plan["processes"][0])
    await comes_up(world, 0)
    await leads(world, 0)
    assert await ask(world, "GET", "databases/test/capture", params={"checkState": "True"}) == plan
    await start(world, host="s2", labels={"zone": "b"})
    capture = await ask(world, "GET", "databases/test/capture", params={"checkState": "False"})
    assert capture["processes"][1] == {
        "dbName": "test",
        "engineType": "TE",
        "host": "s2",
        "labels": {"zone": "b"},
        "overrideOptions": {},
    }


@scenario
async def test_options_are_merged_or_replaced(world: World) -> None:
    await database(world, defaultOptions={"verbose": "all"})
    await ask(world, "POST", "databases/test/options", params={"replaceAll": "False"}, json={"mem": 1, "min-in-sync": "1"})
    assert (await ask(world, "GET", "databases/test"))["databaseOptions"] == {"verbose": "all", "mem": "1", "min-in-sync": "1"}
    await ask(world, "POST", "databases/test/options", params={"replaceAll": "True"}, json={"mem": "2"})
    assert (await ask(world, "GET", "databases/test"))["databaseOptions"] == {"mem": "2"}
    await refused(world, "POST", "databases/test/options", 400, "min-in-sync", json={"min-in-sync": "many"})
    answer = await ask(world, "POST", "databases/test/options", json={"mem": "3", "commit": "safe"})
    effects = {effect["option"]: effect["effect"] for effect in answer["effects"]}
    assert effects["mem"] == "an option of NuoDB, kept as it was written and ignored: max-memory sets the memory of engines"
    assert "ignored" in effects["commit"]


@scenario
async def test_a_deleted_database_is_a_tombstone_whose_archives_block_its_name(world: World) -> None:
    await stopped(world)
    await ask(world, "DELETE", "databases/test", params={"purge": "False"})
    assert (await ask(world, "GET", "databases/test"))["state"] == "TOMBSTONE"
    body = {"databaseDbaUser": "dba", "databaseDbaPassword": "x", "hostAssignments": {}, "smHosts": {}}
    await refused(world, "PUT", "databases/test", 409, "still hold its data", "archive 0", json=body)
    await ask(world, "DELETE", "archives/0", params={"purge": "False"})
    assert (await database(world))["processes"] == []
    assert (await ask(world, "GET", "databases/test"))["incarnation"] == {"major": 1, "minor": 0}


@scenario
async def test_a_purged_database_is_forgotten_with_its_history(world: World) -> None:
    await stopped(world)
    assert len(await listed(world, "processes/exited")) == 1
    await ask(world, "DELETE", "databases/test", params={"purge": "False"})
    await ask(world, "DELETE", "databases/test", params={"purge": "True"})
    assert await listed(world, "databases") == await listed(world, "processes/exited") == await listed(world, "archives") == []


@scenario
async def test_storage_groups_name_who_may_lead(world: World) -> None:
    await running(world)
    await archive(world, "s2")
    whole, group = await listed(world, "databases/test/storageGroups", orderBy="sgName")
    assert (whole["sgName"], whole["sgId"], whole["leaderCandidates"]) == ("ALL", 1, [])
    assert group == {
        "dbName": "test",
        "sgName": "UNPARTITIONED",
        "sgId": 2,
        "state": "Available",
        "archiveStates": {"0": "ADDED", "1": "ADDED"},
        "processStates": {"0": "RUNNING"},
        "leaderCandidates": ["0"],
    }


@scenario
async def test_clients_are_sent_to_a_process_that_serves_or_to_none(world: World) -> None:
    await archive(world)
    await database(world)
    nobody = await ask(world, "GET", "databases/test/sqlConnection", 204, params={"LBQuery": "x"})
    assert nobody is None
    await start(world, 0)
    await comes_up(world, 0)
    await leads(world, 0)
    assert (await ask(world, "GET", "databases/test/sqlConnection"))["startId"] == "0"


@scenario
async def test_a_database_may_exist_if_the_asker_says_so(world: World) -> None:
    await database(world)
    body = {"databaseDbaUser": "dba", "databaseDbaPassword": "secret"}
    await refused(world, "PUT", "databases/test", 409, "exists already", json=body, params={"mayExist": "False"})
    assert (await ask(world, "PUT", "databases/test", json=body, params={"mayExist": "True"}))["processes"] == []


@scenario
async def test_bad_requests_change_nothing(world: World) -> None:
    await running(world)
    body = {"databaseDbaUser": "dba", "databaseDbaPassword": "x"}
    for word in ("hotCopyStatus", "DATAENCRYPTION", "loadBalancerConfigs"):
        await refused(world, "PUT", f"databases/{word}", 400, "part of an address", json=body)
    await refused(world, "PUT", "databases/1st", 400, "not a valid name", json=body)
    await refused(world, "PUT", "databases/new", 404, "no server s9", json={**body, "teHosts": ["s9"]})
    await refused(world, "PUT", "databases/new", 404, "no server s9", json={**body, "hostAssignments": {"s9": 0}})
    await refused(world, "PUT", "databases/new", 400, "no region 4", json={**body, "hostAssignments": {"s1": 4}})
    await refused(world, "PUT", "databases/new", 400, "from outside", json={**body, "smHosts": {"s1": [0]}})
    await refused(world, "PUT", "databases/new", 400, "from outside", json={**body, "defaultOptions": {"ext-start": True}})
    await refused(world, "PUT", "databases/new", 400, "min-in-sync", json={**body, "defaultOptions": {"min-in-sync": "0"}})
    hints = {
        "ext-start": "Every process is started by a manager.",
        "max-memroy": "Did you mean max-memory?",
        "color": "Options: append-fsync,",
    }
    for name, hint in hints.items():
        await refused(world, "PUT", "databases/new", 400, f"no option {name}", hint, json={**body, "defaultOptions": {name: "x"}})
        await refused(world, "POST", "databases/test/options", 400, f"no option {name}", hint, json={name: "x", "mem": "1g"})
    await refused(world, "PUT", "databases/new", 400, "databaseDBAUser", json={"databaseDBAUser": "x"})
    await refused(world, "PUT", "databases/new", 400, "JSON object", content=b"[]")
    await refused(world, "DELETE", "databases/test", 409, "live processes")
    await refused(world, "DELETE", "databases/stock", 404, "named stock")
    await refused(world, "DELETE", "databases/test/storageGroups/x", 400, "keys")
    for path in ("startplan", "shutdown", "options"):
        await refused(world, "POST", f"databases/stock/{path}", 404, "named stock", json={})
    await refused(world, "POST", "databases/test/startplan", 404, "no server s9", json={"teHosts": ["s9"]})
    for path in ("", "/capture", "/storageGroups", "/sqlConnection"):
        await refused(world, "GET", f"databases/stock{path}", 404, "named stock")
