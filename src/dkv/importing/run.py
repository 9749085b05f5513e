"""Importing: one import: all keys are copied, then those that change, then both sides are compared.

What is copied is a key's state, not its changes: a key is read after the newest message that it changed, so the last copy is
right however often it was read before. An import that ended anywhere is begun again and copies over what is there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from dkv.constants import MARKER_LIBRARY, NUMBERED_DATABASES
from dkv.importing.compare import Comparison, compare
from dkv.importing.connection import ConnectionLost, ErrorReply, ImportFailed
from dkv.importing.source import AT_ONCE, Node, Value, libraries
from dkv.importing.target import Target

ROUNDS = 5  # tries until both sides have the same number of keys
SETTLES = 1.0  # s between them: what has expired is removed by both sides in its own time


@dataclass
class Progress:
    """How far it is, as numbers."""

    total: int = 0  # keys of the source when it began
    copied: int = 0
    changed: int = 0  # copies of keys that changed meanwhile
    waiting: int = 0  # keys that changed and are not copied yet


class Import:
    """One import from these nodes. `report` is called now and then. All raise ImportFailed."""

    def __init__(self, nodes: list[Node], target: Target, report: Callable[[Progress], None], follow: bool = True) -> None:
        self.nodes, self.target, self.progress = nodes, target, Progress()
        self._report, self._follow = report, follow
        self._tokens = itertools.count(1)

    def copy_all(self) -> None:
        """Functions and every key; from here on the nodes collect the keys that change."""
        try:
            if self._follow:
                for node in self.nodes:
                    node.subscribe()
            self._functions()
            self.progress.total = sum(sum(node.sizes().values()) for node in self.nodes)
            self._all_keys()
        except (ConnectionLost, ErrorReply) as error:
            raise source_failure(error) from error

    def catch_up(self) -> None:
        """Copy what has changed until now."""
        try:
            for node in self.nodes:
                node.drain_events(b"%d" % next(self._tokens))
                while changed := node.changed.take(AT_ONCE):
                    for database in sorted({number for number, _ in changed}):
                        keys = [key for number, key in changed if number == database]
                        self.target.write(database, node.values(database, keys))
                    self.progress.changed += len(changed)
                    self._report_progress()
        except (ConnectionLost, ErrorReply) as error:
            raise source_failure(error) from error

    def finish(self, sample: int) -> Comparison:
        """Nothing is written at the source any more: copy the rest, remove what it does not have, and compare."""
        for _ in range(ROUNDS):
            self.catch_up()
            try:
                self._remove_others()
                compared = compare(self.nodes, self.target, sample)
            except (ConnectionLost, ErrorReply) as error:
                raise source_failure(error) from error
            if not compared.differs:
                return compared
            time.sleep(SETTLES)
            if compared.missing:
                self._all_keys()
        raise ImportFailed(
            f"The source and the store differ: {compared.differs}.",
            "Is the source still written to? Stop its writers, and begin the import again; it goes over what is there.",
        )

    def _functions(self) -> None:
        for name, code in libraries(self.nodes[0]):
            if name == MARKER_LIBRARY:
                raise ImportFailed(
                    f"The source has a function library {name}, a name that managers need.", "Rename it there first."
                )
            for (answer,) in self.target.on_every_leader(("FUNCTION", "LOAD", "REPLACE", code)):
                if isinstance(answer, ErrorReply):
                    raise ImportFailed(
                        f"The store refuses the function library {name}: {answer}.", "Delete it at the source first."
                    )

    def _all_keys(self) -> None:
        for node in self.nodes:
            for database in node.sizes():
                for keys in node.keys(database):
                    self.target.write(database, node.values(database, keys))
                    self.progress.copied += len(keys)
                    self._report_progress()

    def _remove_others(self) -> None:
        """Keys that only the store has: they were deleted, or all were by FLUSHALL, which names none."""
        databases = {number for node in self.nodes for number in node.sizes()}
        for database in databases | {n for n in range(NUMBERED_DATABASES) if self.target.size(n)}:
            for keys in self.target.keys(database):
                present = [node.connection(database).pipeline(*(("EXISTS", key) for key in keys)) for node in self.nodes]
                gone = [key for key, *found in zip(keys, *present, strict=True) if 1 not in found]
                self.target.write(database, [Value(key, None, 0) for key in gone])

    def _report_progress(self) -> None:
        self.progress.waiting = sum(len(node.changed.keys) for node in self.nodes)
        self._report(self.progress)


def source_failure(error: Exception) -> ImportFailed:
    """The source is away, or refuses."""
    text = str(error)
    if text.startswith(("MOVED", "ASK")):
        return ImportFailed("Slots of the source moved meanwhile.", "Begin the import again when its cluster is at rest.")
    return ImportFailed(f"The source does not answer: {text}.", "Begin the import again; it goes over what is there.")
