"""A glance at an archive's files says when they were deleted under the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from dkv.engine.archive import write_identity
from dkv.engine.contract import Identity
from dkv.engine.positions import DiskWatch

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
