"""Requests that no client makes: each is answered, none is a mistake of ours, and what is refused changed nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from dkv.api.description import describe
from tests.api.furnished import FurnishedWorld, Said, Stage, answered
from tests.api.fuzzing import descriptions
from tests.api.world import World, orders

JSON = ((b"content-type", b"application/json"),)
STORES, RESTART, ARCHIVES, PROCESSES = (
    b"/admin/v1/stores",
    b"/admin/v1/stores/OrdersStore/restart",
    b"/api/1/archives",
    b"/api/1/processes",
)
TAKING = [
    ("POST", STORES),
    ("POST", RESTART),
    ("POST", b"/admin/v1/plan"),
    ("POST", ARCHIVES),
    ("POST", PROCESSES),
    ("PUT", b"/api/1/databases/fresh"),
    ("POST", b"/api/1/databases/test/options"),
    ("PUT", b"/api/1/kvstore/k"),
    ("DELETE", b"/api/1/databases/test/hosts"),
    ("POST", b"/api/1/databases/OrdersStore/hotCopySimple"),
    ("PUT", b"/api/1/policies/users/eve"),
]

OPTIONS = ("POST", b"/api/1/databases/test/options")
MAY_TAKE = {"an unknown field": [OPTIONS], "many fields": [OPTIONS]}  # options have names of their own


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def nested(depth: int, around: bytes = b"1") -> bytes:
    return b'{"a":' * depth + around + b"}" * depth


BODIES: dict[str, tuple[bytes, tuple[tuple[bytes, bytes], ...]]] = {
    "no JSON": (b"}{", JSON),
    "half of it": (b'{"name": "x', JSON),
    "nothing": (b"", JSON),
    "spaces": (b"  \n ", JSON),
    "null": (b"null", JSON),
    "a number": (b"1", JSON),
    "a text": (b'"name"', JSON),
    "a list": (b"[]", JSON),
    "no UTF-8": (b'{"name": "\xff\xfe"}', JSON),
    "UTF-16": ('{"name": "x"}'.encode("utf-16"), JSON),
    "another kind": (b'{"name": "x"}', ((b"content-type", b"text/plain"),)),
    "no kind": (b'{"name": "x"}', ()),
    "a form": (b"name=x", ((b"content-type", b"application/x-www-form-urlencoded"),)),
    "parts": (b"--b\r\n\r\n--b--", ((b"content-type", b"multipart/form-data; boundary=b"),)),
    "an unknown field": (body({"surprise": 1}), JSON),
    "a field twice": (b'{"name": "a", "name": "b"}', JSON),
    "an inner field twice": (b'{"processes": [{"host": "a", "host": "b"}]}', JSON),
    "no number": (b'{"maxRate": NaN}', JSON),
    "endless": (b'{"maxRate": Infinity}', JSON),
    "five thousand digits": (b'{"maxRate": ' + b"9" * 5000 + b"}", JSON),
    "deep": (nested(200), JSON),
    "deeper": (nested(5_000), JSON),
    "deepest": (nested(100_000), JSON),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, JSON),
    "many fields": (body({f"f{i}": i for i in range(5_000)}), JSON),
    "too long": (b'{"name": "' + b"x" * 1_100_000 + b'"}', JSON),
}

IN_NAMES = [
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\u202e",
    "\U0001f600",
    "..",
    ".",
    "../../etc/passwd",
    "a/b",
    "a%2Fb",
    "a b",
    "",
    " ",
    "a\nb",
    "a\r\nX: y",
    "'; DROP",
    "x" * 300,
    "x" * 10_000,
    "{{7*7}}",
    "-",
    "--help",
    "null",
]
NUMBERS = [-1, -(2**63), 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400, 1.5, 1e308, "1", "", "0x1", True, None, [], {}]


def named(name: str) -> list[tuple[str, bytes, Any]]:
    """Requests with a name from outside in every place that takes one."""
    store = orders(name=name)
    instance = orders(name="Fresh")
    instance["instances"][0] |= {"instanceName": name}
    place = orders(name="Fresh")
    place["instances"][0] |= {"path": name}
    user = {"roles": [name], "password": name or "x"}
    return [
        ("POST", STORES, store),
        ("POST", STORES, instance),
        ("POST", STORES, place),
        ("POST", STORES, orders(name="Fresh", groups=[{"name": name, "slots": [[0, 16383]]}])),
        ("POST", STORES, orders(name="Fresh", appendFsync=name)),
        ("POST", b"/admin/v1/stores/OrdersStore/switchover", {"group": name}),
        (
            "POST",
            b"/admin/v1/stores/OrdersStore/groups/UNPARTITIONED/leader",
            {"archiveId": 0, "allowDataLoss": True, "reason": name},
        ),
        ("POST", b"/admin/v1/stores/OrdersStore/hot-copies", {"defaultPath": name}),
        ("POST", ARCHIVES, {"dbName": name, "host": "s1", "path": "/x"}),
        ("POST", ARCHIVES, {"dbName": "test", "host": name, "path": "/x"}),
        ("POST", ARCHIVES, {"dbName": "test", "host": "s1", "path": name}),
        ("POST", PROCESSES, {"dbName": name, "host": "s1"}),
        ("POST", PROCESSES, {"dbName": "test", "host": "s1", "archiveId": 2, "labels": {name: name}}),
        ("PUT", b"/api/1/databases/fresh", {"databaseDbaUser": name, "databaseDbaPassword": name, "teHosts": [name]}),
        ("PUT", b"/api/1/databases/fresh", {"defaultOptions": {name: name}}),
        ("POST", b"/api/1/databases/test/options", {name: name}),
        ("PUT", b"/api/1/kvstore/k", {"newValue": name, "expectedValue": name}),
        ("PUT", b"/api/1/policies/users/eve", user),
        ("PUT", b"/api/1/policies/roles/r", {"subRoles": [name], "authorizedRequests": [{"method": "GET", "url": name or "*"}]}),
        ("POST", b"/api/1/regions", {"name": name}),
        ("POST", b"/api/1/databases/loadBalancerConfig", {"dbName": name, "prefilter": name or "x"}),
        ("POST", b"/api/1/peers/certificates", {"alias": name, "certificatePem": name}),
        ("POST", b"/api/1/diagnostics/log", {"message": name}),
        ("POST", b"/api/1/databases/OrdersStore/hotCopySimple", {"defaultBackupLocation": {"copyArchiveDir": name}}),
    ]


def numbered(number: Any) -> list[tuple[str, bytes, Any]]:
    """Requests with a number from outside in every place that takes one."""
    port = orders(name="Fresh")
    port["instances"][0] |= {"clientPort": number}
    return [
        ("POST", STORES, port),
        *(("POST", STORES, orders(name="Fresh", **{field: number})) for field in ("replicationFactor", "minInSync", "maxMemory")),
        ("POST", STORES, orders(name="Fresh", groups=[{"name": "g", "slots": [[0, number]]}])),
        ("POST", b"/admin/v1/stores/OrdersStore/switchover", {"toStartId": number}),
        ("POST", b"/admin/v1/stores/OrdersStore/groups/UNPARTITIONED/leader", {"archiveId": number}),
        ("POST", b"/admin/v1/stores/OrdersStore/hot-copies", {"defaultPath": "/c", "maxRate": number}),
        ("POST", PROCESSES, {"dbName": "test", "host": "s1", "archiveId": number}),
        ("POST", PROCESSES, {"dbName": "test", "host": "s1", "archiveId": 2, "expectedIncarnation": {"major": number}}),
        ("PUT", b"/api/1/databases/fresh", {"defaultRegionId": number, "hostAssignments": {"s1": number}}),
        ("POST", b"/api/1/databases/test/options", {"mem": number}),
        ("PUT", b"/api/1/databases/test/hosts", {"serverId": "s1", "regionId": number}),
        ("PUT", b"/api/1/databases/test/defaultRegion", {"regionId": number}),
        (
            "POST",
            b"/api/1/databases/OrdersStore/hotCopySimple",
            {"defaultBackupLocation": {"copyArchiveDir": "/c"}, "maxRate": number, "testMode": number},
        ),
    ]


ADDRESSES = shlex.split(
    r"""
/admin/v1/stores/%00 /admin/v1/stores/%ff /admin/v1/stores/.. /admin/v1/stores/../../api/1/peers /admin/v1/stores/%2e%2e
/admin/v1/stores/a%2Fb /admin/v1/stores//start /admin/v1/stores/OrdersStore/instances/%2F/start //admin/v1/stores
/admin/v1/stores/OrdersStore/ /admin/v1//stores /ADMIN/V1/STORES /admin/v1/stores%3Fx /admin/v1/stores;x=1 /admin/v1/%2e/stores
/admin/v1/stores/OrdersStore/hot-copies/-1 /admin/v1/stores/OrdersStore/hot-copies/99999999999999999999
/admin/v1/stores/OrdersStore/hot-copies/1e3 /admin/v1/stores/OrdersStore/hot-copies/x
/admin/v1/events?after=-1 /admin/v1/events?after=9223372036854775808 /admin/v1/events?after=x /admin/v1/events?newest=10001
/admin/v1/events?newest=10000&after=9223372036854775807 /admin/v1/events?limit=0 /admin/v1/events?after=1&after=2
/admin/v1/metrics?windowSec=0 /admin/v1/metrics?windowSec=61 /admin/v1/metrics?local=perhaps /admin/v1/processes?store=%00
/admin/v1/tombstones?store=%ed%a0%80 /admin/v1/waiting?stor=x /admin/v1/stores?x /admin/v1/stores?%ff=%ff
/admin/v1/stores/OrdersStore/groups/UNPARTITIONED/leader?archiveId=99999999999999999999
/api/1/peers/%00 /api/1/peers/.. /api/1/peers/s1%2F..%2Fs2 /api/1/processes/-1 /api/1/processes/9223372036854775808
/api/1/processes/1.0 /api/1/processes/0x1 /api/1/processes/%30 /api/1/processes/١ /api/1/archives/99999999999999999999999
/api/1/kvstore/%00 /api/1/kvstore/a%2F..%2Fb /api/1/kvstore/../peers /api/1/kvstore/ /api/1/kvstore /api/1/kvstore/%ed%a0%80
/api/1/regions/-1 /api/1/regions/9223372036854775808 /api/1/regions/x /api/1/databases/ /api/1/databases/hotCopyStatus
/api/1/databases/hotCopyStatus?coordinatorStartId=99999999999999999999&hotCopyId=-1
/api/1/databases/OrdersStore/hotCopyStatus?minSecondsRunning=99999999999999999999999
/api/1/databases/OrdersStore/hotCopyStatus?minSecondsRunning=-9223372036854775808&timeoutSec=-1
/api/1/processes?offset=-1 /api/1/processes?limit=9999999999 /api/1/processes?limit=1.5 /api/1/processes?limit=٣
/api/1/processes?orderBy=,,, /api/1/processes?orderBy=options,labels,nothing.at.all&descendingFields=labels
/api/1/processes?filterBy=type&type=( /api/1/processes?filterBy=type&type=[ /api/1/processes?filterBy=type&type=\
/api/1/processes?filterBy=type&type=(a*)*b /api/1/processes?filterBy=type&type=a{1,99999} /api/1/processes?filterBy=a..b&a..b=x
/api/1/processes?filterBy=type&type=%00 /api/1/processes?filterBy=&=x /api/1/processes?filterBy=offset&offset=x
/api/1/processes/0?offset=1 /api/1/databases/OrdersStore/sqlConnection?anything=goes&%00=%ff
/api/1/diagnostics/logs?ignore=( /api/1/diagnostics/logs?modifiedAfterEpochSec=99999999999999999999999
/api/1/diagnostics/config/%2e
/admin/v1/openapi.json/ /api/1/openapi.json?x=1 /docs/.. /openapi.json%00
""".replace("\\\n", "\\\\\n")
)

HEADERS = [
    [(b"Idempotency-Key", b"\xff\xfe")],
    [(b"Idempotency-Key", b"k" * 201)],
    [(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")],
    [(b"Host", b"")],
    [(b"Host", b"127.0.0.11:7801"), (b"Host", b"evil.example")],
    [(b"Host", b"[::1")],
    [(b"Host", b"\xff")],
    [(b"Host", b"evil.example@127.0.0.11")],
    [(b"Origin", b"null")],
    [(b"Origin", b"\xff")],
    [(b"Content-Length", b"-1")],
    [(b"Content-Length", b"many")],
    [(b"Content-Length", b"\xb2")],
    [(b"Content-Length", b"1" * 5000)],
    [(b"Content-Type", b"application/json; charset=utf-7")],
    [(b"Content-Type", b"\xff")],
    [(b"Content-Type", b"application/json;;;")],
    [(b"Last-Event-ID", b"-1")],
    [(b"Last-Event-ID", b"\xb2")],
    [(b"Last-Event-ID", b"9" * 5000)],
    [(b"Accept", b"\xff")],
    [(b"Authorization", b"Basic !!!")],
    [(b"X", b"y" * 60_000)],
    [(b"Transfer-Encoding", b"chunked")],
]


def ask_each(stage: Stage, requests: list[Said], refused: bool | None = None) -> list[int]:
    """Ask one after the other, each in the same world. With `refused` each has to be refused."""
    return [stage.runner.run(status_of(stage.world, request, refused)) for request in requests]


async def status_of(world: FurnishedWorld, request: Said, refused: bool | None) -> int:
    where = f"{request.method} {request.target[:200]!r} {dict(request.headers)} {request.body[:200]!r}"
    await world.put_back()
    before = (await world.store.read()).revision
    answer = await answered(world, request)
    after = (await world.store.read()).revision
    status, text = answer.status_code, answer.text
    assert status < 500 or (status == 503 and "manager_away" in text), f"{where}: {status} {text[:500]}"
    assert status or not refused, f"{where}: no answer"
    if status >= 400:
        assert after == before, f"{where}: refused with {status} and yet something was changed"
        error = answer.json()
        sentence = error.get("detail") or error["messages"][0]
        assert sentence and "\n" not in sentence and "Traceback" not in text and len(text) < 5_000, f"{where}: {text[:500]}"
    assert not refused or status >= 400, f"{where}: {status} {text[:300]}"
    descriptions(lambda of_nuodb: describe(World().apps["s1"], of_nuodb))[request.target.startswith(b"/api/1")].holds(answer)
    return status


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_none_is_refused(stage: Stage, kind: str) -> None:
    content, headers = BODIES[kind]
    taking = [operation for operation in TAKING if operation not in MAY_TAKE.get(kind, ())]
    ask_each(stage, [Said(method, target, headers, content) for method, target in taking], refused=kind != "no kind" or None)


def test_a_body_that_never_says_how_long_it_is_has_an_end_all_the_same(stage: Stage) -> None:
    endless = b'{"name": "' + b"x" * 20_000_000 + b'"}'
    statuses = ask_each(stage, [Said(method, target, JSON, endless, whole=False) for method, target in TAKING], refused=True)
    assert set(statuses) == {400}


@pytest.mark.parametrize("name", IN_NAMES, ids=lambda name: ascii(name)[:30])
def test_names_from_outside_do_no_harm(stage: Stage, name: str) -> None:
    ask_each(stage, [Said(method, target, JSON, body(value)) for method, target, value in named(name)])


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: repr(number)[:30])
def test_numbers_from_outside_do_no_harm(stage: Stage, number: Any) -> None:
    ask_each(stage, [Said(method, target, JSON, body(value)) for method, target, value in numbered(number)])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get", ""])
def test_every_method_at_strange_addresses(stage: Stage, method: str) -> None:
    ask_each(stage, [Said(method, address.encode()) for address in ADDRESSES])


def test_headers_from_outside_do_no_harm(stage: Stage) -> None:
    requests = [
        ("GET", STORES, b""),
        ("GET", b"/admin/v1/events", b""),
        ("GET", b"/api/1/peers", b""),
        ("POST", STORES, body(orders(name="Fresh"))),
        ("POST", ARCHIVES, body({"dbName": "x", "host": "s1", "path": "/x"})),
    ]
    ask_each(
        stage, [Said(method, target, (*JSON, *headers), content) for headers in HEADERS for method, target, content in requests]
    )


CHANGES = [
    ("DELETE", b"/admin/v1/stores/OrdersStore"),
    ("POST", b"/admin/v1/stores/OrdersStore/stop"),
    ("POST", b"/admin/v1/stores/OrdersStore/instances/orders-1/stop"),
    ("DELETE", b"/api/1/processes/0"),
    ("DELETE", b"/api/1/archives/2"),
    ("POST", b"/api/1/databases/OrdersStore/shutdown"),
]


def test_a_change_that_takes_no_body_refuses_one(stage: Stage) -> None:
    """What is said in it, such as a force, would be passed over in silence."""
    ask_each(stage, [Said(method, target, JSON, b'{"force": true}') for method, target in CHANGES], refused=True)


def test_a_delete_with_an_empty_object_is_a_delete(stage: Stage) -> None:
    assert ask_each(stage, [Said("DELETE", b"/api/1/databases/loadBalancerPolicy/fastest", JSON, b"{}")]) == [200]
