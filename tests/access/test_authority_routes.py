"""The authority and join tokens through the API: what is shown, to whom, and that a server joins once with one token."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dkv.access import certificates, crypto, join_tokens
from dkv.access.certificates import Owner
from dkv.access.join_tokens import JoinToken
from dkv.domain.access import MANAGERS
from dkv.domain.constants import DAY
from dkv.domain.facts import AuthorityFounded
from tests.api.world import World

UID = "9" * 32
TOKENS = "/admin/v1/join-tokens"


def certified(check: Callable[[World], Awaitable[None]]) -> Callable[[Path], None]:
    """A test on a domain whose managers have certificates."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            world = World()
            await world.begin()
            await world.certify(tmp_path)
            await check(world)

        asyncio.run(run())

    test.__name__ = check.__name__
    return test


async def ask(world: World, method: str, path: str, **more: Any) -> httpx.Response:
    async with world.at("s1") as client:
        return await client.request(method, path, **more)


async def token_of(world: World, **body: int) -> JoinToken:
    made = await ask(world, "POST", TOKENS, json=body)
    assert made.status_code == 201, made.text
    token = join_tokens.parse(made.json()["secret"])
    assert isinstance(token, JoinToken)
    return token


def joining(token: JoinToken, request: str, server: str = "s9", **more: str) -> dict[str, str]:
    return {
        "token": token.token_id,
        "secret": token.secret,
        "serverId": server,
        "uid": UID,
        "host": "127.0.0.19",
        "request": request,
        **more,
    }


@certified
async def test_whom_to_trust_is_shown_to_everybody_and_holds_no_key(world: World) -> None:
    answer = await ask(world, "GET", "/admin/v1/ca")
    authority = (await world.state()).authorities[MANAGERS]
    assert answer.json() == {
        "domainUid": (await world.state()).uid,
        "bundle": [authority.current],
        "fingerprints": [crypto.read(authority.current).fingerprint],
        "former": None,
        "phase": "DONE",
        "phaseAt": world.now,
        "held": False,
        "waitsFor": [],
        "clock": world.now,
    }
    assert authority.key not in answer.text


@certified
async def test_a_join_token_is_shown_once_and_kept_as_a_hash(world: World) -> None:
    token = await token_of(world, lasts=60_000, uses=2)
    shown = await ask(world, "GET", TOKENS)
    assert shown.json()["joinTokens"] == [
        {
            "id": token.token_id,
            "uses": 2,
            "usedBy": [],
            "madeBy": shown.json()["joinTokens"][0]["madeBy"],
            "madeAt": world.now,
            "expiresAt": world.now + 60_000,
            "expired": False,
            "ofFormerAuthority": False,
            "replaces": "",
        }
    ]
    assert token.pin == crypto.read((await world.state()).authorities[MANAGERS].current).fingerprint
    stored = str((await world.store.read()).records) + "".join(stored.text for stored in world.domain.log)
    assert token.secret not in shown.text + stored
    assert join_tokens.hashed(token.secret) not in shown.text
    assert (await ask(world, "DELETE", f"{TOKENS}/{token.token_id}")).status_code == 200
    assert (await ask(world, "GET", TOKENS)).json() == {"joinTokens": []}


@certified
async def test_a_plan_of_a_join_token_makes_none_and_shows_no_secret(world: World) -> None:
    written = await world.store.read()
    plan = await ask(world, "POST", "/admin/v1/plan", json={"steps": [{"method": "POST", "path": TOKENS, "body": {}}]})
    step = plan.json()["steps"][0]
    assert [command["command"] for command in step["commands"]] == ["CreateJoinToken"] and step["answer"]["secret"] == ""
    assert await world.store.read() == written


@certified
async def test_a_server_joins_and_gets_what_it_needs_whatever_its_request_says(world: World) -> None:
    token, key = await token_of(world), crypto.new_key()
    answer = await ask(world, "POST", "/admin/v1/join", json=joining(token, crypto.new_request(key)))
    admitted = answer.json()
    state = await world.state()
    leaf = crypto.read(admitted["certificate"])
    assert leaf.uris == (Owner(state.uid).uri_of(UID),) and leaf.addresses == ("127.0.0.19",) and not leaf.is_authority
    assert crypto.belongs_to(admitted["certificate"], key)
    assert admitted["bundle"] == state.authorities[MANAGERS].bundle
    assert admitted["domainKey"] == world.certificates["s1"].domain_key.text
    assert (admitted["domainUid"], admitted["state"]) == (state.uid, "sqlite:/state/domain.sqlite")
    used = (await ask(world, "GET", TOKENS)).json()["joinTokens"][0]["usedBy"]
    assert used == [UID]


@certified
async def test_a_join_that_is_repeated_with_the_same_key_is_answered_again_and_with_another_refused(world: World) -> None:
    token, key = await token_of(world), crypto.new_key()
    body = joining(token, crypto.new_request(key))
    first = await ask(world, "POST", "/admin/v1/join", json=body)
    written = await world.store.read()
    again = await ask(world, "POST", "/admin/v1/join", json=body | {"request": crypto.new_request(key)})
    assert first.status_code == again.status_code == 200 and crypto.belongs_to(again.json()["certificate"], key)
    replayed = await ask(world, "POST", "/admin/v1/join", json=body | {"request": crypto.new_request(crypto.new_key())})
    assert replayed.json()["code"] == "bad_join_token" and f"last by the server with uid {UID}" in replayed.json()["detail"]
    assert await world.store.read() == written


@certified
async def test_of_two_servers_that_join_at_once_with_one_use_exactly_one_does(world: World) -> None:
    token = await token_of(world)
    bodies = [
        joining(token, crypto.new_request(crypto.new_key()), f"s{number}", uid=f"{number}" * 32, host=f"127.0.0.{number}")
        for number in (7, 8)
    ]
    answers = await asyncio.gather(*(ask(world, "POST", "/admin/v1/join", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 400]


BAD: dict[str, tuple[dict[str, str], str]] = {
    "another secret": ({"secret": "A" * 43}, "There is no join token"),
    "an unknown token": ({"token": "ffffffff"}, "There is no join token ffffffff with that secret"),
    "a server id that exists": ({"serverId": "s2"}, "Server id s2 belongs to another data directory"),
    "no request": ({"request": "nonsense"}, "The certificate request cannot be used: it is no certificate request in PEM"),
    "a uid that is none": ({"uid": "../" + "9" * 29}, "uid"),
    "a host that is none": ({"host": "a host\n"}, "host"),
    "a server id that cannot be shown": ({"serverId": "s\x1b9"}, "cannot be printed"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_join_gets_one_sentence_and_uses_nothing(name: str, tmp_path: Path) -> None:
    changed, words = BAD[name]

    async def main(world: World) -> None:
        token = await token_of(world)
        written = await world.store.read()
        body = joining(token, crypto.new_request(crypto.new_key())) | changed
        answer = await ask(world, "POST", "/admin/v1/join", json=body)
        assert answer.status_code in (400, 409) and words in answer.json()["detail"], answer.text
        assert answer.json()["hint"] and token.secret not in answer.text
        assert await world.store.read() == written

    certified(main)(tmp_path)


@certified
async def test_an_expired_token_and_one_of_the_former_authority_are_refused_with_their_own_sentences(world: World) -> None:
    token, former = await token_of(world, lasts=1_000), await token_of(world, lasts=DAY)
    world.now += 121_000
    request = crypto.new_request(crypto.new_key())
    late = await ask(world, "POST", "/admin/v1/join", json=joining(token, request))
    assert late.json()["detail"] == f"The join token {token.token_id} expired 2 minutes ago by this server's clock."
    await change_authority(world)
    assert [shown["ofFormerAuthority"] for shown in (await ask(world, "GET", TOKENS)).json()["joinTokens"]] == [True, True]
    answer = await ask(world, "POST", "/admin/v1/join", json=joining(former, request))
    assert answer.json()["detail"] == f"The join token {former.token_id} was made for the former authority of this domain."
    assert (await ask(world, "GET", "/admin/v1/ca")).json()["former"] == former.pin


async def change_authority(world: World) -> None:
    """A whole change, which the managers follow."""
    begun = await ask(world, "POST", "/admin/v1/ca/rotation", json={})
    assert begun.status_code == 202, begun.text
    for _ in range(3):
        for manager in world.certificates.values():
            await manager.look(await world.state())
    assert (await ask(world, "GET", "/admin/v1/ca")).json()["phase"] == "DONE"


@certified
async def test_a_change_of_authority_is_followed_by_each_manager_and_waits_for_the_others_by_name(world: World) -> None:
    before = (await world.state()).authorities[MANAGERS]
    begun = (await ask(world, "POST", "/admin/v1/ca/rotation", json={})).json()
    assert begun["phase"] == "PREPARED" and begun["waitsFor"] == ["s1", "s2"] and begun["bundle"][0] == before.current
    first, second = world.certificates.values()
    await first.look(await world.state())
    waiting = (await ask(world, "GET", "/admin/v1/waiting")).json()["waiting"]
    assert [(item["kind"], item["for"]) for item in waiting] == [("authority", "the manager of s2")]
    assert (await ask(world, "POST", "/admin/v1/ca/rotation", json={})).json()["code"] == "rotation_running"
    await second.look(await world.state())
    state = await world.state()
    assert state.authorities[MANAGERS].phase == "SWITCHED" and state.authorities[MANAGERS].current != before.current
    for manager in (first, second):
        await manager.look(await world.state())
    after = (await world.state()).authorities[MANAGERS]
    assert after.phase == "DONE" and after.trusted == (after.current,) and after.former == before.current
    for manager, uid in ((first, "uid-of-s1"), (second, "uid-of-s2")):
        await manager.look(await world.state())
        pair = manager.files.pair()
        assert pair and manager.files.trusted() == after.bundle
        assert certificates.judge_peer(pair.certificate, after.trusted, Owner(state.uid), [uid], world.now) == uid
    assert (await ask(world, "GET", "/admin/v1/waiting")).json()["waiting"] == []


@certified
async def test_a_change_that_is_held_waits_for_an_operator_and_says_how_it_goes_on(world: World) -> None:
    async def followed() -> dict[str, Any]:
        for manager in world.certificates.values():
            await manager.look(await world.state())
        shown: dict[str, Any] = (await ask(world, "GET", "/admin/v1/ca")).json()
        return shown

    begun = (await ask(world, "POST", "/admin/v1/ca/rotation", json={"hold": True})).json()
    assert begun["held"] and begun["waitsFor"] == ["s1", "s2"]
    held = [await followed() for _ in range(2)][-1]
    assert held["phase"] == "PREPARED" and len(held["bundle"]) == 2
    (item,) = (await ask(world, "GET", "/admin/v1/waiting")).json()["waiting"]
    assert item["for"] == "an operator" and "go on with the change of the authority" in item["hint"]
    assert (await ask(world, "POST", "/admin/v1/ca/rotation", json={"hold": True})).json()["code"] == "rotation_running"
    released = (await ask(world, "POST", "/admin/v1/ca/rotation", json={})).json()
    assert released["phase"] == "SWITCHED" and not released["held"]
    assert (await followed())["phase"] == "DONE"


@certified
async def test_the_view_of_a_server_has_the_days_of_its_certificate_and_waiting_names_what_was_not_renewed(world: World) -> None:
    for manager in world.certificates.values():
        await manager.look(await world.state())
    servers = (await ask(world, "GET", "/admin/v1/domain")).json()["servers"]
    assert [server["certificateDaysLeft"] for server in servers] == [90, 90]
    assert [peer["certificateDaysLeft"] for peer in (await ask(world, "GET", "/api/1/peers")).json()["data"]] == [90, 90]
    world.now += 60 * DAY
    assert (await ask(world, "GET", "/admin/v1/waiting")).json()["waiting"] == []
    world.now += 1 * DAY + 1
    reasons = [item["reason"] for item in (await ask(world, "GET", "/admin/v1/waiting")).json()["waiting"]]
    assert reasons == ["its certificate ends in 28 days and was not renewed"] * 2
    world.now += 30 * DAY
    assert (await ask(world, "GET", "/admin/v1/domain")).json()["servers"][0]["certificateDaysLeft"] < 0


def test_without_access_control_nothing_of_this_is_there() -> None:
    async def run() -> None:
        world = World()
        await world.begin()
        written = await world.store.read()
        token = JoinToken("0" * 64, "0" * 8, "A" * 43)
        body = joining(token, crypto.new_request(crypto.new_key()))
        for method, path, json in (
            ("GET", "/admin/v1/ca", None),
            ("POST", "/admin/v1/ca/rotation", {}),
            ("GET", TOKENS, None),
            ("POST", TOKENS, {}),
            ("POST", "/admin/v1/join", body),
        ):
            answer = await ask(world, method, path, json=json)
            assert answer.status_code == 409 and answer.json()["code"] == "no_authority", (path, answer.text)
        assert await world.store.read() == written

    asyncio.run(run())


def test_the_hash_of_a_public_key_is_what_is_kept_of_a_joiner() -> None:
    """The same key asked for twice is the same joiner: requests differ, the key in them does not."""
    key = crypto.new_key()
    hashes = {hashlib.sha256(crypto.requested_key(crypto.new_request(key)).encode()).hexdigest() for _ in range(2)}
    assert len(hashes) == 1


@certified
async def test_the_authority_of_a_stores_engines_is_shown_and_changed_by_its_name(world: World) -> None:
    body = {"name": "Sealed", "instances": [], "engineTls": "auto"}
    assert (await ask(world, "POST", "/admin/v1/stores", json=body)).status_code == 201
    for method, path in (("GET", "/ca"), ("POST", "/ca/rotation")):
        unknown = await ask(world, method, f"/admin/v1/stores/Seald{path}", json={} if method == "POST" else None)
        assert (unknown.status_code, unknown.json()["hint"]) == (404, "Did you mean Sealed?")
        without = await ask(world, method, f"/admin/v1/stores/Sealed{path}", json={} if method == "POST" else None)
        assert (without.status_code, without.json()["code"]) == (409, "no_authority")
        assert "speak without TLS" in without.json()["detail"]
    uid = (await world.state()).databases["Sealed"].uid
    await world.submit(AuthorityFounded(owner=uid, certificate=(await world.state()).authorities[MANAGERS].current, key="sealed"))
    shown = (await ask(world, "GET", "/admin/v1/stores/Sealed/ca")).json()
    assert (shown["phase"], shown["waitsFor"], len(shown["bundle"])) == ("DONE", [], 1)
    begun = await ask(world, "POST", "/admin/v1/stores/Sealed/ca/rotation", json={})
    assert begun.status_code == 202, begun.text
    assert begun.json()["phase"] == "DONE", "no engine runs that would have to follow"
    assert begun.json()["former"] == shown["fingerprints"][0]
