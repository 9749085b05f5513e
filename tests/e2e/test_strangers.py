"""Another user of the machine drives a manager's API, which asks nobody who he is, and gets at no file of its user."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.config import Settings
from dkv.constants import MANAGER_LOCK
from dkv.manager import ManagerError
from dkv.stop_manager import stop
from tests.e2e.local_domain import LocalDomain, ManagerRefused, local_domain, refused, wait_for
from tests.strangers import common_ground, does, needs_root, snapshot, their_directory


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("strangers"), servers=2) as running_domain:
        yield running_domain


@pytest.fixture
def ground() -> Iterator[Path]:
    with common_ground() as place:
        yield place


def create(domain: LocalDomain, database: str, path: Path, manager: int = 0) -> int:
    """An archive on s1, over the API, as anybody on the machine can; its id."""
    body = {"dbName": database, "host": "s1", "path": str(path)}
    reply = domain.managers[manager].client.request("POST", "/api/1/archives", body=body)
    return int(json.loads(reply.body)["id"])


def elsewhere(domain: LocalDomain, database: str, path: Path) -> int:
    """Through the other manager, which cannot see the directory."""
    return create(domain, database, path, manager=1)


def bundle(domain: LocalDomain) -> dict[str, str]:
    answer = domain.client.request("GET", "/api/1/diagnostics/logs")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as packed:
        return {name: packed.read(name).decode("utf-8", "replace") for name in packed.namelist()}


@needs_root
def test_the_support_bundle_holds_no_file_that_a_stranger_pointed_at(domain: LocalDomain, tmp_path: Path, ground: Path) -> None:
    """Through the other manager, which cannot see the directory when the archive is created."""
    (tmp_path / "shadow").write_text("root:secret-hash")
    theirs = their_directory(ground)
    plant = "for name in ('x.log', 'previous-engine.log'): os.symlink(sys.argv[2], f'{sys.argv[1]}/{name}')"
    does(plant, theirs, tmp_path / "shadow")
    elsewhere(domain, "log", theirs)
    archive = bundle(domain)
    assert "s1/manager.log" in archive
    assert not [name for name, text in archive.items() if "secret-hash" in text]


@needs_root
def test_a_directory_of_a_stranger_is_no_archive(domain: LocalDomain, ground: Path) -> None:
    """Said at once by the manager of that machine; said by the end of its process where only that could look."""
    theirs = their_directory(ground)
    with domain.unchanged(), pytest.raises(ManagerRefused) as no:
        create(domain, "a", theirs)
    assert "belongs to user nobody" in no.value.message
    assert no.value.hint
    elsewhere(domain, "a", theirs)
    before = snapshot(theirs)
    domain.dkv("create", "database", "--db-name", "a", "--dba-user", "dba", "--dba-password", "x", managers=None)
    tombstone = wait_for("its end", lambda: next(iter(domain.client.tombstones("a")), None))
    assert tombstone is not None
    assert tombstone["cause"] == "directory not safe"
    assert "belongs to user nobody" in str(tombstone)
    assert snapshot(theirs) == before
    domain.dkv("shutdown", "database", "--db-name", "a")


def test_a_directory_with_other_things_in_it_is_refused_at_once(domain: LocalDomain, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("everybody's")
    with domain.unchanged():
        output = domain.dkv("create", "archive", "--db-name", "b", "--server-id", "s1", "--archive-path", str(tmp_path / "etc"))
    refused(output, "is not empty", "passwd")


def test_a_purge_renames_no_directory_that_was_never_an_archive(domain: LocalDomain, tmp_path: Path) -> None:
    """The other manager cannot know what is there; the one that would rename it does."""
    (tmp_path / "etc").mkdir(mode=0o755)
    (tmp_path / "etc" / "passwd").write_text("everybody's")
    before = snapshot(tmp_path / "etc")
    archive = elsewhere(domain, "c", tmp_path / "etc")
    domain.client.request("DELETE", f"/api/1/archives/{archive}?purge=true")
    removed = "/api/1/archives?removed=true"
    wait_for(
        "forgotten",
        lambda: all(listed["id"] != archive for listed in json.loads(domain.client.request("GET", removed).body)["data"]),
    )
    assert snapshot(tmp_path / "etc") == before
    assert [path.name for path in tmp_path.iterdir()] == ["etc"]


@pytest.mark.parametrize("bad", ["/srv/\x1b]0;x\x07", "/srv/a\nb", "/srv/\u202egnp"])
def test_a_path_that_could_move_a_terminal_is_refused(domain: LocalDomain, bad: str) -> None:
    with domain.unchanged(), pytest.raises(ManagerRefused) as no:
        create(domain, "d", Path(bad))
    assert "cannot be printed" in no.value.message
    assert no.value.message.isprintable()


# Ending a manager ----------------------------------------------------------------------------------------------------


def held(directory: Path, pid: int) -> int:
    """A data directory whose lock this process holds, and which says that another one is its manager."""
    directory.mkdir(exist_ok=True)
    fd = os.open(directory / MANAGER_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, json.dumps({"pid": pid, "serverId": "s", "bind": "127.0.0.1", "port": 1}).encode())
    return fd


def test_no_process_is_signalled_because_a_file_names_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        fd = held(tmp_path / "data", bystander.pid)
        with pytest.raises(ManagerError, match="is no manager of that directory"):
            stop(Settings(data_dir=tmp_path / "data"), with_engines=False, with_member=False)
        assert bystander.poll() is None
        bystander.kill()
        os.close(fd)


@needs_root
def test_a_strangers_data_directory_does_not_choose_whom_root_ends(ground: Path) -> None:
    """He lets the process inherit his lock file; it is still not his process."""
    theirs = their_directory(ground)
    does("open(f'{sys.argv[1]}/manager.lock', 'w')", theirs)
    lock = os.open(theirs / MANAGER_LOCK, os.O_RDWR)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock]) as bystander:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, json.dumps({"pid": bystander.pid, "serverId": "s", "bind": "127.0.0.1", "port": 1}).encode())
        with pytest.raises(ManagerError, match="is no manager of that directory"):
            stop(Settings(data_dir=theirs), with_engines=False, with_member=False)
        assert bystander.poll() is None
        bystander.kill()
        os.close(lock)


# The data directory --------------------------------------------------------------------------------------------------


def starts(domain: LocalDomain, directory: Path) -> str:
    """What a manager says that cannot live there."""
    manager = domain.manager(7)
    manager.data_dir, manager.state = directory, f"sqlite:{directory.parent / 'other.sqlite'}"
    done = subprocess.run(manager.command(), env=manager.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr


@needs_root
def test_a_manager_does_not_move_into_a_strangers_directory(domain: LocalDomain, ground: Path) -> None:
    theirs = their_directory(ground)
    does("os.symlink('/etc/passwd', f'{sys.argv[1]}/manager.log')", theirs)
    before = snapshot(theirs)
    assert "belongs to user nobody" in starts(domain, theirs)
    assert snapshot(theirs) == before


def test_a_manager_does_not_close_a_directory_that_is_for_others(domain: LocalDomain, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(mode=0o755)
    (tmp_path / "etc" / "passwd").write_text("everybody's")
    before = snapshot(tmp_path / "etc")
    assert "is no manager's data directory: it holds passwd" in starts(domain, tmp_path / "etc")
    assert snapshot(tmp_path / "etc") == before
