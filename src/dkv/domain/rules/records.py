"""Records: small things the domain keeps for people and programs, changed by compare-and-set, never judged by.

They are part of every view that managers read, so they are kept small and few; what is large belongs in a database.
"""

from __future__ import annotations

import json

from dkv.domain.admission import may_give
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.identities import given_by, roles_of
from dkv.domain.model import Record
from dkv.domain.orders import PutRecord
from dkv.domain.refusals import nearest, no

KINDS = ("certificate", "database_regions", "kvstore", "load_balancer", "load_balancer_config", "regions", "role", "user")
LONGEST_KEY = 512  # bytes, as UTF-8
LARGEST_VALUE = 65_536  # bytes of JSON
MOST_OF_A_KIND = 1_000
LARGEST_SUM = 4_000_000  # bytes of all keys and values


def put_record(draft: Draft, command: PutRecord) -> Refused | None:
    """Set or delete one record if its value is one that was expected."""
    refused = _unfit(command)
    if refused:
        return refused
    where = (command.kind, command.key)
    known = draft.records.get(where)
    value = known.value if known else None
    if command.expects and value not in command.expects:
        difference = "has another value" if known else "does not exist"
        return no(
            "record_changed",
            f"The {_shown(command)} {difference}: it is not what was expected.",
            "Read it again, and repeat the change if it is still wanted.",
        )
    if value == command.value:
        return None
    if command.value is None:
        draft.drop(known)
        draft.note("record.deleted", f"{command.kind} {command.key}", "it was deleted")
        return None
    if refused := may_give(command, given_by(command.kind, value, command.value), roles_of(draft)):
        return refused
    draft.put(Record(command.kind, command.key, command.value))
    draft.note("record.set", f"{command.kind} {command.key}", "it was changed" if known else "it was added")
    return _too_much(draft, command)


def _shown(command: PutRecord) -> str:
    return f"{command.kind.replace('_', ' ')} {command.key}"


def _unfit(command: PutRecord) -> Refused | None:
    """Why this could be no record of any state."""
    if command.kind not in KINDS:
        return no("bad_value", f"There is no kind of record {command.kind}.", nearest(command.kind, KINDS))
    try:
        long, large = len(command.key.encode()), len((command.value or "").encode())
        json.dumps(json.loads(command.value or "null"), ensure_ascii=False).encode()
    except ValueError:  # a lone half of a surrogate pair is no text
        return no("bad_value", f"The {_shown(command)!r} is not text, or its value is not JSON.", "Use plain UTF-8.")
    if not 0 < long <= LONGEST_KEY:
        return no(
            "bad_value",
            f"The key of a {command.kind.replace('_', ' ')} is {long} bytes long.",
            f"A key has 1 to {LONGEST_KEY} bytes.",
        )
    if large > LARGEST_VALUE:
        return no(
            "bad_value",
            f"The value of {_shown(command)} is {large} bytes long.",
            f"A value has at most {LARGEST_VALUE} bytes; keep larger ones in a database.",
        )
    return None


def _too_much(draft: Draft, command: PutRecord) -> Refused | None:
    """Whether the domain would keep more than every manager can be asked to read."""
    hint = "Delete some; large or many values belong in a database."
    if sum(r.kind == command.kind for r in draft.records.values()) > MOST_OF_A_KIND:
        return no("records_full", f"There are already {MOST_OF_A_KIND} records of that kind.", hint)
    size = sum(len(r.key.encode()) + len(r.value.encode()) for r in draft.records.values())
    if size > LARGEST_SUM:
        return no("records_full", f"All records together would take {size} bytes, more than {LARGEST_SUM}.", hint)
    return None
