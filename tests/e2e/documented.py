"""The documented example, playable: two servers, a command-line client, a transcript, and what is not compared."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkv.client import Json, ManagerRefused
from tests.e2e.local_domain import DKV, PATIENCE, LocalDomain, Manager, Said, wait_for

GOLDEN = Path(__file__).parent / "golden"
REWRITE = "DKV_REWRITE_STORIES"
SERVERS = ("server0", "server1")


class DocumentedServers(LocalDomain):
    """The two documented servers, each with an address of its own on this machine."""

    def __init__(self, root: Path, settings: Mapping[str, str], state: str = "sqlite") -> None:
        self.state = f"{state}:{root / 'domain.sqlite'}"
        super().__init__(root, len(SERVERS), dict(settings))

    def manager(self, index: int, settings: dict[str, str] | None = None, state: str = "") -> Manager:
        """One of the servers, under its documented name."""
        name = SERVERS[index - 1]
        return Manager(name, f"{self.net}.{10 + index}", self.root / name, self.state, env=self.env | (settings or {}))

    def start(self) -> None:
        """One after the other: the first becomes the LEADER of the listings."""
        for manager in self.managers:
            manager.restart()


@dataclass
class Player:
    """Somebody who types the documented commands, in a directory of their own. `program` is dkv or nuocmd."""

    domain: DocumentedServers
    program: str
    timeout_ms: int
    lines: list[str] = field(default_factory=list)

    @property
    def desk(self) -> Path:
        """Where files such as startplan.json are written."""
        return self.domain.root

    def command(self, words: str) -> list[str]:
        """The program with its words, asking server0."""
        host = self.domain.managers[0].host
        if self.program == "dkv":
            return [str(DKV), *words.split(), "--managers", host]
        return [sys.executable, "-m", "pynuoadmin.nuocmd", "--api-server", f"{host}:8888", *words.split()]

    def says(self, words: str) -> Said:
        """Run one command."""
        env = self.domain.nuocmd_environ if self.program == "nuocmd" else self.domain.env
        done = subprocess.run(
            self.command(words),
            env=env,
            cwd=self.desk,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def types(self, words: str, code: int = 0, either: tuple[int, ...] = ()) -> Said:
        """Run one command of the scenario and write down what it said. `either`: start ids that may share out their node
        ids as they like."""
        output = self.says(words)
        assert output.code == code, (words, output)
        self.record(f"{self.program} {words}", _shared_out(output.out, either) + (output.err if code else ""))
        return output

    def record(self, title: str, text: str) -> None:
        """Write down a line that was typed and what came of it."""
        self.lines += [f"$ {self.filtered(title)}", *self.filtered(text).splitlines()]

    # -- looking, by the API of the dialect ---------------------------------------------------------------------

    def api(self, path: str) -> Any:
        """What /api/1 says now."""
        return json.loads(self.domain.client.request("GET", f"/api/1{path}").body)

    def processes(self) -> list[Json]:
        """All living processes."""
        return list(self.api("/processes?orderBy=startId")["data"])

    def state(self) -> str:
        """The state of the documented database."""
        try:
            return str(self.api("/databases/test")["state"])
        except ManagerRefused:
            return ""

    def runs(self, *start_ids: int) -> None:
        """Wait until exactly these processes live, each MONITORED:RUNNING."""
        wanted = [(str(start_id), "MONITORED", "RUNNING") for start_id in start_ids]
        wait_for(
            f"{start_ids} MONITORED:RUNNING",
            lambda: (
                [(process["startId"], process["durableState"], process["state"]) for process in self.processes()] == wanted
                or None
            ),
        )

    def reaches(self, start_id: int, state: str) -> None:
        """Wait until a process is in a state."""
        wait_for(
            f"process {start_id} {state}",
            lambda: any((process["startId"], process["durableState"]) == (str(start_id), state) for process in self.processes()),
        )

    def becomes(self, state: str) -> None:
        """Wait until the database is in a state."""
        wait_for(f"test {state}", lambda: self.state() == state, PATIENCE + self.timeout_ms / 1000)

    def moments(self) -> int:
        """How many events there were."""
        return len(self.domain.client.events())

    def moves(self) -> list[str]:
        """Every change of the database's state so far."""
        events = self.domain.client.events(store="test")
        return [str(event["change"]) for event in events if event["subject"] == "database test" and event["change"]]

    # -- what differs from run to run ---------------------------------------------------------------------------

    def filtered(self, text: str) -> str:
        """The text without times, pids, ports, versions, tokens, addresses and paths of this run."""
        for server, manager in zip(SERVERS, self.domain.managers, strict=True):
            text = text.replace(str(self.domain.root / "archives" / server), f"/var/opt/nuodb/archive/{server}")
            text = re.sub(rf"{re.escape(manager.host)}:(\d+)", lambda match, name=server: _port(name, match[1]), text)
        text = text.replace(f"({self.timeout_ms} ms)", "(10000 ms)")
        for pattern, instead in FILTERS:
            text = re.sub(pattern, instead, text)
        return _steady("\n".join(line.rstrip() for line in text.splitlines()))

    def compare(self, name: str) -> None:
        """The transcript is the golden file's."""
        path, output = GOLDEN / name, "\n".join(self.lines) + "\n"
        if os.environ.get(REWRITE):
            path.write_text(output)
        differs = "\n".join(difflib.unified_diff(path.read_text().splitlines(), output.splitlines(), "golden", "now", n=1))
        assert not differs, f"{path} differs; {REWRITE}=1 writes it anew\n{differs}"


def _port(server: str, port: str) -> str:
    return f"{server}:48005" if port in ("7801", "8888") else f"{server}:PORT"


FILTERS: Sequence[tuple[str, str]] = (
    (r"server version: [^,]+", "server version: VERSION"),
    (r"server time: [^,]+, client token: \w+", "server time: TIME, client token: TOKEN"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", "TIME"),
    (r"\[pid = \d+\]", "[pid = PID]"),
    (r"last_ack = +(\d+\.\d+|NEVER|>60)", "last_ack = SECONDS"),
    (r"log=\d+/\d+/\d+", "log=TERM/INDEX/INDEX"),
    (r"(Process\(.*)options=\{[^}]*\}", r"\1options={...}"),
)

BOTH_STOPPED = re.compile(r"( +\[TE\] .*EXITED\(REQUESTED_SHUTDOWN:SHUTTING_DOWN\).*)\n( +\[TE\] .*EXITED\(REQUESTED_SHUTDOWN.*)")


def _steady(text: str) -> str:
    """Two TEs that one decision stopped may end in either order; in the golden file the lower start id stands first."""
    return BOTH_STOPPED.sub(lambda match: "\n".join(sorted(match.groups(), key=_start_id)), text)


def _shared_out(text: str, either: tuple[int, ...]) -> str:
    """The node ids of these processes in the order of their start ids."""
    mine = [re.compile(rf"(\[start_id = {start_id}\].*\[node_id = )(\d+)") for start_id in either]
    node_ids = sorted(hit[2] for pattern in mine if (hit := pattern.search(text)))
    for pattern, node_id in zip(mine, node_ids, strict=False):
        text = pattern.sub(rf"\g<1>{node_id}", text)
    return text


def _start_id(line: str) -> int:
    match = re.search(r"start_id = (\d+)", line)
    assert match, line
    return int(match[1])
