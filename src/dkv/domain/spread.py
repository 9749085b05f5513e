"""Domain: how a database's copies and the leaders of its groups are spread over servers and zones, by the state alone. Pure.

Where copies go is judged by placement.py, for the command line too. Leaders do the work of writes, so no server should lead
more groups than it must. Which of a new group's copies leads first follows from that, and which handovers make it true again
after leaders have moved.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from dkv.domain.model import Archive, Group, Reader
from dkv.placement import Spot, choose, weakness

Move = tuple[str, str]  # a group, and the server that is to lead it


def first_leader(state: Reader, group: Group) -> Archive | None:
    """The copy that is to lead a group first: on the server that leads the fewest of the groups before it, then in the zone that
    does, then the lowest id."""
    leads: Counter[str] = Counter()
    in_zone: Counter[str] = Counter()

    def rank(archive: Archive) -> tuple[int, int, int]:
        spot = state.spot_of(archive)
        return leads[spot.server], in_zone[spot.zone], archive.archive_id

    chosen = None
    for other in state.groups_of(group.database):
        chosen = min(state.archives_in(other), key=rank, default=None)
        if other.name == group.name:
            break
        if chosen:
            spot = state.spot_of(chosen)
            leads[spot.server] += 1
            in_zone[spot.zone] += 1
    return chosen


def group_for(state: Reader, database: str, server_id: str) -> str:
    """The group that gets a new copy on that server: one with the fewest copies, and of those where it shares server and zone
    least."""
    copies = {group.name: _spots(state, group) for group in state.groups_of(database)}
    return choose(copies, [state.servers[server_id].spot])[0]


def weakness_of(state: Reader, group: Group) -> str:
    """What the places of a group's copies lack although the servers that are there would allow it; "" if nothing."""
    return weakness(_spots(state, group), [server.spot for server in state.servers.values() if server.alive])


def _spots(state: Reader, group: Group) -> list[Spot]:
    return [state.spot_of(archive) for archive in state.archives_in(group)]


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
