"""Copies of a group are on different servers and in different zones wherever there is room: by example, by property, and compared
with every other placement of small stores.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dkv.placement import Groups, Spot, choose, crowding, deal, weakness


def spots(zones: str) -> list[Spot]:
    """A server for each letter, s1 and so on, in the zone of that letter; `-`: without a zone."""
    return [Spot(f"s{i + 1}", "" if zone == "-" else zone) for i, zone in enumerate(zones)]


def named(groups: Groups) -> str:
    return " ".join(",".join(spot.server for spot in group) for group in groups)


DEALT = {
    "no zones: server after server": ("---", 2, (2, 2, 2), "s1,s2 s3,s1 s2,s3"),
    "two zones of two": ("aabb", 1, (2, 2), "s1,s3 s2,s4"),
    "the servers of a zone stand together in the order they were named": ("abab", 1, (2, 2), "s1,s2 s3,s4"),
    "three copies in two zones are on three servers": ("aabb", 3, (3, 3, 3, 3), "s1,s3,s2 s4,s1,s3 s2,s4,s1 s3,s2,s4"),
    "a small zone serves whom it can": ("aaab", 1, (2, 2), "s1,s4 s2,s3"),
    "no group is within one zone while another could spare a copy": ("aaabc", 1, (3, 2), "s1,s2,s5 s3,s4"),
    "more copies than servers": ("ab", 2, (4,), "s1,s2,s1,s2"),
}


@pytest.mark.parametrize("name", DEALT)
def test_the_nodes_of_a_new_store_are_dealt_out(name: str) -> None:
    zones, room, sizes, wanted = DEALT[name]
    assert sorted(map(sorted, deal(spots(zones), room, sizes))) == sorted(
        sorted(spots(zones)[int(server[1:]) - 1] for server in group.split(",")) for group in wanted.split()
    )


def cost(groups: Groups) -> tuple[int, int, int]:
    """What the loss of one server and of one zone would take: pairs on one server, groups within one zone, pairs in one zone."""
    pairs = [(a, b) for group in groups for a, b in combinations(group, 2)]
    within = sum(len(group) > 1 and len({spot.zone for spot in group}) == 1 for group in groups)
    return sum(a.server == b.server for a, b in pairs), within, sum(a.zone == b.zone for a, b in pairs)


STORES = st.tuples(st.text("abc-", min_size=1, max_size=9), st.integers(1, 4), st.integers(1, 5))


def dealt(zones: str, room: int, copies: int) -> Groups:
    nodes = len(zones) * room
    count = max(1, nodes // copies)
    sizes = [min(copies, nodes)] * count
    for extra in range(nodes - sum(sizes)):
        sizes[extra % count] += 1
    return deal(spots(zones), room, sizes)


@given(STORES)
def test_no_group_shares_a_server_while_another_has_room(store: tuple[str, int, int]) -> None:
    zones, room, _ = store
    groups = dealt(*store)
    assert Counter(spot for group in groups for spot in group) == dict.fromkeys(spots(zones), room)
    for group in groups:
        on = Counter(spot.server for spot in group)
        assert len(on) == min(len(group), len(zones)) and max(on.values()) - min(on.values()) <= 1


@given(STORES)
def test_no_exchange_of_two_copies_would_spread_them_better(store: tuple[str, int, int]) -> None:
    groups = dealt(*store)
    before = cost(groups)
    for one, other in combinations(groups, 2):
        for i in range(len(one)):
            for j in range(len(other)):
                one[i], other[j] = other[j], one[i]
                assert cost(groups) >= before
                one[i], other[j] = other[j], one[i]


def every(nodes: list[Spot], sizes: tuple[int, ...]) -> list[Groups]:
    """All placements of these nodes in groups of these sizes."""
    if not sizes:
        return [[]]
    indices = combinations(range(len(nodes)), sizes[0])
    return [
        [[nodes[i] for i in chosen], *rest]
        for chosen in indices
        for rest in every([spot for i, spot in enumerate(nodes) if i not in chosen], sizes[1:])
    ]


@pytest.mark.parametrize("zones", ["aab", "aabb", "aaab", "aabc", "aaabb", "aaabc", "aab-", "aaaabb"])
@pytest.mark.parametrize("copies", [2, 3])
def test_of_all_placements_of_a_small_store_none_is_better(zones: str, copies: int) -> None:
    groups = dealt(zones, 1, copies)
    sizes = tuple(len(group) for group in groups)
    assert cost(groups) == min(cost(other) for other in every(spots(zones), sizes))


GROUPS = st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=4)


@settings(max_examples=60)
@given(GROUPS, st.text("ab-", min_size=6, max_size=6))
def test_an_added_copy_joins_a_smallest_group_where_it_is_least_crowded(groups: list[list[int]], zones: str) -> None:
    servers = spots(zones)
    copies = {f"g{i}": [servers[j] for j in on] for i, on in enumerate(groups)}
    name, spot = choose(copies, servers)
    assert len(copies[name]) == min(map(len, copies.values()))
    best = min(crowding(other, copies[name]) for other in servers)
    assert crowding(spot, copies[name]) == best
    if len({copy.server for copy in copies[name]}) < len(servers):
        assert best[0] == 0, "another server has room"


def test_an_added_copy_goes_to_the_zone_that_has_none_and_there_to_the_emptiest_server() -> None:
    a, b, c, d = spots("aabb")
    assert choose({"g1": [a], "g2": [c, a]}, [a, b, c, d]) == ("g1", d)
    assert choose({"g1": [a], "g2": [c]}, [b]) == ("g2", b)


def test_what_a_placement_lacks_is_a_sentence() -> None:
    a, b, c, d = spots("aab-")
    assert weakness([a, c], [a, b, c, d]) == ""
    assert weakness([a], [a, b, c]) == ""
    assert weakness([a, a], [a]) == ""
    assert weakness([a, a, c], [a, c]) == ""
    assert weakness([a, a], [a, b]) == "several of its copies are on s1, and s2 has none"
    assert weakness([a, b], [a, b, c]) == "all its copies are in zone a, and none is in zone b"
    assert weakness([a, b], [a, b, d]) == "all its copies are in zone a, and none is elsewhere"
    assert weakness([d, Spot("s5")], [d, a]) == "all its copies are on servers without a zone, and none is in zone a"
