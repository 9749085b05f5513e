"""Store: between the domain's objects and the texts a backend keeps; the only door to msgspec.

One record per object (`server/<id>`, `group/<database>/<name>` ...) and one, `domain`, for what is neither: so a
commit writes only what it changed, and a reader decodes a text once for as long as it stays the same.

A field that a text does not have gets its default; a field this dkv does not know is refused, because writing the object back
would lose it. So a field that came after level 0 is not written while it is at its default (domain/levels.py), and a domain
whose level this dkv does not know is refused before any of its records is looked at. A group's phase is identified by its `name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar, cast, get_args, get_type_hints
from urllib.parse import quote

import msgspec

from dkv.domain.access import Authority, DatabaseUser, Departed, JoinToken, Token
from dkv.domain.hotcopy import HotCopy
from dkv.domain.levels import LEVEL, grew, later_fields
from dkv.domain.model import Archive, Database, Group, Process, Record, Server, State, Tombstone
from dkv.domain.phases import Phase
from dkv.domain.table import Table
from dkv.store.contract import StoreError, Unusable

T = TypeVar("T")

DOMAIN = "domain"
BESIDE = ("answer/",)
"""Prefixes of records that stand beside the domain's objects; their owners read them, `decode` passes over them."""


class Misfit(StoreError, ValueError):
    """A plain value does not fit the type it was given for; says where and why."""


@dataclass(frozen=True)
class RecordTable:
    """How the objects of one field of State become records."""

    field: str
    prefix: str
    type: type
    key: Callable[[Any], Any]  # an object's key in the mapping
    path: Callable[[Any], tuple[object, ...]]  # and the words of its record's key

    def record_key(self, item: object) -> str:
        """`prefix/word/word`, with any slash inside a word escaped."""
        return "/".join([self.prefix, *(quote(str(word), safe="") for word in self.path(item))])


TABLES = (
    RecordTable("servers", "server", Server, lambda s: s.server_id, lambda s: (s.server_id,)),
    RecordTable("databases", "database", Database, lambda d: d.name, lambda d: (d.name,)),
    RecordTable("groups", "group", Group, lambda g: (g.database, g.name), lambda g: (g.database, g.name)),
    RecordTable("archives", "archive", Archive, lambda a: a.archive_id, lambda a: (a.archive_id,)),
    RecordTable("processes", "process", Process, lambda p: p.start_id, lambda p: (p.start_id,)),
    RecordTable(
        "tombstones", "tombstone", Tombstone, lambda t: t.process.start_id, lambda t: (t.process.database, t.process.start_id)
    ),
    RecordTable("records", "record", Record, lambda r: (r.kind, r.key), lambda r: (r.kind, r.key)),
    RecordTable("copies", "copy", HotCopy, lambda c: c.copy_id, lambda c: (c.copy_id,)),
    RecordTable("tokens", "token", Token, lambda t: t.token_id, lambda t: (t.token_id,)),
    RecordTable("authorities", "authority", Authority, lambda a: a.owner, lambda a: (a.owner,)),
    RecordTable("database_users", "database-user", DatabaseUser, lambda u: (u.database, u.name), lambda u: (u.database, u.name)),
    RecordTable("departed", "departed", Departed, lambda d: d.uid, lambda d: (d.uid,)),
    RecordTable("join_tokens", "join-token", JoinToken, lambda j: j.token_id, lambda j: (j.token_id,)),
)
_BY_PREFIX = {table.prefix: table for table in TABLES}
_SCALARS = tuple(f.name for f in fields(State) if f.name not in {table.field for table in TABLES})
_Scalars = msgspec.defstruct(
    "_Scalars",
    [(f.name, get_type_hints(State)[f.name], f.default) for f in fields(State) if f.name in _SCALARS],
    forbid_unknown_fields=True,
)
_Level = msgspec.defstruct("_Level", [("level", int, 0)])
_PHASES: dict[object, type[Phase]] = {phase.name: phase for phase in get_args(Phase)}
_HINTS = get_type_hints(Group) | {"phase": Any}
_SHAPES: dict[type, type] = {
    Group: make_dataclass("Group", [(f.name, _HINTS[f.name], field(default=f.default)) for f in fields(Group)], frozen=True)
}
"""What is decoded instead of a type: msgspec supports no unions of dataclasses."""
_encode = msgspec.json.Encoder().encode
_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = cache(msgspec.json.Decoder)


def to_plain(item: object) -> Any:
    """An object as dicts, lists, strings and numbers. Fields keep their order."""
    return msgspec.to_builtins(item, str_keys=True)


def from_plain(kind: type[T], value: object) -> T:
    """The object of a type that a plain value describes. Raises Misfit, also for a field the type does not have."""
    try:
        item = _in_phase(kind, msgspec.convert(value, _SHAPES.get(kind, kind), str_keys=True))
    except msgspec.ValidationError as error:
        raise Misfit(str(error)) from None
    if stranger := _stranger(value, to_plain(item)):
        raise Misfit(f"Object contains unknown field `{stranger}`")
    return item


def to_text(item: object) -> str:
    """An object as one line of JSON."""
    return _encode(_written(item, to_plain(item)) if grew(type(item)) else item).decode()


def _written(item: Any, plain: Any) -> Any:
    """What is written of an object, given all of it as a plain value: no later field that is at its default."""
    if is_dataclass(item):
        later = later_fields(type(item))
        shown = {f.name: getattr(item, f.name) for f in fields(item)}
        return {
            name: _written(shown[name], value)
            for name, value in plain.items()
            if name not in shown or name not in later or shown[name] != later[name]
        }
    if isinstance(item, tuple | list):
        return [_written(each, value) for each, value in zip(item, plain, strict=True)]
    if isinstance(item, Mapping):
        return dict(zip(plain, map(_written, item.values(), plain.values()), strict=True))
    return plain


def from_text(kind: type[T], text: str) -> T:
    """The object of a type that a JSON text describes. Raises Misfit."""
    try:
        item = _in_phase(kind, _decoder(_SHAPES.get(kind, kind)).decode(text))
        if to_text(item) == text:
            return item  # nothing in the text was passed over; far the most common case
        return from_plain(kind, msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise Misfit(str(error)) from None


def _in_phase(kind: type[T], shape: Any) -> T:
    """The object of a type whose shape was decoded: a group's phase is still a plain value. Raises Misfit, ValidationError."""
    if kind is not Group:
        return cast("T", shape)
    name = shape.phase.get("name") if isinstance(shape.phase, dict) else None
    if name not in _PHASES:
        raise Misfit(f"Object has no phase `{name}` - at `$.phase`")
    return cast("T", Group(**{**vars(shape), "phase": msgspec.convert(shape.phase, _PHASES[name])}))


def encode(state: State) -> dict[str, str]:
    """Every record of a state."""
    records = {table.record_key(item): to_text(item) for table in TABLES for item in _items(state, table).values()}
    return {DOMAIN: _domain_text(state), **records}


def decode(records: Mapping[str, str]) -> State:
    """The state that records hold. Objects whose text did not change are the same objects as last time.

    Raises Unusable if a record is damaged or was written by another dkv.
    """
    scalars = _scalars(records[DOMAIN]) if DOMAIN in records else {}
    tables: dict[str, Any] = {table.field: {} for table in TABLES}
    for record_key, text in records.items():
        if record_key == DOMAIN or record_key.startswith(BESIDE):
            continue
        field, key, item = _decode_record(record_key, text)
        tables[field][key] = item
    return State(**scalars, **tables)


def decode_changed(known: State, before: Mapping[str, str], after: Mapping[str, str], keys: Iterable[str]) -> State:
    """What `decode(after)` gives, made from the state `known` that `before` held, where only records of these keys differ.

    Costs what changed. Raises Unusable.
    """
    scalars = _scalars(after[DOMAIN]) if DOMAIN in after else {}
    changed: dict[str, dict[Any, Any]] = {}
    for record_key in keys:
        old, new = before.get(record_key), after.get(record_key)
        if record_key.startswith(BESIDE) or old == new or record_key == DOMAIN:
            continue
        field, key, item = _decode_record(record_key, new if new is not None else cast("str", old))
        changed.setdefault(field, {})[key] = item if new is not None else None
    tables: dict[str, Any] = {
        table.field: _changed_table(getattr(known, table.field), changed.get(table.field, {})) for table in TABLES
    }
    return State(**scalars, **tables).made_from(known, changed)


def _changed_table(table: Table[Any, Any], changed: Mapping[Any, Any]) -> Table[Any, Any]:
    """A table with these changes, None for a thing that is gone; the table itself without any."""
    if not changed:
        return table
    copy = table.copied()
    for key in sorted(changed):
        if changed[key] is None:
            copy.drop(key)
        else:
            copy.put(key, changed[key])
    return copy


def diff(old: State, new: State) -> dict[str, str | None]:
    """What to write so that the records of `old` become those of `new`; None deletes. Costs what changed, if `new` knows that
    it was made from `old`.
    """
    writes: dict[str, str | None] = {}
    if any(getattr(old, name) != getattr(new, name) for name in _SCALARS):
        writes[DOMAIN] = _domain_text(new)
    touched = new.touched_since(old)
    for table in TABLES:
        before, after = _items(old, table), _items(new, table)
        for key in sorted(touched.get(table.field, ())):
            known, item = before.get(key), after.get(key)
            if item is None and known is not None:
                writes[table.record_key(known)] = None
            elif known is not item and known != item:
                writes[table.record_key(item)] = to_text(item)
    return writes


def _items(state: State, table: RecordTable) -> Mapping[Any, Any]:
    return cast("Mapping[Any, Any]", getattr(state, table.field))


# Keyed by the text itself: a text that stays is the same str, whose hash is kept and whose comparison is one look.
@lru_cache(maxsize=65_536)
def _decode_record(record_key: str, text: str) -> tuple[str, Any, Any]:
    """The field of State, the key there, and the object."""
    table = _BY_PREFIX.get(record_key.partition("/")[0])
    if table is None:
        raise _refusal(record_key, "this dkv knows no such kind of record")
    try:
        item: Any = from_text(table.type, text)
    except Misfit as error:
        raise _refusal(record_key, str(error)) from None
    if table.record_key(item) != record_key:
        raise _refusal(record_key, f"it holds {table.record_key(item)}")
    return table.field, table.key(item), item


@lru_cache(maxsize=64)
def _scalars(text: str) -> dict[str, Any]:
    try:
        if (level := msgspec.json.decode(text, type=_Level).level) > LEVEL:  # type: ignore[attr-defined]  # a struct made here
            raise Unusable(
                f"the domain state is at level {level}, and this dkv knows levels up to {LEVEL}: it is older than the others",
                "Install the release of dkv on this server that the other managers have, and start its manager again.",
            )
        return msgspec.structs.asdict(msgspec.json.decode(text, type=_Scalars))
    except msgspec.DecodeError as error:
        raise _refusal(DOMAIN, str(error)) from None


def _domain_text(state: State) -> str:
    scalars = {name: getattr(state, name) for name in _SCALARS}
    later = later_fields(State)
    return to_text({name: value for name, value in scalars.items() if name not in later or value != later[name]})


def _refusal(record_key: str, finding: str) -> Unusable:
    return Unusable(
        f"the domain's record {record_key} cannot be used ({finding})",
        "Another version of dkv may have written it: run that one on every server.",
    )


def _stranger(given: object, written: object, where: str = "") -> str:
    """The path of the first field that was given and not kept; empty if there is none."""
    if isinstance(given, dict) and isinstance(written, dict):
        for name, value in given.items():
            if str(name) not in written:
                return f"{where}{name}"
            if path := _stranger(value, written[str(name)], f"{where}{name}."):
                return path
    elif isinstance(given, list | tuple) and isinstance(written, list | tuple):
        for number, (item, written_item) in enumerate(zip(given, written, strict=False)):
            if path := _stranger(item, written_item, f"{where}{number}."):
                return path
    return ""
