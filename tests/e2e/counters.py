"""Clients of a store that count: what was acknowledged is there exactly once, whoever died in between.

Each line has counters of its own and adds one to them, alone or in a transaction with a list and a key that expires, on
whichever node lets it. An answer that never came may have been carried out or not; every other addition must show in
the next answer, once, and at the end the list holds every number that was acknowledged, once.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

FILLING = "x" * 100


@dataclass
class Counter:
    """One line. `value` was last answered, `unsure` additions were sent since and not answered."""

    nodes: Sequence[tuple[str, int]]
    name: str
    run_id: int
    value: int = 0
    unsure: int = 0
    answered: int = 0
    sent: int = 0
    broken: int = 0  # how often it had to connect anew
    listed: set[int] = field(default_factory=set)  # acknowledged
    wrong: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # monotonic seconds of the answers
    context: ssl.SSLContext | None = None  # of a store whose engines speak TLS
    _line: socket.socket | None = None
    _node: int = 0
    _rest: bytes = b""

    def run(self, ended: threading.Event) -> None:
        """Add until stopped."""
        while not ended.is_set():
            try:
                if self._line is None:
                    self._connect()
                self._add()
            except OSError:
                self.broken += 1
                self._leave()
                time.sleep(0.003)
        self._leave()

    def _leave(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line, self._node, self._rest = None, (self._node + 1) % len(self.nodes), b""

    def _connect(self) -> None:
        self._line = socket.create_connection(self.nodes[self._node], timeout=1.0)
        self._line.settimeout(5.0)
        if self.context is not None:
            self._line = self.context.wrap_socket(self._line, server_hostname=self.nodes[self._node][0])
        self._send(f"SELECT {int(self.name[1:]) % 3}")
        if self._read() != "+OK":
            raise ConnectionError

    def _add(self) -> None:
        """INCR, every fourth time inside a transaction with more in it."""
        key = f"{{{self.name}}}:{self.run_id}"
        together = (self.value + self.unsure) % 4 == 0
        self.unsure += 1
        self.sent += 1
        if together:
            lives = 20 + self.sent % 200
            self._send(
                "MULTI", f"INCR {key}:n", f"SET {key}:{self.sent} {FILLING} PX {lives}", f"LPUSH {key}:list {self.sent}", "EXEC"
            )
            self._expect("+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3")
        else:
            self._send(f"INCR {key}:n")
        self._judge(self._read())
        if together:
            self._expect("+OK", ":")
            self.listed.add(self.sent)

    def look_again(self) -> None:
        """Read the list back, after the lines ended: nothing acknowledged is missing and nothing is there twice."""
        for _ in range(1000):
            try:
                if self._line is None:
                    self._connect()
                self._send(f"LRANGE {{{self.name}}}:{self.run_id}:list 0 -1")
                answer = self._read()
                if not answer.startswith("*"):
                    raise ConnectionError(answer)
                counts = [int([self._read(), self._read()][1]) for _ in range(int(answer[1:]))]
                break
            except OSError:
                self._leave()
                time.sleep(0.01)
        self._leave()
        if self.listed - set(counts):
            self.wrong.append(f"{self.name}: its list lacks {sorted(self.listed - set(counts))}")
        if len(counts) > len(set(counts)):
            self.wrong.append(f"{self.name}: its list has something twice")

    def _expect(self, *beginnings: str) -> None:
        for beginning in beginnings:
            line = self._read()
            if not line.startswith(beginning):
                self.unsure -= line.startswith(("-MOVED", "-CLUSTERDOWN", "-LOADING", "-NOREPLICAS"))
                raise ConnectionError(line)

    def _judge(self, line: str) -> None:
        if line.startswith("-"):
            self.unsure -= 1
            raise ConnectionError(line)
        value = int(line[1:])
        if not self.value + 1 <= value <= self.value + self.unsure:
            self.wrong.append(f"{self.name}: {value} after {self.value} and {self.unsure} unsure")
        self.value, self.unsure = value, 0
        self.answered += 1
        self.times.append(time.monotonic())

    def _send(self, *commands: str) -> None:
        assert self._line is not None
        self._line.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def _read(self) -> str:
        assert self._line is not None
        while b"\r\n" not in self._rest:
            block = self._line.recv(4096)
            if not block:
                raise ConnectionError("closed")
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line.decode()


@contextmanager
def counting(nodes: Sequence[tuple[str, int]], lines: int = 20, context: ssl.SSLContext | None = None) -> Iterator[list[Counter]]:
    """So many lines count while the block runs."""
    counters = [Counter(nodes, f"c{number}", time.monotonic_ns(), context=context) for number in range(lines)]
    ended = threading.Event()
    threads = [threading.Thread(target=counter.run, args=(ended,), daemon=True) for counter in counters]
    for thread in threads:
        thread.start()
    try:
        yield counters
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        for entry in counters:
            entry.look_again()


def go_on(counters: Sequence[Counter], count: int = 20, within: float = 60.0) -> None:
    """Wait until every line was answered so often from now on."""
    wanted = [counter.answered + count for counter in counters]
    ends = time.monotonic() + within
    while any(counter.answered < aim for counter, aim in zip(counters, wanted, strict=True)):
        assert time.monotonic() < ends, [counter.answered for counter in counters]
        time.sleep(0.01)


def wrong(counters: Sequence[Counter]) -> list[str]:
    """Everything that was lost or done twice."""
    return [sentence for counter in counters for sentence in counter.wrong]


def outage(counters: Sequence[Counter], since: float) -> float:
    """Milliseconds from a moment until the first line was answered again."""
    return 1000 * (min(t for counter in counters for t in counter.times if t > since + 0.02) - since)
