"""The confirming client: a leader that hangs up between two writes leaves none in doubt; an old view confirms nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from dkv.client import Endpoint, ManagerPool, Reply, Request
from dkv.confirm import ConfirmingClient, Engine, GroupView, Kind, View
from dkv.confirm.views import Refresher

ANSWERS = {b"CLIENT": b"+OK\r\n", b"SET": b"+OK\r\n", b"WAIT": b":0\r\n", b"ROLE": b"*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n"}


class Leader:
    """A server of one group that answers what the client sends, and can hang up on everybody."""

    def __init__(self) -> None:
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
        with line, contextlib.suppress(OSError):
            while data := line.recv(65536):
                for word in data.split(b"\r\n"):
                    self.sets += word == b"SET"
                    line.sendall(ANSWERS.get(word, b""))


class Clock:
    """Seconds that go by, and that a test may skip."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
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
        group = GroupView(((0, 16383),), Engine(self.endpoint, self.term, self.term), 1, (), 1)
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
            leader.close()


def test_a_write_after_the_leader_hung_up_goes_to_the_next_leader() -> None:
    first, second = Leader(), Leader()
    with led(first, second) as (client, views):
        assert client.set("before", "1").confirmed

        def next_term() -> None:
            views.term, views.endpoint = 2, second.endpoint

        views.when_wanted = next_term
        first.hang_up()
        assert client.set("after", "1").confirmed, "no write was under way, so none is in doubt"
        assert (first.sets, second.sets) == (1, 1), "each was sent once"


def test_a_leader_that_only_ended_the_connection_is_asked_again() -> None:
    only = Leader()
    with led(only) as (client, _):
        assert client.set("before", "1").confirmed
        only.hang_up()
        assert client.set("after", "1").confirmed
        assert only.sets == 2


def test_a_write_is_only_acknowledged_while_the_newest_view_is_half_a_second_old() -> None:
    only = Leader()
    with led(only) as (client, views):
        assert client.set("before", "1").confirmed
        views._clock.skipped = 10.0
        views.asked_at = views._clock() - 0.5
        output = client.set("after", "1", timeout=0.1)
        assert output.kind is Kind.ACKNOWLEDGED
        assert "no manager gave the state of the store within 0.5 s" in output.reason
        views.asked_at = None
        assert client.set("fresh", "1").confirmed


def test_a_view_asked_for_before_the_connection_was_made_confirms_nothing_on_it() -> None:
    """It may have named another run of the engine at that address."""
    only = Leader()
    with led(only) as (client, views):
        views.asked_at = views._clock()
        assert client.set("k", "1", timeout=0.1).kind is Kind.ACKNOWLEDGED
        views.asked_at = None
        assert client.set("k", "2").confirmed


class SlowManager:
    """A transport to a manager whose answer takes 0.4 s of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reads: list[tuple[float, float]] = []  # before and after

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        """A store without groups."""
        before = self._clock()
        self._clock.skipped += 0.4
        self.reads.append((before, self._clock()))
        return Reply(200, {}, b'{"groups": [], "minInSync": 1}')

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        raise NotImplementedError


def test_a_view_is_as_old_as_the_question_not_as_the_answer() -> None:
    clock = Clock()
    manager = SlowManager(clock)
    views = Refresher(ManagerPool([Endpoint("127.0.0.11", 7801)], manager), "Sure", clock)
    try:
        view = views.newer_than(clock(), clock() + 20)
        assert view is not None
        assert any(view.asked_at <= before < after - 0.3 for before, after in manager.reads)
        assert view.asked_at <= manager.reads[-1][0]
    finally:
        views.close()
