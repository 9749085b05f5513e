"""What nobody is to read is nowhere to be read: in no answer of any route, no plan, no event, no log, no support bundle."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from typing import Any

import pytest

from dkv.api.description import describe
from tests.api.furnished import KNOWN, Said, Stage, answered
from tests.api.fuzzing import descriptions
from tests.api.world import World, orders

JSON = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
PASSWORDS = ("hush-of-ada", "hush-anew", "hush-of-dba")
HOLDS_SECRETS = {"/admin/v1/state": "a backup, given to this machine only and written for its owner's eyes"}
QUERIES = {
    "/api/1/databases/hotCopyStatus": "coordinatorStartId=0",
    "/admin/v1/stores/{name}/groups/{group}/leader": "archiveId=0",
    "/admin/v1/events": "newest=1000",
}


def ask(stage: Stage, method: str, target: str, body: Any = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    answer = stage.runner.run(answered(stage.world, Said(method, target.encode(), JSON, content)))
    assert answer.status_code < 300, answer.text
    return unpacked(answer.content)


def unpacked(content: bytes) -> bytes:
    if not content.startswith(b"PK"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as pack:
        return b"\n".join(pack.read(name) for name in pack.namelist())


@pytest.fixture
def secrets(stage: Stage) -> list[str]:
    """Two users, a database and a store with secrets of their own; the secrets, and how they are kept."""
    stage.runner.run(stage.world.put_back())
    ask(stage, "PUT", "/api/1/policies/users/eve", {"roles": [], "password": PASSWORDS[0]})
    ask(stage, "POST", "/api/1/policies/users/eve/credentials", {"newPassword": PASSWORDS[1]})
    ask(stage, "PUT", "/api/1/databases/fresh", {"databaseDbaUser": "dba", "databaseDbaPassword": PASSWORDS[2]})
    state = stage.runner.run(stage.world.state())
    record = json.loads(state.records[("user", "eve")].value)
    assert record["password"].startswith("$argon2id$")
    secrets_kept = [database.secret for database in state.databases.values() if database.secret]
    assert secrets_kept
    return [*PASSWORDS, record["password"], record["password"].rpartition("$")[2], *secrets_kept]


def shows_no_secret(answer: bytes, secrets: list[str], where: str) -> None:
    shown = [secret for secret in secrets if secret.encode() in answer]
    assert not shown, f"{where} shows {shown}"


def addresses() -> list[tuple[str, str]]:
    known = descriptions(lambda of_nuodb: describe(World().apps["s1"], of_nuodb))
    paths = [path for description in known.values() for method, path in description.operations if method == "GET"]
    return [(path, path.format(**{name: values[0] for name, values in KNOWN.items()})) for path in paths]


def test_no_look_at_anything_shows_a_secret(stage: Stage, secrets: list[str]) -> None:
    for path, address in addresses():
        if path not in HOLDS_SECRETS:
            request = Said("GET", f"{address}?{QUERIES.get(path, '')}".encode(), JSON)
            answer = stage.runner.run(answered(stage.world, request))
            shows_no_secret(unpacked(answer.content), secrets, path)
    for name in ("fresh", "OrdersStore"):
        shows_no_secret(ask(stage, "GET", f"/api/1/databases/{name}"), secrets, name)


def test_the_test_looks_where_secrets_are(stage: Stage, secrets: list[str]) -> None:
    assert all(secret in ask(stage, "GET", "/admin/v1/state").decode() for secret in secrets[3:4])
    assert b"eve" in ask(stage, "GET", "/api/1/diagnostics/logs")
    assert b"user eve" in ask(stage, "GET", "/admin/v1/events?newest=1000")


def test_a_plan_shows_no_password_and_none_that_is_kept(stage: Stage, secrets: list[str]) -> None:
    steps = [
        {"method": "PUT", "path": "/api/1/policies/users/bob", "body": {"roles": [], "password": PASSWORDS[0]}},
        {"method": "POST", "path": "/api/1/policies/users/eve/credentials", "body": {"newPassword": PASSWORDS[0]}},
        {"method": "POST", "path": "/api/1/policies/users/eve/roles", "body": {"rolesToAdd": ["reader"]}},
        {"method": "DELETE", "path": "/api/1/policies/users/eve"},
        {"method": "PUT", "path": "/api/1/databases/other", "body": {"databaseDbaPassword": PASSWORDS[2]}},
        {"method": "POST", "path": "/admin/v1/stores", "body": orders(name="Fresh")},
    ]
    answer = ask(stage, "POST", "/admin/v1/plan", {"steps": steps[:-1]})
    shows_no_secret(answer, secrets, "the plan")
    commands = [command for step in json.loads(answer)["steps"] for command in step["commands"]]
    assert [command["command"] for command in commands] == ["PutRecord"] * 4 + ["CreateDatabase"]
    assert all("argon2" not in str(command) for command in commands)
    assert '"password":"***"' in commands[0]["fields"]["value"]
    assert '"password":"***"' in str(commands[1]["fields"]["expects"])


def test_no_log_has_a_password(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stage.runner.run(stage.world.put_back())
    ask(stage, "PUT", "/api/1/policies/users/carl", {"roles": [], "password": PASSWORDS[0]})
    body = {"roles": ["nobody"], "password": PASSWORDS[1], "pasword": PASSWORDS[1]}
    answer = stage.runner.run(answered(stage.world, Said("PUT", b"/api/1/policies/users/dora", JSON, json.dumps(body).encode())))
    assert answer.status_code == 400
    shows_no_secret(answer.content + caplog.text.encode(), list(PASSWORDS), "the log or the refusal")


@pytest.mark.parametrize("field", ["password", "databaseDbaPassword", "newPassword"])
def test_a_refusal_does_not_repeat_a_password_of_a_wrong_kind(stage: Stage, field: str) -> None:
    targets = {
        "password": b"/api/1/policies/users/dora",
        "databaseDbaPassword": b"/api/1/databases/other",
        "newPassword": b"/api/1/policies/users/ada/credentials",
    }
    method = "POST" if field == "newPassword" else "PUT"
    request = Said(method, targets[field], JSON, json.dumps({field: [PASSWORDS[0]]}).encode())
    answer = stage.runner.run(answered(stage.world, request))
    assert answer.status_code == 400
    shows_no_secret(answer.content, list(PASSWORDS), field)
