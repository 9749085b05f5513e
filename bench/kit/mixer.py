"""Bench kit: a client process with many connections, 70 % GET and 30 % SET, one request at a time on each.

Requests are made beforehand and the length of every answer is known, so that little of the time is this client's own.
`python mixer.py ENDPOINT CONNECTIONS SECONDS` says `ready`, begins at a line on stdin, and prints operations and seconds.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit.resp import Line, packed

KEYS, LENGTH = 10_000, 100
REQUESTS = 5000
READS = 0.7
Request = tuple[bytes, int]  # what is sent, and how long its answer is
OK, FOUND = len("+OK\r\n"), len(f"${LENGTH}\r\n") + LENGTH + 2


def name_of(n: int) -> str:
    """The n-th key."""
    return f"mix:{n:08}"


def fill(endpoint: str) -> None:
    """Make every key there is, so that every GET has the same answer."""
    with Line(endpoint, 30) as line:
        for start in range(0, KEYS, 1000):
            line.ask_all([("SET", name_of(n), "x" * LENGTH) for n in range(start, start + 1000)])


def requests() -> list[Request]:
    """Random requests, 70 % GET."""
    requested: list[Request] = []
    for _ in range(REQUESTS):
        name = name_of(random.randrange(KEYS))
        read = random.random() < READS
        requested.append((packed("GET", name), FOUND) if read else (packed("SET", name, "y" * LENGTH), OK))
    return requested


def run(lines: Sequence[socket.socket], made: Sequence[Request], seconds: float) -> tuple[int, float]:
    """How many operations in how many seconds."""
    width, at, done = len(lines), 0, 0
    began = time.monotonic()
    ends = began + seconds
    while time.monotonic() < ends:
        if at + width > len(made):
            at = 0
        batch = made[at : at + width]
        at += width
        for line, (request, _) in zip(lines, batch, strict=True):
            line.send(request)
        for line, (_, length) in zip(lines, batch, strict=True):
            answer = line.recv(4096)
            if len(answer) != length:
                finish(line, answer, length)
        done += width
    return done, time.monotonic() - began


def finish(line: socket.socket, answer: bytes, length: int) -> None:
    """The rest of an answer that came in pieces. Raises RuntimeError for an answer that is an error."""
    while len(answer) < length and answer[:1] != b"-":
        more = line.recv(4096)
        if not more:
            raise RuntimeError("the connection was closed")
        answer += more
    if len(answer) != length:
        raise RuntimeError(f"unexpected answer: {answer!r}")


def main(words: Sequence[str]) -> int:
    """One client process."""
    host, _, port = words[0].rpartition(":")
    lines = [socket.create_connection((host, int(port)), 5) for _ in range(int(words[1]))]
    for line in lines:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made = requests()
    print("ready", flush=True)
    sys.stdin.readline()
    done, seconds = run(lines, made, float(words[2]))
    print(done, seconds, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
