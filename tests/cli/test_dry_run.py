"""--plan and -Plan: nothing that changes leaves the program; what a manager answered to the dry run is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from dkv.cli import nouns
from dkv.cli.cmdlets import CMDLETS
from dkv.cli.dry_run import NOTHING_TO_DO, _print
from dkv.cli.output import Screen
from dkv.client import Endpoint, Reply, Request
from dkv.domain.refusals import CATALOGUE
from tests.cli.dialect import Dialect, process

LOOKS = ("get", "show", "check", "capture", "log", "status", "watch", "completion", "manual")
OWN_WAY_TO_ASK_FIRST = {
    "manager run": "becomes the manager",
    "manager stop": "ends a program, which is no command of the domain",
    "service install": "changes this machine, not the domain; --print shows what it would write",
    "service remove": "ends a program and forgets its service, which is no command of the domain",
    "playground": "is a domain of its own",
    "import": "refuses what it cannot copy before it writes; what it copies is at the source, which no plan of the domain reads",
    "shell": "its lines have -Plan of their own",
    "backup state": "writes a file and changes no domain",
    "restore state": "says what it found and asks, before anything is written",
    "create token": "answers a secret: one that a plan made would be good for nothing",
    "recover domain": "says what it found and asks, before anything is written",
    "rebuild state": "says what it found and asks, before anything is written",
}


class Rehearsing(Dialect):
    """It also takes plans: each step becomes one command, and answers as the table says."""

    refuses: str = ""
    code = "no"

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        if request.target != "/admin/v1/plan":
            return super().send(endpoint, request, timeout)
        steps = json.loads(request.body or b"")["steps"]
        self.plans = [*getattr(self, "plans", []), [(step["method"], step["path"]) for step in steps]]
        return Reply(200, {}, json.dumps({"revision": 1, "steps": [self._step(step) for step in steps]}).encode())

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(step["body"]).encode() if "body" in step else None
        reply = super().send(Endpoint("127.0.0.1", 7801), Request(step["method"], step["path"], {}, body), 1)
        self.log.pop()  # asked in a dry run: it was not sent
        events = [
            {
                "kind": "process.stopping",
                "subject": "process 0",
                "change": "MONITORED -> REQUESTED_SHUTDOWN",
                "because": "it was asked for",
                "database": "test",
            }
        ]
        no = {"code": self.code, "detail": "No.", "hint": "Ask another."}
        refused = no if self.refuses and self.refuses in step["path"] else None
        answer = {
            "command": "Told",
            "fields": {"now": 5, "actor": "me", "path": step["path"], "force": False},
            "events": [] if refused else events,
            "refused": refused,
        }
        commands = [] if step["method"] == "GET" else [answer]
        answer = json.loads(reply.body) if reply.body else None
        return {**step, "status": reply.status, "answer": answer, "commands": commands}


def test_a_plan_looks_for_real_and_changes_nothing(tmp_path: Path) -> None:
    drained = {"startIds": ["1", "0"]}
    manager = Rehearsing({"GET /processes": [process(0), process(1, "TE")], "DELETE /peers/server0/processes": drained})
    output = manager.runs(tmp_path, "shutdown server-processes --server-id server0 --plan")
    assert output.code == 0
    assert manager.changes() == []
    assert output.out.splitlines() == [
        "1. Told(path=/api/1/peers/server0/processes?kill=false&evict=false&force=false)",
        "   process 0: MONITORED -> REQUESTED_SHUTDOWN, because it was asked for",
    ]
    assert output.err == "Plan: nothing was changed.\n"
    assert [len(plan) for plan in manager.plans] == [1, 2], "after the first change looks are planned too, until it would wait"


def test_a_plan_as_json(tmp_path: Path) -> None:
    manager = Rehearsing({"DELETE /archives/1": {"id": 1}})
    answer = json.loads(manager.runs(tmp_path, "delete archive --archive-id 1 --plan -o json").out)
    assert answer["changed"] is False
    assert [step["command"] for step in answer["plan"]] == ["Told"]


def test_a_plan_that_meets_a_no_says_so_and_fails(tmp_path: Path) -> None:
    manager = Rehearsing({"DELETE /archives/1": {"id": 1}})
    manager.refuses = "archives"
    output = manager.runs(tmp_path, "delete archive --archive-id 1 --plan")
    assert output.code == 1
    assert "   refused: No. Ask another." in output.out
    assert manager.changes() == []


def test_what_each_manager_refuses_in_the_same_words_stands_there_once() -> None:
    no = {"code": "database_running", "detail": "It runs.", "hint": "", "hintParts": []}
    refused = {"command": "DeleteDatabase", "fields": {"name": "orders", "actor": "s1"}, "events": [], "refused": no}
    other = refused | {"fields": {"name": "ledger"}}
    accepted = refused | {"refused": None}
    plan = [{"commands": [refused, refused | {"fields": {"name": "orders", "actor": "s2"}}, other, accepted, accepted]}]
    screen = Screen(io.StringIO(), io.StringIO())
    _print(screen, plan)
    assert screen.out.getvalue().count("refused: It runs.") == 2
    assert screen.out.getvalue().count("DeleteDatabase(name=orders)") == 3


def test_without_plan_the_change_is_sent(tmp_path: Path) -> None:
    manager = Rehearsing({"DELETE /archives/1": {"id": 1}})
    manager.runs(tmp_path, "delete archive --archive-id 1")
    assert [path for _, path, _, _ in manager.changes()] == ["/archives/1"]


@pytest.mark.parametrize("verb", nouns.everything(), ids=lambda command: command.name)
def test_every_verb_that_changes_can_be_planned(verb: Any) -> None:
    plannable = any(param.name == "--plan" for param in verb.params)
    looks = verb.name.startswith(LOOKS) and verb.name != "get token"  # it makes one
    assert plannable != (looks or verb.name in OWN_WAY_TO_ASK_FIRST)


def test_whoever_asks_first_in_another_way_is_there() -> None:
    assert all(nouns.find(name) for name in OWN_WAY_TO_ASK_FIRST)


@pytest.mark.parametrize("cmdlet", CMDLETS, ids=lambda command: command.name)
def test_every_cmdlet_that_changes_a_store_can_be_planned(cmdlet: Any) -> None:
    plannable = any(param.name == "Plan" for param in cmdlet.params)
    assert plannable == cmdlet.name.startswith(("New-", "Add-", "Set-", "Start-", "Stop-", "Remove-"))


def test_what_is_so_already_fails_no_plan_as_it_fails_no_command(tmp_path: Path) -> None:
    assert set(NOTHING_TO_DO) == {code for code, entry in CATALOGUE.items() if entry.exit_code == 0}
    manager = Rehearsing({"DELETE /processes/0": {}, "GET /processes": []})
    manager.refuses = "processes"
    for manager.code, code in (("already_stopping", 0), ("below_min_in_sync", 1)):
        assert manager.runs(tmp_path, "shutdown process --start-id 0 --plan").code == code
