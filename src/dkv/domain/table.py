"""Things of one kind by their key, found as quickly by what they belong to: a server, a database, a group. Pure.

A table is a value: one that others can see is never written to. What is to be changed is copied first, with its indexes, and
the copy is written to until it is handed on; so a decision costs a few copies of whole tables, which the interpreter makes
at some 10 ns an entry, and besides that only what it changes (docs/decisions/0031).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Buckets = dict[Hashable, tuple[Any, ...]]


class Index(Generic[V]):
    """A way to find things: by what `about` says of each of them, which depends on nothing else. None leaves one out."""

    __slots__ = ("about",)

    def __init__(self, about: Callable[[V], Hashable]) -> None:
        self.about = about


class Table(dict[K, V]):
    """An immutable mapping with indexes. Keys found by an index are in their order."""

    __slots__ = ("_buckets", "_indexes", "_own")

    def __init__(self, items: Mapping[K, V], indexes: tuple[Index[V], ...] = ()) -> None:
        super().__init__(items)
        self._indexes = indexes
        self._buckets: dict[Index[V], Buckets] = {}
        self._own: set[Index[V]] = set()  # whose buckets are not shared with the table this one was copied from

    def keys_with(self, index: Index[V], value: Hashable) -> tuple[K, ...]:
        """The keys of the things of which the index says that value."""
        buckets = self._buckets.get(index)
        if buckets is None:
            buckets = self._buckets[index] = self._gathered(index)
        return buckets.get(value, ())

    def _gathered(self, index: Index[V]) -> Buckets:
        keys: dict[Hashable, list[Any]] = {}
        for key, item in self.items():
            value = index.about(item)
            if value is not None:
                keys.setdefault(value, []).append(key)
        return {value: tuple(sorted(members)) for value, members in keys.items()}

    # Writing to a copy that has no other holder yet--------------------------------------------------------------

    def copied(self) -> Table[K, V]:
        """A copy to be written to. All indexes are made now if they are not yet: every later copy has them then."""
        for index in self._indexes:
            self.keys_with(index, None)
        copy: Table[K, V] = Table(self, self._indexes)
        copy._buckets = dict(self._buckets)
        return copy

    def put(self, key: K, item: V) -> None:
        """Set one thing. Only before the copy is shared."""
        old = self.get(key)
        super().__setitem__(key, item)
        self._reindex(key, old, item)

    def drop(self, key: K) -> None:
        """Take one thing out; likewise. Raises KeyError."""
        old = self[key]
        super().__delitem__(key)
        self._reindex(key, old, None)

    def _reindex(self, key: K, old: V | None, new: V | None) -> None:
        for index, buckets in self._buckets.items():
            was = None if old is None else index.about(old)
            now = None if new is None else index.about(new)
            if was == now:
                continue
            if index not in self._own:
                self._own.add(index)
                buckets = self._buckets[index] = dict(buckets)
            if was is not None:
                _take_out(buckets, was, key)
            if now is not None:
                _put_in(buckets, now, key)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a table is a value: copy it, or write through the draft")

    __setitem__ = __delitem__ = __ior__ = pop = popitem = clear = update = setdefault = _refuse


def _take_out(buckets: Buckets, value: Hashable, key: Any) -> None:
    keys = buckets[value]
    place = bisect_left(keys, key)
    left = keys[:place] + keys[place + 1 :]
    if left:
        buckets[value] = left
    else:
        del buckets[value]


def _put_in(buckets: Buckets, value: Hashable, key: Any) -> None:
    keys = buckets.get(value, ())
    place = bisect_left(keys, key)
    buckets[value] = keys[:place] + (key,) + keys[place:] if place < len(keys) else keys + (key,)  # noqa: RUF005 - one copy less


def keys_of(table: Mapping[K, V], index: Index[V], value: Hashable = True) -> tuple[K, ...]:
    """The keys of a state's or a draft's table of which an index says that value, in order."""
    assert isinstance(table, Table)
    return table.keys_with(index, value)


def items_of(table: Mapping[K, V], index: Index[V], value: Hashable = True) -> list[V]:
    """The things themselves, by key."""
    return [table[key] for key in keys_of(table, index, value)]


def as_table(items: Mapping[K, V], indexes: Iterable[Index[V]]) -> Table[K, V]:
    """The mapping itself if it is a table."""
    return items if isinstance(items, Table) else Table(items, tuple(indexes))
