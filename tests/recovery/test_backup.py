"""The backup file: whole or not at all, for its owner only, and one clear sentence about a file that is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dkv.domain.decision import Event
from dkv.domain.model import Server, State
from dkv.recovery import RecoveryError, plan_restore, read_backup, read_state, write_backup
from dkv.recovery.backup import write_state
from dkv.store import codec

STATE = State(uid="d", next_start_id=7, servers={"s1": Server("s1", "u", "127.0.0.1", 7801, 8888, "b")})


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    write_backup(tmp_path / "b", {"uid": "d", "revision": 9, "records": codec.encode(STATE)})
    return tmp_path / "b"


def trouble(path: Path) -> str:
    with pytest.raises(RecoveryError) as raised:
        read_backup(path)
    return raised.value.message


def test_what_was_written_is_read(backup: Path) -> None:
    assert read_backup(backup) == STATE


def test_only_its_owner_may_read_it(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_newer_backup_takes_the_place_of_an_older_one(backup: Path) -> None:
    write_backup(backup, {"uid": "d", "revision": 10, "records": codec.encode(State(uid="d", next_start_id=8))})
    assert read_backup(backup).next_start_id == 8


def test_a_file_that_was_cut_off_says_how_far_it_goes(backup: Path) -> None:
    lines = backup.read_text().splitlines(keepends=True)
    backup.write_text("".join(lines[:-1])[:-9])
    assert "ends early, after 1 of 2 records" in trouble(backup)


def test_a_backup_of_another_version_is_refused(backup: Path) -> None:
    head, *rest = backup.read_text().splitlines(keepends=True)
    backup.write_text("".join([json.dumps({**json.loads(head), "version": 1}) + "\n", *rest]))
    assert "was written by another version of dkv" in trouble(backup)


def test_an_altered_file_is_not_believed(backup: Path) -> None:
    backup.write_text(backup.read_text().replace("127.0.0.1", "127.0.0.2"))
    assert "was altered" in trouble(backup)


@pytest.mark.parametrize("text", ["", "hello\n", '{"dkv": 1}\n', "[]\n"])
def test_a_strange_file_is_no_backup(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    assert "is not a backup" in trouble(tmp_path / "x")


def test_a_state_that_cannot_be_read_back_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(RecoveryError, match="cannot be used"):
        write_backup(tmp_path / "b", {"uid": "d", "revision": 1, "records": {"server/s1": "{}"}})
    assert not (tmp_path / "b").exists()


def test_a_state_file_is_read_without_a_manager_and_never_made_by_that(tmp_path: Path) -> None:
    with pytest.raises(RecoveryError, match="There is no state file"):
        read_state(f"sqlite:{tmp_path / 'none'}")
    assert not (tmp_path / "none").exists()
    write_state(tmp_path / "state", STATE, Event("domain.recovered", "domain d", "because"), "token")
    assert read_state(f"sqlite:{tmp_path / 'state'}")["records"] == codec.encode(STATE)


def test_a_state_that_is_there_is_not_written_over(backup: Path, tmp_path: Path) -> None:
    plan = plan_restore(backup, f"sqlite:{tmp_path / 'state'}")
    plan.write()
    with pytest.raises(RecoveryError, match="is not overwritten"):
        plan_restore(backup, f"sqlite:{tmp_path / 'state'}")
    with pytest.raises(RecoveryError, match="is not overwritten"):
        plan.write()
