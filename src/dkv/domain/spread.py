"""Domain: how the leaders of a database's groups are spread over servers, read from the state alone. Pure.

Leaders do the work of writes, so no server should lead more groups than it must. Which of a new group's copies leads
first follows from that, and which handovers make it true again after leaders have moved.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from dkv.domain.model import Archive, Group, Reader

Move = tuple[str, str]  # a group, and the server that is to lead it


def first_leader(state: Reader, group: Group) -> Archive | None:
    """The copy that is to lead a group first: on the server that leads the fewest of the groups before it, then the lowest id."""
    leads: Counter[str] = Counter()
    chosen = None
    for other in state.groups_of(group.database):
        chosen = min(state.archives_in(other), key=lambda archive: (leads[archive.server_id], archive.archive_id), default=None)
        if other.name == group.name:
            break
        if chosen:
            leads[chosen.server_id] += 1
    return chosen


def moves(leaders: Mapping[str, str], others: Mapping[str, set[str]]) -> list[Move]:
    """Which groups should be led by another server, so that no server leads two more than one that could take one over.

    `leaders` has the server that leads each group, `others` the servers whose copy of a group could lead it now.
    """
    wanted = dict(leaders)
    while path := _relief(wanted, others):
        wanted |= dict(path)
    return sorted((group, server) for group, server in wanted.items() if server != leaders[group])


def _relief(leaders: Mapping[str, str], others: Mapping[str, set[str]]) -> list[Move]:
    """The fewest moves, one passing on to the next, that take one group from a server and give one to another that leads at
    least two fewer; empty: there are none.
    """
    leads = Counter(leaders.values())
    for start in sorted(leads, key=lambda server: (-leads[server], server)):
        paths: dict[str, list[Move]] = {start: []}
        waiting = deque([start])
        while waiting:
            server = waiting.popleft()
            if leads[server] <= leads[start] - 2:
                return paths[server]
            for group in sorted(g for g, leader in leaders.items() if leader == server):
                for target in sorted(others.get(group, set()) - paths.keys()):
                    paths[target] = [*paths[server], (group, target)]
                    waiting.append(target)
    return []
