"""Engines in the place of connections: they note what they are given, and answer as they were told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from dkv.importing.connection import Command, Connection, ConnectionLost, ServerAddress
from dkv.importing.target import Leaders, Target

FIRST, SECOND, NEXT = (ServerAddress(f"10.0.0.{number}", 7861) for number in (11, 12, 13))
HALF = 8191


class Engines:
    """All engines of a store: `written` has the first argument of each command; those of `dead` do not answer. Each answers with
    `answers` in their order, then OK.
    """

    def __init__(self, *answers: object, dead: tuple[ServerAddress, ...] = ()) -> None:
        self.written: dict[ServerAddress, list[bytes]] = {}
        self._answers, self._dead = list(answers), dead

    def target(self, leaders: Callable[[], Leaders], patience: float = 60.0) -> Target:
        """A target whose leaders are these engines."""
        return Target(leaders, self._connect, patience, pause=0.0)

    def _connect(self, address: ServerAddress, database: int) -> Connection:
        if address in self._dead:
            raise ConnectionLost("connection refused")
        engines = self

        class Connected:
            def pipeline(self, *commands: Command) -> list[Any]:
                engines.written.setdefault(address, []).extend(cast("bytes", command[1]) for command in commands)
                return [engines._answers.pop(0) if engines._answers else b"OK" for _ in commands]

        return cast("Connection", Connected())


def leaders(first: ServerAddress | None, second: ServerAddress | None) -> dict[ServerAddress, list[tuple[int, int]]]:
    """Who leads the two groups of a store."""
    shown = {first: [(0, HALF)], second: [(HALF + 1, 16383)]}
    return {address: slots for address, slots in shown.items() if address is not None}


def everywhere() -> Leaders:
    """One engine leads all slots."""
    return {FIRST: [(0, 16383)]}
