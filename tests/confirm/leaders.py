"""What the confirming client is tested with: leaders, views and a clock that do what a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from dkv.confirm import ConfirmingClient, Engine, GroupView, View

FOLLOWER = "127.0.0.12:7861"


class Leader:
    """A server of one group that answers what the client sends, and can hang up on everybody. Its one follower has acknowledged
    `acked` bytes of `offset`; it answers WAIT while `answering`, and writes to the keys of `refusals` with an error."""

    def __init__(self) -> None:
        self.offset = self.acked = 7
        self.answering = threading.Event()
        self.answering.set()
        self.refusals: dict[bytes, bytes] = {}
        self.rounds: list[int] = []  # writes before each WAIT
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []
        self.sets = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        """Where it listens, host:port."""
        return f"127.0.0.1:{self._door.getsockname()[1]}"

    def hang_up(self) -> None:
        """End every connection, as a SIGKILL does."""
        for line in self._lines:
            with contextlib.suppress(OSError):  # the client was quicker
                line.shutdown(socket.SHUT_RDWR)
        self._lines.clear()

    def close(self) -> None:
        """Stop listening."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        with self._door, contextlib.suppress(OSError):
            while True:
                line, _ = self._door.accept()
                self._lines.append(line)
                self._threads.append(threading.Thread(target=self._answer, args=(line,)))
                self._threads[-1].start()

    def _answer(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, ValueError), line.makefile("rb") as commands:
            written = 0
            while count := commands.readline()[1:]:
                words = [commands.read(int(commands.readline()[1:]) + 2)[:-2] for _ in range(int(count))]
                if words[0] == b"SET":
                    self.sets += 1
                    written += 1
                    line.sendall(self.refusals.pop(words[1], b"+OK\r\n"))
                elif words[0] == b"WAIT":
                    self.rounds.append(written)
                    written = 0
                    self.answering.wait()
                    line.sendall(b":0\r\n")
                elif words[0] == b"ROLE":
                    line.sendall(self._role())
                else:
                    line.sendall(b"+OK\r\n")

    def _role(self) -> bytes:
        host, _, port = FOLLOWER.encode().rpartition(b":")
        acked = b"%d" % self.acked
        replica = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (host, port, acked))
        return b"*3\r\n$6\r\nmaster\r\n:%d\r\n*1\r\n*3\r\n%s" % (self.offset, replica)


class Clock:
    """Seconds that go by, and that a test may skip; it interrupts the thread that reads it next once `interrupts` is set."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.interrupts: type[BaseException] | None = None

    def __call__(self) -> float:
        interrupts, self.interrupts = self.interrupts, None
        if interrupts is not None:
            raise interrupts
        return time.monotonic() + self.skipped


class Views:
    """Views that say what the test tells them, in the place of the thread that reads them from managers."""

    trouble = ""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.term, self.endpoint = 1, ""
        self.asked_for: list[float] = []
        self.when_wanted: Any = lambda: None
        self.asked_at: float | None = None  # of every view; None: just now

    def latest(self) -> View:
        """The store as of now."""
        group = GroupView(((0, 16383),), Engine(self.endpoint, self.term, self.term), 2, (FOLLOWER,), 1)
        return View((group,), self._clock() if self.asked_at is None else self.asked_at)

    def newer_than(self, moment: float, until: float) -> View:
        """The same; `when_wanted` runs when a view newer than an ended line is wanted."""
        self.asked_for.append(moment)
        if moment > self._clock() - 0.4:
            self.when_wanted()
        return self.latest()

    def hurry(self) -> None:
        """Nothing waits for a view."""

    def close(self) -> None:
        """No thread is to be ended."""


@contextlib.contextmanager
def led(*leaders: Leader) -> Iterator[tuple[ConfirmingClient, Views]]:
    """A client whose views name the first leader."""
    clock = Clock()
    client = ConfirmingClient(["127.0.0.1:1"], "Sure", clock)
    client._views.close()
    views = Views(clock)
    views.endpoint = leaders[0].endpoint
    client._views = views  # type: ignore[assignment]
    try:
        with client:
            yield client, views
    finally:
        for leader in leaders:
            leader.answering.set()
            leader.close()
