"""Roles: what each caller may, in both vocabularies, and that all the rest is refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from dkv.access import principals, roles
from dkv.access.principals import Caller
from dkv.access.roles import ALLOWED, NEEDS_PAYLOAD, AccessRequest
from dkv.domain.access import AllowedRequest, Role, Token, User
from dkv.domain.admission import containing, may_give
from dkv.domain.command import Command
from dkv.domain.command_rights import RECORD_RIGHTS, RIGHTS, right_of
from dkv.domain.decide import RULES, decide
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import FACTS, Tick
from dkv.domain.model import State
from dkv.domain.orders import CreateToken, DeleteToken, PutRecord
from dkv.domain.rights import BUILT_IN, GIVEN, Right


def ada(*held: str) -> Caller:
    return principals.user(User("ada", held))


def asked(right: Right = Right.READ, method: str = "GET", path: str = "/api/1/peers", **more: object) -> AccessRequest:
    return AccessRequest(right, method, path, **more)  # type: ignore[arg-type]


def request(method: str, url: str, **limits: dict[str, str]) -> AllowedRequest:
    return AllowedRequest(method, url, **{name: tuple(pairs.items()) for name, pairs in limits.items()})


def made(*requests: AllowedRequest, sub_roles: tuple[str, ...] = ()) -> dict[str, Role]:
    return {"made": Role("made", sub_roles, requests)}


# Principals ----------------------------------------------------------------------------------------------------------


def test_principals_are_named_as_the_log_shows_them() -> None:
    assert str(principals.local(1000, {0}).principal) == "local uid 1000"
    assert str(principals.server("u1").principal) == "server u1"
    assert str(ada().principal) == "user ada"
    assert str(principals.token(Token("ab", "", "viewer"), {}).principal) == "token ab"
    assert str(principals.token(Token("ab", "", "viewer", user="ada"), {}).principal) == "user ada"


def test_root_and_the_managers_user_administrate_and_nobody_else_on_the_machine() -> None:
    for uid, judgement in ((0, True), (1000, True), (65534, False), (-1, False)):
        verdict = roles.judge(principals.local(uid, {0, 1000}), asked(Right.USERS), {})
        assert (verdict is ALLOWED) == judgement


def test_a_token_of_a_user_allows_what_both_allow() -> None:
    users = {"ada": User("ada", ("viewer",))}
    over = principals.token(Token("ab", "", "admin", user="ada"), users)
    under = principals.token(Token("ab", "", "metrics", user="ada"), {"ada": User("ada", ("admin",))})
    gone = principals.token(Token("ab", "", "admin", user="ada"), {})
    assert roles.judge(over, asked(Right.READ), {}) is ALLOWED
    for caller, right in ((over, Right.OPERATE), (under, Right.READ), (gone, Right.READ)):
        assert isinstance(roles.judge(caller, asked(right), {}), Refused)


# Built-in roles ------------------------------------------------------------------------------------------------------

MAY = {
    "admin": set(Right) - {Right.SERVER},
    "operator": {Right.OPEN, Right.METRICS, Right.READ, Right.LOGS, Right.VALUES, Right.OPERATE},
    "viewer": {Right.OPEN, Right.METRICS, Right.READ},
    "metrics": {Right.OPEN, Right.METRICS},
}


@pytest.mark.parametrize("role", GIVEN)
@pytest.mark.parametrize("right", Right)
def test_a_built_in_role_gives_its_rights_and_no_others(role: str, right: Right) -> None:
    verdict = roles.judge(ada(role), asked(right), {})
    assert (verdict is ALLOWED) == (right in MAY[role])


def test_without_a_role_only_what_is_open_is_allowed() -> None:
    for caller in (ada(), Caller(ada().principal, ()), ada("no such role")):
        for right in Right:
            verdict = roles.judge(caller, asked(right), {})
            assert (verdict is ALLOWED) == (right is Right.OPEN)


def test_only_a_server_says_what_servers_say_and_it_neither_makes_users_nor_reads_secrets() -> None:
    server = principals.server("u1")
    assert roles.judge(server, asked(Right.SERVER), {}) is ALLOWED
    for right in (Right.USERS, Right.AUTHORITY, Right.STATE, Right.PASSWORDS):
        assert isinstance(roles.judge(server, asked(right), {}), Refused)


def test_a_refusal_says_who_what_right_and_what_helps() -> None:
    verdict = roles.judge(ada("viewer"), asked(Right.OPERATE, "POST", "/api/1/processes"), {})
    assert isinstance(verdict, Refused) and verdict.code == "not_allowed"
    for word in ("user ada", "POST /api/1/processes", "right operate", "viewer"):
        assert word in f"{verdict.message}{verdict.hint}"


# NuoDB's roles: the templates of nuocmd 2.7.0 ------------------------------------------------------------------------

ACCESSOR = made(request("GET", "*"), request("POST", "/api/1/diagnostics/log"))
DB_ADMIN = made(
    request("GET", "/api/1/databases/*"),
    request("GET", "/api/1/archives/*"),
    request("GET", "/api/1/processes/*"),
    request("*", "/api/1/databases/*", path={"dbName": "orders"}),
    request("*", "/api/1/archives/*", payload={"dbName": "orders"}),
    request("*", "/api/1/processes/*", payload={"dbName": "orders"}),
)


def test_an_accessor_sees_everything_that_can_be_shown_and_changes_nothing() -> None:
    caller = ada("made")
    for path in ("/api/1/peers", "/api/1/databases/orders", "/admin/v1/stores", "/"):
        assert roles.judge(caller, asked(path=path), ACCESSOR) is ALLOWED
    assert roles.judge(caller, asked(Right.READ, "POST", "/api/1/diagnostics/log"), ACCESSOR) is ALLOWED
    for denied in (
        asked(Right.OPERATE, "POST", "/api/1/processes"),
        asked(Right.OPERATE, "DELETE", "/api/1/databases/orders"),
        asked(Right.STATE, path="/admin/v1/state"),
        asked(Right.PASSWORDS, path="/api/1/databases/orders"),
    ):
        assert isinstance(roles.judge(caller, denied, ACCESSOR), Refused)


def test_a_secret_is_given_by_an_address_without_a_star_only() -> None:
    named = made(request("GET", "/admin/v1/state"))
    assert roles.judge(ada("made"), asked(Right.STATE, path="/admin/v1/state"), named) is ALLOWED
    for url in ("/admin/v1/*", "/admin/v1/state*", "*state"):
        assert isinstance(
            roles.judge(ada("made"), asked(Right.STATE, path="/admin/v1/state"), made(request("GET", url))), Refused
        )


def test_a_database_administrator_changes_its_own_database_only() -> None:
    def may(method: str, path: str, **more: object) -> object:
        return roles.judge(ada("made"), asked(Right.OPERATE, method, path, **more), DB_ADMIN)

    assert may("POST", "/api/1/databases/orders/shutdown", path_parameters={"dbName": "orders"}) is ALLOWED
    assert isinstance(may("POST", "/api/1/databases/other/shutdown", path_parameters={"dbName": "other"}), Refused)
    assert isinstance(may("POST", "/api/1/databases/orders/shutdown"), Refused)  # a parameter that is not there holds nothing
    assert may("POST", "/api/1/processes") is NEEDS_PAYLOAD
    assert may("POST", "/api/1/processes", payload={"dbName": "orders"}) is ALLOWED
    for payload in ({}, {"dbName": "other"}, {"dbName": ["orders"]}, {"dbName": None}, {"dbname": "orders"}):
        assert isinstance(may("POST", "/api/1/processes", payload=payload), Refused)
    assert isinstance(may("POST", "/api/1/peers/s1/shutdown"), Refused)


def test_query_constraints_hold_for_every_value_that_was_sent() -> None:
    role = made(request("GET", "/x", query={"purge": "false"}))
    assert roles.judge(ada("made"), asked(path="/x", query={"purge": ["false"]}), role) is ALLOWED
    for query in ({}, {"purge": []}, {"purge": ["true"]}, {"purge": ["false", "true"]}):
        assert isinstance(roles.judge(ada("made"), asked(path="/x", query=query), role), Refused)


def test_a_role_contains_others_however_deep_and_a_circle_ends() -> None:
    known = {
        "outer": Role("outer", ("middle",)),
        "middle": Role("middle", ("inner", "outer")),
        "inner": Role("inner", ("metrics",), (request("GET", "/x"),)),
    }
    assert containing(known, ["outer"]) == {"outer", "middle", "inner", "metrics"}
    assert roles.judge(ada("outer"), asked(path="/x"), known) is ALLOWED
    assert roles.judge(ada("outer"), asked(Right.METRICS, path="/metrics"), known) is ALLOWED
    assert isinstance(roles.judge(ada("outer"), asked(path="/y"), known), Refused)


def test_a_made_role_cannot_change_what_a_built_in_one_means() -> None:
    forged = {"viewer": Role("viewer", ("admin",), (request("*", "*"),))}
    assert isinstance(roles.judge(ada("viewer"), asked(Right.OPERATE, "POST"), forged), Refused)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/api/1/peers", "/api/1/peers", True),
        ("/api/1/peers", "/api/1/peers/s1", False),
        ("/api/1/peers", "/API/1/peers", False),
        ("/api/1/peers/*", "/api/1/peers", True),
        ("/api/1/peers/*", "/api/1/peers/", True),
        ("/api/1/peers/*", "/api/1/peers/s1/shutdown", True),
        ("/api/1/peers/*", "/api/1/peersx", False),
        ("/api/1/databases/*/hotCopy", "/api/1/databases/orders/hotCopy", True),
        ("/api/1/databases/*/hotCopy", "/api/1/databases/orders/hotCopySimple", False),
        ("/api/1/databases/*/hotCopy", "/api/1/databases/hotCopy", False),
        ("*", "", True),
        ("a*a", "a", False),
        ("*b*b*", "ab", False),
        ("*b*b*", "abab", True),
        ("", "", True),
        ("", "/", False),
    ],
)
def test_addresses_fit_patterns(pattern: str, path: str, fits: bool) -> None:
    assert roles.address_matches(pattern, path) is fits


def test_no_pattern_takes_long() -> None:
    begun = time.process_time()
    assert not roles.address_matches("/*a" * 5_000 + "b", "/a" * 20_000)
    assert time.process_time() - begun < 2.0


# Who gives what ------------------------------------------------------------------------------------------------------


def giving(caller: Caller, *given: str) -> Refused | None:
    """What the domain answers to a token of that role."""
    known = {"made": Role("made", ("viewer",)), "wide": Role("wide", ("admin",)), "bound": Role("bound", ("made",))}
    return may_give(DeleteToken(token_id="x", actor=str(caller.principal), grants=caller.grants), given, known)


def test_nobody_gives_a_role_that_it_does_not_have() -> None:
    assert giving(ada("admin"), "operator", "wide", "made") is None
    assert giving(principals.local(0, {0}), "admin") is None
    assert giving(ada("operator", "made"), "viewer", "metrics", "made") is None
    assert giving(ada("bound"), "made") is None
    assert may_give(DeleteToken(token_id="x"), ["admin"], {}) is None  # without access control
    for caller, given in (
        (ada("operator"), "admin"),
        (ada("viewer"), "operator"),
        (ada("operator", "made"), "wide"),
        (ada("viewer"), "made"),
        (ada(), "metrics"),
        (Caller(ada().principal, ()), "metrics"),
        (Caller(ada().principal, (("admin",), ("viewer",))), "operator"),
    ):
        refused = giving(caller, given)
        assert refused and refused.code == "not_allowed" and refused.hint and str(caller.principal) in refused.message


def decided(caller: Caller, command: Command, state: State | None = None) -> str:
    """What decide() says to a command of that caller: the code of the refusal, or nothing."""
    decision = decide(state or State(uid="d0"), replace(command, actor=str(caller.principal), grants=caller.grants))
    return decision.code if isinstance(decision, Refused) else ""


def with_record(state: State, kind: str, key: str, value: Any) -> State:
    """The state in which a record has that value, None: there is none."""
    if value is None:
        return state
    decision = decide(state, PutRecord(kind=kind, key=key, value=json.dumps(value)))
    assert isinstance(decision, Accepted)
    return decision.state


KEEPER = ada("keeper", "viewer")
"""A user whose made role allows it to change users, as far as requests go."""

SECRET, OTHER = {"password": "scrypt$1"}, {"password": "scrypt$2"}
REQUEST = {"method": "GET", "url": "/x", "queryParamConstraints": {}, "pathParamConstraints": {}, "payloadParamConstraints": {}}
NO_REQUEST: dict[str, Any] = {"subRoles": [], "authorizedRequests": []}
ONE_REQUEST = {**NO_REQUEST, "authorizedRequests": [REQUEST]}


@pytest.mark.parametrize(
    ("kind", "before", "after", "refused"),
    [
        ("user", None, {"roles": ["viewer"], **SECRET}, False),
        ("user", None, {"roles": ["admin"], **SECRET}, True),
        ("user", {"roles": ["admin"], **SECRET}, {"roles": ["admin", "viewer"], **SECRET}, False),  # admin was there before
        ("user", {"roles": ["viewer"], **SECRET}, {"roles": ["viewer", "operator"], **SECRET}, True),
        ("user", {"roles": ["admin"], **SECRET}, {"roles": ["admin"], **OTHER}, True),  # it could be that admin then
        ("user", {"roles": ["admin"], **SECRET}, {"roles": ["admin"], **SECRET, "certificatePem": "x"}, True),
        ("user", {"roles": ["viewer"], **SECRET}, {"roles": ["viewer"], **OTHER}, False),
        ("user", {"roles": ["admin", "viewer"], **SECRET}, {"roles": ["viewer"], **SECRET}, False),
        ("user", {"roles": ["admin"], **SECRET}, None, False),
        ("role", None, {**NO_REQUEST, "subRoles": ["viewer"]}, False),
        ("role", None, {**NO_REQUEST, "subRoles": ["operator"]}, True),
        ("role", None, ONE_REQUEST, True),
        (
            "role",
            {**NO_REQUEST, "authorizedRequests": [REQUEST]},
            {"subRoles": ["viewer"], "authorizedRequests": [REQUEST]},
            False,
        ),
        ("role", ONE_REQUEST, NO_REQUEST, False),
        ("role", {**NO_REQUEST, "subRoles": ["admin"]}, NO_REQUEST, False),
    ],
)
def test_the_rule_judges_which_roles_a_changed_record_gives(kind: str, before: Any, after: Any, refused: bool) -> None:
    state = with_record(with_record(State(uid="d0"), "role", "keeper", NO_REQUEST), kind, "x", before)
    command = PutRecord(kind=kind, key="x", value=None if after is None else json.dumps(after))
    assert decided(KEEPER, command, state) == ("not_allowed" if refused else "")
    assert decided(ada("admin"), command, state) == ""


def test_the_rule_judges_which_role_a_token_gives() -> None:
    made = CreateToken(token_id="0" * 12, hashed_secret="f" * 64, role="operator", lasts=60_000)
    state = with_record(State(uid="d0"), "role", "keeper", NO_REQUEST)
    assert decided(KEEPER, made, state) == "not_allowed"
    assert decided(KEEPER, replace(made, role="viewer"), state) == ""


# Commands ------------------------------------------------------------------------------------------------------------


def test_every_command_that_has_a_rule_has_a_right() -> None:
    assert set(RIGHTS) == set(RULES)
    assert {RIGHTS[fact] for fact in FACTS} == {Right.SERVER}
    assert right_of(Tick(clock=1)) is Right.SERVER


def test_a_record_by_which_somebody_might_come_in_asks_for_more() -> None:
    assert right_of(PutRecord(kind="kvstore", key="x")) is Right.OPERATE
    for kind, right in RECORD_RIGHTS.items():
        assert right_of(PutRecord(kind=kind, key="x")) is right is not Right.OPERATE


def test_the_domain_refuses_an_order_whose_right_no_built_in_role_of_the_principal_gives() -> None:
    order, users = PutRecord(kind="kvstore", key="x", value="1"), PutRecord(kind="user", key="x", value='{"roles": []}')
    for caller, command, code in (
        (ada("operator"), order, ""),
        (ada("viewer"), order, "not_allowed"),
        (ada(), order, "not_allowed"),
        (Caller(ada().principal, ()), order, "not_allowed"),
        (Caller(ada().principal, (("admin",), ("viewer",))), order, "not_allowed"),
        (ada("operator"), users, "not_allowed"),
        (ada("admin"), users, ""),
        (ada("admin"), Tick(clock=1), "not_allowed"),  # what only a manager says
        (principals.server("u1"), order, ""),
    ):
        assert decided(caller, command) == code, (caller, command)


def test_every_right_is_given_by_some_built_in_role() -> None:
    assert set().union(*BUILT_IN.values()) == set(Right)
