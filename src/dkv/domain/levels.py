"""Levels: what the domain state may contain, so that managers of two releases of dkv can share it while they are upgraded.

A level is a number. It names the fields, kinds of records and values that the state had when the level was made; level 0 is what
dkv had before there were levels. The domain is at the lowest level that the managers of all its servers know
(rules/levels.py), and never goes back. What came with a higher level stays at its default until then, and is not written:
a manager of an older release finds nothing that it does not know. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum, EnumType
from functools import cache
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from dkv.domain.access import JoinToken
from dkv.domain.decision import Refused
from dkv.domain.model import INDEXES, Server, State
from dkv.domain.refusals import no
from dkv.hints import action

LEVEL = 2
"""The newest level that this dkv knows."""

FIELDS: Mapping[type, Mapping[str, int]] = MappingProxyType(
    {
        State: {"level": 1},
        Server: {"dkv_release": 1, "level": 1, "labels": 1, "gives_up_vote": 1, "member_trouble": 2},
        JoinToken: {"replaces": 2},
    }
)
"""Fields that came after level 0, and their levels. Each has a default, which never changes. A field of State is a scalar of the
domain or a whole kind of records."""

VALUES: Mapping[object, int] = MappingProxyType({})
"""Members of enumerations, and types of phases, that came after level 0, and their levels."""


def _later_fields(kind: type) -> Mapping[str, Any]:
    defaults = {
        f.name: f.default if f.default is not MISSING else f.default_factory()  # type: ignore[misc]  # one of the two is set
        for f in (fields(kind) if is_dataclass(kind) else ())
        if f.name in FIELDS.get(kind, {})
    }
    return MappingProxyType(defaults)


def _grew(kind: type) -> int:
    return max((_level_of(part) for part in _parts(kind)), default=0)


later_fields: Callable[[Any], Mapping[str, Any]] = cache(_later_fields)
"""The fields of a type that came after level 0, and their defaults: at these they are not written."""
grew: Callable[[Any], int] = cache(_grew)
"""The highest level of a type's fields and values, and of what those contain; 0: nothing came after level 0."""


def _parts(kind: Any) -> set[Any]:
    """All types that a value of a type may contain, itself included."""
    parts: set[Any] = set()
    ahead = [kind]
    while ahead:
        part = ahead.pop()
        if part in parts:
            continue
        parts.add(part)
        ahead += get_args(part) or (get_type_hints(part).values() if is_dataclass(part) else ())
    return parts


def _level_of(part: Any) -> int:
    members: list[object] = list(part) if isinstance(part, EnumType) else []
    return max([VALUES.get(part, 0), *FIELDS.get(part, {}).values(), *(VALUES.get(member, 0) for member in members)])


def refusal(before: State, after: State) -> Refused | None:
    """Why `after` may not be written: it has what some manager cannot read. Costs what changed."""
    if after.level >= LEVEL:
        return None
    needed = max(_needed(before, after), default=0)
    return _older(after, needed) if needed > after.level else None


def _needed(before: State, after: State) -> Iterator[int]:
    """The levels of what is in `after` and may be new in it."""
    levels = FIELDS.get(State, {})
    yield from (levels[name] for name, default in later_fields(State).items() if getattr(after, name) != default)
    touched = after.touched_since(before)
    for field in INDEXES:
        table = getattr(after, field)
        for key in touched.get(field, ()):
            thing = table.get(key)
            if thing is not None and grew(type(thing)) > after.level:
                yield from _inside(thing)


def _inside(value: Any) -> Iterator[int]:
    """The levels of a value, of its fields that are not at their defaults, and of all that is in them."""
    yield VALUES.get(value if isinstance(value, Enum) else type(value), 0)
    if is_dataclass(value):
        for name, default in later_fields(type(value)).items():
            if getattr(value, name) != default:
                yield FIELDS[type(value)][name]
        for f in fields(value):
            yield from _inside(getattr(value, f.name))
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from _inside(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _inside(item)


def behind(state: State) -> list[Server]:
    """The servers whose managers keep the domain from a higher level that another manager knows already, by id."""
    newest = max((server.level for server in state.servers.values()), default=0)
    if newest <= state.level:
        return []
    return [server for _, server in sorted(state.servers.items()) if server.level < newest]


def with_leases(state: State, levels: Mapping[str, int]) -> State:
    """The state of a domain at level 0, which has no place for what its managers know, with the levels that they write in their
    leases. It is only shown, never judged by or written.
    """
    if state.level or not any(levels.values()):
        return state
    return replace(state, servers={name: replace(s, level=levels.get(name, 0)) for name, s in state.servers.items()})


def _older(state: State, needed: int) -> Refused:
    names = [server.server_id for server in behind(state)]
    servers = f" of {', '.join(names)}" if names else ""
    return no(
        "older_managers",
        f"That needs level {needed} of the domain state, and a manager{servers} knows level {state.level} only.",
        "Upgrade dkv on every server first: ",
        action("showStatus"),
        ".",
    )
