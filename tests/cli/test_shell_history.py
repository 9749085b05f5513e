"""What is typed into the shell may hold a password, so no other user may read its history."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from dkv.cli.shell import prompter


@pytest.mark.parametrize("older", [False, True])
def test_the_history_is_for_its_owner_only(tmp_path: Path, older: bool) -> None:
    old = os.umask(0o022)
    try:
        if older:
            (tmp_path / "history").write_text("")
        with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
            typed.send_text("create database --dba-password secret\n")
            assert prompter(str(tmp_path), lambda text: [])("> ").startswith("create")
    finally:
        os.umask(old)
    assert "secret" in (tmp_path / "history").read_text()
    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o600
