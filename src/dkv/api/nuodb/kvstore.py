"""API: /api/1/kvstore, small values that scripts share, with compare-and-set (docs/reference/nuodb.md#objects)."""

from __future__ import annotations

from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key, accepted
from dkv.api.nuodb import schemas
from dkv.api.nuodb.records import text_of
from dkv.api.nuodb.registry_bodies import ValueBody
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.domain import records
from dkv.domain.orders import PutRecord

KIND = "kvstore"

router = Router(prefix="/kvstore")


@router.get("/{name:path}")
async def get_value(name: str, context: Context) -> schemas.Value:
    """The value of a key, null if there is none: that is no error, since scripts ask so whether it is there."""
    state = context.state
    return {"key": name, "value": records.value_of(state, KIND, name)}


@router.put("/{name:path}")
async def put_value(name: str, body: ValueBody, manager: Manager, key: Key) -> schemas.Value:
    """Set a key, or with a null value delete it, if it is what the asker expects. "" is expected of a missing key too."""
    if body.key not in (None, name):
        raise refuse("bad_value", f"The body names the key {body.key!r}, the address {name!r}.", "Name one key.")
    command = PutRecord(kind=KIND, key=name, value=text_of(body.new_value), expects=_expected(body))
    accepted(await manager.submitter.submit(command, key))
    return {"key": name, "value": body.new_value}


def _expected(body: ValueBody) -> tuple[str | None, ...]:
    if body.expected_absent and body.expected_value:
        raise refuse("bad_value", "A key cannot be expected to be absent and to have a value.", "Send one of them.")
    if body.expected_absent:
        return (None,)
    if body.expected_value is None:
        return ()
    return (text_of(body.expected_value), None) if not body.expected_value else (text_of(body.expected_value),)
