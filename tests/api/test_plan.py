"""Plans: what --plan prints is what happens, and printing it changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dkv.api.app import Api
from dkv.control.submit import RequestKey, Submitter
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import State
from dkv.store import codec
from dkv.store.memory import MemoryStore
from dkv.wire import views
from tests.api.world import World, orders, scenario
from tests.domain.walks import walk

Json = dict[str, Any]
SEEDS = 120
IDS = 10_000  # where the random ids of a run begin: a plan and its execution are to draw the same ones


APPS: dict[str, Api] = {}


class Listening:
    """A submitter that remembers what went through it."""

    def __init__(self, inner: Submitter) -> None:
        self._inner = inner
        self.view, self.check, self.snapshot, self.answered = inner.view, inner.check, inner.snapshot, inner.answered
        self.seen: list[Json] = []

    async def submit(self, command: Command, key: RequestKey | None = None) -> Accepted | Refused:
        known = await self._inner.view()
        done = await self._inner.submit(command, key)
        if not key or (await self._inner.view()).revision != known.revision or isinstance(done, Refused):
            view = views.planned_view(command, getattr(done, "events", ()), done if isinstance(done, Refused) else None)
            view["fields"]["now"] = 0
            self.seen.append(view)
        return done


class Stage(World):
    """A world whose domain may begin anywhere, and whose random ids can be drawn again."""

    def __init__(self) -> None:
        self.tokens = (f"token {n}" for n in itertools.count())
        super().__init__()

    def _submitter(self) -> Submitter:
        return Submitter(MemoryStore(self.domain), lambda: self.now, lambda: next(self.tokens))

    def _apps(self) -> dict[str, Api]:
        """One application serves all stages: to make one costs more than everything else here."""
        if not APPS:
            APPS.update(super()._apps())
        for name, app in APPS.items():
            app.manager = replace(self.context(name), dry_run=True)  # nobody here would end what is waited for
        return APPS

    async def stands(self, state: State) -> None:
        """The domain is in this state from now on."""
        known = await self.submitter.snapshot()
        here = (await self.submitter.view()).state
        await MemoryStore(self.domain).commit(known.revision, codec.diff(here, state), [], next(self.tokens))

    async def plans(self, steps: list[Json]) -> tuple[int, Json]:
        self.numbers = itertools.count(IDS)
        async with self.at() as client:
            answer = await client.post("/admin/v1/plan", json={"steps": steps})
        return answer.status_code, answer.json()

    async def does(self, steps: list[Json]) -> tuple[list[Json], list[int]]:
        """Carry the same requests out; the commands with their events, and the statuses."""
        self.numbers = itertools.count(IDS)
        seen, submitter = Listening(self.submitter), self.submitter
        self.submitter = seen  # type: ignore[assignment]
        statuses = []
        async with self.at() as client:
            for step in steps:
                headers = {"Idempotency-Key": step["key"]} if step.get("key") else {}
                extra = {"json": step["body"]} if "body" in step else {}
                answer = await client.request(step["method"], step["path"], headers=headers, **extra)
                statuses.append(answer.status_code)
        self.submitter = submitter
        return seen.seen, statuses


def spoken(plan: Json) -> list[Json]:
    commands = [command for step in plan["steps"] for command in step["commands"]]
    for command in commands:
        command["fields"]["now"] = 0
    return commands


# What may be asked for ---------------------------------------------------------------------------------------


def requests(chance: random.Random, state: State) -> Iterator[Json]:
    """Random changes, right and wrong, about what is there and what is not, in both vocabularies."""
    for number in range(chance.randint(1, 6)):
        step = chance.choice(KINDS)(chance, state)
        yield step | ({"key": f"k{number}"} if chance.random() < 0.5 else {})


def some(chance: random.Random, known: Any, other: Any) -> Any:
    return chance.choice([*known, *known, other])


def _archive(chance: random.Random, state: State) -> Json:
    server = some(chance, sorted(state.servers), "nowhere")
    body = {"dbName": chance.choice(["db", "other"]), "host": server, "path": f"/a/{chance.randint(1, 3)}", "restored": False}
    return {"method": "POST", "path": "/api/1/archives", "body": body}


def _no_archive(chance: random.Random, state: State) -> Json:
    purge = chance.choice(["True", "False"])
    return {"method": "DELETE", "path": f"/api/1/archives/{some(chance, sorted(state.archives), 99)}?purge={purge}"}


def _database(chance: random.Random, state: State) -> Json:
    body = {"databaseDbaUser": "u", "databaseDbaPassword": "hush", "hostAssignments": {}, "smHosts": {}}
    return {"method": "PUT", "path": f"/api/1/databases/{chance.choice(['db', 'other', 'third'])}?mayExist=False", "body": body}


def _no_database(chance: random.Random, state: State) -> Json:
    return {"method": "DELETE", "path": f"/api/1/databases/{chance.choice(['db', 'other'])}?purge={chance.choice([True, False])}"}


def _stop(chance: random.Random, state: State) -> Json:
    return {"method": "POST", "path": f"/api/1/databases/{chance.choice(['db', 'other'])}/shutdown"}


def _options(chance: random.Random, state: State) -> Json:
    body = {chance.choice(["mem", "x"]): str(chance.randint(1, 9))}
    return {"method": "POST", "path": "/api/1/databases/db/options?replaceAll=True", "body": body}


def _start(chance: random.Random, state: State) -> Json:
    body: Json = {"dbName": chance.choice(["db", "db", "other"]), "host": some(chance, sorted(state.servers), "nowhere")}
    archive_id = some(chance, sorted(state.archives), 99)
    if chance.random() < 0.7:
        archive = state.archives.get(archive_id)
        body |= {"engineType": "SM", "archiveId": archive_id, "host": archive.server_id if archive else "A"}
    else:
        body |= {"engineType": "TE"}
    if chance.random() < 0.3:
        body["expectedIncarnation"] = {"major": chance.randint(0, 3), "minor": chance.randint(0, 2)}
    return {"method": "POST", "path": "/api/1/processes", "body": body}


def _end(chance: random.Random, state: State) -> Json:
    kill = chance.choice(["True", "False"])
    return {"method": "DELETE", "path": f"/api/1/processes/{some(chance, sorted(state.processes), 99)}?kill={kill}&timeout=0"}


def _look(chance: random.Random, state: State) -> Json:
    path = chance.choice(["/api/1/processes", "/api/1/databases/db", "/admin/v1/stores", "/api/1/peers"])
    return {"method": "GET", "path": path}


def _store(chance: random.Random, state: State) -> Json:
    instances = [
        {"instanceName": f"n-{i}", "server": s, "clustronPort": 9000 + i, "clientPort": 9100 + i}
        for i, s in enumerate(chance.sample(sorted(state.servers), chance.randint(1, len(state.servers))))
    ]
    body = {"name": chance.choice(["Carts", "db"]), "instances": instances}
    return {"method": "POST", "path": "/admin/v1/stores", "body": body}


def _no_store(chance: random.Random, state: State) -> Json:
    return {"method": "DELETE", "path": f"/admin/v1/stores/{chance.choice(['Carts', 'db'])}"}


def _instance(chance: random.Random, state: State) -> Json:
    name = some(chance, ["db-0", "db-1", "n-0"], "nobody")
    verb = chance.choice(["start", "stop", "stop?force=true"])
    return {"method": "POST", "path": f"/admin/v1/stores/{chance.choice(['db', 'Carts'])}/instances/{name}/{verb}"}


def _switchover(chance: random.Random, state: State) -> Json:
    body: Json = chance.choice([{}, {"group": "UNPARTITIONED"}, {"toStartId": some(chance, sorted(state.processes), 99)}])
    return {"method": "POST", "path": "/admin/v1/stores/db/switchover", "body": body}


def _restart(chance: random.Random, state: State) -> Json:
    body = {"rolling": chance.random() < 0.5, "force": chance.random() < 0.5}
    return {"method": "POST", "path": f"/admin/v1/stores/{chance.choice(['db', 'db', 'other'])}/restart", "body": body}


def _no_restart(chance: random.Random, state: State) -> Json:
    return {"method": "DELETE", "path": "/admin/v1/stores/db/restart"}


def _enforce(chance: random.Random, state: State) -> Json:
    body = {"archiveId": some(chance, sorted(state.archives), 99), "allowDataLoss": chance.random() < 0.8, "reason": "a test"}
    group = some(chance, sorted({group for _, group in state.groups}), "nowhere")
    return {"method": "POST", "path": f"/admin/v1/stores/db/groups/{group}/leader", "body": body}


def _copy(chance: random.Random, state: State) -> Json:
    if chance.random() < 0.5:
        return {"method": "POST", "path": "/admin/v1/stores/db/hot-copies", "body": {"defaultPath": f"/c/{chance.randint(1, 2)}"}}
    body = {"defaultBackupLocation": {"copyArchiveDir": "/c/3"}, "timeoutSec": 60}
    return {"method": "POST", "path": "/api/1/databases/db/hotCopySimple", "body": body}


def _no_copy(chance: random.Random, state: State) -> Json:
    return {"method": "DELETE", "path": f"/admin/v1/stores/db/hot-copies/{some(chance, sorted(state.copies), 1)}"}


def _user(chance: random.Random, state: State) -> Json:
    name = chance.choice(["ada", "eve"])
    if chance.random() < 0.3:
        return {"method": "DELETE", "path": f"/api/1/policies/users/{name}"}
    return {"method": "PUT", "path": f"/api/1/policies/users/{name}", "body": {"roles": [], "certificatePem": "c"}}


KINDS = [
    _switchover,
    _restart,
    _no_restart,
    _enforce,
    _copy,
    _no_copy,
    _user,
    _archive,
    _no_archive,
    _database,
    _no_database,
    _stop,
    _options,
    _start,
    _start,
    _end,
    _look,
    _store,
    _no_store,
    _instance,
]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_plan_says_what_then_happens_and_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [chance.randrange(1 << 16) for _ in range(chance.randrange(60))]
    begins = [state for state, _, _ in walk(numbers)][-1]

    async def main() -> None:
        world = Stage()
        await world.stands(begins)
        steps = list(requests(chance, begins))
        before = await world.submitter.snapshot()
        status, plan = await world.plans(steps)
        assert status == 200, plan
        assert await world.submitter.snapshot() == before
        assert plan["revision"] == before.revision

        done, statuses = await world.does(steps)
        assert spoken(plan) == done
        assert [step["status"] for step in plan["steps"]] == statuses

    asyncio.run(main())


@scenario
async def test_secrets_are_not_printed(world: World) -> None:
    body = {"databaseDbaUser": "u", "databaseDbaPassword": "hush-hush", "hostAssignments": {}, "smHosts": {}}
    steps = [
        {"method": "PUT", "path": "/api/1/databases/test", "body": body},
        {"method": "POST", "path": "/admin/v1/stores", "body": orders()},
    ]
    async with world.at() as client:
        plan = (await client.post("/admin/v1/plan", json={"steps": steps})).json()
    commands = [command for step in plan["steps"] for command in step["commands"]]
    assert [command["command"] for command in commands] == ["CreateDatabase", "CreateDatabase"]
    assert all(command["fields"]["secret"] == "***" for command in commands)
    assert "hush-hush" not in str(commands)


@scenario
async def test_the_second_step_sees_what_the_first_would_do(world: World) -> None:
    steps = [
        {"method": "POST", "path": "/admin/v1/stores", "body": orders()},
        {"method": "GET", "path": "/admin/v1/stores/OrdersStore"},
        {"method": "POST", "path": "/admin/v1/stores/OrdersStore/instances/orders-1/start"},
        {"method": "DELETE", "path": "/admin/v1/stores/OrdersStore"},
    ]
    async with world.at() as client:
        planned = (await client.post("/admin/v1/plan", json={"steps": steps})).json()["steps"]
        assert [step["status"] for step in planned] == [201, 200, 202, 409]
        assert planned[2]["commands"][0]["events"][-1]["change"] == "(new) -> REQUESTED" or planned[2]["commands"]
        assert planned[3]["commands"][0]["refused"]["code"] == "database_running"
        assert (await client.get("/admin/v1/stores")).json()["stores"] == []


@pytest.mark.parametrize(
    ("step", "status", "words"),
    [
        ({"method": "POST", "path": "/admin/v1/plan", "body": {"steps": []}}, 400, "cannot be planned"),
        ({"method": "POST", "path": "/api/1/peers/s1/shutdown"}, 400, "cannot be planned"),
        ({"method": "GET", "path": "/admin/v1/events"}, 400, "cannot be planned"),
        ({"method": "GET", "path": "/admin/v1/%65vents"}, 400, "cannot be planned"),
        ({"method": "GET", "path": "/api/1/diagnostics/%6cogs"}, 400, "cannot be planned"),
        ({"method": "POST", "path": "/api/1/peers/s1/%73hutdown"}, 400, "cannot be planned"),
        ({"method": "POST", "path": "/api/1/diagnostics/log", "body": {"message": "x"}}, 400, "cannot be planned"),
        ({"method": "PATCH", "path": "/api/1/processes"}, 400, "steps[0].method"),
        ({"method": "GET", "path": "http://elsewhere/"}, 400, "steps[0].path"),
        ({"method": "GET", "path": "/api/1/peers", "boddy": {}}, 400, "boddy"),
    ],
)
def test_what_cannot_be_planned(step: Json, status: int, words: str) -> None:
    @scenario
    async def case(world: World) -> None:
        async with world.at() as client:
            answer = await client.post("/admin/v1/plan", json={"steps": [step]})
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert answer.json()["hint"]

    case()


@scenario
async def test_a_plan_of_nothing_is_refused(world: World) -> None:
    async with world.at() as client:
        assert (await client.post("/admin/v1/plan", json={"steps": []})).status_code == 400
        assert (await client.post("/admin/v1/plan")).status_code == 400
