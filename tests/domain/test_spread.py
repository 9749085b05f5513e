"""Leaders are spread over servers: which handovers make it so, and that nothing is moved in vain."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.domain.spread import moves

CASES = {
    "all on one server": ({"g1": "A", "g2": "A"}, {"g1": {"B"}, "g2": {"B"}}, [("g1", "B")]),
    "one more than another": ({"g1": "A", "g2": "A", "g3": "B"}, {"g1": {"B"}, "g2": {"B"}, "g3": {"A"}}, []),
    "no copy elsewhere": ({"g1": "A", "g2": "A"}, {"g1": {"A"}}, []),
    "one passes on to the next": (
        {"g1": "A", "g2": "A", "g3": "B"},
        {"g1": {"B"}, "g2": {"B"}, "g3": {"C"}},
        [("g1", "B"), ("g3", "C")],
    ),
    "to whoever leads fewest": ({"g1": "A", "g2": "A", "g3": "A"}, {"g1": {"B", "C"}, "g2": {"B"}}, [("g1", "C"), ("g2", "B")]),
    "nobody": ({}, {}, []),
}


@pytest.mark.parametrize("name", CASES)
def test_leaders_are_spread(name: str) -> None:
    leaders, others, wanted = CASES[name]
    assert moves(leaders, others) == wanted


SERVERS = "ABCD"
GROUPS = st.dictionaries(st.integers(0, 9).map("g{}".format), st.sets(st.sampled_from(SERVERS), min_size=1), max_size=10)


@given(GROUPS, st.randoms())
def test_afterwards_nobody_leads_two_more_than_who_could_take_one_over_and_nothing_is_left_to_do(groups, chance) -> None:  # type: ignore[no-untyped-def]
    leaders = {group: chance.choice(sorted(servers)) for group, servers in groups.items()}
    wanted = leaders | dict(moves(leaders, groups))
    assert all(server in groups[group] for group, server in wanted.items())
    leads = Counter(wanted.values())
    for group, leader in wanted.items():
        assert all(leads[leader] <= leads[server] + 1 for server in groups[group])
    assert moves(wanted, groups) == []
    assert max(leads.values(), default=0) <= max(Counter(leaders.values()).values(), default=0)
