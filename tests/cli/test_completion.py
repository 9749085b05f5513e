"""Completion of command lines, the manual page, and logs: what a person has at the keyboard beside the commands."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dkv.cli import nouns
from dkv.cli.binding import from_argv
from dkv.cli.cmdlets import CMDLETS, run_cmdlet
from dkv.cli.completion import FILES, SCRIPTS, VALUES, asked, candidates
from dkv.cli.logs import readable
from dkv.cli.main import main
from dkv.cli.manual import page
from dkv.cli.output import Screen
from dkv.cli.session import Session
from tests.cli.conftest import Output, Person
from tests.cli.dialect import Dialect
from tests.cli.fake import FakeDomain

NAMES = {"stores": ["orders", "ledger"], "servers": ["s1", "s2"], "processes": ["7\torders-1"]}


def offered(line: str) -> list[str]:
    """What is offered at the end of a line, without what it is."""

    def ask(kind: str, store: str) -> list[str]:
        return [f"{store}-1", f"{store}-2"] if kind == "instances" else NAMES[kind]

    return [word.partition("\t")[0] for word in candidates(line.split(" ")[1:], ask)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dkv sta", ["status", "start", "Start-DkvStore"]),
        ("dkv get-dkv", ["Get-DkvStore"]),
        ("dkv show da", ["database", "database-users", "dashboard"]),
        ("dkv help show wai", ["waiting"]),
        ("dkv show waiting --d", ["--db-name"]),
        ("dkv show waiting --db-name ", ["orders", "ledger"]),
        ("dkv show waiting --db-name l", ["ledger"]),
        ("dkv show waiting --db-name orders --db", []),
        ("dkv Start-DkvStore ", ["orders", "ledger"]),
        ("dkv Start-DkvStore orders ", ["orders-1", "orders-2"]),
        ("dkv Start-DkvStore -Name orders ", ["orders-1", "orders-2"]),
        ("dkv Start-DkvStore -Plan orders -InstanceName ", ["orders-1", "orders-2"]),
        ("dkv New-DkvStore -Name ", []),
        ("dkv get server-config --server-id ", ["s1", "s2"]),
        ("dkv create database --te-server-ids s1 s", ["s1", "s2"]),
        ("dkv logs --start-id ", ["7"]),
        ("dkv show events -o ", ["text", "json", "table"]),
        ("dkv completion ", ["bash", "zsh", "fish"]),
        ("dkv manager run --config /etc/d", [FILES]),
        ("dkv nonsense ", []),
        ("dkv show nonsense ", []),
    ],
)
def test_what_may_stand_there_is_offered(line: str, words: list[str]) -> None:
    assert sorted(offered(line)) == sorted(words)


def test_every_parameter_that_is_completed_is_one_of_a_command() -> None:
    known = {param.name for command in (*CMDLETS, *nouns.everything()) for param in command.params}
    assert set(VALUES) <= known


def test_names_come_from_a_manager_and_one_that_is_silent_is_not_spoken_of(domain: FakeDomain, person: Person) -> None:
    assert person.types("Connect-DkvManager 127.0.0.11; New-DkvStore Orders orders -InstanceCount 2").code == 0
    session = person.shell
    assert asked(session, "stores", "") == ["Orders\tStopped"]
    assert [name.partition("\t")[0] for name in asked(session, "instances", "Orders")] == ["orders-1", "orders-2"]
    assert asked(session, "servers", "")
    nobody = Session(Screen(io.StringIO(), io.StringIO()), {"DKV_MANAGERS": "127.0.0.1:1"})
    assert asked(nobody, "stores", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_one_that_it_reads(capsys: pytest.CaptureFixture[str], shell: str, tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == SCRIPTS[shell]
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here to read it")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    ended = subprocess.run([program, "-n", str(script)], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_what_the_program_offers(tmp_path: Path) -> None:
    dkv = tmp_path / "dkv"
    dkv.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dkv.cli.main "$@"\n')
    dkv.chmod(0o755)
    line = f'COMP_WORDS=({dkv} show da); COMP_CWORD=2; _dkv {dkv}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    environ = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    ended = subprocess.run(
        ["bash", "-c", SCRIPTS["bash"] + line], capture_output=True, text=True, timeout=20, check=True, env=environ
    )
    assert sorted(ended.stdout.split()) == ["dashboard", "database", "database-users"]


# The manual page -----------------------------------------------------------------------------------------------------


def test_the_manual_page_has_every_command_and_no_line_that_roff_takes_for_another_thing() -> None:
    lines = list(page())
    for command in (*CMDLETS, *nouns.everything()):
        assert f'.SS "dkv {command.name.replace("-", chr(92) + "-")}"' in lines
    requests = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".I", ".RI", ".RB", ".br"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_groff_sets_the_manual_page_without_a_warning() -> None:
    ended = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input="\n".join(page()) + "\n", capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stderr == ""
    assert "dkv show waiting" in re.sub(".\b", "", ended.stdout)


# Logs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            '{"event": "server.joined", "level": "info", "timestamp": "2026-11-29T10:00:00.123Z", "because": "it is here"}',
            "2026-11-29T10:00:00Z info    server.joined because='it is here'",
        ),
        ("1:M 29 Nov 2026 * Ready", "1:M 29 Nov 2026 * Ready"),
        ('{"no": "event"}', '{"no": "event"}'),
        ("{torn", "{torn"),
    ],
)
def test_a_managers_line_is_shown_as_a_person_reads_it(line: str, shown: str) -> None:
    assert readable(line) == shown


def part(*lines: str) -> dict[str, Any]:
    return {"server": "s1", "name": "manager.log", "lines": list(lines), "next": f"1-{len(lines)}"}


def runs(manager: Dialect, home: Path, *words: str) -> Output:
    """`dkv logs` with these words."""
    screen = Screen(io.StringIO(), io.StringIO())
    session = Session(screen, {"XDG_CONFIG_HOME": str(home)}, manager, sleep=manager.clock.sleep, clock=manager.clock)
    code = run_cmdlet(session, "logs", from_argv(words))
    assert isinstance(screen.out, io.StringIO) and isinstance(screen.err, io.StringIO)
    return Output(code, screen.out.getvalue(), screen.err.getvalue())


def test_a_log_is_shown_and_followed_from_where_the_last_answer_ended(tmp_path: Path) -> None:
    asked_after: list[object] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked_after.append(request["query"].get("after"))
        if len(asked_after) > 2:
            raise KeyboardInterrupt
        return part("one") if len(asked_after) == 1 else part("two", "three")

    manager = Dialect({"GET /admin/v1/logs": answer, "GET /readyz": {"status": "ready", "waiting": []}})
    followed = runs(manager, tmp_path, "-f")
    assert followed.out == "one\ntwo\nthree\n"
    assert asked_after == [None, "1-1", "1-2"]


def test_the_log_of_a_process_that_never_was_is_refused(tmp_path: Path) -> None:
    answers = {"GET /admin/v1/processes": {"processes": []}, "GET /admin/v1/tombstones": {"tombstones": []}}
    refused = runs(Dialect({**answers, "GET /readyz": {}}), tmp_path, "--start-id", "9")
    assert refused.code == 1
    assert refused.err.startswith("There is no process 9, and no tombstone of one.")
