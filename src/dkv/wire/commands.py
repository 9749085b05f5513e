"""Wire: commands as JSON and back, by the names and types of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dkv.domain.commands import COMMANDS, Command
from dkv.domain.refusals import nearest

Json = dict[str, Any]


class WireError(Exception):
    """JSON that is not what it should be. `hint` says how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def camel(name: str) -> str:
    """`archive_id` as it is written on the wire: `archiveId`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def to_wire(command: Command) -> Json:
    """A command's fields as JSON values; its name travels beside it."""
    plain: Json = _plain(command)
    return plain


def from_wire(name: str, body: Mapping[str, Any]) -> Command:
    """The command of that name. Raises WireError for an unknown name, an unknown or missing field, a wrong type."""
    kind = COMMANDS.get(name)
    if kind is None:
        raise WireError(f"There is no command {name}.", nearest(name, COMMANDS))
    command = _typed(kind, body, name)
    assert isinstance(command, Command)
    return command


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {camel(f.name): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of the annotated type `kind`."""
    if get_origin(kind) in (Union, UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        return None if value is None else _typed(inner[0], value, where)
    if get_origin(kind) is tuple:
        return _typed_tuple(get_args(kind), value, where)
    if is_dataclass(kind):
        return _typed_fields(kind, value, where)
    if issubclass(kind, Enum):
        if value not in [one.value for one in kind]:
            raise WireError(f"{where} is {value!r}.", nearest(str(value), [str(one.value) for one in kind]))
        return kind(value)
    if type(value) is not kind:
        raise WireError(f"{where} is {value!r} and should be of type {kind.__name__}.")
    return value


def _typed_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise WireError(f"{where} is {value!r} and should be a list.")
    if len(kinds) == 2 and kinds[1] is ...:
        return tuple(_typed(kinds[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if len(value) != len(kinds):
        raise WireError(f"{where} has {len(value)} entries and should have {len(kinds)}.")
    return tuple(_typed(kind, one, f"{where}[{i}]") for i, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def _typed_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise WireError(f"{where} is {value!r} and should be an object.")
    known: dict[str, Field[Any]] = {camel(f.name): f for f in fields(kind)}
    hints = get_type_hints(kind)
    for name in value:
        if name not in known:
            raise WireError(f"{where} has no field {name}.", nearest(name, known))
    for name, one in known.items():
        if name not in value and one.default is MISSING and one.default_factory is MISSING:
            raise WireError(f"{where} lacks the field {name}.")
    given = {known[name].name: _typed(hints[known[name].name], one, f"{where}.{name}") for name, one in value.items()}
    return kind(**given)
