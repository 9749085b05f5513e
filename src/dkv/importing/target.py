"""Importing: the target: the leaders of a database's groups, found by slot and found anew when they move."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dkv.constants import SLOTS
from dkv.importing.connection import Command, Connection, ConnectionLost, ErrorReply, ImportFailed, ServerAddress, slot_of
from dkv.importing.source import AT_ONCE, Value

PATIENCE = 60.0  # s that a slot may be without a leader
PAUSE = 0.2  # s between two tries
TRANSIENT = ("MOVED", "CLUSTERDOWN", "LOADING", "READONLY", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN", "BUSY ")
Leaders = Mapping[ServerAddress, Sequence[tuple[int, int]]]  # slots that each has, inclusive


class Target:
    """Writes of any key reach whichever engine leads its slot. `leaders` asks the managers; a slot may be without a leader for
    `patience` s, and `pause` s pass between two tries.
    """

    def __init__(
        self,
        leaders: Callable[[], Leaders],
        connect: Callable[[ServerAddress, int], Connection] = Connection,
        patience: float = PATIENCE,
        pause: float = PAUSE,
    ) -> None:
        self._ask_leaders = leaders
        self._connect = connect
        self._patience, self._pause = patience, pause
        self._leaders = leaders()
        self._connections: dict[tuple[ServerAddress, int], Connection] = {}

    def write(self, database: int, values: Sequence[Value]) -> None:
        """Have these keys be as they are at the source. Doing it twice is doing it once. Raises ImportFailed."""
        left, ends = list(values), time.monotonic() + self._patience
        while left:
            parts, without_leader = self._by_leader(left)
            left = without_leader + [value for address, part in parts.items() for value in self._write(address, database, part)]
            if left:
                self._refresh_leaders(ends, f"{len(left)} keys cannot be written")

    def query(self, database: int, keys: Sequence[bytes], command: Callable[[bytes], Command]) -> list[Any]:
        """The answer to one command for each key. Raises ImportFailed."""
        answers: dict[bytes, Any] = {}
        left, ends = list(keys), time.monotonic() + self._patience
        while left:
            for address, part in self._by_leader([Value(key, None, 0) for key in left])[0].items():
                answered = self._pipeline(address, database, [command(value.key) for value in part])
                answers |= {v.key: a for v, a in zip(part, answered, strict=False) if not _is_transient(a)}
            left = [key for key in left if key not in answers]
            if left:
                self._refresh_leaders(ends, f"{len(left)} keys cannot be read")
        return [answers[key] for key in keys]

    def on_every_leader(self, *commands: Command, database: int = 0) -> list[list[Any]]:
        """What every leader answers, once each group has one. Raises ImportFailed."""
        ends = time.monotonic() + self._patience
        while True:
            self._wait_for_leaders(ends)
            answers = [self._pipeline(address, database, commands) for address in self._leaders]
            if all(len(a) == len(commands) and not any(map(_is_transient, a)) for a in answers):
                return answers
            self._refresh_leaders(ends, "the store does not answer")

    def size(self, database: int) -> int:
        """How many keys a database has."""
        return sum(
            int(answer)
            for (answer,) in self.on_every_leader(("DBSIZE",), database=database)
            if not isinstance(answer, ErrorReply)
        )

    def keys(self, database: int) -> Iterator[list[bytes]]:
        """Every key that is there all the time. Raises ImportFailed if a leader moves meanwhile."""
        self._wait_for_leaders(time.monotonic() + self._patience)
        for address in list(self._leaders):
            cursor: bytes | int = 0
            while True:
                answers = self._pipeline(address, database, [("SCAN", cursor, "COUNT", AT_ONCE)])
                if not answers or isinstance(answers[0], ErrorReply):
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

    def _by_leader(self, values: Sequence[Value]) -> tuple[Mapping[ServerAddress, list[Value]], list[Value]]:
        """The values of each leader, and those whose group has none now."""
        parts: dict[ServerAddress, list[Value]] = defaultdict(list)
        without_leader: list[Value] = []
        for value in values:
            slot = slot_of(value.key)
            address = next((p for p, ranges in self._leaders.items() if any(low <= slot <= high for low, high in ranges)), None)
            (without_leader if address is None else parts[address]).append(value)
        return parts, without_leader

    def _write(self, address: ServerAddress, database: int, values: Sequence[Value]) -> list[Value]:
        """Those that have to be tried again."""
        answers = self._pipeline(address, database, [_restore(value) for value in values])
        for value, answer in zip(values, answers, strict=False):
            if isinstance(answer, ErrorReply) and not _is_transient(answer):
                raise _refused(value, str(answer))
        return [value for index, value in enumerate(values) if index >= len(answers) or _is_transient(answers[index])]

    def _pipeline(self, address: ServerAddress, database: int, commands: Sequence[Command]) -> list[Any]:
        """Its answers; none of an engine that does not answer."""
        try:
            if (address, database) not in self._connections:
                self._connections[(address, database)] = self._connect(address, database)
            return self._connections[(address, database)].pipeline(*commands)
        except ConnectionLost:
            self._connections.pop((address, database), None)
            return []
        except ErrorReply as error:
            if _is_transient(error):
                return []
            raise ImportFailed(f"The engine at {address} refuses: {error}.", "Look at it: dkv show waiting.") from error

    def _wait_for_leaders(self, ends: float) -> None:
        while sum(high - low + 1 for ranges in self._leaders.values() for low, high in ranges) < SLOTS:
            self._refresh_leaders(ends, "a group of the store has no leader")

    def _refresh_leaders(self, ends: float, what: str) -> None:
        if time.monotonic() > ends:
            raise ImportFailed(
                f"{what[:1].upper()}{what[1:]}: no leader was found for {self._patience:.0f} s.", "Look at it: dkv show waiting."
            )
        time.sleep(self._pause)
        self._leaders = self._ask_leaders() or self._leaders


def _is_transient(answer: object) -> bool:
    return isinstance(answer, ErrorReply) and str(answer).startswith(TRANSIENT)


def _restore(value: Value) -> Command:
    if value.dump is None:
        return ("DEL", value.key)
    return ("RESTORE", value.key, value.ttl_ms, value.dump, "REPLACE")


def _refused(value: Value, reply: str) -> ImportFailed:
    key = value.key[:60].decode("utf-8", "backslashreplace")
    if "version or checksum" in reply:
        return ImportFailed(
            f"The store does not read the format in which the source writes its values (key {key}).",
            "The source is of a newer or foreign release than the store's engines; copy with a tool that writes commands.",
        )
    if "Bad data format" in reply:
        return ImportFailed(
            f"Key {key} is of a type that the store's engines do not have.", "A module made it: delete such keys first."
        )
    if reply.startswith("OOM") or "maxmemory" in reply:
        return ImportFailed("The memory of the store is full.", "Raise its max-memory, then begin the import again.")
    return ImportFailed(f"The store refuses key {key}: {reply}.", "Look at it: dkv show waiting.")
