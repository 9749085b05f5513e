"""The real nuocmd, unmodified, as a child process against a manager's port of the NuoDB dialect.

Each call is a program of its own, or a fork of one that has imported nuocmd already (nuocmd_forked.py).
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.e2e import nuocmd_forked
from tests.e2e.local_domain import PATIENCE, LocalDomain, Said, wait_for

PYTHON = Path(__file__).parents[2] / ".venv" / "bin" / "python"


class Nuocmd:
    """nuocmd talking to one manager of a domain. `forked`: what forks for each call, with the same manager and environment."""

    def __init__(self, domain: LocalDomain, manager: int = 0, forked: nuocmd_forked.Nuocmd | None = None) -> None:
        self.domain = domain
        self._forked = forked
        self.server = domain.managers[manager]
        self.api_server = f"{self.server.host}:8888"
        self.env = domain.nuocmd_environ

    def run(self, *words: object) -> Said:
        """Run it once, whatever comes of it."""
        if self._forked is not None:
            return Said(*self._forked.run(*map(str, words)))
        command = [
            str(PYTHON if PYTHON.exists() else sys.executable),
            "-m",
            "pynuoadmin.nuocmd",
            "--api-server",
            self.api_server,
            *map(str, words),
        ]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "No module named" not in done.stderr, "pynuoadmin==2.7.0 is not installed: it is needed for this test"
        return Said(done.returncode, done.stdout, done.stderr)

    def do(self, *words: object) -> str:
        """Run it once; it must succeed. What it printed."""
        output = self.run(*words)
        assert output.code == 0, (words, output)
        return output.out

    def refused(self, *words: object) -> str:
        """Run it once; it must be refused in one sentence, and nothing may have changed."""
        with self.domain.unchanged():
            output = self.run(*words)
        assert output.code == 1, (words, output)
        assert re.fullmatch(r"'\w+ [\w-]+' failed: [^\n]+\n", output.err), output.err
        return output.err.partition("failed: ")[2].strip()

    def json(self, *words: object) -> list[dict[str, Any]]:
        """The objects a command prints, as they came over the wire."""
        return [json.loads(line) for line in self.do("--show-ndjson", *words).splitlines()]

    # -- looking, without the price of a program each time -----------------------------------------------------

    def look(self, path: str, **params: str) -> Any:
        """What a GET under /api/1 answers."""
        address = f"http://{self.server.host}:8888/api/1/{path}"
        response = httpx.get(address, params=params, auth=self.domain.credentials, timeout=PATIENCE)
        assert response.status_code == 200, response.text
        return response.json()

    def database(self, name: str) -> dict[str, Any]:
        """A database as it is now."""
        return dict(self.look(f"databases/{name}"))

    def processes(self, name: str) -> list[dict[str, Any]]:
        """The live processes of a database, by start id."""
        return list(self.look("processes", filterBy="dbName", dbName=name)["data"])

    def wait_state(self, name: str, state: str) -> None:
        """Wait until a database is in a state."""
        wait_for(f"{name} {state}", lambda: self.database(name)["state"] == state)

    @contextlib.contextmanager
    def passing_state(self, name: str, state: str) -> Iterator[None]:
        """A database is seen in a state that it leaves by itself, at some time from here on: who looked for it only after
        the program that causes it has ended may come too late."""
        seen, ended = threading.Event(), threading.Event()

        def look() -> None:
            while not ended.wait(0.02) and not seen.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    if self.database(name)["state"] == state:
                        seen.set()

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
            assert seen.wait(PATIENCE), f"{name} was never {state}"
        finally:
            ended.set()
            watcher.join()

    def wait_running(self, name: str, count: int) -> None:
        """Wait until so many processes of a database run, and no other lives."""

        def look() -> bool:
            states = [f"{p['durableState']}:{p['state']}" for p in self.processes(name)]
            return states == ["MONITORED:RUNNING"] * count

        wait_for(f"{count} processes of {name} running", look)

    def wait_gone(self, name: str) -> None:
        """Wait until no process of a database lives."""
        wait_for(f"no process of {name}", lambda: not self.processes(name))


def lines(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The lines of an output that fit, without the space around them."""
    return [line.strip() for line in text.splitlines() if fits(line)]
