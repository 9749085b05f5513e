"""The process: it sleeps until its manager ends, then tries the other machines, and fences where none answers.

Started by `guarding.py` with two words: the path of its duty and the name of its manager in it. Descriptor 3 is the manager's
pidfd. Standard output is its log. It imports the standard library only, and little of that, because one stays in memory
beside every manager.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Sequence

from dkv.guard import judge
from dkv.guard.duty import Duty, GuardedEngine, read, which

MANAGER = 3  # the descriptor
TICK = 0.05  # s between two judgements while nothing answers
LATE = 2.0  # s after which an attempt that was not answered is given up
OBEYED_WITHIN = 0.3  # s in which engines answer
AGAIN = 1.0  # s until an engine that did not obey is told again


def main(path: str, manager: str) -> int:
    """Wait, then guard; the exit code."""
    os.chdir(os.path.dirname(path))
    wait_for_end(MANAGER)
    try:
        duty, file = read(path)
    except (OSError, ValueError) as error:
        log(f"the manager ended; nothing is guarded, because {path} cannot be used: {error}")
        return 1
    if duty.manager == manager and duty.is_needed:
        log(f"the manager {manager} ended; {len(duty.engines)} engines are guarded")
        Guard(duty, path, file).run()
    return 0


def wait_for_end(process: int) -> None:
    """Sleep until the process of that pidfd has ended. The kernel wakes this one then, and never before."""
    end = select.poll()
    end.register(process, select.POLLIN)
    end.poll()
    os.close(process)


def clock() -> float:
    """Seconds since the machine started, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def log(text: str) -> None:
    """One line."""
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} guard {os.getpid()}: {text}\n")
    sys.stdout.flush()


class Guard:
    """Watches over the engines of one duty until another manager wrote the next, or none of them runs."""

    def __init__(self, duty: Duty, path: str, file: tuple[int, int]) -> None:
        self._duty, self._path, self._file = duty, path, file
        self._others = Others(duty.others)
        self._left = list(duty.engines)  # not fenced yet
        self._told_at = float("-inf")
        self._said: dict[int, str] = {}  # what each answered last, by start id: it is logged once

    def run(self) -> None:
        """Until it is not needed any more."""
        contact, next_attempt, was_cut_off = judge.Contact(), clock(), False
        while True:
            now = clock()
            if now >= next_attempt:
                if why := self._why_no_more():
                    log(f"ends: {why}")
                    return
                self._others.attempt(now)
                contact = judge.tried(contact, now)
                next_attempt = now + judge.HURRY
            left = next_attempt - now
            if self._others.wait(left if contact.tried_since is None else min(TICK, left)):
                contact, next_attempt = judge.heard(clock()), clock() + judge.EVERY
                if was_cut_off:
                    log("another machine answers again; engines stay fenced until a manager of this machine opens them")
                was_cut_off = False
            if judge.is_cut_off(contact, clock()):
                if not was_cut_off:
                    log(f"no other machine has answered for {judge.SILENT} s; engines are fenced")
                was_cut_off = True
                self._fence()

    def _why_no_more(self) -> str:
        if which(self._path) != self._file:
            return "another manager has taken over"
        if not any(is_alive(engine) for engine in self._duty.engines):
            return "no engine runs any more"
        return ""

    def _fence(self) -> None:
        """Each engine once; those that do not obey again and again."""
        now = clock()
        if not self._left or now - self._told_at < AGAIN:
            return
        self._told_at = now
        answers = tell(self._left, self._duty.fence)
        for engine in self._left:
            answer = answers.get(engine.start_id, "no answer")
            if answer != self._said.get(engine.start_id):
                log(f"engine {engine.start_id}: {'fenced' if answer == 'OK' else answer}")
            self._said[engine.start_id] = answer
        self._left = [engine for engine in self._left if answers.get(engine.start_id) != "OK" and is_alive(engine)]


def is_alive(engine: GuardedEngine) -> bool:
    """Whether that very process runs."""
    try:
        with open(f"/proc/{engine.pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return False
    return fields[0] not in b"ZX" and int(fields[19]) == engine.started


class Others:
    """Attempts to connect to the managers of other machines. One answer of one of them is enough."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._begun: dict[int, tuple[socket.socket, float]] = {}  # by descriptor: the attempt, and when it was begun
        self._answered = False
        self._poll = select.poll()

    def attempt(self, now: float) -> None:
        """Begin to connect to each; what is not answered yet still may be."""
        for number, (_, begun_at) in list(self._begun.items()):
            if now - begun_at > LATE:
                self._end(number)
        for host, port in self._addresses:
            attempt = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            error = attempt.connect_ex((host, port))
            if error == errno.EINPROGRESS:
                self._begun[attempt.fileno()] = attempt, now
                self._poll.register(attempt, select.POLLOUT)
            else:
                attempt.close()
                self._answered |= judge.is_answer(error)

    def wait(self, seconds: float) -> bool:
        """Whether one of them answers within that time. Then the other attempts are given up."""
        if not self._answered:
            for number, _ in self._poll.poll(max(0.0, seconds) * 1000):
                attempt, _ = self._begun[number]
                self._answered |= judge.is_answer(attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                self._end(number)
        answered, self._answered = self._answered, False
        for number in list(self._begun) if answered else ():
            self._end(number)
        return answered

    def _end(self, number: int) -> None:
        self._poll.unregister(number)
        self._begun.pop(number)[0].close()


def tell(engines: Sequence[GuardedEngine], command: Sequence[str]) -> dict[int, str]:
    """Give engines a command at the same time: what each answered, by start id. One that gives no answer in time is left out;
    it has the command, and obeys when it goes on.
    """
    lines: dict[int, tuple[GuardedEngine, socket.socket]] = {}
    answers: dict[int, str] = {}
    texts: dict[int, bytes] = {}
    poll = select.poll()
    for engine in engines:
        try:
            line = connect(engine, packed("AUTH", engine.user, engine.password) + packed(*command))
        except OSError as error:
            answers[engine.start_id] = f"cannot be reached ({error.strerror})"
            continue
        lines[line.fileno()] = engine, line
        poll.register(line, select.POLLIN)
    ends = clock() + OBEYED_WITHIN
    while lines and (left := ends - clock()) > 0:
        for number, _ in poll.poll(left * 1000):
            engine, line = lines[number]
            try:
                received = line.recv(4096)
            except OSError:
                received = b""
            texts[number] = texts.get(number, b"") + received
            replies = texts[number].split(b"\r\n")[:-1]
            if len(replies) == 2 or not received:  # of AUTH and of the command
                answers[engine.start_id] = "OK" if replies == [b"+OK"] * 2 else refusal(replies)
                poll.unregister(number)
                line.close()
                del lines[number]
    for _, line in lines.values():
        line.close()
    return answers


def connect(engine: GuardedEngine, begin: bytes) -> socket.socket:
    """A connection to its administrative socket, on which that was sent. It is opened by way of its directory, which has to be
    ours: a path of its own may be too long. Raises OSError.
    """
    folder = os.open(engine.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "its directory is another user's")
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(OBEYED_WITHIN)
            line.connect(f"/proc/self/fd/{folder}/{engine.socket}")
            line.sendall(begin)
        except OSError:
            line.close()
            raise
        return line
    finally:
        os.close(folder)


def packed(*words: str) -> bytes:
    """A command as engines read it."""
    texts = [word.encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)


def refusal(replies: Sequence[bytes]) -> str:
    """Why an engine did not obey, without what it was told."""
    return next((reply[1:200].decode("utf-8", "replace") for reply in replies if reply != b"+OK"), "it closed the connection")
