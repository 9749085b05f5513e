"""Ends of real engines on full disks are told as what they were: the evidence needs no free byte."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.engine import archive
from dkv.engine.contract import ArchiveRefused, Cause
from tests.contract.engine_harness import ValkeyMachine, ended, leading, seen
from tests.disks import fill_up, small_disk

Scenario = Callable[[ValkeyMachine], Awaitable[None]]


def play_on_small_disks(tmp_path: Path, scenario: Scenario, *places: str) -> None:
    """A machine on which each of these directories is a file system of its own, of 8 MB."""
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(small_disk(tmp_path / place, "8m"))
        ValkeyMachine(tmp_path).play(scenario)


async def write_until_it_gives_up(machine: ValkeyMachine) -> None:
    for number in range(3_000):
        if (await machine.write(1, f"key-{number}", "x" * 20_000)).startswith("-"):
            return
    raise AssertionError("8 MB held 60 MB")


@pytest.mark.parametrize("places", [("archive-1",), ("archive-1", "manager/run")], ids=" and ".join)
def test_a_full_archive_is_told_with_what_the_engine_said(tmp_path: Path, places: tuple[str, ...]) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        if "manager/run" in places:
            fill_up(tmp_path / "manager/run")
        await write_until_it_gives_up(machine)
        end = await ended(machine, 1)
        assert (end.cause, end.exit_code) == (Cause.DISK_FULL, 1), end
        assert any("No space left" in word or "Short write" in word for word in end.last_words), end

    play_on_small_disks(tmp_path, scenario, *places)


def test_one_disk_for_archive_and_run_directory_is_told_as_well(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, replace(machine.spec(1, 1), directory=str(tmp_path / "manager/run/archives/one")))
        fill_up(tmp_path / "manager/run")
        await write_until_it_gives_up(machine)
        end = await ended(machine, 1)
        assert (end.cause, end.exit_code) == (Cause.DISK_FULL, 1), end

    play_on_small_disks(tmp_path, scenario, "manager/run")


def test_a_kill_from_outside_is_no_full_disk(tmp_path: Path) -> None:
    """The exit code is written although nothing fits on the disk any more, and the log of its last minute is there."""

    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        fill_up(tmp_path / "manager/run")
        machine.kill_from_outside(1)
        end = await ended(machine, 1)
        assert (end.cause, end.exit_code, end.signal) == (Cause.KILLED_BY_SIGNAL, 137, 9), end
        assert end.last_words

    play_on_small_disks(tmp_path, scenario, "manager/run")


def test_a_manager_can_kill_and_says_why_with_a_full_run_directory(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        intent = tmp_path / "manager/run/1/intent"
        intent.unlink()  # even the room that was kept for it is gone
        fill_up(tmp_path / "manager/run")
        (tmp_path / "manager/run/1").chmod(0o500)
        await machine.engines.kill(1, Cause.NEVER_ANSWERED)
        end = await ended(machine, 1)
        assert (end.cause, end.exit_code) == (Cause.NEVER_ANSWERED, 137), end

    play_on_small_disks(tmp_path, scenario, "manager/run")


def test_nothing_is_started_without_room_for_its_end(tmp_path: Path) -> None:
    """Refused by name, nothing left behind; with room it starts."""

    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        ballast = fill_up(tmp_path / "manager/run")
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.launch(spec)
        assert no.value.cause is Cause.DISK_FULL
        assert [path.name for path in (tmp_path / "manager/run").iterdir()] == ["ballast"]
        ballast.unlink()
        await machine.engines.launch(spec)
        await seen(machine, 1)

    play_on_small_disks(tmp_path, scenario, "manager/run")


def test_a_lock_that_is_taken_on_a_full_disk_is_free_again_afterwards(tmp_path: Path) -> None:
    """A manager that held on to it could not start that archive until it was restarted itself."""
    with small_disk(tmp_path / "archive", "1m") as disk:
        fill_up(disk)
        lock = archive.take_lock(str(disk))
        assert lock is not None
        assert archive.take_lock(str(disk)) is None
        assert archive.lock_holder(str(disk)) == "unknown"
        os.close(lock)
        assert not archive.lock_is_held(str(disk))
