"""Wire: commands as JSON, by the names and types of their fields."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from dkv.domain.command import Command

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


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {camel(f.name): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
