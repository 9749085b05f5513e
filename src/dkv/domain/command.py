"""Domain: what every command has in common, and whose word a fact is. The commands themselves: commands.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """One thing that happens. `now` is the wall clock in ms (shown, never judged by); `actor` is who asked."""

    now: int = 0
    actor: str = ""


@dataclass(frozen=True, kw_only=True)
class ManagerFact(Command):
    """Something one manager saw on its own machine. `server_id` is that manager's."""

    server_id: str


@dataclass(frozen=True, kw_only=True)
class LeaderFact(ManagerFact):
    """Something only the manager of a group's leader may say, quoting the term."""

    database: str
    group: str
    term: int
