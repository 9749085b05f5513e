"""Every route of both dialects for every kind of caller: who shows nothing that counts gets 401, who may do less gets 403, each
in the shape of the dialect; the body of a refused request is not read, no password is tried for it, and nothing is changed.

The routes are those that the descriptions of the API list, so that a new one is in here from the beginning.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from dkv.access import certificates, crypto
from dkv.access.certificates import Owner, Reachable
from dkv.api.rights import ROUTES, match
from dkv.domain.admission import DAY
from dkv.domain.orders import DeleteToken
from dkv.domain.rights import ADMIN, BUILT_IN, METRICS, OPERATOR, SERVER, VIEWER, Right
from dkv.peer import PEER, Peer
from tests.access.test_routes import HIDDEN, NOW, Guarded, described, example, guarded
from tests.api.world import HOSTS, PORT

BODY = b"{}"


@dataclass
class Shown:
    """What a caller shows, and the built-in role that it has; None: it is nobody."""

    role: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: Peer | None = None


@dataclass
class Answer:
    """What came of a request."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]
    body_read: bool


async def sent(at: Guarded, method: str, path: str, shown: Shown) -> Answer:
    """One request, with a body that is there to be read."""
    headers = {"host": f"{HOSTS['s1']}:{PORT}", "accept": "application/json", "content-type": "application/json", **shown.headers}
    headers["content-length"] = str(len(BODY))
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), text.encode("latin-1")) for name, text in headers.items()],
        "client": ("127.0.0.9", 9),
        "server": (HOSTS["s1"], PORT),
        PEER: shown.peer,
    }
    answer, reads, pieces = Answer(0, {}, {}, body_read=False), iter((BODY,)), [b""]

    async def receive() -> dict[str, Any]:
        answer.body_read = True
        piece = next(reads, None)
        if piece is None:
            await asyncio.Event().wait()  # the caller stays
        return {"type": "http.request", "body": piece, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): text.decode("latin-1") for name, text in message["headers"]}
        else:
            pieces.append(message.get("body", b""))

    await at.api(scope, receive, send)
    if "json" in answer.headers.get("content-type", ""):
        read = json.loads(b"".join(pieces))
        answer.body = read if isinstance(read, dict) else {}
    return answer


def refused(answer: Answer, path: str, status: int, code: str) -> None:
    """A refusal in the shape of its dialect, of a request whose body nobody read."""
    dialect = path.startswith("/api/1")
    assert answer.status == status, (path, answer)
    assert answer.headers["content-type"].startswith("application/json" if dialect else "application/problem+json"), (
        path,
        answer,
    )
    assert ("www-authenticate" in answer.headers) == (status == 401)
    if dialect:
        assert answer.body["code"] == status and answer.body["reason"] == code and all(answer.body["messages"]), answer
    else:
        assert answer.body["code"] == code and answer.body["status"] == status and answer.body["detail"], answer
    assert answer.body["hint"] and not answer.body_read, (path, answer)


# Callers -------------------------------------------------------------------------------------------------------------

Caller = Callable[[Guarded], Any]
CALLERS: dict[str, Caller] = {}


def caller(make: Caller) -> Caller:
    CALLERS[make.__name__] = make
    return make


def of_certificate(pem: str, role: str | None = None) -> Shown:
    return Shown(role, peer=Peer(certificate=crypto.in_der(pem)))


async def domain_of(at: Guarded) -> Owner:
    return Owner((await at.world.state()).uid)


@caller
async def nothing(at: Guarded) -> Shown:
    return Shown()


@caller
async def garbage(at: Guarded) -> Shown:
    return Shown(headers={"Authorization": "Bearer dkvt_%s\x7f"})


@caller
async def garbage_that_is_no_base64(at: Guarded) -> Shown:
    return Shown(headers={"Authorization": "Basic =%=%="})


@caller
async def another_scheme(at: Guarded) -> Shown:
    return Shown(headers={"Authorization": 'Digest username="root"'})


@caller
async def an_expired_token(at: Guarded) -> Shown:
    headers = await at.token("admin", lasts=1_000)
    at.world.now += 1_000
    return Shown(headers=headers)


@caller
async def a_revoked_token(at: Guarded) -> Shown:
    headers = await at.token("admin")
    await at.world.submit(DeleteToken(token_id=headers["Authorization"].split("_")[1]))
    return Shown(headers=headers)


@caller
async def a_token_of_another_domain(at: Guarded) -> Shown:
    await at.token("admin")
    return Shown(headers={"Authorization": f"Bearer dkvt_{'ab' * 6}_{'A' * 43}"})


@caller
async def a_token_with_another_secret(at: Guarded) -> Shown:
    shown = (await at.token("admin"))["Authorization"]
    return Shown(headers={"Authorization": shown[:-1] + ("A" if shown[-1] != "A" else "E")})


@caller
async def a_token_of_a_user_who_is_gone(at: Guarded) -> Shown:
    """It is known, and allows nothing."""
    await at.user("gone", "admin")
    headers = await at.token("admin", user="gone")
    await at.remove_user("gone")
    return Shown("", headers)


@caller
async def another_local_user(at: Guarded) -> Shown:
    return Shown("", peer=Peer(uid=65534))


@caller
async def root(at: Guarded) -> Shown:
    return Shown(ADMIN, peer=Peer(uid=0))


@caller
async def root_with_a_bad_token(at: Guarded) -> Shown:
    """Who shows a credential is judged by it, wherever it comes from."""
    return Shown(headers={"Authorization": "Bearer x"}, peer=Peer(uid=0))


@caller
async def a_viewer(at: Guarded) -> Shown:
    return Shown(VIEWER, await at.token("viewer"))


@caller
async def an_operator(at: Guarded) -> Shown:
    return Shown(OPERATOR, await at.token("operator"))


@caller
async def an_admin(at: Guarded) -> Shown:
    return Shown(ADMIN, await at.token("admin"))


@caller
async def a_scraper(at: Guarded) -> Shown:
    return Shown(METRICS, await at.token("metrics"))


@caller
async def a_server(at: Guarded) -> Shown:
    leaf = certificates.new_leaf(at.authority, await domain_of(at), Reachable("uid-of-s2"), NOW)
    return of_certificate(leaf.certificate, SERVER)


@caller
async def a_server_of_another_domain(at: Guarded) -> Shown:
    other = Owner("d9")
    leaf = certificates.new_leaf(certificates.new_authority(other, NOW), other, Reachable("uid-of-s2"), NOW)
    return of_certificate(leaf.certificate)


@caller
async def a_server_of_another_authority(at: Guarded) -> Shown:
    domain = await domain_of(at)
    leaf = certificates.new_leaf(certificates.new_authority(domain, NOW), domain, Reachable("uid-of-s2"), NOW)
    return of_certificate(leaf.certificate)


@caller
async def a_deleted_server(at: Guarded) -> Shown:
    return of_certificate(certificates.new_leaf(at.authority, await domain_of(at), Reachable("uid-of-s9"), NOW).certificate)


@caller
async def a_server_with_an_expired_leaf(at: Guarded) -> Shown:
    leaf = certificates.new_leaf(at.authority, await domain_of(at), Reachable("uid-of-s2"), NOW)
    at.world.now += 91 * DAY
    return of_certificate(leaf.certificate)


@caller
async def an_authority(at: Guarded) -> Shown:
    return of_certificate(at.authority.certificate)


async def registered(at: Guarded) -> crypto.KeyPair:
    """The certificate of user ada, a viewer, who has one of her own making: an authority, as a careless person has."""
    mine = certificates.new_authority(Owner("ada"), NOW)
    await at.user("ada", "viewer", certificate=mine.certificate)
    return mine


@caller
async def a_user_by_certificate(at: Guarded) -> Shown:
    return of_certificate((await registered(at)).certificate, VIEWER)


@caller
async def a_user_whose_certificate_expired_on_a_standing_connection(at: Guarded) -> Shown:
    mine = await registered(at)
    at.world.now += certificates.AUTHORITY_DAYS * DAY
    return of_certificate(mine.certificate)


@caller
async def the_same_name_with_another_key(at: Guarded) -> Shown:
    await registered(at)
    return of_certificate(certificates.new_authority(Owner("ada"), NOW).certificate)


@caller
async def a_leaf_that_a_registered_certificate_signed(at: Guarded) -> Shown:
    return of_certificate(certificates.new_leaf(await registered(at), Owner("alice"), Reachable("alice"), NOW).certificate)


@caller
async def a_user_by_password(at: Guarded) -> Shown:
    await at.user("ada", "operator")
    return Shown(OPERATOR, {"Authorization": "Basic " + base64.b64encode(b"ada:ada-pw").decode()})


# The matrix ----------------------------------------------------------------------------------------------------------


def right(method: str, path: str) -> Right:
    route = match(path, method)
    assert route
    needed = route.right(method, {})
    assert needed
    return needed


@pytest.mark.parametrize("name", sorted(CALLERS))
def test_every_route_for(name: str) -> None:
    @guarded
    async def case(at: Guarded) -> None:
        shown: Shown = await CALLERS[name](at)
        before = await at.world.store.read(), len(at.world.domain.log)
        allowed = []
        for method, template in sorted(described() | HIDDEN):
            path, asked = example(template), right(method, example(template))
            if shown.role is None and asked is not Right.OPEN:
                refused(await sent(at, method, path, shown), path, 401, "unauthenticated")
            elif asked is not Right.OPEN and asked not in BUILT_IN.get(shown.role or "", ()):
                refused(await sent(at, method, path, shown), path, 403, "not_allowed")
            else:
                allowed.append((method, path))
        assert (await at.world.store.read(), len(at.world.domain.log)) == before
        assert at.asked <= (1 if "Basic" in str(shown.headers) else 0)
        for method, path in allowed:
            answer = await sent(at, method, path, shown)
            said = answer.body.get("reason", answer.body.get("code"))
            assert answer.status not in (0, 401, 405, 500) and said != "not_allowed", (method, path, answer)
        assert len(allowed) >= sum(given is Right.OPEN for methods in ROUTES.values() for given in methods.values()) > 0

    case()
