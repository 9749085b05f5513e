"""Domain room: what records say that other views show: regions, and which region a server is in for a database. Pure.

A region is a number and a name. Region 0 is Default: it always exists, and everything is in it that was not put elsewhere
(nuocmd-rest.md section 2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dkv.domain.model import State

DEFAULT = (0, "Default")
ALL = "all"     # the one key of the kind `regions`


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
    kept: dict[str, Any] = json.loads(text) if text else {"next": 1, "names": {}}
    names = {int(number): str(name) for number, name in kept["names"].items()}
    return Regions({DEFAULT[0]: DEFAULT[1], **names}, kept["next"], text)


def placing(state: State, database: str) -> Placing:
    """Which region a database's servers are in; of a deleted database of that name nothing counts."""
    text = text_of(state, "database_regions", database)
    known = state.databases.get(database)
    kept = json.loads(text) if text else {}
    if known is None or kept.get("uid") != known.uid:
        return Placing(text=text)
    return Placing(kept["default"], kept["servers"], text)


def region_id_of(state: State, database: str, server_id: str) -> int:
    """The number of the region a server is in for a database; 0 where its region is gone."""
    placed = placing(state, database)
    number = placed.servers.get(server_id, placed.default)
    return number if number in regions(state).names else DEFAULT[0]


def region_of(state: State, database: str, server_id: str) -> str:
    """The name of the region a server is in for a database."""
    return regions(state).names[region_id_of(state, database, server_id)]
