"""Domain: what records say and what may be said in them: regions, users and their roles. Pure.

A region is a number and a name. Region 0 is Default: it always exists, and everything is in it that was not put elsewhere
(docs/reference/nuodb.md#objects).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dkv.domain import admission
from dkv.domain.decision import Refused
from dkv.domain.model import State
from dkv.domain.refusals import nearest, no

LONGEST_NAME = 200
DEFAULT = (0, "Default")
ALL = "all"  # the one key of the kind `regions`


@dataclass(frozen=True)
class Regions:
    """All regions by number; a number is never given out twice. `text` is the record it was read from, None without."""

    names: Mapping[int, str]
    next_id: int
    text: str | None


@dataclass(frozen=True)
class Placing:
    """Which region a database's servers are in. `text` is the record it was read from, None without."""

    default: int = DEFAULT[0]
    servers: Mapping[str, int] = field(default_factory=dict)
    text: str | None = None


def text_of(state: State, kind: str, key: str) -> str | None:
    """The value of a record as JSON, None without one."""
    record = state.records.get((kind, key))
    return record.value if record else None


def value_of(state: State, kind: str, key: str) -> Any:
    """The value of a record, None without one."""
    return json.loads(text_of(state, kind, key) or "null")


def regions(state: State) -> Regions:
    """Every region, Default among them."""
    text = text_of(state, "regions", ALL)
    value: dict[str, Any] = json.loads(text) if text else {"next": 1, "names": {}}
    names = {int(number): str(name) for number, name in value["names"].items()}
    return Regions({DEFAULT[0]: DEFAULT[1], **names}, value["next"], text)


def placing(state: State, database: str) -> Placing:
    """Which region a database's servers are in; of a deleted database of that name nothing counts."""
    text = text_of(state, "database_regions", database)
    known = state.databases.get(database)
    value = json.loads(text) if text else {}
    if known is None or value.get("uid") != known.uid:
        return Placing(text=text)
    return Placing(value["default"], value["servers"], text)


def region_id_of(state: State, database: str, server_id: str) -> int:
    """The number of the region a server is in for a database; 0 where its region is gone."""
    placed = state.memoized(placing, database)
    number = placed.servers.get(server_id, placed.default)
    return number if number in state.memoized(regions).names else DEFAULT[0]


def region_of(state: State, database: str, server_id: str) -> str:
    """The name of the region a server is in for a database."""
    return state.memoized(regions).names[region_id_of(state, database, server_id)]


def assigned_to(state: State, region: int) -> list[str]:
    """The databases that have servers in a region, or all they have not assigned."""
    placed = {name: placing(state, name) for name in sorted(state.databases)}
    return [name for name, where in placed.items() if region in (where.default, *where.servers.values())]


# Names ---------------------------------------------------------------------------------------------------------------


def keys_of(state: State, kind: str) -> list[str]:
    """The names of the records of a kind, in order."""
    return sorted(r.key for r in state.records.values() if r.kind == kind)


def unfit_name(what: str, name: str) -> Refused | None:
    """Refuse a name that could not be seen or typed."""
    if name.strip() == name and name.isprintable() and "/" not in name and 0 < len(name) <= LONGEST_NAME:
        return None
    return no(
        "bad_value",
        f"{what} {name[:60]!r} is not a valid name.",
        f"Use up to {LONGEST_NAME} printable characters, no slash, no blank at either end.",
    )


def unknown_record(state: State, kind: str, name: str) -> Refused:
    """No record of that name."""
    noun = kind.replace("_", " ").replace("load balancer", "load-balancer policy")
    return no("unknown_record", f"There is no {noun} named {name}.", nearest(name, keys_of(state, kind)))


def unknown_role(state: State, names: Iterable[str]) -> Refused | None:
    """Refuse the first of these roles that does not exist."""
    return admission.unknown_role(keys_of(state, "role"), names)


def holders_of(state: State, role: str) -> list[str]:
    """Who names a role: `user x`, `role y`."""
    users = [f"user {name}" for name in keys_of(state, "user") if role in value_of(state, "user", name)["roles"]]
    return users + [f"role {name}" for name in keys_of(state, "role") if role in value_of(state, "role", name)["subRoles"]]


def circular(state: State, role: str, sub_roles: Iterable[str]) -> Refused | None:
    """Refuse sub-roles through which a role would contain itself."""
    seen: set[str] = set()
    waiting = list(sub_roles)
    while waiting:
        name = waiting.pop()
        if name == role:
            return no("bad_value", f"Role {role} would contain itself.", "Leave that sub-role out.")
        if name not in seen:
            seen.add(name)
            waiting += (value_of(state, "role", name) or {}).get("subRoles", [])
    return None
