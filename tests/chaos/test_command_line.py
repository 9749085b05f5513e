"""The command line of the chaos run, as far as it starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import main


def test_a_schedule_is_printed_with_the_numbers_that_only_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--minutes", "2", "--print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and lines[0].split()[0] == "1"
    assert main(["--seed", "7", "--minutes", "2", "--print", "--only", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[1:] == lines[1].split()[1:]


def test_a_schedule_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedule", str(tmp_path / "none")]) == 2
    assert "cannot be played" in capsys.readouterr().err
