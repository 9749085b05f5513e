"""--plan of the verbs that keep a store going, against the real rules: what they print is what then happens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dkv.cli import nouns
from dkv.cli.binding import bind, from_argv
from dkv.cli.dry_run import dry_run
from dkv.cli.nouns import maintenance
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import Endpoint, ManagerRefused, Reply, Request
from tests.api.furnished import Said, Stage, answered


class Through:
    """A transport that asks the furnished world."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.changes: list[str] = []

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        headers = tuple((name.encode(), text.encode()) for name, text in request.headers.items())
        asgi_request = Said(request.method, request.target.encode(), headers, request.body or b"")
        if request.method != "GET" and request.target != "/admin/v1/plan":
            self.changes.append(request.target)
        answer = self._stage.runner.run(answered(self._stage.world, asgi_request))
        return Reply(answer.status_code, dict(answer.headers), answer.content)

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        raise NotImplementedError


class Enough(Exception):
    """Nobody moves in this world, so nothing is waited for."""


def session(stage: Stage, transport: Through, home: Path, *, as_json: bool = False) -> Session:
    screen = Screen(io.StringIO(), io.StringIO())
    screen.as_json = as_json
    environ = {"XDG_CONFIG_HOME": str(home), "DKV_MANAGERS": "127.0.0.11:7801"}

    def sleep(seconds: float) -> None:
        raise Enough

    return Session(screen, environ, transport, sleep=sleep)


def typed(name: str, *words: str) -> Callable[[Session], int]:
    """A verb as somebody types it, without --plan."""
    verb = nouns.find(name)
    assert verb
    code = {
        "switchover database": maintenance.switchover,
        "restart database": maintenance.restart,
        "enforce leader": maintenance.enforce_leader,
    }[name]
    bound = bind(verb, from_argv(["--db-name", "OrdersStore", *words]), {})
    return lambda session: code(session, bound)


VERBS: dict[str, Callable[[Session], int]] = {
    "switchover": typed("switchover database"),
    "switchover to": typed("switchover database", "--group", "UNPARTITIONED", "--to", "1"),
    "restart": typed("restart database"),
    "rolling restart": typed("restart database", "--rolling"),
    "restart, not waited for": typed("restart database", "--rolling", "--force", "--no-wait"),
}


def events_after(stage: Stage, revision: int) -> list[tuple[str, str, str]]:
    async def read() -> list[tuple[str, str, str]]:
        events = [json.loads(event.text) for event in await stage.world.store.events(0, 10_000) if event.revision > revision]
        return [(event["kind"], event["subject"], event["because"]) for event in events]

    return stage.runner.run(read())


def revision(stage: Stage) -> int:
    return stage.runner.run(stage.world.store.read()).revision


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_of_maintenance_is_what_then_happens(stage: Stage, tmp_path: Path, verb: str) -> None:
    stage.runner.run(stage.world.put_back())
    before = revision(stage)
    planned, done = Through(stage), Through(stage)
    asks = session(stage, planned, tmp_path, as_json=True)
    assert dry_run(asks, lambda: VERBS[verb](asks)) == 0
    assert isinstance(asks.screen.out, io.StringIO)
    plan = json.loads(asks.screen.out.getvalue())
    assert (planned.changes, revision(stage), plan["changed"]) == ([], before, False)

    try:
        VERBS[verb](session(stage, done, tmp_path))
    except Enough:
        pass
    assert len(done.changes) == 1
    events = [(e["kind"], e["subject"], e["because"]) for step in plan["plan"] for e in step["events"]]
    assert events == events_after(stage, before) != []


NOES: dict[str, tuple[Callable[[Session], int], str]] = {
    "end of no restart": (typed("restart database", "--stop"), "restart"),
    "another leader where one serves": (
        typed("enforce leader", "--archive-id", "1", "--allow-data-loss", "--reason", "a test"),
        "serving leader",
    ),
}


@pytest.mark.parametrize("verb", NOES)
def test_a_plan_that_meets_a_no_says_why_and_changes_nothing(stage: Stage, tmp_path: Path, verb: str) -> None:
    stage.runner.run(stage.world.put_back())
    before, (run, why) = revision(stage), NOES[verb]
    asks = session(stage, Through(stage), tmp_path)
    with pytest.raises(ManagerRefused, match=why):
        dry_run(asks, lambda: run(asks))
    assert isinstance(asks.screen.out, io.StringIO)
    assert "refused: " in asks.screen.out.getvalue()
    assert revision(stage) == before
