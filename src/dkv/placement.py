"""Where the copies of storage groups go: never two on one server while another has room, and over zones first. Pure.

The command line deals out the nodes of a new store with it, and chooses the server of an added one; the domain chooses the
group of an archive whose server is given. All go by `crowding`, so that both vocabularies place alike (decision 0093).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

ZONE = "zone"
"""The label of a server that names what fails with it: a rack, a room, an availability zone."""


class Spot(NamedTuple):
    """A server by its id, and its zone; servers without the label are one zone, ""."""

    server: str
    zone: str = ""


Groups = list[list[Spot]]


def crowding(spot: Spot, copies: Iterable[Spot]) -> tuple[int, int]:
    """How many of a group's copies would share the server, and how many the zone; the smaller the better."""
    present = list(copies)
    return sum(copy.server == spot.server for copy in present), sum(copy.zone == spot.zone for copy in present)


def choose(groups: Mapping[str, Sequence[Spot]], spots: Sequence[Spot]) -> tuple[str, Spot]:
    """The group that gets the next copy, and the server: a group with the fewest copies, where it is least crowded, then the
    server with the fewest copies of all these groups; then by name of the group and the order of the servers.
    """
    load = Counter(copy.server for copies in groups.values() for copy in copies)
    ranked = (
        (len(copies), *crowding(spot, copies), load[spot.server], name, place)
        for name, copies in groups.items()
        for place, spot in enumerate(spots)
    )
    *_, name, place = min(ranked)
    return name, spots[place]


def deal(spots: Sequence[Spot], room: int, sizes: Sequence[int]) -> Groups:
    """The servers of each group's copies, where every server takes `room` copies; `sizes` are the groups', at most all room."""
    left = Counter(dict.fromkeys(spots, room))
    groups: Groups = []
    for size in sizes:
        group: list[Spot] = []
        for _ in range(size):
            group.append(_best(group, spots, left))
            left[group[-1]] -= 1
        groups.append(group)
    while _swapped(groups):
        pass
    return groups


def _best(group: Sequence[Spot], spots: Sequence[Spot], left: Mapping[Spot, int]) -> Spot:
    """The least crowded server with room; among equals the one with the most room, so that the last group has a choice too."""
    in_zone: Counter[str] = Counter()
    for spot in spots:
        in_zone[spot.zone] += left[spot]
    free = [spot for spot in spots if left[spot]]
    return min(free, key=lambda spot: (*crowding(spot, group), -left[spot], -in_zone[spot.zone]))


def _swapped(groups: Groups) -> bool:
    """Exchange two copies of two groups if that spreads them better; whether there were such."""
    for group in (group for group in groups if _cost(group)[1:] > (0, 0) or _cost(group)[0]):
        for other in (other for other in groups if other is not group):
            before = _total(group, other)
            for i in range(len(group)):
                for j in range(len(other)):
                    group[i], other[j] = other[j], group[i]
                    if _total(group, other) < before:
                        return True
                    group[i], other[j] = other[j], group[i]
    return False


def _cost(group: Sequence[Spot]) -> tuple[int, int, int]:
    """Pairs of copies on one server; whether one zone has all copies; pairs in one zone."""
    shared = [(a.server == b.server, a.zone == b.zone) for a, b in combinations(group, 2)]
    pairs = sum(server for server, _ in shared), sum(zone for _, zone in shared)
    return pairs[0], int(len(group) > 1 and len({copy.zone for copy in group}) == 1), pairs[1]


def _total(group: Sequence[Spot], other: Sequence[Spot]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(_cost(group), _cost(other), strict=True))


def weakness(copies: Sequence[Spot], spots: Iterable[Spot]) -> str:
    """What the placement of a group's copies lacks although the domain's servers would allow it; "" if nothing."""
    if len(copies) < 2:
        return ""
    crowded = next((server for server, count in Counter(copy.server for copy in copies).items() if count > 1), "")
    spare = sorted({spot.server for spot in spots} - {copy.server for copy in copies})
    if crowded and spare:
        return f"several of its copies are on {crowded}, and {spare[0]} has none"
    zones = {copy.zone for copy in copies}
    others = sorted({spot.zone for spot in spots} - zones)
    if len(zones) == 1 and others:
        where = f"in zone {copies[0].zone}" if copies[0].zone else "on servers without a zone"
        return f"all its copies are {where}, and none is {f'in zone {others[-1]}' if others[-1] else 'elsewhere'}"
    return ""
