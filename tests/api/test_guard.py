"""What stands in front of all routes: names that are none, pages of other sites, and the headers that bind browsers."""

from __future__ import annotations

import json
import time

import pytest

from dkv.api.nuodb.users import _without, _without_doubles
from tests.api.world import World, scenario

NO_HOSTS = ["[::1]evil", "[::1]evil:7801", "[::1", "::1]", "localhost:7801:1", "localhost:x", "[localhost]"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_host_that_is_none_is_refused(host: str) -> None:
    @scenario
    async def case(world: World) -> None:
        async with world.at() as client:
            answer = await client.get("/admin/v1/stores", headers={"Host": host})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_host")
            assert (await client.get("/admin/v1/stores", headers={"Host": "[::1]:7801"})).status_code == 200

    case()


ALLOWED = ["dkv.example", "DKV.Example:443", "[::7]:7801"]
STRANGE = [
    "evil.dkv.example",
    "dkv.example.evil",
    "dkv.example.",
    "dkv.example@evil",
    "dkv.example:7801:1",
    "::7",
    ".dkv.example",
    "",
]


def test_a_further_name_is_allowed_whole_and_no_name_that_only_looks_like_it() -> None:
    """A page of evil.example whose name was rebound to this address has that name as Host."""

    @scenario
    async def case(world: World) -> None:
        async with world.at() as client:
            for host in ALLOWED:
                assert (await client.get("/admin/v1/stores", headers={"Host": host})).status_code == 200, host
            for host in STRANGE:
                answer = await client.get("/admin/v1/stores", headers={"Host": host})
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_host"), host

    case()


def test_a_page_below_a_further_name_may_be_of_https_and_no_other_page_may_order() -> None:
    @scenario
    async def case(world: World) -> None:
        async def ordered(host: str, origin: str) -> int:
            headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
            return (await client.put("/api/1/kvstore/colour", json={"newValue": "red"}, headers=headers)).status_code

        async with world.at() as client:
            assert await ordered("dkv.example", "https://dkv.example") == 200
            assert await ordered("dkv.example:8443", "https://dkv.example:8443") == 200
            assert await ordered("dkv.example", "http://dkv.example") == 200
            assert await ordered("dkv.example", "https://evil.example") == 403
            assert await ordered("dkv.example", "https://dkv.example:8443") == 403
            assert await ordered("127.0.0.11:7801", "https://dkv.example") == 403
            assert await ordered("127.0.0.11:7801", "https://127.0.0.11:7801") == 403

    case()


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_a_page_of_another_site_changes_nothing_even_without_an_origin(site: str) -> None:
    @scenario
    async def case(world: World) -> None:
        async with world.at() as client:
            other, own = {"Sec-Fetch-Site": site}, {"Sec-Fetch-Site": "same-origin"}
            refused = await client.put("/api/1/kvstore/colour", json={"newValue": "red"}, headers=other)
            assert refused.status_code == 403
            assert (await client.get("/admin/v1/stores", headers=other)).status_code == 200
            assert (await client.put("/api/1/kvstore/colour", json={"newValue": "red"}, headers=own)).status_code == 200

    case()


@scenario
async def test_every_answer_has_the_headers_that_bind_a_browser(world: World) -> None:
    async with world.at() as client:
        for path, host in (("/docs", None), ("/admin/v1/stores", None), ("/nowhere", None), ("/docs", "evil")):
            answer = await client.get(path, headers={"Host": host} if host else {})
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_fifteen_thousand_requests_of_a_role_are_compared_at_once() -> None:
    """Each compared with all before it took six seconds, in which the manager's lease ended."""
    many = [{"method": "GET", "url": f"/x/{number}", "more": {}} for number in range(15_000)]
    began = time.thread_time()
    assert _without_doubles([*many, *many]) == many
    assert _without(many, many[1:]) == many[:1]
    assert time.thread_time() - began < 1.0
    assert json.dumps(_without_doubles(["b", "a", "b"])) == '["b", "a"]'
