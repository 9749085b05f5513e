"""Importing: the target: the leaders of a database's groups, found by slot and found anew when they move."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dkv.constants import SLOTS
from dkv.importing.connection import Broken, Command, Connection, Denied, ImportFailed, Place, slot_of
from dkv.importing.source import AT_ONCE, Value

PATIENCE = 60.0  # s that a slot may be without a leader
PAUSE = 0.2  # s between two tries
AGAIN = ("MOVED", "CLUSTERDOWN", "LOADING", "READONLY", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "BUSY ")
Leaders = Mapping[Place, Sequence[tuple[int, int]]]  # slots that each has, inclusive


class Target:
    """Writes of any key reach whichever engine leads its slot. `leaders` asks the managers."""

    def __init__(self, leaders: Callable[[], Leaders]) -> None:
        self._ask_leaders = leaders
        self._leaders = leaders()
        self._connections: dict[tuple[Place, int], Connection] = {}

    def write(self, database: int, values: Sequence[Value]) -> None:
        """Have these keys be as they are at the source. Doing it twice is doing it once. Raises ImportFailed."""
        left, ends = list(values), time.monotonic() + PATIENCE
        while left:
            parts, without_leader = self._by_leader(left)
            left = without_leader + [value for place, part in parts.items() for value in self._write(place, database, part)]
            if left:
                self._look_again(ends, f"{len(left)} keys cannot be written")

    def ask(self, database: int, keys: Sequence[bytes], command: Callable[[bytes], Command]) -> list[Any]:
        """The answer to one command for each key. Raises ImportFailed."""
        answers: dict[bytes, Any] = {}
        left, ends = list(keys), time.monotonic() + PATIENCE
        while left:
            for place, part in self._by_leader([Value(key, None, 0) for key in left])[0].items():
                answered = self._try(place, database, [command(value.key) for value in part])
                answers |= {v.key: a for v, a in zip(part, answered, strict=False) if not _again(a)}
            left = [key for key in left if key not in answers]
            if left:
                self._look_again(ends, f"{len(left)} keys cannot be read")
        return [answers[key] for key in keys]

    def each(self, *commands: Command, database: int = 0) -> list[list[Any]]:
        """What every leader answers, once each group has one. Raises ImportFailed."""
        ends = time.monotonic() + PATIENCE
        while True:
            self._wait_for_leaders(ends)
            answers = [self._try(place, database, commands) for place in self._leaders]
            if all(len(a) == len(commands) and not any(map(_again, a)) for a in answers):
                return answers
            self._look_again(ends, "the store does not answer")

    def size(self, database: int) -> int:
        """How many keys a database has."""
        return sum(int(answer) for (answer,) in self.each(("DBSIZE",), database=database) if not isinstance(answer, Denied))

    def keys(self, database: int) -> Iterator[list[bytes]]:
        """Every key that is there all the time. Raises ImportFailed if a leader moves meanwhile."""
        self._wait_for_leaders(time.monotonic() + PATIENCE)
        for place in list(self._leaders):
            cursor: bytes | int = 0
            while True:
                answers = self._try(place, database, [("SCAN", cursor, "COUNT", AT_ONCE)])
                if not answers or isinstance(answers[0], Denied):
                    raise ImportFailed("A leader of the store moved while its keys were compared.", "Begin the import again.")
                cursor, names = answers[0]
                if names:
                    yield list(names)
                if int(cursor) == 0:
                    break

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _by_leader(self, values: Sequence[Value]) -> tuple[Mapping[Place, list[Value]], list[Value]]:
        """The values of each leader, and those whose group has none now."""
        parts: dict[Place, list[Value]] = defaultdict(list)
        without_leader: list[Value] = []
        for value in values:
            slot = slot_of(value.key)
            place = next((p for p, ranges in self._leaders.items() if any(low <= slot <= high for low, high in ranges)), None)
            (without_leader if place is None else parts[place]).append(value)
        return parts, without_leader

    def _write(self, place: Place, database: int, values: Sequence[Value]) -> list[Value]:
        """Those that have to be tried again."""
        answers = self._try(place, database, [_restore(value) for value in values])
        for value, answer in zip(values, answers, strict=False):
            if isinstance(answer, Denied) and not _again(answer):
                raise _refused(value, str(answer))
        return [value for index, value in enumerate(values) if index >= len(answers) or _again(answers[index])]

    def _try(self, place: Place, database: int, commands: Sequence[Command]) -> list[Any]:
        """Its answers; none of an engine that does not answer."""
        try:
            if (place, database) not in self._connections:
                self._connections[(place, database)] = Connection(place, database)
            return self._connections[(place, database)].ask(*commands)
        except Broken:
            self._connections.pop((place, database), None)
            return []
        except Denied as error:
            if _again(error):
                return []
            raise ImportFailed(f"The engine at {place} refuses: {error}.", "Look at it: dkv show waiting.") from error

    def _wait_for_leaders(self, ends: float) -> None:
        while sum(high - low + 1 for ranges in self._leaders.values() for low, high in ranges) < SLOTS:
            self._look_again(ends, "a group of the store has no leader")

    def _look_again(self, ends: float, what: str) -> None:
        if time.monotonic() > ends:
            raise ImportFailed(
                f"{what[:1].upper()}{what[1:]}: no leader was found for {PATIENCE:.0f} s.", "Look at it: dkv show waiting."
            )
        time.sleep(PAUSE)
        self._leaders = self._ask_leaders() or self._leaders


def _again(answer: object) -> bool:
    return isinstance(answer, Denied) and str(answer).startswith(AGAIN)


def _restore(value: Value) -> Command:
    if value.dump is None:
        return ("DEL", value.key)
    return ("RESTORE", value.key, value.ttl_ms, value.dump, "REPLACE")


def _refused(value: Value, said: str) -> ImportFailed:
    key = value.key[:60].decode("utf-8", "backslashreplace")
    if "version or checksum" in said:
        return ImportFailed(
            f"The store does not read the format in which the source writes its values (key {key}).",
            "The source is of a newer or foreign release than the store's engines; copy with a tool that writes commands.",
        )
    if "Bad data format" in said:
        return ImportFailed(
            f"Key {key} is of a type that the store's engines do not have.", "A module made it: delete such keys first."
        )
    if said.startswith("OOM") or "maxmemory" in said:
        return ImportFailed("The memory of the store is full.", "Raise its max-memory, then begin the import again.")
    return ImportFailed(f"The store refuses key {key}: {said}.", "Look at it: dkv show waiting.")
