"""The live view: one rendering for all who look, soon after each change; nothing runs while nobody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from dkv.api import console_files, live
from dkv.api.context import ManagerContext
from dkv.api.latencies import Latency
from dkv.api.numbers import engine_numbers
from dkv.domain.orders import PutRecord
from dkv.listening import Limits
from tests.api.test_connections import REQUEST, Served, served
from tests.api.world import World, orders, scenario

WIDE = Limits(most=200, each=100)
SOON = 30.0  # s on a busy machine; waits return as soon as it happened
PARTS = {"at", "reader", "revision", "asOf", "domain", "stores", "waiting", "tombstones", "hotCopies", "events"}


class Counted(World):
    """A world that counts renderings, by what each of them asks once, and samples."""

    renderings = 0
    samples = 0

    async def _leader(self) -> str:
        self.renderings += 1
        return await super()._leader()

    def _counting(self, server: str) -> Any:
        count = super()._counting(server)

        async def counting() -> Any:
            self.samples += server == "s1"
            return await count()

        return counting

    async def happen(self, value: object) -> None:
        await self.submit(PutRecord(actor="dba", kind="kvstore", key="colour", value=json.dumps(value)))


class Messages:
    """What one who looks is sent."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader

    async def next(self) -> dict[str, Any]:
        while True:
            line = await self.reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                message: dict[str, Any] = json.loads(line[6:])
                return message

    async def until(self, part: str) -> Any:
        """The next message's `part` among those that have it."""
        async with asyncio.timeout(SOON):
            while part not in (message := await self.next()):
                pass
        return message[part]


@asynccontextmanager
async def looking(manager: Served) -> AsyncIterator[Messages]:
    reader, writer = await asyncio.open_connection(manager.host, manager.port, limit=2**22)
    try:
        writer.write(REQUEST.replace(b"/healthz", b"/admin/v1/live") % b"")
        assert b" 200 " in await reader.readline()
        yield Messages(reader)
    finally:
        writer.close()


@scenario
async def test_as_json_the_view_is_whole(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        answer = await client.get("/admin/v1/live")
    view = answer.json()
    assert set(view) == PARTS | {"numbers"}
    assert [store["name"] for store in view["stores"]] == ["OrdersStore"]
    assert view["reader"] == {"principal": None, "rights": sorted(view["reader"]["rights"]), "otherRoles": False}
    assert "operate" in view["reader"]["rights"]
    assert view["events"][-1]["text"] and view["asOf"] is None
    assert [heard["server"] for heard in view["numbers"]["managers"]] == ["s2"]


def test_the_first_message_is_whole_and_the_next_have_what_changed() -> None:
    async def run() -> None:
        world = Counted()
        async with served(WIDE, world) as manager, looking(manager) as messages:
            first = await messages.next()
            assert set(first) >= PARTS | {"history"} and first["history"] == []
            known = first["events"][-1]["sequence"]
            await world.happen("red")
            events = await messages.until("events")
            assert [event["sequence"] for event in events] == [known + 1] and "colour" in events[0]["subject"]
            await world.happen("blue")
            async with asyncio.timeout(SOON):
                while "revision" not in (message := await messages.next()):
                    assert set(message) == {"at", "numbers"}
            assert not {"reader", "history", "asOf", "tombstones"} & set(message), "these did not change"

    asyncio.run(run())


def test_who_looks_later_is_sent_the_numbers_that_were_taken_before() -> None:
    async def run() -> None:
        async with served(WIDE, Counted()) as manager:
            async with looking(manager) as messages:
                taken = await messages.until("numbers")
            async with looking(manager) as messages:
                assert taken["at"] in [sample["at"] for sample in await messages.until("history")]

    asyncio.run(run())


def test_one_rendering_serves_all_who_look_and_there_are_at_most_four_a_second() -> None:
    async def run() -> None:
        world = Counted()
        async with served(WIDE, world) as manager, AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(looking(manager)) for _ in range(10)]
            for page in pages:
                await page.until("domain")
            before, began = world.renderings, asyncio.get_running_loop().time()
            for number in range(100):
                await world.happen(number)
            newest = (await world.submitter.view()).revision
            async with asyncio.timeout(SOON):
                for page in pages:
                    while await page.until("revision") < newest:
                        pass
            took = asyncio.get_running_loop().time() - began
            assert world.renderings - before <= took / live.EVERY + 2

    asyncio.run(run())


def test_nothing_runs_while_nobody_looks() -> None:
    async def run() -> None:
        world = Counted()
        async with served(WIDE, world) as manager:
            async with looking(manager) as messages:
                await messages.until("numbers")
            hub = world.apps["s1"].hub
            async with asyncio.timeout(SOON):
                while hub.readers:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)  # what was cancelled ends
            before = world.renderings, world.samples
            await world.happen("red")
            await asyncio.sleep(1.5 * live.PERIOD)
            assert (world.renderings, world.samples) == before

    asyncio.run(run())


def test_while_the_state_cannot_be_read_the_view_says_since_when_and_goes_on_afterwards() -> None:
    async def run() -> None:
        world = Counted()
        world.now = 5_000
        async with served(WIDE, world) as manager, looking(manager) as messages:
            assert await messages.until("asOf") is None
            world.away, world.ready = True, "waiting for the domain since 3 s"
            await world.happen("red")  # somebody else's commit: it is looked at now
            since = await messages.until("asOf")
            assert since == {"since": 5_000, "why": "the state file does not answer", "hint": ""}
            world.away, world.ready = False, ""
            assert await messages.until("asOf") is None

    asyncio.run(run())


def test_a_manager_that_ends_ends_its_live_views() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        class Ending(World):
            def context(self, server: str) -> ManagerContext:
                return replace(super().context(server), closing=ended.is_set)

        async with served(WIDE, Ending()) as manager, looking(manager) as messages:
            await messages.until("domain")
            ended.set()
            async with asyncio.timeout(SOON):
                await messages.reader.read()

    asyncio.run(run())


def test_a_part_that_cannot_be_made_leaves_the_others() -> None:
    def broken() -> object:
        raise ZeroDivisionError

    assert live._made("stores", broken) is None
    assert live._made("waiting", list) == []


def test_numbers_of_an_engine() -> None:
    counted = {"start_id": 3, "gets": 5, "puts": 7, "removes": 0, "keys": 2, "clients": 1, "used_memory": 1000, "at_ms": 1}
    fields = {
        "maxmemory": "9000",
        "master_repl_offset": "500",
        "slave0": "ip=127.0.0.12,port=7861,state=online,offset=480,lag=1,type=replica",
    }
    leader = engine_numbers(counted, fields, Latency("set", 12.0, 80.1))
    assert (leader["command"], leader["p50"], leader["p99"]) == ("set", 12.0, 80.1)
    assert leader["followers"] == [{"address": "127.0.0.12:7861", "state": "online", "lagBytes": 20, "silentSeconds": 1}]
    assert leader["linkUp"] is None
    follower = engine_numbers(counted, {"master_link_status": "down", "master_last_io_seconds_ago": "-1"}, Latency())
    assert (follower["linkUp"], follower["leaderHeard"], follower["p50"]) == (False, None, None)
    assert engine_numbers(counted, {}, Latency())["keys"] == 2, "what does not answer INFO still counts"


# The page's files ----------------------------------------------------------------------------------------------------


@scenario
async def test_the_page_is_there_without_the_state_and_may_run_no_script_of_others(world: World) -> None:
    world.away = True
    async with world.at() as client:
        page = await client.get("/")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        for file in console_files.FILES:
            answer = await client.get(f"/console/{file}")
            assert answer.status_code == 200, file
            policy = answer.headers.get_list("content-security-policy")
            assert len(policy) == 1 and "script-src 'self'" in policy[0] and "trusted-types 'none'" in policy[0]
            assert "unsafe" not in policy[0] and answer.headers["x-content-type-options"] == "nosniff"


@scenario
async def test_a_file_that_is_known_is_not_sent_again(world: World) -> None:
    async with world.at() as client:
        tag = (await client.get("/console/app.js")).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}'):
            answer = await client.get("/console/app.js", headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b"")
        assert (await client.get("/console/app.js", headers={"If-None-Match": '"other"'})).status_code == 200


@scenario
async def test_nothing_but_the_pages_files_is_served(world: World) -> None:
    async with world.at() as client:
        for file in ("../app.py", "%2e%2e%2fapp.py", "app.py", "index.html~", "__init__.py"):
            answer: httpx.Response = await client.get(f"/console/{file}")
            assert answer.status_code == 404, file


def test_the_page_names_no_other_host_and_no_absolute_path() -> None:
    for file in console_files.FILES:
        text = console_files._read(file)[0].decode()
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text, file
        assert 'href="/' not in text and 'src="/' not in text and "innerHTML" not in text, file
