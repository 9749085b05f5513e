"""Tests of the domain: a table finds by its indexes what looking through all of it finds, however it came to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dkv.domain.table import Index, Table, items_of, keys_of

PARITY = Index[int](lambda item: item % 2)
LARGE = Index[int](lambda item: True if item > 50 else None)
Change = tuple[int, int | None]
CHANGES = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 99))), max_size=30)


def found_as_by_looking_through(table: Table[int, int]) -> None:
    for parity in (0, 1):
        assert keys_of(table, PARITY, parity) == tuple(sorted(k for k, v in table.items() if v % 2 == parity))
    assert items_of(table, LARGE) == [table[k] for k in sorted(table) if table[k] > 50]


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 99)), st.lists(CHANGES, max_size=4))
def test_indexes_follow_every_change_and_copies_leave_the_original_alone(
    first: dict[int, int], steps: list[list[Change]]
) -> None:
    table: Table[int, int] = Table(first, (PARITY, LARGE))
    for changes in steps:
        before, plain = dict(table), dict(table)
        copy = table.copied()
        for key, item in changes:
            if item is not None:
                copy.put(key, item)
                plain[key] = item
            elif key in copy:
                copy.drop(key)
                del plain[key]
        assert copy == plain
        found_as_by_looking_through(copy)
        assert table == before
        found_as_by_looking_through(table)
        table = copy
