"""What ended an engine is found missing while it is, and there when it is there again, on the real machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dkv.engine.contract import Cause
from dkv.engine.obstacles import Place, obstacle
from tests.disks import fill_up, small_disk


def missing(directory: Path, cause: Cause, ports: tuple[int, ...] = (), runs: str = "/tmp", binary: str | None = None) -> str:
    return obstacle(cause, Place(str(directory), runs, "127.0.0.1", ports, binary))


@pytest.mark.parametrize("full", ["archive", "run"])
def test_room_on_the_disk_of_the_archive_and_of_the_run_directory(tmp_path: Path, full: str) -> None:
    with small_disk(tmp_path / full, "16m") as disk:
        (tmp_path / "archive").mkdir(exist_ok=True)
        (tmp_path / "run").mkdir(exist_ok=True)
        ballast = fill_up(disk)
        assert "0 bytes are free" in missing(tmp_path / "archive", Cause.DISK_FULL, runs=str(tmp_path / "run"))
        ballast.unlink()
        assert missing(tmp_path / "archive", Cause.DISK_FULL, runs=str(tmp_path / "run")) == ""


def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        assert f"port {port}" in missing(tmp_path, Cause.PORT_TAKEN, (port,))
    assert missing(tmp_path, Cause.PORT_TAKEN, (port,)) == ""


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    assert missing(path, Cause.DIRECTORY_UNUSABLE) == "", "it can be made"
    path.write_text("a file")
    assert str(path) in missing(path, Cause.DIRECTORY_UNUSABLE)
    path.unlink()
    path.mkdir()
    (path / "appendonlydir").write_text("a file")
    assert "appendonlydir" in missing(path, Cause.DIRECTORY_UNUSABLE)


def test_the_program(tmp_path: Path) -> None:
    assert "nothing" in missing(tmp_path, Cause.BINARY_MISSING, binary=str(tmp_path / "nothing"))
    assert missing(tmp_path, Cause.BINARY_MISSING) == ""
