"""Tokens and logins at the command line: what makes no sense is refused before anything is sent or kept."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from dkv.cli.main import main

NOWHERE = ["--managers", "127.0.0.1:1"]


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("DKV_MANAGERS", "DKV_TOKEN", "DKV_TOKEN_FILE", "DKV_USER", "DKV_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "code"), [(t, 2) for t in ("1", "h", "-1h", "1w", "1.5h", "1234567s", "1 h", "\u0661h")] + [("2H", 1)]
)
def test_how_long_a_token_is_taken(text: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "token", "--role", "viewer", f"--expires={text}", *NOWHERE]) == code
    output = capsys.readouterr()
    assert "hint: " in output.err and not output.out
    assert ("is not a time that a token is taken" in output.err) == (code == 2)


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        (["--user", "ann", "--token-file", "x"], "", (2, "exclude each other")),
        (["--token-file", "/nowhere/token"], "", (2, "The token file /nowhere/token cannot be read")),
        ([], "", (1, "No secret was given")),
        ([], "canary canary\n", (2, "holds no token")),
        (["--user", "a:b"], "canary\n", (2, "has a colon")),
        ([], "canary\n", (1, "is not reachable")),
    ],
)
def test_a_login_that_cannot_be_keeps_nothing(
    words: list[str], typed: str, message: tuple[int, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, sentence = message
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["login", *words, *NOWHERE]) == code
    output = capsys.readouterr()
    assert sentence in output.err and "hint: " in output.err and "canary" not in output.out + output.err
    assert not list(Path(os.environ["XDG_CONFIG_HOME"]).iterdir())


def test_a_logout_without_a_login_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logout"]) == 0
    assert capsys.readouterr().out == "Nothing was kept.\n"


def test_a_credential_of_the_environment_that_cannot_be_one_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKV_TOKEN", "canary canary")
    for words in (["Get-DkvStore", "-Managers", "127.0.0.1:1"], ["show", "domain", *NOWHERE], ["show", "waiting", *NOWHERE]):
        assert main(words) in (1, 2)
        output = capsys.readouterr()
        assert "DKV_TOKEN holds no token" in output.out + output.err and "canary" not in output.out + output.err
