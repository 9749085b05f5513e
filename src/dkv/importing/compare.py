"""Importing: both sides compared: how many keys each has, and what some of them hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dkv.importing.connection import Command, ErrorReply
from dkv.importing.source import Node
from dkv.importing.target import Target

READS: dict[bytes, tuple[str, ...]] = {
    b"string": ("GET", "KEY"),
    b"list": ("LRANGE", "KEY", "0", "-1"),
    b"set": ("SMEMBERS", "KEY"),
    b"zset": ("ZRANGE", "KEY", "0", "-1", "WITHSCORES"),
    b"hash": ("HGETALL", "KEY"),
    b"stream": ("XRANGE", "KEY", "-", "+"),
}
TTL_WITHIN = 10_000  # ms by which the ends of two equal keys may differ: they are asked one after the other


@dataclass(frozen=True)
class Comparison:
    """`keys` of the source, `sampled` of them looked at; `differs` in words, "" if nothing does."""

    keys: int
    sampled: int
    differs: str = ""
    missing: bool = False  # the source has more keys


def compare(nodes: list[Node], target: Target, sample: int) -> Comparison:
    """Numbers first, then some keys. Raises ConnectionLost, ErrorReply, ImportFailed."""
    sizes: dict[int, int] = {}
    for node in nodes:
        for number, size in node.sizes().items():
            sizes[number] = sizes.get(number, 0) + size
    total, sampled = sum(sizes.values()), 0
    for number, size in sizes.items():
        present = target.size(number)
        if present != size:
            return Comparison(total, 0, f"database {number} has {size} keys at the source and {present} here", present < size)
    for node in nodes:
        for number in node.sizes():
            share = max(1, sample // (len(nodes) * len(sizes)))
            keys = {key for key in node.connection(number).pipeline(*[("RANDOMKEY",)] * share) if isinstance(key, bytes)}
            for key in keys:
                if not _equal(node, target, number, key):
                    return Comparison(
                        total, sampled, f"key {key[:60].decode('utf-8', 'backslashreplace')} holds something else here"
                    )
                sampled += 1
    return Comparison(total, sampled)


def _equal(node: Node, target: Target, database: int, key: bytes) -> bool:
    (kind,) = node.connection(database).pipeline(("TYPE", key))
    words = READS.get(kind)
    if words is None:
        return True  # a key that ended since it was drawn
    command: Command = [key if word == "KEY" else word for word in words]
    value, ttl = node.connection(database).pipeline(command, ("PTTL", key))
    (here,) = target.query(database, [key], lambda _: command)
    (here_ttl,) = target.query(database, [key], lambda key: ("PTTL", key))
    if -2 in (ttl, here_ttl):
        return bool(ttl == here_ttl or 0 <= max(ttl, here_ttl) < TTL_WITHIN)
    same_end: bool = abs(ttl - here_ttl) < TTL_WITHIN and (ttl < 0) == (here_ttl < 0)
    return same_end and not isinstance(value, ErrorReply) and _contents(kind, value) == _contents(kind, here)


def _contents(kind: bytes, value: Any) -> Any:
    """What does not depend on the order in which an engine keeps it."""
    if isinstance(value, ErrorReply):
        return str(value)
    if kind == b"set":
        return set(value)
    return dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
