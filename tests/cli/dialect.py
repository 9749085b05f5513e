"""A manager that speaks the NuoDB dialect from a table of answers, for tests of the verbs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dkv.cli.binding import from_argv
from dkv.cli.cmdlets import run_cmdlet
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import Endpoint, Reply, Request
from tests.cli.conftest import Output
from tests.cli.fake import Clock

Json = dict[str, Any]
Answer = Any | Callable[[Json], Any]


class Dialect:
    """`answers` is by "METHOD /path" below /api/1; a list is given in pages of two, a callable gets the query and body."""

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        self.answers = {"GET /peers": [server("server0", local=True)], **(answers or {})}
        self.clock = Clock()
        self.on_request: Callable[[Request], None] = lambda request: None
        self.log: list[tuple[str, str, Json, Json | None]] = []

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        self.on_request(request)
        if request.target == "/admin/v1/plan":
            return self._at_once(json.loads(request.body or b"")["steps"])
        return self._answered(request)

    def _answered(self, request: Request) -> Reply:
        parts = urlsplit(request.target)
        path = unquote(parts.path).removeprefix("/api/1")
        query = {name: values if len(values) > 1 else values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(request.body) if request.body else None
        self.log.append((request.method, path, query, body))
        answer = self.answers.get(f"{request.method} {path}", No(404, f"There is nothing at {path}."))
        if callable(answer):
            answer = answer({"query": query, "body": body})
        if isinstance(answer, No):
            return Reply(answer.status, {}, json.dumps(answer.body).encode())
        if isinstance(answer, list):
            at = int(query.get("offset", 0))
            answer = {"data": answer[at : at + 2], "hasNext": at + 2 < len(answer)}
        return Reply(200, {}, b"" if answer is None else json.dumps(answer).encode())

    def _at_once(self, steps: list[Json]) -> Reply:
        """Each of several requests; lists are whole."""
        answers = []
        for step in steps:
            reply = self._answered(Request(step["method"], step["path"], {}))
            answer = json.loads(reply.body)
            known = self.answers.get(f"{step['method']} {urlsplit(step['path']).path.removeprefix('/api/1')}")
            if isinstance(known, list):
                answer = {"data": known, "hasNext": False}
            answers.append({"status": reply.status, "answer": answer, "commands": []})
        return Reply(200, {}, json.dumps({"revision": 1, "steps": answers}).encode())

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        raise NotImplementedError

    def changes(self) -> list[tuple[str, str, Json, Json | None]]:
        """What was sent that could change something."""
        return [request for request in self.log if request[0] != "GET"]

    def runs(self, home: Path, line: str, *more: str) -> Output:
        """One command line; `more` are words with blanks in them."""
        screen = Screen(io.StringIO(), io.StringIO())
        session = Session(screen, {"XDG_CONFIG_HOME": str(home)}, self, sleep=self.clock.sleep, clock=self.clock)
        words = [*line.split(), *more]
        code = run_cmdlet(session, " ".join(words[:2]), from_argv(words[2:]))
        assert isinstance(screen.out, io.StringIO)
        assert isinstance(screen.err, io.StringIO)
        return Output(code, screen.out.getvalue(), screen.err.getvalue())


class No:
    """A refusal in the dialect's shape."""

    def __init__(self, status: int, message: str, hint: str = "Look again.") -> None:
        self.status = status
        self.body = {"code": status, "messages": [f"{message} {hint}"], "reason": "no", "detail": message, "hint": hint}


def server(name: str, *, local: bool = False, state: str = "Connected", leader: str | None = "server0", index: int = 7) -> Json:
    return {
        "id": name,
        "address": f"{name}:7801",
        "isLocal": local,
        "isEvicted": False,
        "connectedState": {"state": state},
        "localRoleInfo": {
            "role": "LEADER" if name == leader else "FOLLOWER",
            "lifeCycle": "ACTIVE",
            "leaderServerId": leader,
            "localPeerTermIndexInfo": {"logLastTerm": 1, "commitIndex": index, "logLastIndex": index},
        },
    }


def process(
    start_id: int, kind: str = "SM", where: str = "server0", durable: str = "MONITORED", engine: str = "RUNNING", **more: object
) -> Json:
    answers: Json = {
        "startId": str(start_id),
        "dbName": "test",
        "host": where,
        "type": kind,
        "durableState": durable,
        "state": engine,
        "regionName": "Default",
        "options": {},
        "labels": {},
    }
    if durable in ("MONITORED", "REQUESTED_SHUTDOWN"):
        answers |= {"hostname": where, "port": 7861 + start_id, "pid": 100 + start_id, "nodeId": 1 + start_id, "lastHeardFrom": 5}
    if kind == "SM":
        answers["archiveId"] = start_id
    return answers | more


def database(state: str = "RUNNING", major: int = 1, minor: int = 0, name: str = "test") -> Json:
    return {
        "name": name,
        "state": state,
        "incarnation": {"major": major, "minor": minor},
        "defaultRegionId": 0,
        "hostAssignments": {},
        "databaseOptions": {},
    }


def ended(start_id: int, major: int = 1, minor: int = 1, reason: str = "Gracefully shutdown engine", code: int = 0) -> Json:
    gone = process(start_id, durable="REQUESTED_SHUTDOWN", engine="SHUTTING_DOWN")
    return {"process": gone, "databaseIncarnation": {"major": major, "minor": minor}, "reason": reason, "exitCode": code}


def archive(archive_id: int, state: str = "RUNNING", where: str = "server0") -> Json:
    return {
        "id": archive_id,
        "dbName": "test",
        "host": where,
        "path": f"/a/{archive_id}",
        "state": state,
        "observerStorageGroups": [],
    }
