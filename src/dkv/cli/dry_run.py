"""CLI: --plan and -Plan: a command runs as always, but its changes are tried by a manager as a dry run and then printed.

Requests that only look pass through until the first change. From there on everything is sent as one growing plan
(`POST /admin/v1/plan`), so that the command sees what it would see and nothing is made true. Where a command would
begin to wait for something to happen, the plan ends: it has what is requested and what that makes true at once.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator

from dkv.cli.errors import DONE, FAILED
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import Endpoint, Json, Reply, Request, Transport

PLANNED = ("/admin/v1/", "/api/1/")
NOTHING_TO_DO = ("already_running", "already_stopping", "copy_ended")
"""Refusals that fail no command: what was asked for is so already."""


ORIGIN = ("now", "actor", "entry", "grants")  # fields that every command has


class DryRunEnd(Exception):
    """The command would wait now."""


class RecordingTransport:
    """A transport that changes nothing. `plan` is the steps so far, as the manager gave them."""

    def __init__(self, real: Transport) -> None:
        self._real = real
        self._endpoint: Endpoint | None = None
        self._steps: list[Json] = []
        self._turn = threading.Lock()  # with -Parallel several threads send
        self.plan: list[Json] = []

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        """Pass a look on; answer a change from the dry run."""
        ours = request.target.startswith(PLANNED)
        if not ours or not (request.changes() or self._steps):
            return self._real.send(endpoint, request, timeout)
        with self._turn:
            return self._planned(endpoint, request, timeout)

    def _planned(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        step: Json = {"method": request.method, "path": request.target}
        step["key"] = request.headers.get("Idempotency-Key", "")
        if request.body:
            step["body"] = json.loads(request.body)
        self._steps.append(step)
        self._endpoint = self._endpoint or endpoint
        return self._planned_reply(self._endpoint, timeout)

    def _planned_reply(self, endpoint: Endpoint, timeout: float) -> Reply:
        body = json.dumps({"steps": self._steps}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        reply = self._real.send(endpoint, Request("POST", "/admin/v1/plan", headers, body), timeout)
        if reply.status != 200:
            return reply
        self.plan = json.loads(reply.body)["steps"]
        last = self.plan[-1]
        answer = b"" if last["answer"] is None else json.dumps(last["answer"]).encode()
        return Reply(last["status"], {"content-type": "application/json"}, answer)

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        """Nothing that is followed belongs to a plan."""
        return self._real.stream(endpoint, request, timeout)


def dry_run(session: Session, run: Callable[[], int]) -> int:
    """Run a command without changing anything, then print what it would do. What it raises goes on to the caller."""
    recorder = RecordingTransport(session.transport)
    screen, sleep, transport = session.screen, session.sleep, session.transport
    session.transport, session.sleep = recorder, _end
    session.screen = Screen(io.StringIO(), screen.err, colour=False)
    code = DONE
    try:
        code = run()
    except DryRunEnd:
        pass
    finally:
        session.screen, session.sleep, session.transport = screen, sleep, transport
        session.sent.clear()
        _print(screen, recorder.plan)
    refusals = [command["refused"]["code"] for step in recorder.plan for command in step["commands"] if command["refused"]]
    return FAILED if any(refusal not in NOTHING_TO_DO for refusal in refusals) else code


def _end(seconds: float) -> None:
    raise DryRunEnd


def _print(screen: Screen, steps: list[Json]) -> None:
    commands = [command for step in steps for command in step["commands"]]
    if screen.as_json:
        screen.data({"plan": commands, "changed": False})
        return
    for number, command in enumerate(_once(commands), 1):
        screen.line(f"{number}. {command['command']}({_fields(command['fields'])})")
        if command["refused"]:
            screen.line(f"   refused: {command['refused']['detail']} {screen.hint_of(command['refused'])}".rstrip())
        for event in command["events"]:
            moved = f" {event['change']}" if event["change"] else f" {event['kind']}"
            screen.line(f"   {event['subject']}:{moved}, because {event['because']}")
    screen.note("Plan: nothing was changed." if commands else "Plan: nothing would be changed.")


def _once(commands: list[Json]) -> list[Json]:
    """A command that several managers were asked for and that is refused each time stands there once."""
    kept: dict[object, Json] = {}
    for number, command in enumerate(commands):
        refusal = command["refused"]
        same = (command["command"], _fields(command["fields"]), refusal["detail"]) if refusal else number
        kept.setdefault(same, command)
    return list(kept.values())


def _fields(fields: Json) -> str:
    """A command's fields as text, without time, origin and empty values."""
    shown = {name: value for name, value in fields.items() if name not in ORIGIN and value not in (None, "", [], {}, False)}
    return ", ".join(f"{name}={value}" for name, value in shown.items())
