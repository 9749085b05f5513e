"""dkv.files: which directories and files are ours, and that nothing is written through what somebody put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dkv import files
from tests.strangers import common_ground, does, needs_root


def refuses(path: Path | str, words: str) -> None:
    with pytest.raises(files.Unsafe) as no, files.directory(path):
        pass
    assert words in str(no.value.strerror)


def test_a_path_has_one_way_to_be_written(tmp_path: Path) -> None:
    refuses("archives", "does not begin with /")
    refuses(f"{tmp_path}/a/../b", "leads upwards")


def test_what_is_missing_is_made_private_with_all_above_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with files.directory(tmp_path / "a" / "b", make=True) as fd:
            assert os.path.samestat(os.fstat(fd), (tmp_path / "a" / "b").stat())
    finally:
        os.umask(old)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]


def test_a_file_on_the_way_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(NotADirectoryError), files.directory(tmp_path / "a" / "b", make=True):
        pass


def test_a_directory_of_a_private_group_is_as_good_as_one_without(tmp_path: Path) -> None:
    """Many systems give each user a group and the umask 002."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o775)
    os.chown(tmp_path / "a", -1, os.getegid())
    if files._only_member(os.geteuid(), os.getegid()):
        with files.directory(tmp_path / "a" / "b", make=True):
            pass
    else:
        refuses(tmp_path / "a" / "b", "others may write")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to a group it is not in")
def test_a_directory_of_another_group_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o775)
    os.chown(tmp_path / "a", -1, 65534)
    refuses(tmp_path / "a" / "b", f"others may write in {tmp_path}/a (mode 0775)")


def test_links_of_the_person_who_starts_us_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "way").symlink_to("disk")
    (tmp_path / "again").symlink_to(tmp_path / "way" / "data")
    assert files.without_links(tmp_path / "again" / "here") == tmp_path / "disk" / "data" / "here"
    assert files.without_links(Path("/")) == Path("/")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(files.Unsafe):
        files.without_links(tmp_path / "round")


@needs_root
def test_links_of_a_stranger_are_not() -> None:
    with common_ground() as ground:
        does("os.symlink('/etc', sys.argv[1])", ground / "way")
        with pytest.raises(files.Unsafe, match="symbolic link of user nobody"):
            files.without_links(ground / "way" / "dkv")


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert files.read_text(tmp_path / "file") == "text"
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError):
            files.read_text(tmp_path / name)


@needs_root
def test_a_file_of_a_stranger_is_not_read() -> None:
    with common_ground() as ground:
        does("open(sys.argv[1], 'w').write('his')", ground / "file")
        with pytest.raises(files.Unsafe):
            files.read_text(ground / "file")


def test_what_is_written_takes_the_place_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "prey").write_text("mine")
    (tmp_path / "name").symlink_to("prey")
    files.write_whole(tmp_path / "name", "new")
    assert (tmp_path / "prey").read_text() == "mine"
    assert (tmp_path / "name").read_text() == "new"
    assert not (tmp_path / "name").is_symlink()
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == 0o600


def test_what_cannot_be_written_whole_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(tmp_path / "name", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    assert (tmp_path / "name").read_text() == "old"


def test_only_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    for name in (f"{files.FRESH}0123", "LOCK", "new"):
        (tmp_path / name).write_text("")
    with files.directory(tmp_path) as fd:
        files.sweep(fd)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOCK", "new"]
