"""Whom a rebuilt database lets in: of several copies that differ, none that is older opens the store or brings a user back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.domain.model import PositionReport
from dkv.domain.rebuild import FoundArchive
from dkv.engine.contract import EngineUser, EngineUsers
from dkv.engine.users import users_acl
from dkv.recovery.find import users_of
from tests.domain.test_rebuild import archive
from tests.engine.test_config import SPEC

ADA, EVE = EngineUser("ada", ("a" * 64,)), EngineUser("eve", ("e" * 64,))


def copy(directory: Path, number: int, sequence: int, users: EngineUsers, written: int) -> FoundArchive:
    """An archive of database o whose engine let these users in; `written`: when its file was, in s."""
    place = directory / str(number)
    place.mkdir()
    (place / "users.acl").write_text(users_acl(replace(SPEC, users=users)))
    os.utime(place / "users.acl", (written, written))
    return archive(number, PositionReport(1, sequence, "n", 0), directory=str(place))


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_users_of_the_newest_position_are_taken_and_a_closed_store_stays_closed(tmp_path: Path, newest_first: bool) -> None:
    copies = [
        copy(tmp_path, 0, 9, EngineUsers(False, (ADA,)), 1),
        copy(tmp_path, 1, 5, EngineUsers(True, (ADA, EVE)), 2),  # it ended before eve was deleted and the store was closed
    ]
    (users,) = users_of(copies if newest_first else copies[::-1]).values()
    assert users == EngineUsers(False, (ADA,))


def test_of_equal_positions_the_newest_file_is_taken_and_what_any_says_of_closing(tmp_path: Path) -> None:
    copies = [copy(tmp_path, 0, 9, EngineUsers(False, (ADA,)), 1), copy(tmp_path, 1, 9, EngineUsers(True, (ADA, EVE)), 2)]
    assert users_of(copies)["o"] == EngineUsers(False, (ADA, EVE))


def test_a_file_that_says_nothing_useful_is_read_past(tmp_path: Path) -> None:
    copies = [copy(tmp_path, 0, 9, EngineUsers(False, (ADA,)), 1)]
    with (tmp_path / "0" / "users.acl").open("a") as file:
        file.write("\nuser\n\n")
    assert users_of(copies)["o"] == EngineUsers(False, (ADA,))
