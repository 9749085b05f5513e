"""Domain: a value with some of its fields changed. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def evolve(item: T, **changes: Any) -> T:
    """What dataclasses.replace gives, without writing every field anew: a decision changes many a value of many fields.

    Only for values whose making computes nothing. Raises TypeError for a field that there is not.
    """
    fields = {**vars(item), **changes}
    if len(fields) != len(vars(item)):
        raise TypeError(f"{type(item).__name__} has no field {', '.join(sorted(changes.keys() - vars(item).keys()))}")
    made = object.__new__(type(item))
    vars(made).update(fields)
    return made
