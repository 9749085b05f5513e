"""API: how routes of the NuoDB dialect read and rewrite records: read, change, put back unless it changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dkv.api.context import ManagerContext
from dkv.api.dependencies import accepted, repeated
from dkv.api.problems import Refusal, refuse
from dkv.control.submit import RequestKey
from dkv.domain import records
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import State
from dkv.domain.orders import PutRecord

ATTEMPTS = 50

Change = Callable[[State, Any], Any]
"""From a state and a record's value in it, None without one, to the value it should have, None to delete it."""


Beside = Callable[[Any], Mapping[str, object]]
"""From a record's new value to what is remembered with the answer."""


def text_of(value: Any) -> str | None:
    """A value as the text of a record; equal values have equal texts."""
    return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))


def must(refused: Refused | None) -> None:
    """Raises Refusal if there is one."""
    if refused:
        raise Refusal(refused)


async def rewrite(
    manager: ManagerContext, record: PutRecord, change: Change, key: RequestKey | None = None, beside: Beside | None = None
) -> Accepted:
    """Change one record and give the answer, with the state that is true then. Raises Refusal, of `change` too; nothing is
    changed then. A repeated request is not judged again; `beside` makes of the new value what its answer has to contain.
    """
    for _ in range(ATTEMPTS):
        if done := await repeated(manager, key):
            return done
        state = (await manager.submitter.view()).state
        before = records.text_of(state, record.kind, record.key)
        value = change(state, json.loads(before or "null"))
        bound_key = replace(key, beside=beside(value)) if key and beside else key
        decision = await manager.submitter.submit(replace(record, value=text_of(value), expects=(before,)), bound_key)
        if not isinstance(decision, Refused) or decision.code != "record_changed":
            return accepted(decision)
    raise refuse("record_changed", f"{record.kind} {record.key} is changed all the time by somebody else.", "Ask again.")
