"""Processes in the NuoDB dialect: as they are requested, while they live, and what is shown of them afterwards."""

from __future__ import annotations

import asyncio

from dkv.domain.facts import CleanStopReached, LoadingProgressed, ProcessConfigured, ProcessStarted, ServerLost, Tick
from dkv.domain.model import PositionReport
from tests.api.nuodb.calls import archive, ask, comes_up, database, ends, listed, refused, running, start
from tests.api.world import World, scenario


@scenario
async def test_a_process_is_answered_as_it_was_requested(world: World) -> None:
    await archive(world)
    await database(world, defaultOptions={"mem": 2, "verbose": "all"})
    view = await start(world, 0, labels={"zone": "a"}, overrideOptions={"verbose": "flush"})
    assert view == {
        "startId": "0",
        "dbName": "test",
        "host": "s1",
        "type": "SM",
        "durableState": "REQUESTED",
        "state": "UNKNOWN",
        "archiveId": 0,
        "regionName": "Default",
        "options": {"mem": "2", "verbose": "flush"},
        "labels": {"zone": "a"},
        "isExternalStartup": False,
    }


@scenario
async def test_a_running_process_says_where_it_is_and_when_it_was_heard_of(world: World) -> None:
    await running(world)
    (view,) = await listed(world, "processes")
    shown = {k: view[k] for k in ("durableState", "state", "pid", "nodeId", "hostname", "port", "lastHeardFrom")}
    assert shown == {
        "durableState": "MONITORED",
        "state": "RUNNING",
        "pid": 4711,
        "nodeId": 1,
        "hostname": "127.0.0.11",
        "port": 7861,
        "lastHeardFrom": 0,
    }
    assert await ask(world, "GET", "processes/0") == view
    assert await ask(world, "GET", "processes/0/options") == {}
    await world.submit(ServerLost(server_id="s1", uid="uid-of-s1"))
    assert "lastHeardFrom" not in (await listed(world, "processes"))[0]


@scenario
async def test_a_process_that_loads_says_how_far_it_is(world: World) -> None:
    await archive(world)
    await database(world)
    await start(world, 0)
    await world.submit(ProcessStarted(server_id="s1", start_id=0, report=PositionReport()))
    assert (await ask(world, "GET", "processes/0"))["durableState"] == "STARTED"
    await world.submit(ProcessConfigured(server_id="s1", start_id=0, pid=7))
    await world.submit(LoadingProgressed(server_id="s1", start_id=0, percent=25))
    assert (await ask(world, "GET", "processes/0"))["journalRecoveryProgress"] == 0.25


@scenario
async def test_a_graceful_end_and_a_kill_are_shown_in_the_words_of_the_seed(world: World) -> None:
    await running(world)
    world.now = 1558018534246
    await ask(world, "DELETE", "processes/0", params={"evict": "False", "kill": "False", "timeout": "0"})
    await ends(world, 0)
    (ended,) = await listed(world, "processes/exited")
    assert ended["reason"] == "(2019-05-16T14:55:34.246+0000) Gracefully shutdown engine"
    assert (ended["exitCode"], ended["databaseIncarnation"]) == (0, {"major": 1, "minor": 1})
    assert ended["process"]["durableState"] == "REQUESTED_SHUTDOWN"
    assert (ended["process"]["port"], ended["process"]["pid"], ended["process"]["nodeId"]) == (7861, 4711, 1)

    await start(world, 0)
    await ask(world, "DELETE", "processes/1", params={"kill": "True"})
    await ends(world, 1, "operator kill", 137)
    killed = (await listed(world, "processes/exited"))[0]
    assert killed["reason"] == (
        "Removing process from domain state due to service request: "
        "(2019-05-16T14:55:34.246+0000) Engine connection to admin process closed"
    )
    assert killed["exitCode"] == 137


@scenario
async def test_a_start_that_waited_in_vain_is_answered_in_the_words_of_the_seed(world: World) -> None:
    await running(world)
    await archive(world, "s2")
    await ask(world, "POST", "databases/test/shutdown")
    await world.submit(CleanStopReached(server_id="s1", database="test", group="UNPARTITIONED", term=1, reached=(0,)))
    await ends(world, 0)
    await start(world, 1, host="s2")
    await world.submit(ProcessStarted(server_id="s2", start_id=1, report=PositionReport()))
    for clock in range(1_000, 15_000, 1_000):
        await world.submit(Tick(clock=clock))
    view = await ask(world, "GET", "processes/1", 404)
    assert view["reason"].startswith(
        "local agent connection was rejected: ArchiveHistory failed: Timed out while awaiting leader assignment (10000 ms): ("
    )
    assert view["reason"].endswith(") Engine connection to admin process closed")
    assert view["exitCode"] == 2
    assert "port" not in view["process"]
    assert "hostname" not in view["process"]


@scenario
async def test_the_end_is_waited_for_as_long_as_was_asked(world: World) -> None:
    await running(world)
    held = asyncio.create_task(ask(world, "DELETE", "processes/0", params={"timeout": 15}))
    while (await world.process(0)).state != "REQUESTED_SHUTDOWN":
        await asyncio.sleep(0.01)
    assert not held.done()
    await ends(world, 0)
    await held
    await start(world, 0)
    await ask(world, "DELETE", "processes/1", params={"timeout": 1})
    assert (await ask(world, "GET", "processes/1"))["durableState"] == "REQUESTED_SHUTDOWN"
    await ask(world, "DELETE", "processes/1")  # asked again: it leaves already


@scenario
async def test_a_process_on_a_server_that_is_away_can_be_evicted(world: World) -> None:
    await running(world)
    await world.submit(ServerLost(server_id="s1", uid="uid-of-s1"))
    await ask(world, "DELETE", "processes/0", params={"evict": "True"})
    assert await listed(world, "processes") == []
    (ended,) = await listed(world, "processes/exited")
    assert "evicted" in ended["reason"]


@scenario
async def test_the_archive_id_may_be_a_text_and_the_engine_type_left_out(world: World) -> None:
    await archive(world)
    await database(world)
    body = {"dbName": "test", "host": "s1", "engineType": None, "archiveId": "0"}
    assert (await ask(world, "POST", "processes", json=body))["type"] == "SM"
    await comes_up(world, 0)
    await refused(world, "POST", "processes", 409, "has process 0 already", json=body)


@scenario
async def test_a_request_for_another_incarnation_is_refused(world: World) -> None:
    await archive(world)
    await archive(world, "s2")
    plan = await database(world)
    for spec in plan["processes"]:
        await ask(world, "POST", "processes", json=spec)
    body = {"dbName": "test", "host": "s1", "engineType": "TE", "expectedIncarnation": {"major": 2}}
    await refused(world, "POST", "processes", 409, "incarnation (1, 0), not 2", json=body)
    await ask(world, "POST", "processes", json={**body, "expectedIncarnation": {"major": 1}})


@scenario
async def test_two_starts_of_one_archive_through_two_managers_are_one_process(world: World) -> None:
    await archive(world)
    await database(world)
    body = {"dbName": "test", "host": "s1", "engineType": "SM", "archiveId": 0}
    async with world.at("s1") as one, world.at("s2") as other:
        answers = await asyncio.gather(*(who.post("/api/1/processes", json=body) for who in (one, other, one, other)))
    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409]
    assert all("test-1 has process 0 already" in one.text for one in answers if one.status_code == 409)
    assert [one["startId"] for one in await listed(world, "processes")] == ["0"]


@scenario
async def test_a_process_that_ends_between_plan_and_request_makes_the_rest_of_the_plan_fail(world: World) -> None:
    """What is left of the plan was made for an incarnation that has passed; a new plan goes on from there."""
    await running(world)
    await archive(world, "s2")
    await archive(world, "s2", path="/data/third")
    body = {"reusable": False, "smHosts": {}}
    first, rest = (await ask(world, "POST", "databases/test/startplan", json=body))["processes"]
    await ask(world, "POST", "processes", json=first)
    await ends(world, 1, "port taken", 1)
    await refused(world, "POST", "processes", 409, "would start in incarnation (1, 1), not (1, 0)", json=rest)
    again = (await ask(world, "POST", "databases/test/startplan", json=body))["processes"]
    now = {"major": 1, "minor": 1}
    assert [(request["archiveId"], request["expectedIncarnation"]) for request in again] == [(1, now), (2, now)]
    for request in again:
        await ask(world, "POST", "processes", json=request)


@scenario
async def test_bad_requests_change_nothing(world: World) -> None:
    await running(world)
    sm = {"dbName": "test", "host": "s1", "engineType": "SM", "archiveId": 0}
    await refused(world, "POST", "processes", 400, "engine type", json={**sm, "engineType": "XX"})
    await refused(world, "POST", "processes", 400, "Snapshot", json={**sm, "engineType": "SSM"})
    await refused(world, "POST", "processes", 400, "A TE has no archive", json={**sm, "engineType": "TE"})
    await refused(world, "POST", "processes", 400, "needs an archive", json={"dbName": "test", "engineType": "SM"})
    await refused(world, "POST", "processes", 409, "is on s1, not s2", json={**sm, "host": "s2"})
    await refused(world, "POST", "processes", 404, "no archive 7", json={**sm, "archiveId": 7})
    await refused(world, "POST", "processes", 404, "named tset", "Did you mean test", json={**sm, "dbName": "tset"})
    await refused(world, "POST", "processes", 404, "no server s3", json={"dbName": "test", "host": "s3"})
    await refused(world, "POST", "processes", 400, "archiveID", json={**sm, "archiveID": 0})
    await refused(world, "POST", "processes", 400, "archiveId", json={**sm, "archiveId": "none"})
    await refused(world, "POST", "processes/externalStartup", 400, "manager of their server", json=sm)
    await refused(world, "DELETE", "processes/9", 404, "start id 9")
    await refused(world, "DELETE", "processes/x", 400, "'x'")
    await refused(world, "DELETE", "processes/0", 400, "timeout", params={"timeout": -1})
    await refused(world, "DELETE", "processes/0", 400, "Core files", params={"killWithCore": "True"})
    await refused(world, "DELETE", "processes/0", 400, "kil", params={"kil": "True"})
    await refused(world, "GET", "processes/9", 404, "start id 9")
    await refused(world, "GET", "processes/9/options", 404, "start id 9")


@scenario
async def test_a_server_is_cleared_as_a_whole_or_not_at_all(world: World) -> None:
    await running(world)
    te = (await start(world))["startId"]
    why = ("Server s1 holds the last copy in sync of group", "of test", "by force")
    await refused(world, "DELETE", "peers/s1/processes", 409, *why)
    await refused(world, "POST", "peers/s1/shutdown", 409, "This manager stays.", *why, params={"evictLocal": "True"})
    assert world.stopped == []
    await refused(world, "DELETE", "peers/s3/processes", 404, "no server s3")
    await refused(world, "DELETE", "peers/s1/processes", 404, "named tests", "Did you mean test?", params={"dbName": "tests"})
    meant = {"dbName": "test", "force": "True"}
    assert await ask(world, "DELETE", "peers/s1/processes", params=meant) == {"startIds": ["0", te]}
    assert {process["state"] for process in await listed(world, "processes")} == {"SHUTTING_DOWN"}


@scenario
async def test_an_option_of_one_process_that_nothing_goes_by_is_refused(world: World) -> None:
    await archive(world)
    await database(world, defaultOptions={"max-memory": "1gb"})
    sm = {"dbName": "test", "host": "s1", "archiveId": 0, "engineType": "SM"}
    for options, message, hint in (
        ({"color": "red"}, "no option color", "Options: append-fsync,"),
        ({"ext-start": "x"}, "no option ext-start", "Every process is started by a manager."),
        (
            {"maxmemory-policy": "allkeys-lru"},
            "an option of the whole database test",
            "set the option maxmemory-policy of store test",
        ),
        ({"max-memory": "2gb"}, "an option of the whole database test", "set the option max-memory of store test to 2gb"),
    ):
        await refused(world, "POST", "processes", 400, message, hint, json={**sm, "overrideOptions": options})
    view = await start(world, 0, overrideOptions={"max-memory": "1gb", "mem": "1g"})
    assert view["options"] == {"max-memory": "1gb", "mem": "1g"}, "what a captured process names is no other wish"
