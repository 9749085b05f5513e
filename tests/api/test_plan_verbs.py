"""--plan of the verbs that keep a store going, against the real rules: what they print is what then happens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dkv.cli.output import Screen
from dkv.cli.recover import client_of, enforce_now
from dkv.cli.rehearse import rehearse
from dkv.cli.session import Session
from dkv.cli.upkeep import end_restart, restart_now, switch_over
from dkv.client import Endpoint, ManagerRefused, Reply, Request
from tests.api.furnished import Said, Stage, answered


class Through:
    """A transport that asks the furnished world."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.changes: list[str] = []

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        headers = tuple((name.encode(), text.encode()) for name, text in request.headers.items())
        said = Said(request.method, request.target.encode(), headers, request.body or b"")
        if request.method != "GET" and request.target != "/admin/v1/plan":
            self.changes.append(request.target)
        answer = self._stage.runner.run(answered(self._stage.world, said))
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


VERBS: dict[str, Callable[[Session], int]] = {
    "switchover": lambda session: switch_over(session, None, "OrdersStore", "", None),
    "switchover to": lambda session: switch_over(session, None, "OrdersStore", "UNPARTITIONED", 1),
    "restart": lambda session: restart_now(session, None, "OrdersStore", {"rolling": False, "force": False}, False),
    "rolling restart": lambda session: restart_now(session, None, "OrdersStore", {"rolling": True, "force": False}, False),
    "restart, not waited for": lambda session: restart_now(session, None, "OrdersStore", {"rolling": True, "force": True}, True),
}


def enforce(session: Session) -> int:
    client = client_of(session, None)
    told = {"store": "OrdersStore", "group": "UNPARTITIONED", "archiveId": 1}
    bound = client.leader_bound("OrdersStore", "UNPARTITIONED", 1)
    return enforce_now(session, client, {**told, "bound": bound}, allow_data_loss=True, reason="a test")


def events_after(stage: Stage, revision: int) -> list[tuple[str, str, str]]:
    async def read() -> list[tuple[str, str, str]]:
        found = [json.loads(one.text) for one in await stage.world.store.events(0, 10_000) if one.revision > revision]
        return [(one["kind"], one["subject"], one["because"]) for one in found]

    return stage.runner.run(read())


def revision(stage: Stage) -> int:
    return stage.runner.run(stage.world.store.read()).revision


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_of_maintenance_is_what_then_happens(stage: Stage, tmp_path: Path, verb: str) -> None:
    stage.runner.run(stage.world.put_back())
    before = revision(stage)
    planned, done = Through(stage), Through(stage)
    asks = session(stage, planned, tmp_path, as_json=True)
    assert rehearse(asks, lambda: VERBS[verb](asks)) == 0
    assert isinstance(asks.screen.out, io.StringIO)
    plan = json.loads(asks.screen.out.getvalue())
    assert (planned.changes, revision(stage), plan["changed"]) == ([], before, False)

    try:
        VERBS[verb](session(stage, done, tmp_path))
    except Enough:
        pass
    assert len(done.changes) == 1
    told = [(e["kind"], e["subject"], e["because"]) for one in plan["plan"] for e in one["events"]]
    assert told == events_after(stage, before) != []


NOES: dict[str, tuple[Callable[[Session], int], str]] = {
    "end of no restart": (lambda session: end_restart(session, None, "OrdersStore"), "restart"),
    "another leader where one serves": (enforce, "serving leader"),
}


@pytest.mark.parametrize("verb", NOES)
def test_a_plan_that_meets_a_no_says_why_and_changes_nothing(stage: Stage, tmp_path: Path, verb: str) -> None:
    stage.runner.run(stage.world.put_back())
    before, (run, why) = revision(stage), NOES[verb]
    asks = session(stage, Through(stage), tmp_path)
    with pytest.raises(ManagerRefused, match=why):
        rehearse(asks, lambda: run(asks))
    assert isinstance(asks.screen.out, io.StringIO)
    assert "refused: " in asks.screen.out.getvalue()
    assert revision(stage) == before
