"""Domain room: the options of a database by the names people write, and what the domain makes of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.model import DatabaseOptions
from dkv.domain.refusals import no

LARGEST = 2**53
MEANT: dict[str, str] = {
    "replication-factor": "replication_factor",
    "min-in-sync": "min_in_sync",
    "append-fsync": "append_fsync",
    "max-memory": "max_memory",
    "leader-assignment-timeout": "leader_assignment_timeout",
    "failover-grace": "failover_grace",
    "failover-limit": "failover_limit",
    "restart-budget": "restart_budget",
    "restart-window": "restart_window",
    "tail-above": "tail_above",
}
"""Option -> field of DatabaseOptions. Times are in ms, memory in bytes."""

FSYNC = ("always", "everysec", "no")
LEAST = {"min_in_sync": 1, "replication_factor": 1, "tail_above": -1}   # -1: never
MOST_OPTIONS = 100
MOST_LETTERS = 1000   # of a name and its value


def merged(
    kept: Iterable[tuple[str, str]], asked: Iterable[tuple[str, str]], replace_all: bool
) -> tuple[tuple[str, str], ...]:
    """The options a database has after these were set, by name."""
    return tuple(sorted({**({} if replace_all else dict(kept)), **dict(asked)}.items()))


def applied(options: DatabaseOptions, before: Mapping[str, str], after: Mapping[str, str]) -> DatabaseOptions | Refused:
    """What the domain goes by when `before` became `after`: a meant option that was unset gets its default again."""
    if len(after) > MOST_OPTIONS or any(len(name) + len(value) > MOST_LETTERS for name, value in after.items()):
        return no("bad_value", f"These are {len(after)} options.",
                  f"At most {MOST_OPTIONS} are kept, each of {MOST_LETTERS} characters with its name.")  # fmt: skip
    changes: dict[str, int | str] = {}
    for name, field in MEANT.items():
        if name in after and after.get(name) != before.get(name):
            value = _read(name, field, after[name])
            if isinstance(value, Refused):
                return value
            changes[field] = value
        elif name in before and name not in after:
            changes[field] = getattr(DatabaseOptions(), field)
    return replace(options, **changes)  # type: ignore[arg-type]


def _read(name: str, field: str, text: str) -> int | str | Refused:
    if field == "append_fsync":
        if text in FSYNC:
            return text
        return no("bad_value", f"The option {name} is {text!r}.", f"It is one of {', '.join(FSYNC)}.")
    least = LEAST.get(field, 0)
    digits = text.removeprefix("-") if least < 0 else text
    if not (digits.isascii() and digits.isdigit() and len(text) < 17 and least <= int(text) <= LARGEST):
        return no("bad_value", f"The option {name} is {text!r}.", f"It is a whole number from {least}.")
    return int(text)
