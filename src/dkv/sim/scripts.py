"""Simulation: scripts of one engine (EVAL, FCALL), as Valkey 9.1 runs them.

While one runs nothing else is executed. Once it took `busy-reply-threshold` the engine answers BUSY, and minds the cluster
again: it hears of failovers, votes and loses its role in the middle of the script. What that wrote stands in the memory at
once, in the file and the stream only at its end; a leader that follows by then writes it to its own file alone, and its
offset does not show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dkv.engine.config import BUSY_REPLY_AFTER
from dkv.sim.disk import Disk, Entry
from dkv.sim.net import SimNet
from dkv.sim.replication import Replication

WAITS = frozenset(("take", "continued", "resync_began", "resync_ended", "filled", "attach", "transferred"))
"""What an engine does not do before its script has ended: the stream is not read, and nobody attaches."""


class Scripts:
    """The scripts' part of an engine; the rest is in engine.py."""

    net: SimNet
    alive: bool
    stopped: bool
    loading: bool
    fenced: bool
    role: str
    data: dict[str, str]
    disk: Disk | None
    replication: Replication
    inbox: list[tuple[Callable[..., None], tuple[Any, ...]]]
    deaf: bool = False  # inside a script that does not answer BUSY yet
    busy: bool = False  # inside one that does
    script: Entry | None = None  # what the running one wrote
    torn: bool = False  # its role changed inside one, and nothing made its data whole since

    def receive(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        """See engine.py."""
        raise NotImplementedError

    def _holds_writes(self) -> bool:
        raise NotImplementedError

    def run_script(self, key: str, value: str, seconds: float, answer: Callable[[str], None]) -> None:
        """One that writes at once and then takes its time."""
        if self.loading or self.deaf or self.busy or self.role != "leader" or self.fenced or self._holds_writes():
            answer("BUSY or not now")
            return
        self.data[key] = value
        self.deaf = True
        self.script = entry = Entry(self.net.write_size + len(value), key=key, value=value)
        self.net.later(min(seconds, BUSY_REPLY_AFTER / 1000), self._answers_again, entry)
        self.net.later(seconds, self.script_ends, entry, answer)

    def _answers_again(self, entry: Entry) -> None:
        if self.alive and self.deaf and self.script is entry:
            self.deaf, self.busy = False, True
            self._catch_up()

    def _catch_up(self) -> None:
        """Do what came meanwhile, in its order."""
        inbox, self.inbox = self.inbox, []
        for act, args in inbox:
            self.receive(act, args)

    def script_ends(self, entry: Entry, answer: Callable[[str], None] = lambda said: None) -> None:
        """Its last line. Nothing happens if it ended before."""
        if not self.alive or self.script is not entry:
            return
        if self.stopped:
            self.net.later(0.05, self.script_ends, entry, answer)
            return
        self.deaf, self.busy, self.script = False, False, None
        if self.role == "leader":
            if not self.replication.append(entry):
                return
            answer("OK")
        else:
            self.torn = True
            self.net.seen["role lost inside a script"] += 1
            if self.disk is not None and not self.disk.drive.trouble:
                self.disk.append(entry)
            answer("UNKNOWN")
        self._catch_up()
