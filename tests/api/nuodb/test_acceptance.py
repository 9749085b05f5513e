"""The points where a server that nuocmd talks to goes wrong most easily (docs/reference/nuodb.md#transport), one test each
unless another file has it: paging, patterns and order in test_listing.py, downloads and ZIP members in test_registry_servers.py,
what is heard of servers in test_processes.py, exactly one local server in test_frame.py, shapes and nulls in every answer of
every test (world.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from dkv.api.description import describe
from dkv.domain.decision import Refused
from dkv.domain.facts import ServerJoined
from tests.api.nuodb.calls import archive, ask, comes_up, database, ends, leads, listed, refused, running, start
from tests.api.world import World, scenario


async def filled(world: World) -> None:
    """An SM that ended, one that runs with a label, and a TE."""
    await running(world)
    await ends(world, 0)
    await start(world, 0, labels={"zone": "a", "rack": "2"})
    await comes_up(world, 1)
    await leads(world, 1)
    await start(world, host="s2")


QUERIES = [
    ("any", ["1", "2"]),
    ("random(any)", ["1", "2"]),
    ("label(zone a)", ["1"]),
    ("label(zone)", ["1"]),
    ("label(zone b)", []),
    ("not(label(zone a))", ["2"]),
    ("start_id(2)", ["2"]),
    ("start_id(1 2)", ["1", "2"]),
    ("start_id(12)", []),
    ("server_id(s2)", ["2"]),
    ("archive_id(0)", ["1"]),
    ("engine_type(TE)", ["2"]),
    ("region(Default)", ["1", "2"]),
    ("or(start_id(1) server_id(s2))", ["1", "2"]),
    ("and(start_id(1 2) not(engine_type(TE)))", ["1"]),
    ("round_robin(or(label(zone a), label(zone b)))", ["1"]),
]


@scenario
async def test_a_load_balancer_query_filters_processes_and_what_is_left_of_them(world: World) -> None:
    await filled(world)
    for query, expected in QUERIES:
        assert [p["startId"] for p in await listed(world, "processes", filterQuery=query, orderBy="startId")] == expected, query
    more = {"filterBy": "type", "type": "SM", "filterQuery": "start_id(1 2)"}
    assert [p["startId"] for p in await listed(world, "processes", **more)] == ["1"]
    assert [t["process"]["startId"] for t in await listed(world, "processes/exited", filterQuery="archive_id(0)")] == ["0"]
    assert await listed(world, "processes/exited", filterQuery="label(zone a)") == []


BAD_QUERIES = [
    "",
    " ",
    "(",
    ")",
    "any any",
    "label()",
    "label(a b c)",
    "lable(a)",
    "start_id()",
    "not()",
    "not(any any)",
    "any(x)",
    "and(label(a)",
    "label(any(x))",
    "(any)",
    "x" * 1_001,
    "not(" * 30 + "any" + ")" * 30,
]


@pytest.mark.parametrize("query", BAD_QUERIES, ids=lambda query: query[:20])
def test_a_query_that_is_none_is_refused(query: str) -> None:
    @scenario
    async def case(world: World) -> None:
        await refused(world, "GET", "processes", 400, "cannot be understood", params={"filterQuery": query})
        await refused(world, "GET", "processes/exited", 400, "cannot be understood", params={"filterQuery": query})

    case()


@scenario
async def test_the_order_that_show_database_stops_by(world: World) -> None:
    await filled(world)
    await ends(world, 1)
    await ends(world, 2)
    await start(world, 0)
    await comes_up(world, 3)
    await ends(world, 3)
    order = {
        "orderBy": "databaseIncarnation.major,databaseIncarnation.minor,process.startId",
        "descendingFields": "databaseIncarnation.major,databaseIncarnation.minor",
    }
    tombstones = await listed(world, "processes/exited", **order)
    at = [(t["databaseIncarnation"]["major"], t["databaseIncarnation"]["minor"]) for t in tombstones]
    assert len(at) >= 3
    assert at == sorted(at, reverse=True)
    both = {"filterBy": ["process.dbName", "process.type"], "process.dbName": "te.t", "process.type": "SM|XX"}
    assert len(await listed(world, "processes/exited", **both)) >= 3
    assert await listed(world, "processes/exited", **(both | {"process.dbName": "tes"})) == []


@scenario
async def test_a_process_that_ended_is_an_error_that_carries_its_tombstone(world: World) -> None:
    await running(world)
    await ends(world, 0, "killed", 137)
    gone = await ask(world, "GET", "processes/0", 404)
    assert (gone["process"]["startId"], gone["exitCode"]) == ("0", 137)
    assert {"code", "messages", "databaseIncarnation", "reason"} <= set(gone)
    unknown = await ask(world, "GET", "processes/77", 404)
    assert "process" not in unknown


@scenario
async def test_nulls_that_nuocmd_sends_are_as_if_nothing_was_said(world: World) -> None:
    """In bodies None arrives as null: nuocmd drops it in addresses only."""
    await archive(world, journalPath=None, snapshotArchivePath=None, storageGroupObservers=None)
    await database(world, teHosts=None, defaultRegionId=None, defaultOptions=None)
    await start(world, 0, engineType=None, labels=None, overrideOptions=None, expectedIncarnation=None)
    await ask(world, "PUT", "kvstore/k", json={"key": "k", "newValue": "v", "expectedValue": None, "expectedAbsent": False})
    nobody: dict[str, Any] = {"isGlobal": True, "dbName": None, "defaultLbQuery": "random(any)", "prefilter": None}
    await ask(world, "POST", "databases/loadBalancerConfig", json=nobody)
    (shown,) = await listed(world, "databases/loadBalancerConfigs")
    assert shown == {"isGlobal": True, "defaultLbQuery": "random(any)"}


@scenario
async def test_bodies_of_looks_and_deletions_are_read_where_they_are_meant_and_no_hindrance_elsewhere(world: World) -> None:
    await archive(world)
    await database(world)
    await ask(world, "PUT", "databases/test/hosts", json={"serverId": "s1", "regionId": 0})
    await ask(world, "DELETE", "databases/test/hosts", json={"serverId": "s1"})
    await refused(world, "DELETE", "databases/test/hosts", 404, "s1", json={"serverId": "s1"})
    await refused(world, "GET", "databases/test/reportTimestamp", 400, "is not supported", json={"archiveIds": [0]})
    assert (await ask(world, "GET", "databases/test", json={"any": "thing"}))["name"] == "test"


@scenario
async def test_flags_are_written_as_python_writes_them(world: World) -> None:
    await archive(world)
    for text, removed in (("True", 0), ("False", 1), ("true", 0), ("false", 1)):
        assert len(await listed(world, "archives", removed=text)) == removed
    await refused(world, "GET", "archives", 400, "removed", params={"removed": "perhaps"})


@scenario
async def test_a_key_may_have_slashes_and_dots(world: World) -> None:
    for key in ("a%2Fb", "a%2F..%2Fb", "%2F", "a%2F%2Fb"):
        await ask(world, "PUT", f"kvstore/{key}", json={"newValue": key})
        assert (await ask(world, "GET", f"kvstore/{key}"))["value"] == key
    assert (await ask(world, "GET", "kvstore/nobody"))["value"] is None


def literals() -> list[tuple[str, str]]:
    """Words that stand where another address has a name: (what stands there, the word)."""
    paths = [path.removeprefix("/api/1/").split("/") for path in describe(World().apps["s1"], of_nuodb=True)["paths"]]
    named = {(parts[0], len(parts)) for parts in paths if len(parts) > 1 and parts[1].startswith("{")}
    kinds = {kind for kind, _ in named} & {"peers", "databases", "processes", "archives"}
    return sorted({(parts[0], parts[1]) for parts in paths if len(parts) > 1 and parts[0] in kinds and parts[1][0] != "{"})


def test_the_literal_words_are_those_of_the_list() -> None:
    assert {("databases", "hotCopyStatus"), ("peers", "certificates"), ("processes", "exited")} <= set(literals())
    assert len(literals()) >= 14


@pytest.mark.parametrize(("kind", "word"), literals())
def test_a_literal_word_is_nobodys_name(kind: str, word: str) -> None:
    @scenario
    async def case(world: World) -> None:
        if kind == "databases":
            await refused(world, "PUT", f"databases/{word}", 400, "part of an address", json={"databaseDbaUser": "u"})
            await refused(world, "POST", "archives", 400, "part of an address", json={"dbName": word, "host": "s1", "path": "/a"})
        elif kind == "peers":
            joined = ServerJoined(server_id=word, uid="u", host="127.0.0.13", port=1, nuodb_port=2, boot_id="b")
            assert isinstance(await world.submitter.submit(joined), Refused)
        else:  # numbers: no word can be one
            async with world.at() as client:
                assert (await client.delete(f"/api/1/{kind}/{word}")).status_code in (400, 405)

    case()
