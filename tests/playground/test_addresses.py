"""Where a playground settles, and how one that was killed is found: by pid and start time, never by pid alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.kernel import boot_id, is_alive, started
from dkv.playground import addresses
from dkv.playground.addresses import Record, choose, stop_leftovers

NO_PROCESS = (2**22 + 1, 1)  # above the greatest pid there can be


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def record(place: Path, directory: Path, owner: tuple[int, int], *processes: tuple[int, int], boot: str = "") -> Path:
    file = place / f"{owner[0]}.json"
    file.write_text(
        json.dumps(
            {
                "boot": boot or boot_id(),
                "pid": owner[0],
                "start": owner[1],
                "directory": str(directory),
                "temporary": False,
                "processes": processes,
            }
        )
    )
    return file


def test_a_process_is_known_by_its_start_too(sleeper: subprocess.Popen[bytes]) -> None:
    start = started(sleeper.pid)
    assert is_alive(sleeper.pid, start)
    assert not is_alive(sleeper.pid, start + 1)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(sleeper.pid, start), "a zombie runs no more"


def test_leftovers_of_a_killed_playground_are_stopped(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    file = record(tmp_path, tmp_path / "data", NO_PROCESS, (sleeper.pid, started(sleeper.pid)))
    assert stop_leftovers(tmp_path) == [(tmp_path / "data", 1)]
    assert sleeper.wait(10) == -9
    assert not file.exists()


@pytest.fixture
def launcher() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that leads a group, as a TE's launcher does, and the pid of its child, which does not end with it."""
    leads = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
    assert leads.stdout is not None
    with leads.stdout:
        child = int(leads.stdout.readline())
    start = started(child)
    yield leads, child
    leads.kill()
    leads.wait()
    if is_alive(child, start):
        os.kill(child, signal.SIGKILL)


def written_down(directory: Path, pid: int) -> None:
    """What the waiting parent of an engine writes."""
    born = directory / "server-1" / "run" / "7" / "born"
    born.parent.mkdir(parents=True)
    born.write_text(f"{pid} {started(pid)}\n")


def test_engines_are_found_by_what_their_parents_wrote(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    written_down(tmp_path, sleeper.pid)
    record(tmp_path, tmp_path, NO_PROCESS)
    assert stop_leftovers(tmp_path) == [(tmp_path, 1)]
    assert sleeper.wait(10) == -9


def test_the_engines_of_a_te_end_with_their_launcher(tmp_path: Path, launcher: tuple[subprocess.Popen[bytes], int]) -> None:
    leads, engine = launcher
    written_down(tmp_path, leads.pid)
    record(tmp_path, tmp_path, NO_PROCESS)
    assert stop_leftovers(tmp_path) == [(tmp_path, 1)]
    assert leads.wait(10) == -9
    assert not started(engine)


def test_a_playground_that_stops_everything_ends_the_engines_of_its_tes_too(
    tmp_path: Path, launcher: tuple[subprocess.Popen[bytes], int]
) -> None:
    leads, engine = launcher
    written_down(tmp_path, leads.pid)
    Record(tmp_path / "me.json", tmp_path, temporary=False).kill_everything()
    assert leads.wait(10) == -9
    assert not started(engine)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record(tmp_path, tmp_path / "data", NO_PROCESS, (sleeper.pid, started(sleeper.pid) - 1))
    assert stop_leftovers(tmp_path) == [(tmp_path / "data", 0)]
    assert sleeper.poll() is None


def test_pids_of_another_boot_mean_nothing(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record(tmp_path, tmp_path / "data", NO_PROCESS, (sleeper.pid, started(sleeper.pid)), boot="another")
    assert stop_leftovers(tmp_path) == [(tmp_path / "data", 0)]
    assert sleeper.poll() is None


def test_a_living_playground_is_no_leftover(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    mine = Record(tmp_path / "me.json", tmp_path, temporary=False)
    mine.add(sleeper.pid)
    assert stop_leftovers(tmp_path) == []
    assert sleeper.poll() is None
    assert addresses.owner_of(tmp_path, tmp_path) == os.getpid()


def test_a_torn_record_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"pid": 1')
    assert stop_leftovers(tmp_path) == []
    assert not list(tmp_path.glob("*.json"))


def test_addresses_nobody_uses_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {("127.0.0.12", 7861)}
    monkeypatch.delenv("DKV_TEST_NO_ADDRESSES", raising=False)
    monkeypatch.setattr(addresses, "bindable", lambda host, port: (host, port) not in taken)
    assert [p.manager for p in choose(tmp_path, 2, 1).places] == ["127.0.0.21:7801", "127.0.0.22:7801"]
    assert [p.manager for p in choose(tmp_path, 1, 1).places] == ["127.0.0.11:7801"]


def test_without_such_addresses_ports_of_one_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "bindable", lambda host, port: host == "127.0.0.1" and port != 7802)
    site = choose(tmp_path, 2, 3)
    assert [p.manager for p in site.places] == ["127.0.0.1:7811", "127.0.0.1:7812"]
    assert site.cluster_port > 7812
    assert site.client_port >= site.cluster_port + 6
