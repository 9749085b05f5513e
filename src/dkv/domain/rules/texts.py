"""Texts of orders: an order can be shown to other people, in one line, and controls no terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any
from unicodedata import category

from dkv.domain.command import Command
from dkv.domain.decision import Refused
from dkv.domain.facts import ServerJoined
from dkv.domain.orders import ORDERS
from dkv.domain.refusals import no

NEVER_SHOWN = ("dba_password", "value", "certificate", "key")
"""A password, the JSON of a record, in which such characters are escaped, texts in PEM, and what is sealed."""


def unprintable(command: Command) -> Refused | None:
    """Refuse an order, and a server, with control characters, line ends or invisible ones in a name, path or reason."""
    if not isinstance(command, (*ORDERS, ServerJoined)):
        return None
    for where, text in _texts("", command):
        if not is_printable(text):
            return no(
                "bad_value",
                f"The {where} {text[:60]!r} has characters that are not text or cannot be printed.",
                "Write it in one line of letters, digits, signs and spaces.",
            )
    return None


def is_printable(text: str) -> bool:
    """Whether a text is one line that shows all it has: no control characters, none that turn or hide others.

    Spaces of other scripts are fine. Halves of surrogate pairs are no text.
    """
    return text.isprintable() or all(character.isprintable() or category(character) == "Zs" for character in text)


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a command, with the name of the field it stands in."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(where, key)
            yield from _texts(where, item)
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from _texts(where, item)
    elif is_dataclass(value):
        for field in fields(value):
            if field.name not in NEVER_SHOWN:
                yield from _texts(field.name.replace("_", " "), getattr(value, field.name))
