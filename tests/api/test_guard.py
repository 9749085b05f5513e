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
