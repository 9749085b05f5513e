"""Somebody else holds the write lock of the state's file: who it is, since when, and that readers are never in the way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from dkv.control.access import PROVED_AFTER, Access
from dkv.store.contract import Unavailable
from dkv.store.holders import command_of, writer_in, writer_of
from tests.contract.store_process import line_of
from tests.contract.store_scenarios import opened, program, scenario, written

TABLE = """\
1: FLOCK  ADVISORY  WRITE 10 00:2d:77 0 EOF
2: POSIX  ADVISORY  READ 11 00:2d:77 123 123
2: -> POSIX  ADVISORY  WRITE 12 00:2d:77 120 120
3: POSIX  ADVISORY  WRITE 13 08:01:78 120 120
4: POSIX  ADVISORY  WRITE 14 08:01:77 121 121
5: POSIX  ADVISORY  WRITE 15 08:01:77 120 120
"""


def test_only_who_has_the_writers_byte_holds_the_lock() -> None:
    assert writer_in(TABLE, 77) == 15
    assert writer_in(TABLE, 79) is None
    assert writer_in("1: POSIX  ADVISORY  WRITE 9 00:2d:77 0 EOF\n", 77) == 9
    assert writer_in("1: FLOCK  ADVISORY  WRITE 9 00:2d:77 0 EOF\n", 77) is None


def test_a_command_is_told_on_one_line_and_cut() -> None:
    assert "python" in command_of(os.getpid())
    assert command_of(2**22 + 1) == ""


@scenario
async def test_the_holder_is_named_and_what_a_probe_does_changes_nothing(path: Path) -> None:
    await written(path)
    async with opened(path, patience=0.2) as store:
        assert await store.obstacle() == ""
        await store.probe()
        assert (await store.read()).revision == 1
        async with program("stop_inside", path, "SIGSTOP") as frozen:
            assert await line_of(frozen) == "inside"
            holder = writer_of(path)
            assert holder is not None
            assert holder.pid == frozen.pid
            assert await store.obstacle() == str(holder)
            assert holder.command[:20] == sys.executable[:20]  # a long one is cut, and a clone may be anywhere
            for attempt in (store.probe(), store.commit(1, {"a": "2"}, [], "t")):
                with pytest.raises(Unavailable, match=f"pid {frozen.pid} .*hint: .*kill {frozen.pid}") as trouble:
                    await attempt
                assert trouble.value.written is False
            frozen.send_signal(signal.SIGCONT)
            assert await line_of(frozen) == "committed 2"
        await store.probe()
        assert (await store.read()).revision == 2


@scenario
async def test_commits_that_would_fail_are_noticed_before_anybody_has_one_to_make(path: Path) -> None:
    await written(path)
    warned: list[str] = []
    now = 5.0
    access = Access(lambda: 1_000, lambda: now, warned.append)
    async with opened(path, patience=0.2) as store:
        await access.look(store)
        async with program("stop_inside", path, "SIGSTOP") as frozen:
            assert await line_of(frozen) == "inside"
            await access.look(store)
            assert access.failing is None, "a moment is what every commit takes"
            for _ in range(5):  # /proc/locks is no snapshot: while others take and drop locks a line may be missed
                await access.look(store)
                if access.failing:
                    break
            assert access.failing is not None
            assert (access.failing.at, access.failing.since) == (1_000, 5.0)
            assert f"pid {frozen.pid}" in access.failing.why
            assert f"kill {frozen.pid}" in str(access.failing.hint)
            await access.look(store)
            frozen.send_signal(signal.SIGCONT)
            assert await line_of(frozen) == "committed 2"
        await access.look(store)
        assert access.failing is None
    assert len(warned) == 2, warned


@scenario
async def test_a_probe_that_works_proves_nothing_while_commits_fail(path: Path) -> None:
    await written(path)
    now = 0.0
    access = Access(lambda: 1_000, lambda: now, lambda text: None)
    async with opened(path) as store:
        access.failed(Unavailable("no space is left", "Free space there."))
        await access.look(store)
        assert access.failing is not None, "a small one found room"
        now = PROVED_AFTER
        await access.look(store)
        assert access.failing is None


@scenario
async def test_a_commit_that_is_made_proves_that_it_works(path: Path) -> None:
    warned: list[str] = []
    access = Access(lambda: 1_000, lambda: 5.0, warned.append)
    access.failed(Unavailable("no space is left", "Free space there."))
    access.failed(Unavailable("no space is left", "Free space there."))
    assert (access.failing and str(access.failing.hint)) == "Free space there."
    access.worked()
    assert access.failing is None
    assert len(warned) == 2, warned
    assert warned[-1] == "the domain can be changed again"


def test_two_reasons_in_turns_are_warned_of_once_each_until_commits_work_again() -> None:
    warned: list[str] = []
    access = Access(lambda: 1_000, lambda: 5.0, warned.append)
    for _ in range(2):
        for _ in range(100):
            access.failed(Unavailable("no space is left"))
            access.failed(Unavailable("the disk did not answer"))
        access.worked()
    assert len(warned) == 6, warned


READER = """
import sqlite3, sys
shell = sqlite3.connect(sys.argv[1], isolation_level=None)
shell.execute("BEGIN")
print(shell.execute("SELECT revision FROM head").fetchone()[0], flush=True)
sys.stdin.readline()
print(shell.execute("SELECT revision FROM head").fetchone()[0], flush=True)
"""


@scenario
async def test_a_readers_transaction_which_is_all_a_backup_takes_holds_up_no_commit(path: Path) -> None:
    await written(path)
    async with opened(path, patience=0.2) as store:
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, str(path), stdin=PIPE, stdout=PIPE)
        assert reader.stdout is not None
        assert await reader.stdout.readline() == b"1\n"
        assert await store.obstacle() == ""
        for revision in range(1, 50):
            assert await store.commit(revision, {"a": "x" * 10_000}, ["while it reads"], f"t{revision}") == revision + 1
        answer, _ = await reader.communicate(b"\n")
        assert answer == b"1\n", "it reads on what it began with"
        assert (await store.read()).revision == 50
