"""What the NuoDB dialect keeps for people: values, users, roles, regions, policies, certificates."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from dkv.api.nuodb import x509
from dkv.domain.records import region_of
from tests.api.nuodb.test_frame import error_of
from tests.api.world import World, orders, scenario

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBezCCAS2gAwIBAgIUMXr8dlniLNrus+hZ4pN20I1Sdp4wBQYDK2VwMDIxCzAJ
BgNVBAYTAkRFMRAwDgYDVQQKDAdFeGFtcGxlMREwDwYDVQQDDAhka3YgdGVzdDAg
Fw0yNjExMjExMjI0MTZaGA8yMDgxMDgyNDEyMjQxNlowMjELMAkGA1UEBhMCREUx
EDAOBgNVBAoMB0V4YW1wbGUxETAPBgNVBAMMCGRrdiB0ZXN0MCowBQYDK2VwAyEA
VaguVGTHu9r8TOiP86wugRYpeQpsmEOcgoMeA5ehD5GjUzBRMB0GA1UdDgQWBBQ2
G7r2M2trJRS6LZVUdmKXuONY/zAfBgNVHSMEGDAWgBQ2G7r2M2trJRS6LZVUdmKX
uONY/zAPBgNVHRMBAf8EBTADAQH/MAUGAytlcANBAGqwUcPjzj1xDg12QWpxj2Rr
fJEGAzQsm8YWHwMYXySNAp7rnoR7y7Mkdj37No8qGUoPgxaKA1fdQngAD1qP1gw=
-----END CERTIFICATE-----"""
SOMEBODY = "CN=x"


async def done(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
    """What a request that has to succeed answers."""
    answer = await client.request(method, f"/api/1{path}", **more)
    assert answer.status_code < 400, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, world: World, status: int, *request: Any, **more: Any) -> None:
    """A request that is refused in these words and changes nothing."""
    method, path, *words = request
    before = world.domain.snapshot.revision
    error_of(await client.request(method, f"/api/1{path}", **more), status, *words)
    assert world.domain.snapshot.revision == before, path


# Values --------------------------------------------------------------------------------------------------------------


def value(new: str | None, expected: str | None = None, absent: bool = False) -> dict[str, Any]:
    return {"key": "a/b", "newValue": new, "expectedValue": expected, "expectedAbsent": absent}


@scenario
async def test_a_value_is_set_by_who_knows_what_is_there(world: World) -> None:
    key = "/kvstore/a%2Fb"
    async with world.at() as client:
        assert await done(client, "GET", key) == {"key": "a/b", "value": None}, "a missing key is no error"
        await done(client, "PUT", key, json=value("1", absent=True))
        await refused(client, world, 409, "PUT", key, "not what was expected", json=value("2", absent=True))
        await refused(client, world, 409, "PUT", key, "not what was expected", json=value("2", expected="x"))
        await refused(client, world, 409, "PUT", key, "not what was expected", json=value("2", expected=""))
        await done(client, "PUT", key, json=value("2", expected="1"))
        await done(client, "PUT", key, json=value(""))
        await done(client, "PUT", key, json=value("3", expected=""))
    async with world.at("s2") as client:
        assert (await done(client, "GET", key))["value"] == "3", "every manager reads one state"
        await done(client, "PUT", key, json=value(None))
        assert (await done(client, "GET", key))["value"] is None
        await done(client, "PUT", key, json=value("4", expected="")), "the empty text is expected of a missing key too"


@scenario
async def test_a_value_that_cannot_be_kept_is_refused(world: World) -> None:
    async with world.at() as client:
        await refused(client, world, 400, "PUT", "/kvstore/x", "a/b", "'x'", json=value("1"))
        await refused(client, world, 400, "PUT", "/kvstore/x", "no field newVlaue", json={"newValue": "1", "newVlaue": "1"})
        await refused(client, world, 400, "PUT", "/kvstore/x", "newValue", json={"newValue": 1})
        await refused(client, world, 400, "PUT", "/kvstore/x", "bytes long", json={"newValue": "v" * 70_000})
        await refused(client, world, 400, "PUT", f"/kvstore/{'k' * 600}", "600 bytes", json={"newValue": "v"})
        both = {"newValue": "1", "expectedValue": "2", "expectedAbsent": True}
        await refused(client, world, 400, "PUT", "/kvstore/x", "absent and to have a value", json=both)
        half = {"content": b'{"newValue": "\\ud800"}', "headers": {"Content-Type": "application/json"}}
        await refused(client, world, 400, "PUT", "/kvstore/x", "is not text", **half)


# Users and roles -----------------------------------------------------------------------------------------------------

READ = {"method": "GET", "url": "*", "queryParamConstraints": None, "pathParamConstraints": None, "payloadParamConstraints": None}


@scenario
async def test_a_role_is_made_changed_and_taken_away_by_steps(world: World) -> None:
    async with world.at() as client:
        await done(client, "PUT", "/policies/roles/reader", json={"name": "reader", "authorizedRequests": [READ]})
        await done(client, "PUT", "/policies/roles/chief", json={"name": "chief", "subRoles": ["reader"]})
        change = {"policiesToAdd": [READ, {**READ, "method": "*"}], "subRolesToRemove": ["reader", "nobody"]}
        role = await done(client, "POST", "/policies/roles/chief", json=change)
        assert [(r["method"], r["url"]) for r in role["authorizedRequests"]] == [("GET", "*"), ("*", "*")]
        assert role["subRoles"] == []
        no_constraints = {**READ, "queryParamConstraints": {}}
        role = await done(client, "POST", "/policies/roles/chief", json={"policiesToRemove": [no_constraints]})
        assert [r["method"] for r in role["authorizedRequests"]] == ["*"], "nothing said is nothing said, null or empty"
        listed = await done(client, "GET", "/policies/roles")
        assert [role["name"] for role in listed["data"]] == ["chief", "reader"]
        await done(client, "DELETE", "/policies/roles/reader")
        await refused(client, world, 404, "DELETE", "/policies/roles/reader", "no role named reader", "Known: chief")


@scenario
async def test_roles_that_make_no_sense_are_refused(world: World) -> None:
    async with world.at() as client:
        await done(client, "PUT", "/policies/roles/a", json={})
        await done(client, "PUT", "/policies/roles/b", json={"subRoles": ["a"]})
        await refused(client, world, 400, "POST", "/policies/roles/a", "contain itself", json={"subRolesToAdd": ["b"]})
        await refused(client, world, 409, "PUT", "/policies/roles/b", "already", json={"subRoles": []})
        await refused(client, world, 404, "PUT", "/policies/roles/c", "no role named d", json={"subRoles": ["d"]})
        await refused(client, world, 409, "DELETE", "/policies/roles/a", "held by role b")
        await refused(client, world, 400, "PUT", "/policies/roles/%20c", "not a valid name", json={})
        await refused(client, world, 400, "PUT", "/policies/roles/admin", "built in", json={})
        await done(client, "PUT", "/policies/roles/built", json={"subRoles": ["viewer"]})
        bad = {"authorizedRequests": [{**READ, "method": "PATCH"}]}
        await refused(client, world, 400, "PUT", "/policies/roles/c", "PATCH", json=bad)


@scenario
async def test_a_user_comes_with_a_password_that_is_never_given_back(world: World) -> None:
    async with world.at() as client:
        await done(client, "PUT", "/policies/roles/dba", json={})
        await done(client, "PUT", "/policies/users/eve", json={"name": "eve", "roles": ["dba"], "password": "hush"})
        users_shown = (await client.get("/api/1/policies/users")).text
        assert (await done(client, "GET", "/policies/users"))["data"] == [{"name": "eve", "roles": ["dba"]}]
        await done(client, "POST", "/policies/users/eve/credentials", json={"newPassword": "hush hush"})
        state_shown = (await client.get("/api/1/diagnostics/captureDomainState")).text
    record = (await world.state()).records[("user", "eve")].value
    assert "hush" not in record + users_shown + state_shown
    assert "argon2id" in record
    assert "argon2id" not in users_shown + state_shown


@scenario
async def test_a_users_roles_and_credentials_change(world: World) -> None:
    async with world.at() as client:
        for role in ("dba", "reader"):
            await done(client, "PUT", f"/policies/roles/{role}", json={})
        await done(client, "PUT", "/policies/users/eve", json={"roles": None, "certificatePem": SOMEBODY})
        change = {"rolesToAdd": ["dba", "reader", "dba"], "rolesToRemove": []}
        assert (await done(client, "POST", "/policies/users/eve/roles", json=change))["roles"] == ["dba", "reader"]
        gone = {"rolesToRemove": ["dba"]}
        assert (await done(client, "POST", "/policies/users/eve/roles", json=gone))["roles"] == ["reader"]
        await refused(client, world, 409, "DELETE", "/policies/roles/reader", "held by user eve")
        add = {"rolesToAdd": ["raeder"]}
        await refused(client, world, 404, "POST", "/policies/users/eve/roles", "Did you mean reader?", json=add)
        await refused(client, world, 409, "PUT", "/policies/users/eve", "already", json={"password": "x"})
        await refused(client, world, 400, "PUT", "/policies/users/a:b", "no colon", json={"password": "x"})
        await refused(client, world, 400, "PUT", "/policies/users/ann", "either a password or", json={"roles": []})
        await refused(client, world, 404, "POST", "/policies/users/bob/credentials", "bob", json={"newPassword": "x"})
        await done(client, "DELETE", "/policies/users/eve")
        await refused(client, world, 404, "DELETE", "/policies/users/eve", "no user named eve")


@scenario
async def test_a_licence_is_read_and_cannot_be_set(world: World) -> None:
    async with world.at() as client:
        assert (await done(client, "GET", "/policies/license"))["decodedLicense"]["type"] == "NONE"
        request = {"params": {"update": "True", "allowDowngrade": "False"}, "json": {"encodedLicense": "x"}}
        await refused(client, world, 400, "POST", "/policies/license", "because dkv has none", **request)


# Regions -------------------------------------------------------------------------------------------------------------


@scenario
async def test_a_server_is_put_into_a_region_of_one_database(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        hosts = "/databases/OrdersStore/hosts"
        assert await done(client, "POST", "/regions", json={"name": "east"}) == {"id": 1, "name": "east"}
        assert await done(client, "POST", "/regions", json={"name": "west"}) == {"id": 2, "name": "west"}
        await done(client, "PUT", hosts, json={"regionId": 1, "serverId": "s1"})
        await done(client, "PUT", hosts, json={"regionId": "2", "serverId": "s2"})
        shown = await done(client, "GET", "/databases/OrdersStore")
        assert shown["hostAssignments"] == {"s1": 1, "s2": 2}
        assert region_of(await world.state(), "OrdersStore", "s2") == "west"
        await refused(client, world, 409, "DELETE", "/regions/2", "servers of OrdersStore")
        await done(client, "DELETE", hosts, json={"serverId": "s2"})
        await done(client, "PUT", "/databases/OrdersStore/defaultRegion", json={"regionId": 1})
        assert region_of(await world.state(), "OrdersStore", "s2") == "east"
        await done(client, "DELETE", "/regions/2")
        assert await done(client, "POST", "/regions", json={"name": "north"}) == {"id": 3, "name": "north"}
        listed = await done(client, "GET", "/regions", params={"orderBy": "id", "filterBy": "name", "name": "n.*|D.*"})
        assert listed["data"] == [{"id": 0, "name": "Default"}, {"id": 3, "name": "north"}]


@scenario
async def test_regions_that_make_no_sense_are_refused(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        hosts = "/databases/OrdersStore/hosts"
        await done(client, "POST", "/regions", json={"name": "east"})
        assert await done(client, "PUT", "/regions/1", json={"oldName": "east", "name": "East"}) == {"id": 1, "name": "East"}
        await refused(client, world, 409, "PUT", "/regions/1", "named East", json={"oldName": "east", "name": "x"})
        await refused(client, world, 409, "POST", "/regions", "already", json={"name": "default"})
        await refused(client, world, 400, "DELETE", "/regions/0", "always there")
        await refused(client, world, 404, "DELETE", "/regions/7", "number 7", "0 (Default), 1 (East)")
        await refused(client, world, 400, "GET", "/regions/east", "region_id", "integer")
        await refused(client, world, 404, "PUT", hosts, "s3", json={"regionId": 1, "serverId": "s3"})
        await refused(client, world, 404, "PUT", hosts, "number 7", json={"regionId": 7, "serverId": "s1"})
        await refused(client, world, 400, "PUT", hosts, "regionId", json={"regionId": "east", "serverId": "s1"})
        await refused(client, world, 404, "DELETE", hosts, "no region of OrdersStore", json={"serverId": "s1"})
        other = "/databases/Orders/hosts"
        await refused(client, world, 404, "PUT", other, "Did you mean OrdersStore?", json={"regionId": 1, "serverId": "s1"})


# How clients choose --------------------------------------------------------------------------------------------------


@scenario
async def test_policies_and_configurations_are_kept_and_given_back(world: World) -> None:
    async with world.at() as client:
        await client.post("/admin/v1/stores", json=orders())
        policy = "/databases/loadBalancerPolicy/near"
        await done(client, "POST", policy, json={"policyName": "near", "lbQuery": "random(label(zone a))"})
        listed = await done(client, "GET", "/databases/loadBalancerPolicies", params={"orderBy": "policyName"})
        assert listed["data"] == [{"policyName": "near", "lbQuery": "random(label(zone a))"}]
        await refused(client, world, 400, "POST", policy, "parentheses", json={"lbQuery": "random(any"})
        await done(client, "DELETE", policy)
        await refused(client, world, 404, "DELETE", policy, "no load-balancer policy named near")

        config, nulls = "/databases/loadBalancerConfig", {"defaultLbQuery": None, "prefilter": None}
        own = {**nulls, "isGlobal": False, "dbName": "OrdersStore", "defaultLbQuery": "random(any)"}
        await done(client, "POST", config, json=own)
        await done(client, "POST", config, json={**nulls, "isGlobal": True, "dbName": None, "prefilter": "label(zone a)"})
        shown = (await done(client, "GET", "/databases/loadBalancerConfigs", params={"orderBy": "dbName"}))["data"]
        assert shown == [
            {"isGlobal": False, "dbName": "OrdersStore", "defaultLbQuery": "random(any)"},
            {"isGlobal": True, "prefilter": "label(zone a)"},
        ]
        out = {"unregisterDefaultLbQuery": "True"}
        await refused(client, world, 400, "POST", config, "set and unregistered", params=out, json=own)
        await done(client, "POST", config, params=out, json={**nulls, "isGlobal": False, "dbName": "OrdersStore"})
        assert len((await done(client, "GET", "/databases/loadBalancerConfigs"))["data"]) == 1
        await refused(client, world, 400, "POST", config, "isGlobal or dbName", json={**own, "isGlobal": True})
        await refused(client, world, 404, "POST", config, "named Orders", json={**own, "dbName": "Orders"})


# Certificates --------------------------------------------------------------------------------------------------------


@scenario
async def test_certificates_are_trusted_until_they_are_removed(world: World) -> None:
    async with world.at() as client:
        wait = {"remove": "False", "waitFullyReplicatedSec": "10"}
        body = {"alias": "ours", "certificatePem": CERTIFICATE}
        await done(client, "POST", "/peers/certificates", params=wait, json=body)
        certificates = await done(client, "GET", "/peers/certificates")
        assert certificates["trustedCertificates"]["ours"]["subjectName"] == "C=DE, O=Example, CN=dkv test"
        assert certificates["trustedCertificates"]["ours"]["expires"] == "2081-08-24T12:24:16Z"
        assert certificates["serverCertificates"] == {}
        gone = {"alias": "ours", "certificatePem": None}
        for _ in range(2):
            await done(client, "POST", "/peers/certificates", params={"remove": "True"}, json=gone)
        assert (await done(client, "GET", "/peers/certificates"))["trustedCertificates"] == {}
        await refused(client, world, 400, "POST", "/peers/certificates", "not a certificate", json={"alias": "x"})


@pytest.mark.parametrize("cut", range(40, len(CERTIFICATE) - 40, 61))
def test_half_a_certificate_is_none(cut: int) -> None:
    with pytest.raises(x509.NoCertificate):
        x509.read(f"{CERTIFICATE[:cut]}\n-----END CERTIFICATE-----")


# Races ---------------------------------------------------------------------------------------------------------------


@scenario
async def test_two_who_change_one_record_at_once_both_see_their_change(world: World) -> None:
    async with world.at() as client, world.at("s2") as other:
        names = [f"region-{n}" for n in range(12)]
        requests = [
            done(one, "POST", "/regions", json={"name": name}) for name, one in zip(names, [client, other] * 6, strict=True)
        ]
        made = await asyncio.gather(*requests)
        assert sorted(region["id"] for region in made) == list(range(1, 13))
        listed = (await done(client, "GET", "/regions"))["data"]
        assert {region["name"] for region in listed} == {"Default", *names}
