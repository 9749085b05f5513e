"""Domain room: what every command has in common; the commands themselves are in commands.py and its neighbours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """One thing that happens. `now` is the wall clock in ms (shown, never judged by); `actor` is who asked."""

    now: int = 0
    actor: str = ""
