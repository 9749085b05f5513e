"""show events: the log and its chains in plain words, requests of a manager over a real socket."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from dkv.cli.binding import from_argv
from dkv.cli.cmdlets import run_cmdlet
from dkv.cli.nouns.domain import chain
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.wire.event_text import sentence

AT = 1_767_225_600_000  # 2026-01-01 00:00:00 UTC


def event(sequence: int, kind: str, subject: str, because: str, **more: Any) -> dict[str, Any]:
    view = {
        "sequence": sequence,
        "revision": sequence,
        "at": AT,
        "database": "db",
        "subject": subject,
        "kind": kind,
        "because": because,
        "change": "",
        "command": "ProcessExited",
        "actor": "s1",
        "entry": "",
        "startId": 1,
        "archiveId": None,
        "cause": None,
        "ordered": False,
    } | more
    return view | {"text": sentence(view)}


LOG = [
    event(38, "process.exited", "process 1", "it ended: killed by signal 9, sender unknown", change="MONITORED -> (gone)"),
    event(39, "group.vacated", "group db/g1", "process 1, its leader, ended", change="OPEN -> VACANT", cause=38),
    event(
        41,
        "group.assigned",
        "group db/g1",
        "archive 2 is in sync",
        change="VACANT -> ASSIGNED",
        startId=4,
        cause=39,
        command="PositionReported",
    ),
    event(42, "process.requested", "process 9", "it was requested", command="StartProcess", actor="operator", ordered=True),
]


class Manager(BaseHTTPRequestHandler):
    """One manager that knows a log and no more."""

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.requests.append(self.path)
        if "text/event-stream" in self.headers.get("Accept", ""):
            self._stream(int(self.headers["Last-Event-ID"]))
            return
        self._answer(*self._output(parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}))

    def _output(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path == "/admin/v1/events":
            return 200, {"events": LOG[-int(query["newest"]) :], "oldest": 38}
        if path == "/admin/v1/events/41":
            return 200, {"events": [LOG[2], LOG[1], LOG[0]], "trimmed": False}
        if path == "/admin/v1/events/39":
            return 200, {"events": [LOG[1]], "trimmed": True}
        if path == "/admin/v1/events/42":
            return 200, {"events": [LOG[3]], "trimmed": False}
        if path in ("/readyz", "/admin/v1/stores/db"):
            return 200, {"name": "db"}
        output = "There is no event 7 in the log."
        return 404, {"code": "not_found", "detail": output, "hint": "It holds 38 to 42.", "status": 404}

    def _answer(self, status: int, output: dict[str, Any]) -> None:
        body = json.dumps(output).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, after: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if after < 50:
            data = json.dumps(event(50, "server.lost", "server s2", "its lease was not renewed", database=""))
            self.wfile.write(f"id: 50\ndata: {data}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def manager() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Manager)
    Manager.requests.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def typed(manager: str, *words: str) -> tuple[int, str, str]:
    screen = Screen(io.StringIO(), io.StringIO())
    code = run_cmdlet(Session(screen), "show events", from_argv([*words, "--managers", manager]))
    assert isinstance(screen.out, io.StringIO)
    assert isinstance(screen.err, io.StringIO)
    return code, screen.out.getvalue(), screen.err.getvalue()


def test_each_event_says_why_by_which_command_who_and_from_which(manager: str) -> None:
    code, out, err = typed(manager, "--limit", "3")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "#39 2026-01-01 00:00:00Z group db/g1 OPEN -> VACANT because process 1, its leader, ended "
        "(ProcessExited by s1; from #38)",
        "#41 2026-01-01 00:00:00Z group db/g1 VACANT -> ASSIGNED because archive 2 is in sync (PositionReported by s1; from #39)",
        "#42 2026-01-01 00:00:00Z process 9 was requested (StartProcess by operator)",
    ]
    assert sum("/stores" in path for path in Manager.requests) == 1, "names are read once, not for each unknown number"


def test_events_that_are_no_longer_kept_are_mentioned(manager: str) -> None:
    code, out, err = typed(manager, "--db-name", "db")
    assert (code, len(out.splitlines()), err) == (0, 4, "Events before #38 are no longer kept.\n")
    assert any("store=db" in path for path in Manager.requests)


def test_a_chain_is_told_back_to_where_it_began(manager: str) -> None:
    code, out, _ = typed(manager, "--why", "41")
    assert code == 0
    assert out.splitlines() == [
        "#41 2026-01-01 00:00:00Z process 4 was assigned to lead group db/g1: archive 2 is in sync",
        "  because #39 2026-01-01 00:00:00Z group db/g1 lost its leader: process 1, its leader, ended",
        "  because #38 2026-01-01 00:00:00Z process 1 ended: killed by signal 9, sender unknown",
        "Root cause: ProcessExited, reported by s1.",
    ]
    assert sum("/stores" in path for path in Manager.requests) == 1


def test_a_chain_ends_at_an_order_or_where_the_log_does(manager: str) -> None:
    assert typed(manager, "--why", "42")[1].splitlines()[-1] == "Root cause: StartProcess, ordered by operator."
    assert typed(manager, "--why", "39")[1].splitlines()[-1] == "The log no longer has what #39 followed from."


def test_an_event_of_a_manager_that_sends_no_sentence_is_told_all_the_same() -> None:
    old = {name: value for name, value in LOG[1].items() if name != "text"}
    assert chain([old], False)[0] == "#39 2026-01-01 00:00:00Z group db/g1 OPEN -> VACANT: process 1, its leader, ended"


def test_as_json_they_are_the_managers_own(manager: str) -> None:
    assert json.loads(typed(manager, "-o", "json")[1]) == LOG
    assert json.loads(typed(manager, "--why", "39", "-o", "json")[1]) == {"events": [LOG[1]], "trimmed": True}


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--why", "7"], 1, "There is no event 7 in the log."),
        (["--why", "x"], 2, "--why cannot be 'x'"),
        (["--limit", "0"], 2, "--limit cannot be '0'"),
        (["--why", "41", "--follow"], 2, "--why takes no --follow"),
        (["--db-name", "nothing"], 1, "There is no event"),
    ],
)
def test_bad_input_gets_one_sentence(manager: str, words: list[str], code: int, sentence: str) -> None:
    exit_code, out, err = typed(manager, *words)
    assert (exit_code, out) == (code, "")
    assert sentence in err


def test_following_goes_on_where_the_line_broke_until_interrupted(manager: str, tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DKV_")} | {"XDG_CONFIG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dkv.cli.main", "show", "events", "--limit", "1", "--follow", "--managers", manager]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline().startswith("#42 ")
        line = "#50 2026-01-01 00:00:00Z the manager of server s2 is away because its lease was not renewed"
        assert child.stdout.readline().startswith(line)
        out, err = interrupted(child)
    assert (child.returncode, out, err.strip().splitlines()[-1]) == (130, "", "Interrupted; nothing had been sent.")


def interrupted(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Ctrl-C as a person presses it: Python drops one that comes while it throws an object away, here the broken line's."""
    for _ in range(30):
        child.send_signal(signal.SIGINT)
        try:
            return child.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            continue
    child.kill()
    return child.communicate()
