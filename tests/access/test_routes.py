"""Access control on the API: who gets through, in both dialects, and that a refused request costs and changes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dkv.access import certificates, crypto, passed_on, passwords, tokens
from dkv.access.certificates import Owner, Reachable
from dkv.access.domain_key import new_domain_key
from dkv.access.passwords import Verifier
from dkv.access.turns import WAITING_EACH
from dkv.api.access import AccessControl
from dkv.api.app import Api, create_app
from dkv.api.description import describe
from dkv.api.rights import ROUTES, match
from dkv.constants import PRINCIPAL_HEADER
from dkv.domain.access import MANAGERS
from dkv.domain.facts import AuthorityFounded
from dkv.domain.identities import fingerprint_of
from dkv.domain.orders import CreateToken, DeleteToken, PutRecord
from dkv.domain.rights import Right
from dkv.peer import PEER, Peer, shown_to
from tests.api.world import HOSTS, PORT, World, scenario

NOW = 1_000_000  # as World begins
HOUR = 3_600_000
NATIVE, DIALECT = "/admin/v1/stores", "/api/1/peers"


def hashed(password: bytes, stored: str) -> bool:
    """A hash that is quick."""
    return stored == f"hash of {password.decode()}"


class Guarded:
    """The world's first manager behind access control."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        self.authority = certificates.new_authority(Owner("d0"), NOW)
        self.seconds = 0.0
        self.reported: list[tuple[str, int, str]] = []
        verifier = Verifier(b"key", lambda: 0.0, self._fits)
        self.control = AccessControl(verifier, administrators={0, 1000}, report=self._report, monotonic=lambda: self.seconds)
        self.api = create_app(world.context("s1"), self.control)
        self.random = iter(range(1, 200))

    def _fits(self, password: bytes, stored: str) -> bool:
        self.asked += 1
        return hashed(password, stored)

    async def _report(self, peer: str, count: int, last: str) -> None:
        self.reported.append((peer, count, last))

    async def until_reported(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.reported) < count:
                await asyncio.sleep(0)

    def client(self, peer: Peer | None = None, address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        app: Any = shown_to(self.api, peer) if peer else self.api
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 9))
        return httpx.AsyncClient(transport=transport, base_url=f"http://{HOSTS['s1']}:{PORT}", headers=headers)

    async def ask(self, method: str, path: str, peer: Peer | None = None, body: Any = None, **headers: str) -> httpx.Response:
        async with self.client(peer, **headers) as client:
            more = {} if body is None else {"json": body}
            return await client.request(method, path, **more)

    async def user(self, name: str, *roles: str, certificate: str = "") -> None:
        shown = {"certificatePem": certificate} if certificate else {"password": f"hash of {name}-pw"}
        await self.world.submit(PutRecord(kind="user", key=name, value=json.dumps({"roles": roles, **shown})))

    async def remove_user(self, name: str) -> None:
        await self.world.submit(PutRecord(kind="user", key=name))

    async def role(self, name: str, *requests: dict[str, Any], sub_roles: Sequence[str] = ()) -> None:
        value = {"subRoles": list(sub_roles), "authorizedRequests": list(requests)}
        await self.world.submit(PutRecord(kind="role", key=name, value=json.dumps(value)))

    async def token(self, role: str, user: str = "", lasts: int = HOUR) -> dict[str, str]:
        made = tokens.new_secret(bytes([next(self.random)]) * 38)
        await self.world.submit(
            CreateToken(now=NOW, token_id=made.token_id, hashed_secret=made.hashed, role=role, user=user, lasts=lasts)
        )
        return {"Authorization": f"Bearer {made.text}"}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def guarded(check: Callable[[Guarded], Any]) -> Callable[[], None]:
    """A test on a guarded manager."""

    @scenario
    async def case(world: World) -> None:
        at = Guarded(world)
        await world.submit(AuthorityFounded(owner=MANAGERS, certificate=at.authority.certificate, key="sealed"))
        await check(at)

    def test() -> None:
        case()

    test.__name__ = check.__name__
    return test


def no_credentials(answer: httpx.Response, words: str = "") -> None:
    assert answer.status_code == 401, answer.text
    assert "Basic" in answer.headers["www-authenticate"]
    problem = answer.json()
    if "messages" in problem:
        assert problem["code"] == 401 and problem["reason"] == "unauthenticated" and words in problem["messages"][0]
    else:
        assert problem["code"] == "unauthenticated" and words in problem["detail"] and problem["hint"]


def not_allowed(answer: httpx.Response, *words: str) -> None:
    assert answer.status_code == 403, answer.text
    problem = answer.json()
    assert "not_allowed" in (problem["code"], problem.get("reason"))
    assert all(word in json.dumps(problem) for word in words), problem


# The table -----------------------------------------------------------------------------------------------------------


@cache  # to describe an API takes as long as a hundred requests
def described() -> frozenset[tuple[str, str]]:
    app = World().apps["s1"]
    return frozenset(
        (method.upper(), path)
        for of_nuodb in (False, True)
        for path, methods in describe(app, of_nuodb)["paths"].items()
        for method in methods
    )


PAGES = ("/", "/console/{file}", "/docs", "/openapi.json", "/admin/v1/openapi.json", "/api/1/openapi.json")
HIDDEN = {("GET", path) for path in PAGES}


def test_every_route_has_a_right_and_every_right_a_route() -> None:
    in_table = {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert in_table == described() | HIDDEN


def example(template: str) -> str:
    path = template
    for name, value in {
        "file": "app.js",
        "sequence": "1",
        "archive_id": "1",
        "start_id": "1",
        "copy_id": "1",
        "region_id": "1",
    }.items():
        path = path.replace("{" + name + "}", value)
    return path.replace("{", "").replace("}", "")


@pytest.mark.parametrize(("method", "template"), sorted(described() | HIDDEN))
def test_the_route_that_is_judged_is_the_one_that_answers(method: str, template: str) -> None:
    """An administrator reaches every route: one that was judged for another address would be refused."""

    @guarded
    async def case(at: Guarded) -> None:
        path = example(template)
        found = match(path, method)
        assert found and found.template == template
        if template in ("/admin/v1/events", "/admin/v1/live", "/api/1/peers/{server_id}/shutdown"):
            return  # endless, or ends the manager
        answer = await at.ask(method, path, Peer(uid=0), {})
        assert answer.status_code not in (401, 405) and "not_allowed" not in answer.text, answer.text
        assert "There is nothing at" not in answer.text

    case()


def test_parts_of_an_address_are_named_as_constraints_name_them() -> None:
    route = match("/api/1/databases/orders/hotCopy")
    assert route and route.parts == {"name": "orders", "dbName": "orders"}
    user = match("/api/1/policies/users/orders")
    assert user and user.parts == {"name": "orders"}
    peer = match("/api/1/peers/s1")
    assert peer and peer.parts == {"serverId": "s1"}
    slashes = match("/api/1/kvstore/a/b\n/c")
    assert slashes and slashes.parts == {"name": "a/b\n/c"}
    page = match("/")
    assert page and page.template == "/" and page.parts == {}
    for path in ("", "/api/1", "/api/1/peers/", "//api/1/peers", "/api/1/peers/a/b", "/API/1/peers", "/x" * 9_000):
        assert match(path) is None, path


@guarded
async def test_a_name_that_is_a_word_of_an_address_is_judged_and_refused_as_the_name(at: Guarded) -> None:
    """PUT /api/1/databases/{name} fits what only GET has as an address of its own."""
    route = match("/api/1/databases/hotCopyStatus", "PUT")
    assert route and route.template == "/api/1/databases/{name}"
    answer = await at.ask("PUT", "/api/1/databases/hotCopyStatus", Peer(uid=0), {"name": "hotCopyStatus"})
    assert answer.status_code == 400 and "not_allowed" not in answer.text, answer.text
    not_allowed(await at.ask("PUT", "/api/1/databases/hotCopyStatus", body={}, **await at.token("viewer")), "operate")


def test_a_password_in_clear_asks_for_more_unless_it_stays_masked() -> None:
    route = match("/api/1/databases/orders")
    assert route
    assert route.right("GET", {}) is route.right("GET", {"maskPassword": ["true"]}) is Right.READ
    for value in ("False", "false", "0", "no", "", "True"):
        assert route.right("GET", {"maskPassword": [value]}) is Right.PASSWORDS
    assert route.right("GET", {"maskPassword": ["true", "false"]}) is Right.PASSWORDS
    assert route.right("DELETE", {"maskPassword": ["false"]}) is Right.OPERATE and route.right("PATCH", {}) is None


# Nobody --------------------------------------------------------------------------------------------------------------


@guarded
async def test_without_credentials_only_what_is_open_is_answered(at: Guarded) -> None:
    for method, template in sorted(described() | HIDDEN):
        answer = await at.ask(method, example(template), body={} if method != "GET" else None)
        if ROUTES[template][method] is Right.OPEN:
            assert answer.status_code == (409 if template == "/admin/v1/join" else 200), template  # which wants a token
        else:
            no_credentials(answer, "no credentials")
    for path in ("/nothing", "/api/1/nothing", "/console/", "/console", "/admin/v1/stores/", "//admin/v1/stores"):
        no_credentials(await at.ask("GET", path))


BAD_HEADERS = [
    "",
    "Bearer",
    "Bearer x",
    "Bearer " + "x" * 100_000,
    "Basic",
    "Basic !",
    "Basic " + "A" * 100_000,
    "Digest x",
    "bearer dkvt_000000000000_" + "A" * 43,
    "Basic " + base64.b64encode(b"no colon").decode(),
    "Basic " + base64.b64encode(b":pw").decode(),
    "\x00",
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_a_header_that_proves_nothing_is_refused_whoever_connects(header: str) -> None:
    @guarded
    async def case(at: Guarded) -> None:
        for path in (NATIVE, DIALECT):
            no_credentials(await at.ask("GET", path, Authorization=header))
        no_credentials(await at.ask("GET", NATIVE, Peer(uid=0), Authorization=header))  # what is shown counts

    case()


@guarded
async def test_two_authorization_headers_are_refused(at: Guarded) -> None:
    token = await at.token("admin")
    transport = httpx.ASGITransport(at.api)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOSTS['s1']}:{PORT}") as client:
        value = token["Authorization"]
        no_credentials(await client.get(NATIVE, headers=[("Authorization", value), ("Authorization", value)]), "more than one")


@guarded
async def test_a_refused_request_is_not_read_and_changes_nothing(at: Guarded) -> None:
    viewer = await at.token("viewer")
    before = await at.world.store.read()

    async def never() -> Any:
        raise AssertionError("the body was read")
        yield b""

    for path in ("/admin/v1/stores", "/api/1/processes"):
        async with at.client() as client:
            no_credentials(await client.post(path, content=never()))
            not_allowed(await client.post(path, content=never(), headers=viewer))
    assert await at.world.store.read() == before


# Somebody ------------------------------------------------------------------------------------------------------------


@guarded
async def test_root_and_the_managers_user_administrate_over_the_socket_and_nobody_else(at: Guarded) -> None:
    for uid in (0, 1000):
        assert (await at.ask("GET", "/admin/v1/tokens", Peer(uid=uid))).status_code == 200
    not_allowed(await at.ask("GET", NATIVE, Peer(uid=65534)), "local uid 65534")


@guarded
async def test_tokens_allow_what_their_role_allows_until_they_expire_or_are_deleted(at: Guarded) -> None:
    viewer, admin = await at.token("viewer"), await at.token("admin")
    for path in (NATIVE, DIALECT):
        assert (await at.ask("GET", path, **viewer)).status_code == 200
    not_allowed(await at.ask("POST", NATIVE, body={}, **viewer), "right operate", "viewer")
    not_allowed(await at.ask("DELETE", "/api/1/databases/orders", **viewer), "right operate")
    assert (await at.ask("GET", "/admin/v1/tokens", **admin)).status_code == 200
    token_id = viewer["Authorization"].split("_")[1]
    assert (await at.ask("DELETE", f"/admin/v1/tokens/{token_id}", **admin)).status_code == 200
    no_credentials(await at.ask("GET", NATIVE, **viewer), "not known")
    at.world.now += HOUR
    no_credentials(await at.ask("GET", NATIVE, **admin), "expired")


@guarded
async def test_a_users_password_is_asked_once_a_minute_and_a_stranger_costs_as_much(at: Guarded) -> None:
    await at.user("ada", "viewer")
    at_once = [at.ask("GET", DIALECT, **basic("ada", "ada-pw")) for _ in range(5)]
    assert [answer.status_code for answer in await asyncio.gather(*at_once)] == [200] * 5
    for _ in range(5):
        assert (await at.ask("GET", DIALECT, **basic("ada", "ada-pw"))).status_code == 200
    assert at.asked == 1
    no_credentials(await at.ask("GET", DIALECT, **basic("ada", "no")), "not known, or the password")
    no_credentials(await at.ask("GET", DIALECT, **basic("eve", "ada-pw")), "not known, or the password")
    assert at.asked == 3
    not_allowed(await at.ask("POST", "/api/1/processes", body={}, **basic("ada", "ada-pw")), "user ada")
    await at.user("ada", "operator")
    assert (await at.ask("POST", "/api/1/processes", body={}, **basic("ada", "ada-pw"))).status_code == 400


@guarded
async def test_a_token_of_a_user_ends_with_the_user(at: Guarded) -> None:
    await at.user("ada", "viewer")
    token = await at.token("admin", user="ada")
    assert (await at.ask("GET", NATIVE, **token)).status_code == 200
    not_allowed(await at.ask("GET", "/admin/v1/tokens", **token), "user ada")
    await at.world.submit(PutRecord(kind="user", key="ada"))
    not_allowed(await at.ask("GET", NATIVE, **token))


@guarded
async def test_certificates_are_matched_by_fingerprint_or_by_the_domains_authority(at: Guarded) -> None:
    domain = Owner((await at.world.state()).uid)
    mine = certificates.new_authority(Owner("ada"), NOW)  # self-signed, and an authority, as a careless person has
    await at.user("ada", "viewer", certificate=mine.certificate)
    below = certificates.new_leaf(mine, Owner("ada"), Reachable("ada"), NOW)
    member = certificates.new_leaf(at.authority, domain, Reachable("uid-of-s2"), NOW)
    gone = certificates.new_leaf(at.authority, domain, Reachable("uid-of-s9"), NOW)
    elsewhere = certificates.new_leaf(certificates.new_authority(domain, NOW), domain, Reachable("uid-of-s2"), NOW)

    async def ask(certificate: str, path: str = NATIVE) -> httpx.Response:
        return await at.ask("GET", path, Peer(certificate=crypto.in_der(certificate)))

    assert (await ask(mine.certificate)).status_code == 200
    not_allowed(await ask(mine.certificate, "/admin/v1/tokens"), "user ada")
    assert (await ask(member.certificate)).status_code == 200
    not_allowed(await ask(member.certificate, "/admin/v1/tokens"), "server uid-of-s2")
    for certificate in (below, gone, elsewhere, at.authority):
        no_credentials(await ask(certificate.certificate))
    no_credentials(await at.ask("GET", NATIVE, Peer(certificate=b"\x30\x00")))
    at.world.now += 90 * 24 * HOUR
    no_credentials(await ask(member.certificate), "expired")


# NuoDB's roles -------------------------------------------------------------------------------------------------------


@guarded
async def test_a_made_role_allows_by_method_address_and_constraints(at: Guarded) -> None:
    mine = {"dbName": "orders"}
    await at.role(
        "dba",
        {"method": "*", "url": "/api/1/databases/*", "pathParamConstraints": mine},
        {"method": "*", "url": "/api/1/processes/*", "payloadParamConstraints": mine},
    )
    await at.user("ada", "dba")
    ada = basic("ada", "ada-pw")

    async def status(method: str, path: str, body: Any = None) -> int:
        return (await at.ask(method, path, body=body, **ada)).status_code

    assert await status("GET", "/api/1/databases/orders") == 404  # it may, and there is none
    assert await status("GET", "/api/1/databases/bills") == 403
    assert await status("GET", "/api/1/databases/orders?maskPassword=False") == 403
    assert await status("GET", NATIVE) == 403
    start = {"dbName": "orders", "engineType": "TE", "host": "s1"}
    assert await status("POST", "/api/1/processes", start) == 404
    assert await status("POST", "/api/1/processes", start | {"dbName": "bills"}) == 403
    assert await status("POST", "/api/1/processes", []) == 403
    async with at.client(None, **ada) as client:
        for content in (b"", b"{", b'{"dbName": "orders"', b"\xff", b"[" * 50_000):
            assert (await client.post("/api/1/processes", content=content)).status_code == 403
        twice = b'{"dbName": "bills", "dbName": "orders", "engineType": "TE", "host": "s1"}'
        answer = await client.post("/api/1/processes", content=twice)
        assert answer.status_code == 400 and "given twice" in answer.text


@guarded
async def test_nobody_gives_or_takes_over_what_it_does_not_have(at: Guarded) -> None:
    await at.role("keeper", {"method": "*", "url": "/api/1/policies/*"}, {"method": "POST", "url": "/admin/v1/tokens"})
    await at.role("reader", {"method": "GET", "url": "*"})
    await at.user("ada", "keeper", "viewer")
    await at.user("chief", "admin")
    ada, users, made_roles = basic("ada", "ada-pw"), "/api/1/policies/users", "/api/1/policies/roles"
    before = await at.world.store.read()
    every = {"method": "*", "url": "*"}
    for method, path, body in (
        ("PUT", f"{users}/eve", {"password": "x", "roles": ["admin"]}),
        ("PUT", f"{users}/eve", {"password": "x", "roles": ["reader"]}),
        ("POST", f"{users}/ada/roles", {"rolesToAdd": ["operator"]}),
        ("POST", f"{users}/chief/credentials", {"newPassword": "x"}),
        ("PUT", f"{made_roles}/mine", {"subRoles": ["admin"]}),
        ("PUT", f"{made_roles}/mine", {"authorizedRequests": [every]}),
        ("POST", f"{made_roles}/keeper", {"policiesToAdd": [every]}),
        ("POST", f"{made_roles}/keeper", {"subRolesToAdd": ["operator"]}),
        ("POST", "/admin/v1/tokens", {"role": "admin"}),
        ("POST", "/admin/v1/tokens", {"role": "viewer", "user": "chief"}),
    ):
        not_allowed(await at.ask(method, path, body=body, **ada), "cannot give the role")
    assert await at.world.store.read() == before
    for method, path, body in (
        ("PUT", f"{users}/eve", {"password": "x", "roles": ["viewer", "keeper"]}),
        ("POST", f"{users}/ada/credentials", {"newPassword": "y"}),
        ("POST", "/admin/v1/tokens", {"role": "viewer"}),
    ):
        answer = await at.ask(method, path, body=body, **(ada if body != {"role": "viewer"} else basic("eve", "x")))
        assert answer.status_code in (200, 201, 401), answer.text  # 401: the quick hash of these tests knows no real one
    assert (await at.ask("PUT", f"{users}/mia", Peer(uid=0), {"password": "x", "roles": ["admin"]})).status_code == 201


class Stream:
    """A stream of a guarded manager, of events unless its path says else, judged again every 20 ms, from its first words on."""

    def __init__(self, at: Guarded, peer: Peer | None, headers: Mapping[str, str], path: str = "/admin/v1/events") -> None:
        self._at = at
        self._path = path
        at.api = create_app(at.world.context("s1"), replace(at.control, judged_every=0.02))
        self._headers = {"host": f"{HOSTS['s1']}:{PORT}", **headers}
        self._peer = peer
        self.ended = asyncio.Event()
        self._received: list[bytes] = []

    async def __aenter__(self) -> Stream:
        scope = {
            "type": "http",
            "scheme": "http",
            "method": "GET",
            "path": self._path,
            "query_string": b"",
            "headers": [(name.lower().encode(), text.encode()) for name, text in self._headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.11", PORT),
            PEER: self._peer,
        }
        self._task = asyncio.create_task(self._at.api(scope, self._receive, self._send))
        async with asyncio.timeout(30):
            while not any(piece.startswith((b": events follow", b"data: ")) for piece in self._received):
                assert not self._task.done(), self._received
                await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        async with asyncio.timeout(30):
            await self.ended.wait()
            await self._task
        await self._at.api.streams.close()
        await self._at.api.hub.close()

    async def _receive(self) -> Any:
        await self.ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._received.append(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended.set()


@pytest.mark.parametrize("path", ["/admin/v1/events", "/admin/v1/live"])
def test_a_stream_ends_soon_after_its_token_was_deleted_and_goes_on_while_the_state_is_away(path: str) -> None:
    @guarded
    async def case(at: Guarded) -> None:
        token = await at.token("viewer")
        async with Stream(at, None, token, path) as stream:
            at.world.away = True
            await asyncio.sleep(0.1)  # judged some times meanwhile
            assert not stream.ended.is_set()
            at.world.away = False
            await at.world.submit(DeleteToken(token_id=token["Authorization"].split("_")[1]))

    case()


@guarded
async def test_a_stream_ends_when_its_principal_may_not_look_any_more(at: Guarded) -> None:
    """Whatever took it away: its token expired, its user is gone or has another password or role, its certificate ended."""
    mine = certificates.new_authority(Owner("mia"), NOW)
    await at.user("mia", "viewer", certificate=mine.certificate)
    leaf = certificates.new_leaf(at.authority, Owner((await at.world.state()).uid), Reachable("uid-of-s2"), NOW)

    async def past(days: int) -> None:
        at.world.now = NOW + days * certificates.DAY

    async def another_role() -> None:
        await at.user("bob", "metrics")

    async def another_password() -> None:
        value = {"roles": ["viewer"], "password": "hash of another"}
        await at.world.submit(PutRecord(kind="user", key="ada", value=json.dumps(value)))

    for name in ("ada", "bob"):
        await at.user(name, "viewer")
    of_leaf, of_mine = (Peer(certificate=crypto.in_der(pem)) for pem in (leaf.certificate, mine.certificate))
    for peer, headers, happens in (
        (None, basic("ada", "ada-pw"), another_password),
        (None, basic("bob", "bob-pw"), another_role),
        (None, await at.token("viewer", user="bob"), partial(at.remove_user, "bob")),
        (None, await at.token("viewer", lasts=certificates.DAY), partial(past, 1)),
        (of_leaf, {}, partial(past, 91)),
        (of_mine, {}, partial(past, 3651)),
    ):
        await at.user("bob", "viewer")
        async with Stream(at, peer, headers) as stream:
            assert not stream.ended.is_set()
            await happens()


# What is written down ------------------------------------------------------------------------------------------------


@guarded
async def test_the_actor_of_a_change_is_the_principal(at: Guarded) -> None:
    await at.user("ada", "operator")
    token = await at.token("operator")
    callers = [(Peer(uid=0), {}), (None, basic("ada", "ada-pw")), (None, token)]
    for number, (peer, headers) in enumerate(callers):
        put = await at.ask("PUT", f"/api/1/kvstore/k{number}", peer, {"newValue": "v"}, **{"X-Forwarded-For": "eve", **headers})
        assert put.status_code == 200, put.text
    events = [json.loads(stored.text) for stored in at.world.domain.log][-3:]
    actors = ["local uid 0", "user ada", f"token {token['Authorization'].split('_')[1]}"]
    assert [event["actor"] for event in events] == actors
    assert [event["entry"] for event in events] == ["socket of s1", "port 7801 of s1", "port 7801 of s1"]
    assert all(event["because"] for event in events)
    for number, actor in enumerate(actors):
        for by in (actor, actor.rpartition(" ")[2]):
            query = {"accept": "application/json"}
            shown = (await at.ask("GET", f"/admin/v1/events?by={quote(by)}", Peer(uid=0), **query)).json()["events"]
            assert [(event["subject"], event["actor"]) for event in shown] == [(f"kvstore k{number}", actor)]
    assert (await at.ask("GET", "/admin/v1/events?by=eve", Peer(uid=0), accept="application/json")).json()["events"] == []


@guarded
async def test_a_manager_says_to_strangers_only_which_domain_it_is_of(at: Guarded) -> None:
    await at.user("ada", "viewer")
    identity = "/admin/v1/identity"
    certificate = at.authority.certificate
    authority = {
        "product": "dkv",
        "domainUid": (await at.world.state()).uid,
        "authority": fingerprint_of(certificate),
        "recoveries": [],
    }
    for headers in ({}, {"Authorization": "Bearer dkvt_0_0"}, basic("ada", "wrong"), await at.token("metrics")):
        answer = await at.ask("GET", identity, **headers)
        assert (answer.status_code, answer.json()) == (200, authority)
    for peer, headers in ((Peer(uid=0), {}), (None, basic("ada", "ada-pw"))):
        whole = (await at.ask("GET", identity, peer, **headers)).json()
        assert whole.items() >= authority.items() and (whole["serverId"], whole["accessControl"]) == ("s1", "on")
    at.world.away = True
    away = {"product": "dkv", "domainUid": None, "authority": None, "recoveries": []}
    assert (await at.ask("GET", identity, **basic("ada", "ada-pw"))).json() == away
    assert (await at.ask("GET", identity, Peer(uid=65534))).json() == away
    assert (await at.ask("GET", identity, Peer(uid=0))).json()["serverId"] == "s1"


@guarded
async def test_the_last_use_of_a_token_is_shown_and_not_committed(at: Guarded) -> None:
    token, other = await at.token("viewer"), await at.token("viewer")
    mine, others = (header["Authorization"].split("_")[1] for header in (token, other))
    revision = (await at.world.store.read()).revision
    at.world.now += 5_000
    assert (await at.ask("GET", NATIVE, **token)).status_code == 200
    shown = (await at.ask("GET", "/admin/v1/tokens", Peer(uid=0))).json()["tokens"]
    assert {entry["id"]: entry["lastUsed"] for entry in shown} == {mine: at.world.now, others: None}
    assert (await at.ask("GET", "/admin/v1/tokens/used", **token)).json() == {"used": {mine: at.world.now}}
    assert (await at.world.store.read()).revision == revision
    await at.world.submit(DeleteToken(token_id=mine))
    await at.ask("GET", NATIVE, **other)
    assert list(at.control.used) == [others]


@guarded
async def test_nobody_but_a_manager_of_the_domain_orders_in_the_name_of_another_over_a_socket(at: Guarded) -> None:
    """Not even root, which may administrate: the principal is sealed with the domain's key, for one request, now."""
    key, path, now = new_domain_key(), "/api/1/kvstore/k?x=1", at.world.now
    at.control = replace(at.control, domain_key=lambda: key)
    at.api = create_app(at.world.context("s1"), at.control)

    async def put(text: str, peer: Peer | None = Peer(uid=0), **headers: str) -> httpx.Response:  # noqa: B008  a value
        return await at.ask("PUT", "/api/1/kvstore/k", peer, {"newValue": "v"}, **{PRINCIPAL_HEADER: text, **headers})

    good = passed_on.sealed(key, "user j\u00e4n", "PUT", "/api/1/kvstore/k", now)
    assert (await put(good)).status_code == 200
    last = json.loads(at.world.domain.log[-1].text)
    assert (last["actor"], last["entry"]) == ("user j\u00e4n", "socket of s1")
    no_credentials(await put(good, None))  # it is no credential
    not_allowed(await put(good, None, **await at.token("admin")), "in whose name")
    not_allowed(await put(good, Peer(uid=65534)), "operate")
    for bad in (
        passed_on.sealed(key, "user ann", "PUT", "/api/1/kvstore/k2", now),
        passed_on.sealed(key, "user ann", "POST", "/api/1/kvstore/k", now),
        passed_on.sealed(key, "user ann", "PUT", path, now),
        passed_on.sealed(key, "nobody", "PUT", "/api/1/kvstore/k", now),
        passed_on.sealed(key, "user ann", "PUT", "/api/1/kvstore/k", now - 60_000),
        passed_on.sealed(new_domain_key(), "user ann", "PUT", "/api/1/kvstore/k", now),
        good[:-2] + ("00" if good[-2:] != "00" else "11"),
        "user ann",
        "",
    ):
        not_allowed(await put(bad), "in whose name")


@guarded
async def test_one_change_sent_under_two_principals_is_made_once_and_answered_twice(at: Guarded) -> None:
    """As a person does who is root on one of the machines, and has a token for the others."""
    token, key = await at.token("operator"), {"Idempotency-Key": "k"}

    async def put(value: str, peer: Peer | None = None, **credential: str) -> httpx.Response:
        return await at.ask("PUT", "/api/1/kvstore/k", peer, {"newValue": value}, **credential, **key)

    here = await put("v", Peer(uid=0))
    revision = (await at.world.store.read()).revision
    there = await put("v", **token)
    assert (here.status_code, there.status_code, here.json()) == (200, 200, there.json())
    assert (await at.world.store.read()).revision == revision
    assert (await put("w", **token)).status_code == 409


@guarded
async def test_each_request_of_a_plan_is_judged_by_itself(at: Guarded) -> None:
    viewer = await at.token("viewer")
    steps = [
        {"method": "GET", "path": "/admin/v1/stores"},
        {"method": "PUT", "path": "/api/1/policies/users/eve", "body": {"roles": ["admin"], "password": "x"}},
        {"method": "GET", "path": "/admin/v1/state"},
    ]
    for headers, peer, expected in ((viewer, None, [200, 403, 403]), ({}, Peer(uid=0), [200, 201, 200])):
        planned = await at.ask("POST", "/admin/v1/plan", peer, {"steps": steps}, **headers)
        assert [step["status"] for step in planned.json()["steps"]] == expected


@guarded
async def test_refused_attempts_are_counted_shown_and_reported_once_a_minute(at: Guarded) -> None:
    viewer = await at.token("viewer")
    revision = (await at.world.store.read()).revision
    await at.ask("GET", NATIVE)
    await at.until_reported(1)
    for _ in range(4):
        await at.ask("GET", NATIVE)
    await at.ask("DELETE", f"{NATIVE}/none", **viewer)
    counted = {"unauthenticated": 5, "not_allowed": 1}
    assert at.control.attempts.counted == counted
    assert (await at.ask("GET", "/admin/v1/identity", Peer(uid=0))).json()["refusedRequests"] == counted
    assert (await at.ask("GET", "/admin/v1/metrics", **viewer)).json()["refusedRequests"] == counted
    assert at.reported == [("127.0.0.1", 1, f"GET {NATIVE}: The request shows no credentials.")]
    at.seconds = 60.0
    await at.ask("GET", NATIVE, Authorization="Bearer dkvt_0_0")
    assert at.api.reporter
    at.api.reporter.wake()
    await at.until_reported(2)
    assert [(peer, count) for peer, count, _ in at.reported] == [("127.0.0.1", 1), ("127.0.0.1", 6)]
    assert (await at.world.store.read()).revision == revision


@guarded
async def test_a_bad_credential_counts_where_everybody_is_answered(at: Guarded) -> None:
    """Who shows a good one sees more there: passwords could be tried by that, and nobody would hear of it."""
    await at.user("ada", "viewer")
    wrong = base64.b64encode(b"ada:wrong").decode()
    for path in ("/admin/v1/identity", "/admin/v1/ca"):
        answer = await at.ask("GET", path, Authorization=f"Basic {wrong}")
        assert answer.status_code == 200 and answer.json() == (await at.ask("GET", path)).json()
    assert answer.json() != (await at.ask("GET", "/admin/v1/identity", **basic("ada", "ada-pw"))).json()
    await at.ask("GET", "/admin/v1/identity", Peer(certificate=b"none of this domain"))
    assert at.control.attempts.counted == {"unauthenticated": 3}
    await at.until_reported(1)
    assert at.reported[0][2].endswith(": The user is not known, or the password is another one.")  # of one of them, or the last


def test_a_flood_of_passwords_from_one_address_keeps_no_other_waiting() -> None:
    """Each verification takes a core for 40 ms, there are two at once, and a request that waits keeps its connection."""

    @scenario
    async def case(world: World) -> None:
        at, tried = Guarded(world), threading.Event()

        def slow(password: bytes, stored: str) -> bool:
            if password == b"guess":
                tried.wait(60)
            return hashed(password, stored)

        at.api = create_app(world.context("s1"), AccessControl(Verifier(b"key", lambda: 0.0, slow)))
        await at.user("ada", "viewer")

        async def status(address: str, header: Mapping[str, str]) -> int:
            async with at.client(address=address, **header) as client:
                return (await client.get(DIALECT)).status_code

        flood = WAITING_EACH + 8
        guesses = [asyncio.create_task(status("10.0.0.66", basic(f"u{number}", "guess"))) for number in range(flood)]
        try:
            async with asyncio.timeout(30):
                assert await status("10.0.0.7", basic("ada", "ada-pw")) == 200
                _, waiting = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
                assert len(waiting) >= WAITING_EACH
        finally:
            tried.set()
        assert Counter(await asyncio.gather(*guesses)) == {401: WAITING_EACH, 503: 8}
        assert await status("10.0.0.66", basic("ada", "ada-pw")) == 200

    case()


@guarded
async def test_a_server_that_is_not_admitted_counts_as_a_refused_attempt(at: Guarded) -> None:
    """Everybody may ask to join: the join token in the body is judged by the route."""
    joining = {
        "token": "0" * 16,
        "secret": "0" * 64,
        "serverId": "s9",
        "uid": "9" * 32,
        "host": "127.0.0.1",
        "request": "nonsense",
    }
    answer = await at.ask("POST", "/admin/v1/join", body=joining)
    assert answer.status_code == 409, answer.text
    await at.until_reported(1)
    assert at.control.attempts.counted == {answer.json()["code"]: 1}
    assert at.reported == [("127.0.0.1", 1, f"POST /admin/v1/join: {answer.json()['detail']}")]
    assert (await at.ask("GET", "/admin/v1/identity")).status_code == 200
    assert at.control.attempts.counted == {answer.json()["code"]: 1}


@guarded
async def test_an_administrator_on_the_machine_gets_in_while_the_state_is_away(at: Guarded) -> None:
    token = await at.token("admin")
    at.world.away = True
    assert (await at.ask("GET", "/healthz")).status_code == 200
    away = await at.ask("GET", NATIVE, **token)
    assert away.status_code == 503 and away.headers["retry-after"] == "1"
    assert (await at.ask("GET", NATIVE, Peer(uid=65534))).status_code == 503
    answer = await at.ask("GET", "/api/1/diagnostics/config", Peer(uid=0))
    assert answer.status_code != 401 and "not_allowed" not in answer.text


def test_without_access_control_nothing_is_asked() -> None:
    assert isinstance(World().apps["s1"], Api)

    @scenario
    async def case(world: World) -> None:
        async with world.at("s1") as client:
            assert (await client.get(NATIVE)).status_code == 200

    case()


def test_real_passwords_fit_through_the_same_judgement() -> None:
    @scenario
    async def case(world: World) -> None:
        at = Guarded(world)
        at.api = create_app(world.context("s1"), AccessControl(Verifier(b"key", lambda: 0.0)))
        stored = passwords.hash_password("pässw:rd")
        await world.submit(PutRecord(kind="user", key="ada", value=json.dumps({"roles": ["viewer"], "password": stored})))
        for encoding in ("utf-8", "latin-1"):
            header = "Basic " + base64.b64encode("ada:pässw:rd".encode(encoding)).decode()
            assert (await at.ask("GET", DIALECT, Authorization=header)).status_code == 200

    case()
