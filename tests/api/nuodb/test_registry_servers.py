"""Servers in the NuoDB dialect: what they say of themselves, and how they leave the domain."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from dkv.api.context import LogFile
from dkv.api.nuodb import decommission
from dkv.constants import OPEN_TO_ALL
from dkv.domain.facts import ServerJoined, ServerLost
from tests.api.nuodb.test_frame import error_of
from tests.api.nuodb.test_registry import done, refused
from tests.api.world import HOSTS, World, orders, scenario

DIAGNOSE_FILES = "^diagnose-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}([.]zip)?$"  # as nuocmd says it

# What a server says of itself ----------------------------------------------------------------------------------------


@scenario
async def test_a_message_is_answered_with_the_time_and_the_version(world: World) -> None:
    async with world.at() as client:
        answer = await done(client, "POST", "/diagnostics/log", json={"message": "a line\nand another"})
        assert answer == {"serverTimeMillis": world.now, "serverVersion": "dkv", "licenseType": f"none; {OPEN_TO_ALL}"}
        error_of(await client.post("/api/1/diagnostics/log", json={"message": "\x1b]0;mine\x07"}), 400, "cannot be printed")


@scenario
async def test_a_manager_shows_its_configuration_and_requests_anothers_of_it(world: World) -> None:
    async with world.at() as client:
        own = await done(client, "GET", "/diagnostics/config")
        assert own["properties"]["ThisServerId"] == "s1"
        assert own["properties"]["agentPort"] == own["properties"]["nuodbPort"] == "8888"
        assert own["labels"] == {"zone": "a", "rack": "2"}
        assert own["otherServices"] == ["rest"]
        assert own["initialMembership"]["s2"]["transport"] == f"{HOSTS['s2']}:7801"
        assert (await done(client, "GET", "/diagnostics/config/s1")) == own
        assert (await done(client, "GET", "/diagnostics/config/s2"))["properties"]["ThisServerId"] == "s2"
        error_of(await client.get("/api/1/diagnostics/config/s3"), 404, "no server s3")
        kinds = await done(client, "GET", "/diagnostics/kube")
        assert kinds == {kind: {} for kind in ("statefulsets", "daemonSets", "deployments", "pods", "volumes")}


@scenario
async def test_the_state_is_captured_without_what_is_secret(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await done(client, "PUT", "/kvstore/token", json={"newValue": "hush"})
        answer = await done(client, "GET", "/diagnostics/captureDomainState")
    database = (await world.state()).databases["OrdersStore"]
    assert answer["records"]["database/OrdersStore"]["secret"] == "(hidden)"
    assert answer["records"]["record/kvstore/token"]["key"] == "token"
    assert database.secret not in json.dumps(answer)
    assert "hush" not in json.dumps(answer)


def members(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name).decode() for name in packed.namelist()}


@pytest.fixture
def written(tmp_path: Path) -> list[LogFile]:
    names = ["manager.log", "engines/7/engine.log", "archives/0/previous-engine.log", "engines/8/gone.log"]
    for number, name in enumerate(names[:3]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} says\n")
        os.utime(path, (number * 1000, number * 1000))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.log").write_text("linked")
    (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere" / "x.log")
    (tmp_path / "b").symlink_to(tmp_path / "elsewhere")
    names += ["a.log", "b/x.log"]
    return [LogFile(name, tmp_path / name) for name in names]


def test_the_logs_come_as_a_zip_whose_members_name_the_server(written: list[LogFile]) -> None:
    @scenario
    async def ask(world: World) -> None:
        world.logs = written
        async with world.at() as client:
            answer = await client.get("/api/1/diagnostics/logs")
            whole = members(answer)
            params: dict[str, Any] = {
                "includeThreadDump": "True",
                "ignore": "^engines$",
                "modifiedAfterEpochSec": "1000",
                "includeCoreFiles": "True",
                "excludeSensitiveFiles": "True",
            }
            from_nuocmd = {"ignore": DIAGNOSE_FILES}
            assert members(await client.get("/api/1/diagnostics/logs", params=from_nuocmd)).keys() == whole.keys()
            some = members(await client.get("/api/1/diagnostics/logs", params=params))
            error_of(await client.get("/api/1/diagnostics/logs", params={"ignore": "("}), 400, "not a regular expression")
        assert answer.headers["content-disposition"] == f"attachment; filename=dkv-logs-s1-{world.now}.zip"
        assert all(name.startswith("s1/") for name in whole)
        assert whole["s1/engines/7/engine.log"] == "engines/7/engine.log says\n"
        assert "s1/engines/8/gone.log" not in whole
        assert "linked" not in str(whole)
        assert json.loads(whole["s1/settings.json"])["server_id"] == "s1"
        environment = {"DKV_STATE": "etcd:https://(hidden)@h", "DKV_TOKEN": "(hidden)", "PATH": "/bin"}
        assert json.loads(whole["s1/environment.json"]) == environment
        assert "server/s2" in json.loads(whole["s1/domain-state.json"])["records"]
        assert "s1/archives/0/previous-engine.log" in some
        assert not {"s1/manager.log", "s1/engines/7/engine.log"} & set(some)
        assert "bundle.py" in some["s1/threads.txt"]

    ask()


# Leaving -------------------------------------------------------------------------------------------------------------


@scenario
async def test_a_manager_ends_after_it_has_answered_and_one_elsewhere_is_asked_to(world: World) -> None:
    async with world.at() as client:
        await done(client, "POST", "/peers/s1/shutdown", params={"evictLocal": "False"})
        await done(client, "POST", "/peers/s2/shutdown")
        assert world.stopped == ["s1", "s2"]
        error_of(await client.post("/api/1/peers/s3/shutdown"), 404, "no server s3")
        assert world.stopped == ["s1", "s2"]


@scenario
async def test_a_manager_whose_processes_are_to_leave_first_stays_until_they_have(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await done(client, "POST", "/peers/s1/shutdown", params={"evictLocal": "True"})
        assert world.stopped == ["s1"], "nothing of it ran"


@scenario
async def test_a_server_that_is_here_is_not_taken_out(world: World) -> None:
    async with world.at() as client:
        await refused(client, world, 409, "DELETE", "/peers/s2", "manager renews its lease", "stop the manager of server s2")
        await refused(client, world, 409, "POST", "/peers/s2/removeDomainState", "manager renews its lease")
        await refused(client, world, 404, "DELETE", "/peers/s3", "no server s3")


@scenario
async def test_a_server_that_is_away_is_taken_out_once_nothing_of_it_is_left(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await world.submit(ServerLost(server_id="s2", uid="uid-of-s2"))
        await refused(
            client, world, 409, "DELETE", "/peers/s2", "archive 1 (orders-2 of OrdersStore)", "delete the state of server s2"
        )
        await done(client, "POST", "/peers/s2/removeDomainState")
        await done(client, "DELETE", "/peers/s2")
        assert [peer["id"] for peer in (await done(client, "GET", "/peers"))["data"]] == ["s1"]
    await world.submit(ServerJoined(server_id="s2", uid="uid-of-s2", host=HOSTS["s2"], port=7801, nuodb_port=8888, boot_id="b"))
    assert (await world.state()).archives.keys() == {0}


@scenario
async def test_what_must_stay_is_named(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders(instances=orders()["instances"][1:], replicationFactor=1))
        await world.submit(ServerLost(server_id="s2", uid="uid-of-s2"))
        answer = await client.post("/api/1/peers/s2/removeDomainState")
        error_of(answer, 409, "archive 0 (orders-2 of OrdersStore) is the last archive of its group", "delete those databases")


def test_there_is_an_end_to_waiting_for_archives_in_sync() -> None:
    assert decommission.GO_WITHIN < 25, "nuocmd waits 30 s for any answer"


# What dkv is not -----------------------------------------------------------------------------------------------------


@scenario
async def test_the_release_of_the_engines_is_shown_and_there_is_nothing_to_upgrade(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        await client.post("/admin/v1/stores/OrdersStore/instances/orders-1/start")
        path = "/databases/OrdersStore"
        versions = await done(client, "GET", f"{path}/versions")
        assert (versions["version"], versions["effectiveVersion"]) == ("9.1.2", 0x090102)
        assert versions["processVersions"] == {"9.1.2": ["0"]}
        for fine in ({"maxVersion": "True"}, {"version": "9.1.2"}, {"version": str(0x090102), "maxVersion": "False"}):
            await done(client, "POST", f"{path}/upgrade", params=fine)
        await refused(client, world, 400, "POST", f"{path}/upgrade", "Valkey 9.1.2, not 10", params={"version": "10"})
        await refused(client, world, 400, "POST", f"{path}/upgrade", "version is required")
        await refused(client, world, 404, "GET", "/databases/Nothing/versions", "Nothing")


@scenario
async def test_what_is_not_supported_is_refused_with_the_reason(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        path, body = "/databases/OrdersStore", {"archiveIds": ["0"], "timeoutMs": 10_000}
        encrypt = {"dbName": "OrdersStore", "newTargetStoragePassword": "x", "currentTargetStoragePassword": None}
        await refused(
            client,
            world,
            400,
            "POST",
            "/databases/dataEncryption",
            "does not encrypt",
            json=encrypt,
            params={"configUpdateTimeoutSec": "10"},
        )
        await refused(client, world, 400, "GET", f"{path}/reportTimestamp", "no archive is a passive observer", json=body)
        reset = {"commits": [1], "epoch": 1, "leaders": {"1": 0}}
        await refused(client, world, 400, "POST", f"{path}/resetState", "no archive is a passive observer", json=reset)
