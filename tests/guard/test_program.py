"""The guard as a process, beside a manager that is any process, with engines that are sockets which obey."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv import kernel
from dkv.guard.duty import FILE, Duty, GuardedEngine, to_text
from dkv.guarding import PROGRAM
from tests.e2e.local_domain import wait_for

FENCE = ("CONFIG", "SET", "min-replicas-to-write", "99")
PASSWORD = "the managers' password"
AS_THIRD = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
LONG = 3.5  # s in which a guard that would fence has fenced


class Engine:
    """What an engine is to a guard: a process, and a socket in its directory that obeys who logs in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700)
        self.process = subprocess.Popen(["sleep", "600"])
        self.commands: list[str] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / "admin.sock"))
        self._listening.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                with line:
                    words = [word for word in line.recv(4096).decode().split("\r\n") if word[:1] not in ("*", "$", "")]
                    if words[:3] == ["AUTH", "dkv-manager", PASSWORD]:
                        self.commands.append(" ".join(words[3:]))
                        line.sendall(b"+OK\r\n+OK\r\n")

    @property
    def is_fenced(self) -> bool:
        return " ".join(FENCE) in self.commands

    @property
    def guarded(self) -> GuardedEngine:
        pid = self.process.pid
        return GuardedEngine(1, str(self.directory), "admin.sock", pid, kernel.started(pid), "dkv-manager", PASSWORD)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listening.close()


class Watched:
    """A guard, its manager and one engine."""

    def __init__(self, root: Path) -> None:
        self.engine = Engine(root / "archive")
        self.manager = subprocess.Popen(["sleep", "600"])
        self.file = root / FILE
        self.log = root / "guard.log"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, *others: tuple[str, int], manager: str = "m1") -> None:
        fresh = self.file.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text(to_text(Duty(manager, others, (self.engine.guarded,), FENCE)))
        fresh.replace(self.file)

    def start(self) -> subprocess.Popen[bytes]:
        pidfd = os.pidfd_open(self.manager.pid)
        command = [sys.executable, "-I", "-S", PROGRAM, str(self.file), "m1"]
        begin = [sys.executable, "-c", AS_THIRD, str(pidfd), *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(begin, stdout=log, stderr=log, pass_fds=(pidfd,), env={})
        os.close(pidfd)
        return self.process

    def kill_manager(self) -> None:
        self.manager.kill()
        self.manager.wait()

    def close(self) -> None:
        for process in (self.process, self.manager):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.engine.end()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    try:
        yield watched
    finally:
        watched.close()


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that gives no answer: a listening socket whose queue is full, as the kernel drops what comes then."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(contextlib.closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address


@pytest.fixture
def refusing() -> tuple[str, int]:
    """An address where nothing listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[0]), int(listening.getsockname()[1])


def test_a_machine_that_nobody_answers_is_fenced_once_its_manager_is_dead(watched: Watched, silent: tuple[str, int]) -> None:
    watched.write(silent)
    watched.start()
    time.sleep(1.5)  # as long as it takes to fence: nothing is tried while the manager lives
    assert not watched.engine.commands
    watched.kill_manager()
    wait_for("it is fenced", lambda: watched.engine.is_fenced)
    wait_for("it says so", lambda: "engine 1: fenced" in watched.log.read_text())
    assert PASSWORD not in watched.log.read_text()


def test_one_answer_of_one_machine_is_enough_and_a_refusal_is_one(
    watched: Watched, silent: tuple[str, int], refusing: tuple[str, int]
) -> None:
    watched.write(silent, refusing)
    guard = watched.start()
    watched.kill_manager()
    with pytest.raises(subprocess.TimeoutExpired):
        guard.wait(LONG)
    assert not watched.engine.commands


def test_it_ends_when_the_next_manager_acts_or_no_engine_runs(watched: Watched, refusing: tuple[str, int]) -> None:
    watched.write(refusing)
    guard = watched.start()
    watched.kill_manager()
    wait_for("it watches", lambda: "are guarded" in watched.log.read_text())
    watched.write(refusing, manager="m2")
    assert guard.wait(30) == 0
    assert "another manager has taken over" in watched.log.read_text()


def test_it_ends_with_the_last_engine(watched: Watched, refusing: tuple[str, int]) -> None:
    watched.write(refusing)
    guard = watched.start()
    watched.kill_manager()
    wait_for("it watches", lambda: "are guarded" in watched.log.read_text())
    watched.engine.end()
    assert guard.wait(30) == 0
    assert "no engine runs any more" in watched.log.read_text()


def test_a_duty_of_another_manager_or_none_is_not_its_own(watched: Watched, silent: tuple[str, int]) -> None:
    watched.write(silent, manager="m2")
    guard = watched.start()
    watched.kill_manager()
    assert guard.wait(30) == 0
    assert not watched.engine.commands


def test_a_file_that_is_a_link_is_refused_and_the_log_says_why(watched: Watched, silent: tuple[str, int]) -> None:
    watched.write(silent)
    watched.file.rename(watched.file.with_suffix(".real"))
    watched.file.symlink_to(watched.file.with_suffix(".real"))
    guard = watched.start()
    watched.kill_manager()
    assert guard.wait(30) == 1
    assert "nothing is guarded" in watched.log.read_text()
    assert not watched.engine.commands


def test_an_engine_that_stood_still_obeys_when_it_goes_on(watched: Watched, silent: tuple[str, int]) -> None:
    """Its socket takes the order although nobody reads it; no other engine waits for that one."""
    watched.engine.end()
    directory = watched.engine.directory
    (directory / "admin.sock").unlink()
    watched.engine.process = subprocess.Popen(["sleep", "600"])
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(directory / "admin.sock"))
        deaf.listen(8)
        watched.write(silent)
        watched.start()
        watched.kill_manager()
        wait_for("it was tried", lambda: "engine 1: no answer" in watched.log.read_text())
        line, _ = deaf.accept()
        with line:
            assert b"min-replicas-to-write" in line.recv(4096)
    watched.engine.process.kill()


def test_it_sees_no_password_on_a_command_line_and_imports_little() -> None:
    text = f"import sys; sys.path.append({str(Path(PROGRAM).parents[2])!r}); import dkv.guard.program; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True, timeout=60)
    names = set(done.stdout.split())
    assert {name for name in names if name.startswith("dkv")} == {
        "dkv",
        *(f"dkv.guard{m}" for m in ("", ".judge", ".duty", ".program")),
    }
    assert not names & {"asyncio", "ssl", "hashlib", "dataclasses", "logging", "threading", "subprocess", "site", "pathlib"}
