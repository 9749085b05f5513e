"""Levels: the domain rises to the level that the managers of all its servers know (levels.py says what a level is).

A manager says its level when it joins, and nothing else changes it. So a manager of an older release that starts meanwhile joins
either before the domain rises, which keeps it from rising, or reads the higher level and refuses to take part.
"""

from __future__ import annotations

from typing import Any

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import LevelsRead, ServerJoined
from dkv.domain.refusals import stale_fact


def known_at(draft: Draft, command: ServerJoined) -> dict[str, Any]:
    """What is written of a manager that joins, and has no place in level 0: its release and its labels. A new domain begins at
    the level of its first manager.
    """
    if not draft.servers:
        draft.level = command.level
    known = {"dkv_release": command.dkv_release, "level": command.level, "labels": command.labels}
    return known if draft.level else {}


def settle_level(draft: Draft) -> None:
    """A manager joined, or a server left: the domain is at the lowest level of those there are."""
    lowest = min((server.level for server in draft.servers.values()), default=0)
    if 0 < draft.level < lowest:
        _rise(draft, lowest)


def levels_read(draft: Draft, command: LevelsRead) -> Refused | None:
    """A domain of before there were levels has managers of after it only: from here on the state says which each knows."""
    levels = dict(command.levels)
    if draft.level or not draft.servers or not all(levels.get(server_id) for server_id in draft.servers):
        return stale_fact("the level of the domain state does not rise")
    _rise(draft, 1)
    return None


def _rise(draft: Draft, level: int) -> None:
    draft.note(
        "domain.level", "the domain", f"the managers of all servers know level {level}", change=f"{draft.level} -> {level}"
    )
    draft.level = level
