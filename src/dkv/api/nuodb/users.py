"""API: /api/1/policies: users, their credentials and roles, and the licence that dkv does not have.

What is authorised is stored and given back, and judged where access control is on (api/access.py). Who gives which role is
judged by the rule of the record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

from fastapi import Request
from fastapi.responses import Response

from dkv.access.passwords import hash_password
from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key
from dkv.api.nuodb import schemas
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.nuodb.records import Change, must, rewrite
from dkv.api.nuodb.registry_bodies import (
    CredentialsBody,
    LicenseBody,
    RequestBody,
    RoleBody,
    RoleChangeBody,
    UserBody,
    UserRolesBody,
)
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import records
from dkv.domain.admission import reserved_role, unfit_user_name
from dkv.domain.model import State
from dkv.domain.orders import PutRecord

router = Router(prefix="/policies")

SECRET = ("password",)  # fields of a user that are never given back


def _shown(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **{field: content for field, content in value.items() if field not in SECRET and content is not None}}


def _user(name: str, value: dict[str, Any]) -> schemas.User:
    return cast(schemas.User, _shown(name, value))


def _role(name: str, value: dict[str, Any]) -> schemas.Role:
    return cast(schemas.Role, _shown(name, value))


def _all(state: State, kind: str) -> Any:
    return [_shown(name, records.value_of(state, kind, name)) for name in records.keys_of(state, kind)]


def _same_name(name: str, in_body: str | None) -> None:
    if in_body not in (None, name):
        raise refuse("bad_value", f"The body names {in_body!r}, the address {name!r}.", "Name one of them.")


def _new(kind: str, name: str, value: dict[str, Any]) -> Change:
    """Add it, unless there is one; adding the same again changes nothing."""

    def change(state: State, old: Any) -> Any:
        must(records.unfit_name(kind.capitalize(), name))
        if old not in (None, value):
            raise refuse("record_exists", f"There is a {kind} named {name} already.", "Change or delete that one.")
        must(records.unknown_role(state, value.get("roles") or value.get("subRoles") or ()))
        return value

    return change


def _known(kind: str, name: str, state: State, old: Any) -> dict[str, Any]:
    if old is None:
        raise Refusal(records.unknown_record(state, kind, name))
    record: dict[str, Any] = old
    return record


def _without_doubles(names: Sequence[Any]) -> list[Any]:
    """Each once, in their order; distinguished by their texts, because there may be a thousand."""
    unique: dict[str, Any] = {}
    for name in names:
        unique.setdefault(json.dumps(name, sort_keys=True), name)
    return list(unique.values())


def _without(names: Sequence[Any], removed: Sequence[Any]) -> list[Any]:
    """Those that are not removed."""
    gone = {json.dumps(name, sort_keys=True) for name in removed}
    return [name for name in names if json.dumps(name, sort_keys=True) not in gone]


# Users ---------------------------------------------------------------------------------------------------------------


@router.get("/users", openapi_extra=LISTED)
async def get_users(request: Request, context: Context) -> schemas.Page[schemas.User]:
    """Every user and its roles; never a password, not even as it is kept."""
    return page(request, _all(context.state, "user"))


@router.put("/users/{name}", status_code=201)
async def create_user(name: str, body: UserBody, manager: Manager, key: Key) -> schemas.User:
    """A new user with a password or a certificate."""
    _same_name(name, body.name)
    must(unfit_user_name(name))
    credentials = await _credentials(body.password, body.certificate_pem)
    value = {"roles": _without_doubles(body.roles or []), **credentials}
    await rewrite(manager, PutRecord(kind="user", key=name), _new("user", name, value), key)
    return _user(name, value)


@router.delete("/users/{name}")
async def delete_user(name: str, manager: Manager, key: Key) -> schemas.Nothing:
    """A user leaves."""

    def change(state: State, old: Any) -> None:
        _known("user", name, state, old)

    await rewrite(manager, PutRecord(kind="user", key=name), change, key)
    return {}


@router.post("/users/{name}/roles")
async def change_user_roles(name: str, body: UserRolesBody, manager: Manager, key: Key) -> schemas.User:
    """What a user may do, more and less."""

    def change(state: State, old: Any) -> dict[str, Any]:
        user = _known("user", name, state, old)
        must(records.unknown_role(state, body.roles_to_add or ()))
        remaining = _without(user["roles"], body.roles_to_remove or ())
        return {**user, "roles": _without_doubles([*remaining, *(body.roles_to_add or ())])}

    state = (await rewrite(manager, PutRecord(kind="user", key=name), change, key)).state
    return _user(name, records.value_of(state, "user", name) or {})


@router.post("/users/{name}/credentials")
async def change_credentials(name: str, body: CredentialsBody, manager: Manager, key: Key) -> schemas.User:
    """A user's new password or certificate; the other one stays. Whoever sets one could be that user from then on."""
    new = await _credentials(body.new_password, body.new_certificate_pem)

    def change(state: State, old: Any) -> dict[str, Any]:
        user = _known("user", name, state, old)
        return {**user, **new}

    state = (await rewrite(manager, PutRecord(kind="user", key=name), change, key)).state
    return _user(name, records.value_of(state, "user", name) or {})


async def _credentials(password: str | None, certificate: str | None) -> dict[str, str]:
    """What is kept of a password or a certificate: exactly one of them."""
    if (password is None) == (certificate is None):
        raise refuse("bad_value", "A user needs either a password or a certificate.", "Give one of them.")
    if certificate is not None:
        return {"certificatePem": certificate}
    assert password is not None
    return {"password": await asyncio.to_thread(hash_password, password)}


# Roles ---------------------------------------------------------------------------------------------------------------


def _requests(bodies: Sequence[RequestBody] | None) -> list[dict[str, Any]]:
    """Requests as they are kept, so that the same ones are found again whichever way nothing was said."""
    fields = ("queryParamConstraints", "pathParamConstraints", "payloadParamConstraints")
    requests = [body.model_dump(by_alias=True) for body in bodies or ()]
    return _without_doubles([{**request, **{field: request[field] or {} for field in fields}} for request in requests])


@router.get("/roles", openapi_extra=LISTED)
async def get_roles(request: Request, context: Context) -> schemas.Page[schemas.Role]:
    """Every role with the requests it allows."""
    return page(request, _all(context.state, "role"))


@router.put("/roles/{name}", status_code=201)
async def create_role(name: str, body: RoleBody, manager: Manager, key: Key) -> schemas.Role:
    """A new role: requests it allows, and other roles it contains."""
    _same_name(name, body.name)
    value = {"subRoles": _without_doubles(body.sub_roles or []), "authorizedRequests": _requests(body.authorized_requests)}
    added = _new("role", name, value)

    def change(state: State, old: Any) -> Any:
        must(reserved_role(name) or records.circular(state, name, value["subRoles"]))
        return added(state, old)

    await rewrite(manager, PutRecord(kind="role", key=name), change, key)
    return _role(name, value)


@router.post("/roles/{name}")
async def change_role(name: str, body: RoleChangeBody, manager: Manager, key: Key) -> schemas.Role:
    """What a role allows and contains, more and less."""
    added, removed = _requests(body.policies_to_add), _requests(body.policies_to_remove)

    def change(state: State, old: Any) -> dict[str, Any]:
        role = _known("role", name, state, old)
        must(records.unknown_role(state, body.sub_roles_to_add or ()))
        must(records.circular(state, name, body.sub_roles_to_add or ()))
        subs, requests = _without(role["subRoles"], body.sub_roles_to_remove or ()), _without(role["authorizedRequests"], removed)
        return {
            "subRoles": _without_doubles([*subs, *(body.sub_roles_to_add or ())]),
            "authorizedRequests": _without_doubles([*requests, *added]),
        }

    state = (await rewrite(manager, PutRecord(kind="role", key=name), change, key)).state
    return _role(name, records.value_of(state, "role", name) or {})


@router.delete("/roles/{name}")
async def delete_role(name: str, manager: Manager, key: Key) -> schemas.Nothing:
    """A role that nobody has any more."""

    def change(state: State, old: Any) -> None:
        _known("role", name, state, old)
        holders = records.holders_of(state, name)
        if holders:
            raise refuse("record_in_use", f"Role {name} is held by {', '.join(holders[:8])}.", "Take it from them first.")

    await rewrite(manager, PutRecord(kind="role", key=name), change, key)
    return {}


# Licence -------------------------------------------------------------------------------------------------------------


@router.get("/license")
async def get_license() -> schemas.NoLicense:
    """dkv has no licences; said in the shape nuocmd prints."""
    decoded = {"type": "NONE", "holder": "dkv has no licences: nothing in it has to be unlocked"}
    return {"decodedLicense": decoded, "effectiveForDomain": True}


@router.post("/license", status_code=400, response_model=schemas.Error)
async def set_license(body: LicenseBody, update: bool = False, allowDowngrade: bool = False) -> Response:
    """Refused."""
    raise refuse("not_supported", "Licences are not supported, because dkv has none.", "Nothing has to be unlocked.")
