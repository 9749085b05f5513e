"""A glance at an archive's files says when they were deleted under the engine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dkv.engine.archive import write_identity
from dkv.engine.contract import Identity
from dkv.engine.positions import DiskWatch, free_bytes

WHO = Identity("domain", "orders", 0, "uid", "g1")


def test_an_archive_that_is_deleted_under_its_engine_is_seen_to_be_lost(tmp_path: Path) -> None:
    directory = tmp_path / "orders-1"
    directory.mkdir()
    write_identity(str(directory), WHO, True)
    watch = DiskWatch(str(directory))
    assert not watch.look().lost
    shutil.rmtree(directory)
    assert watch.look().lost


def test_a_file_in_the_place_of_an_archive_is_a_loss_too(tmp_path: Path) -> None:
    place = tmp_path / "orders-1"
    place.write_text("not a directory")
    assert DiskWatch(str(place)).look().lost


def test_free_space_is_told_a_little_too_small_and_seldom_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write to the same disk every moment, which is no news of this engine."""

    def scenario(free: int) -> int:
        monkeypatch.setattr(os, "statvfs", lambda directory: SimpleNamespace(f_bavail=free, f_frsize=1))
        return free_bytes(str(tmp_path))

    for free in (0, 1, 100, 12_345, 10**9, 10**12 + 7):
        assert free - free / 64 <= scenario(free) <= free
    assert scenario(10**12) == scenario(10**12 + 10**6)
