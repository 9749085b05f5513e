"""Users and roles as access control reads them: what cannot be read gives nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dkv.access import certificates, crypto
from dkv.access.certificates import Owner
from dkv.domain.access import AllowedRequest, Role, User
from dkv.domain.identities import fingerprint_of, roles_of, user_named, user_with_certificate
from dkv.domain.model import Record, State

NOW = 1_800_000_000_000
ADA, BOB = (certificates.new_authority(Owner(name), NOW).certificate for name in ("ada", "bob"))


def state(kind: str, **values: Any) -> State:
    return State(records={(kind, name): Record(kind, name, json.dumps(value)) for name, value in values.items()})


def test_a_user_is_found_by_name_and_by_the_fingerprint_of_its_certificate() -> None:
    known = state("user", ada={"roles": ["viewer"], "certificatePem": ADA}, bob={"roles": [], "password": "hash"})
    ada = User("ada", ("viewer",), certificate=ADA, fingerprint=crypto.read(ADA).fingerprint)
    assert user_named(known, "ada") == user_with_certificate(known, ada.fingerprint) == ada
    assert user_named(known, "bob") == User("bob", password="hash")
    assert user_named(known, "eve") is None
    assert user_with_certificate(known, crypto.read(BOB).fingerprint) is None
    assert user_with_certificate(known, "") is None


def test_a_certificate_that_two_users_registered_is_nobodys() -> None:
    both = state("user", ada={"roles": ["admin"], "certificatePem": ADA}, eve={"roles": [], "certificatePem": ADA})
    assert user_with_certificate(both, crypto.read(ADA).fingerprint) is None


def test_what_is_no_certificate_has_no_fingerprint() -> None:
    empty = "-----BEGIN CERTIFICATE----------END CERTIFICATE-----"
    for text in ("", "none", ADA[:100], ADA.replace("M", "!"), empty):
        assert fingerprint_of(text) == ""


def test_only_the_first_certificate_of_a_text_counts() -> None:
    assert fingerprint_of("Bag attributes\n" + ADA + BOB) == crypto.read(ADA).fingerprint


def test_a_role_is_read_with_its_constraints() -> None:
    request = {"method": "*", "url": "/x/*", "pathParamConstraints": {"dbName": "orders"}, "queryParamConstraints": None}
    known = state("role", dba={"subRoles": ["viewer"], "authorizedRequests": [request]})
    assert roles_of(known) == {"dba": Role("dba", ("viewer",), (AllowedRequest("*", "/x/*", path=(("dbName", "orders"),)),))}


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "*", "url": "*", "pathParamConstraints": "dbName"},
        {"method": "*", "url": "*", "queryParamConstraints": {"purge": False}},
        {"method": "*", "url": "*", "payloadParamConstraints": [1]},
        {"method": "PATCH", "url": "*"},
        {"method": "*"},
        {"method": "*", "url": None},
        "GET *",
    ],
)
def test_a_request_that_cannot_be_read_allows_nothing(request_: Any) -> None:
    assert roles_of(state("role", dba={"authorizedRequests": [request_]}))["dba"].requests == ()


@pytest.mark.parametrize(
    "value", [None, 7, [], "x", {}, {"roles": "admin"}, {"roles": {"admin": 1}, "authorizedRequests": {}, "subRoles": 1}]
)
def test_what_is_no_user_or_role_has_nothing(value: Any) -> None:
    user = user_named(state("user", eve=value), "eve")
    assert user == User("eve") and roles_of(state("role", eve=value)) == {"eve": Role("eve")}
    assert user_named(State(records={("user", "eve"): Record("user", "eve", "{")}), "eve") == User("eve")


def test_a_role_that_has_a_built_in_ones_name_gives_neither() -> None:
    forged = {("role", "admin"): Record("role", "admin", json.dumps({"authorizedRequests": [{"method": "GET", "url": "*"}]}))}
    known = State(records={**forged, **state("user", ada={"roles": ["admin", "viewer"], "certificatePem": ADA}).records})
    assert roles_of(known) == {}
    user = user_named(known, "ada")
    assert user and user.roles == ("viewer",) and user_with_certificate(known, user.fingerprint) == user
