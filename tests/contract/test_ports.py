"""The ports that tests are given."""

from __future__ import annotations

from tests.contract.ports import EACH, free_port

PAIRS, ABOVE = EACH // 8, 100


def test_a_port_is_given_once_and_so_is_the_one_above_it() -> None:
    given = []
    for _ in range(PAIRS):
        pair = free_port(ABOVE)
        given += [pair, pair + ABOVE, free_port()]
    assert len(given) == len(set(given))
