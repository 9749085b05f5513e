"""What a leader's manager quotes in every fact about its group, and how it numbers markers. Pure."""

from __future__ import annotations

from typing import TypedDict

from dkv.domain.model import Group
from dkv.engine.contract import EngineSeen
from dkv.machine.observation import LocalServer


class Quote(TypedDict):
    """What a leader's manager quotes in every fact about its group."""

    server_id: str
    actor: str
    database: str
    group: str
    term: int


def quote(me: LocalServer, group: Group) -> Quote:
    """The newest term this manager knows, and who says so."""
    return Quote(server_id=me.server_id, actor=me.server_id, database=group.database, group=group.name, term=group.term)


def next_sequence(group: Group, engine: EngineSeen) -> int:
    """Markers are counted within a term by the leader's manager, without a commit."""
    marker = engine.marker
    return marker.sequence + 1 if marker and marker.term == group.term else 1
