"""What a manager lets its guard know: the managers on other machines, and the engines whose groups those could lead."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.domain.model import State
from dkv.guard.duty import FILE, Duty, GuardedEngine, read, to_text
from dkv.guarding import GuardKeeper, guarded, others
from tests.machine.stage import GROUP, Stage

FENCE = ("CONFIG", "SET", "min-replicas-to-write", "99")


def moved(state: State, **hosts: str) -> State:
    """The same domain with its servers at other addresses."""
    servers = {name: replace(server, host=hosts.get(name, server.host)) for name, server in state.servers.items()}
    return replace(state, servers=servers)


def start_id(stage: Stage, archive_id: int) -> int:
    return stage.process(archive_id).start_id


def test_others_are_the_managers_on_other_machines() -> None:
    state = Stage(3).settled().state
    assert others(state, "s1") == (("10.0.0.2", 7801), ("10.0.0.3", 7801))
    assert others(moved(state, s2="10.0.0.1"), "s1") == (("10.0.0.3", 7801),), "two managers on one machine"
    assert others(state, "s9") == (), "a server that the domain does not know"


def test_managers_on_loopback_are_never_cut_off_from_each_other() -> None:
    state = moved(Stage(3).settled().state, s1="127.0.0.1", s2="127.0.0.2", s3="127.0.0.3")
    assert others(state, "s1") == ()
    assert guarded(state, "s1") == frozenset()


def test_an_engine_is_guarded_while_a_copy_on_another_machine_is_in_sync() -> None:
    stage = Stage(3).settled()
    assert guarded(stage.state, "s1") == {start_id(stage, 0)}
    assert guarded(stage.state, "s2") == {start_id(stage, 1)}, "a follower may come to lead"
    alone = stage.state.groups[GROUP]
    alone = replace(alone, in_sync=(0,), required=())
    assert guarded(replace(stage.state, groups={GROUP: alone}), "s1") == frozenset(), "no other copy may be chosen"


def test_a_copy_that_joins_counts_because_it_may_be_in_sync_before_the_next_look() -> None:
    stage = Stage(2).settled()
    group = stage.state.groups[GROUP]
    alone = replace(stage.state, groups={GROUP: replace(group, in_sync=(0,), required=())})
    assert guarded(alone, "s1") == frozenset()
    stage.state = alone
    stage.announce(1)
    assert guarded(stage.state, "s1") == {start_id(stage, 0)}


def test_a_process_that_keeps_nothing_is_not_guarded() -> None:
    stage = Stage(2).settled()
    te = stage.start_te("s1")
    assert te not in guarded(stage.state, "s1")


# The file --------------------------------------------------------------------------------------------------------------


def duty(password: str = "secret", manager: str = "1-1") -> Duty:
    engine = GuardedEngine(5, "/data/a", "admin.sock", 4711, 99, "dkv-manager", password)
    return Duty(manager, (("10.0.0.2", 7801),), (engine,), FENCE)


def nothing_to_guard() -> Duty:
    return Duty("1-1", (), (), FENCE)


def test_the_file_is_for_this_user_only_and_reads_back_what_was_written(tmp_path: Path) -> None:
    keeper = GuardKeeper(tmp_path, FENCE)
    keeper.look(nothing_to_guard())
    path = tmp_path / "run" / FILE
    assert read(str(path))[0] == nothing_to_guard()
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.stat().st_ino
    keeper.look(nothing_to_guard())
    assert path.stat().st_ino == first, "what has not changed is not written"


def test_a_link_in_the_place_of_the_file_is_replaced_by_the_manager_and_refused_by_the_guard(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir(mode=0o700)
    elsewhere.write_text(to_text(duty()))
    elsewhere.chmod(0o600)
    (run / FILE).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic link"):
        read(str(run / FILE))
    GuardKeeper(tmp_path, FENCE).look(nothing_to_guard())
    assert not (run / FILE).is_symlink()
    assert read(str(elsewhere))[0] == duty(), "what the link led to was not touched"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / FILE
    path.write_text(to_text(duty()))
    path.chmod(mode)
    with pytest.raises(ValueError, match="only this user"):
        read(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(to_text(duty()))
    path.chmod(0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(ValueError, match="only this user"):
        read(str(path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manager": "x", "others": 3, "engines": [], "fence": []}', '"a"', "\x00"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="damaged"):
        read(str(path))
