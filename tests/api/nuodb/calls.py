"""What the tests of the NuoDB dialect share: asking it, and the facts that managers would report."""

from __future__ import annotations

from typing import Any

from dkv.domain.facts import LeaderServing, OpenTerm, ProcessConfigured, ProcessExited, ProcessStarted, ProcessTracked
from dkv.domain.model import PositionReport
from tests.api.world import World

Json = dict[str, Any]


async def ask(world: World, method: str, path: str, status: int = 200, **more: Any) -> Any:
    """One request under /api/1; the JSON that is answered. An error has the shape that nuocmd reads."""
    async with world.at("s1") as client:
        answer = await client.request(method, f"/api/1/{path}", **more)
    assert answer.status_code == status, answer.text
    body = answer.json() if answer.content else None
    if status >= 400:
        assert body["code"] == status, body
        assert all(isinstance(message, str) for message in body["messages"]), body
    return body


async def refused(world: World, method: str, path: str, status: int, *words: str, **more: Any) -> None:
    """A request that is refused in one sentence with these words, and changes nothing."""
    before = world.domain.snapshot.revision
    (sentence,) = (await ask(world, method, path, status, **more))["messages"]
    assert all(word in sentence for word in words), sentence
    assert world.domain.snapshot.revision == before


async def listed(world: World, path: str, **params: Any) -> list[Json]:
    """The elements of a list."""
    items: list[Json] = (await ask(world, "GET", path, params=params))["data"]
    return items


async def archive(world: World, server: str = "s1", name: str = "test", **more: Any) -> Json:
    body = {"dbName": name, "host": server, "path": f"/data/{name}-on-{server}", "restored": False, **more}
    view: Json = await ask(world, "POST", "archives", json=body)
    return view


async def database(world: World, name: str = "test", **more: Any) -> Json:
    body = {"databaseDbaUser": "dba", "databaseDbaPassword": "secret", "hostAssignments": {}, "smHosts": {}, **more}
    view: Json = await ask(world, "PUT", f"databases/{name}?mayExist=False", json=body)
    return view


async def start(world: World, archive_id: int | None = None, host: str = "s1", status: int = 200, **more: Any) -> Json:
    kind = {"engineType": "TE"} if archive_id is None else {"engineType": "SM", "archiveId": archive_id}
    view: Json = await ask(world, "POST", "processes", status, json={"dbName": "test", "host": host, **kind, **more})
    return view


async def comes_up(world: World, start_id: int) -> None:
    """Its manager took it, launched it, and it has loaded."""
    who: Json = {"server_id": (await world.process(start_id)).server_id, "start_id": start_id}
    for fact in (
        ProcessStarted(report=PositionReport(), **who),
        ProcessConfigured(pid=4711, **who),
        ProcessTracked(pid=4711, **who),
    ):
        await world.submit(fact)


async def leads(world: World, start_id: int) -> None:
    """The assigned leader opens its term and serves."""
    process = await world.process(start_id)
    group = (await world.state()).groups[(process.database, process.group)]
    who: Json = {"server_id": process.server_id, "database": process.database, "group": group.name, "term": group.term}
    await world.submit(OpenTerm(start_id=start_id, **who))
    await world.submit(LeaderServing(start_id=start_id, epoch=1, history="a" * 40, **who))


async def ends(world: World, start_id: int, cause: str = "graceful stop", code: int = 0) -> None:
    """It ended, and its manager says why."""
    server = (await world.process(start_id)).server_id
    await world.submit(
        ProcessExited(server_id=server, start_id=start_id, cause=cause, detail=f"It ended: {cause}", exit_code=code, planned=True)
    )


async def running(world: World) -> None:
    """The database test with one SM that serves."""
    await archive(world)
    await database(world)
    await start(world, 0)
    await comes_up(world, 0)
    await leads(world, 0)
