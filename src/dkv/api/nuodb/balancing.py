"""API: /api/1/databases/loadBalancer*, how clients choose among processes: stored and given back."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key
from dkv.api.nuodb import schemas
from dkv.api.nuodb.dependencies import database_of
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.nuodb.records import must, rewrite
from dkv.api.nuodb.registry_bodies import BalancingBody, PolicyBody
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import records
from dkv.domain.model import State
from dkv.domain.orders import PutRecord

POLICY, CONFIG = "load_balancer", "load_balancer_config"
GLOBAL = "global"  # the key of what the whole domain chooses by; a database's is `database/<name>`

router = Router(prefix="/databases")


@router.get("/loadBalancerPolicies", openapi_extra=LISTED)
async def get_policies(request: Request, context: Context) -> schemas.Page[schemas.Policy]:
    """Every policy by its name."""
    state = context.state
    names = records.keys_of(state, POLICY)
    return page(request, [{"policyName": name, "lbQuery": records.value_of(state, POLICY, name)} for name in names])


@router.post("/loadBalancerPolicy/{name}")
async def set_policy(name: str, body: PolicyBody, manager: Manager, key: Key) -> schemas.Policy:
    """A policy, in place of one that was there."""
    if body.policy_name not in (None, name):
        raise refuse("bad_value", f"The body names {body.policy_name!r}, the address {name!r}.", "Name one.")
    must(records.unfit_name("Policy", name))
    _query("lbQuery", body.lb_query)
    await rewrite(manager, PutRecord(kind=POLICY, key=name), lambda state, old: body.lb_query, key)
    return {"policyName": name, "lbQuery": body.lb_query}


@router.delete("/loadBalancerPolicy/{name}")
async def delete_policy(name: str, manager: Manager, key: Key) -> schemas.Nothing:
    """A policy goes."""

    def change(state: State, old: Any) -> None:
        if old is None:
            raise Refusal(records.unknown_record(state, POLICY, name))

    await rewrite(manager, PutRecord(kind=POLICY, key=name), change, key)
    return {}


@router.get("/loadBalancerConfigs", openapi_extra=LISTED)
async def get_configs(request: Request, context: Context) -> schemas.Page[schemas.Balancing]:
    """What is chosen by when a client names nothing: by the whole domain, and by databases that differ."""
    state = context.state
    return page(request, [_shown(key, records.value_of(state, CONFIG, key)) for key in records.keys_of(state, CONFIG)])


def _shown(key: str, value: dict[str, Any]) -> Any:
    whose = {"isGlobal": True} if key == GLOBAL else {"isGlobal": False, "dbName": key.partition("/")[2]}
    return whose | value


@router.post("/loadBalancerConfig")
async def set_config(
    body: BalancingBody, manager: Manager, key: Key, unregisterDefaultLbQuery: bool = False, unregisterPrefilter: bool = False
) -> schemas.Nothing:
    """Set or unregister a default and a prefilter; what is not named stays."""
    if bool(body.is_global) == (body.db_name is not None):
        raise refuse("bad_value", "A configuration is the domain's or that of one database.", "Send isGlobal or dbName.")
    gone = [f for f, out in (("defaultLbQuery", unregisterDefaultLbQuery), ("prefilter", unregisterPrefilter)) if out]
    given = {"defaultLbQuery": body.default_lb_query, "prefilter": body.prefilter}
    new = {field: _query(field, text) for field, text in given.items() if text is not None}
    if both := sorted(set(gone) & set(new)):
        raise refuse("bad_value", f"{both[0]} cannot be set and unregistered at once.", "Do one of them.")

    def change(state: State, old: Any) -> Any:
        if body.db_name is not None:
            database_of(state, body.db_name)
        fields = {field: text for field, text in (old or {}).items() if field not in gone}
        return {**fields, **new} or None

    where = GLOBAL if body.db_name is None else f"database/{body.db_name}"
    await rewrite(manager, PutRecord(kind=CONFIG, key=where), change, key)
    return {}


def _query(field: str, text: str) -> str:
    """A query as it is kept. Only its parentheses are looked at. Raises Refusal."""
    depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth or not text.strip():
        raise refuse("bad_value", f"The parentheses of {field} '{text[:60]}' do not match.", "Write for example random(any).")
    return text
