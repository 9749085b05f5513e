"""Causes of death on real engines: each is met once, beside its nearest look-alike."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dkv.engine.binary import find_binary
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, EngineSpec, ExitSeen
from dkv.engine.evidence import Readers
from tests.contract.engine_harness import RealRoom, ended, identity, leading, started, until

Change = Callable[[EngineSpec], EngineSpec]


async def launched(room: RealRoom, spec: EngineSpec) -> ExitSeen:
    """An engine that is expected to end by itself at its start."""
    await room.engines.prepare(spec.directory, spec.identity, True)
    await room.engines.launch(spec)
    return await ended(room, spec.start_id)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.cluster_port))
            other.listen()
            one = await launched(room, spec)
        assert one.cause is Cause.PORT_TAKEN, one
        assert str(spec.cluster_port) in one.detail
        assert one.exit_code == 1
        again = replace(spec, start_id=2)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.client_port))
            other.listen()
            with pytest.raises(ArchiveRefused, match=str(spec.client_port)) as refused:
                await launched(room, again)
        assert refused.value.cause is Cause.PORT_TAKEN
        await room.engines.release(spec.directory)
        await started(room, again)

    RealRoom(tmp_path).play(told)


def test_a_port_that_was_taken_after_the_start_is_named_too(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await started(room, spec)
        await room.engines.take_over(1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.client_port))
            other.listen()
            with pytest.raises(EngineRefused):
                await room.engines.take_clients(1)
            one = await ended(room, 1)
        assert one.cause is Cause.PORT_TAKEN, one
        assert "a port it needs is taken" in one.detail

    RealRoom(tmp_path).play(told)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: replace(spec, append_fsync="sometimes"), "appendfsync sometimes"),
        (lambda spec: replace(spec, address="192.0.2.1"), "192.0.2.1"),
    ],
)
def test_a_bad_option_is_quoted(tmp_path: Path, change: Change, said: str) -> None:
    async def told(room: RealRoom) -> None:
        one = await launched(room, change(room.spec(1, 1)))
        assert one.cause is Cause.BAD_OPTION, one
        assert said in one.detail

    RealRoom(tmp_path).play(told)


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        Path(room.directory(1)).write_text("not a directory")
        for fresh in (True, False):
            with pytest.raises(ArchiveRefused) as no:
                await room.engines.prepare(room.directory(1), identity(1), fresh)
            assert no.value.cause is Cause.DIRECTORY_UNUSABLE
        spec = room.spec(2, 2)
        await room.engines.prepare(spec.directory, spec.identity, True)
        Path(spec.directory, "appendonlydir").write_text("not a directory either")
        await room.engines.launch(spec)
        assert (await ended(room, 2)).cause is Cause.DIRECTORY_UNUSABLE

    RealRoom(tmp_path).play(told)


def test_an_emptied_archive_is_refused(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        shutil.rmtree(Path(spec.directory, "appendonlydir"))
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.prepare(spec.directory, spec.identity, False)
        assert no.value.cause is Cause.ARCHIVE_UNINITIALISED

    RealRoom(tmp_path).play(told)


def wrapper(path: Path, text: str) -> str:
    """A program that prepares something and becomes the real server."""
    script = path / "wrapped-valkey-server"
    script.write_text(f"#!/bin/sh\n{text.format(server=find_binary())}\n")
    script.chmod(0o755)
    return str(script)


def namespaces_work() -> bool:
    done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


async def fill(room: RealRoom, start_id: int) -> ExitSeen:
    """Write until the engine gives up."""
    for number in range(400):
        if (await room.write(start_id, f"key-{number}", "x" * 20_000)).startswith("-"):
            break
    return await ended(room, start_id)


@pytest.mark.skipif(not namespaces_work(), reason="no user namespaces here")
def test_a_full_disk(tmp_path: Path) -> None:
    """The second start finds its append-only files on a file system of one megabyte, seen by it alone."""
    inside = 'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=1m tmpfs "$0" && cp "$0.kept"/* "$0" && exec {server} "$1"'
    outside = 'd=$(dirname "$1")/appendonlydir; [ -d "$d" ] || exec {server} "$1"; '
    mount = f'{outside}exec unshare -rm sh -c \'{inside}\' "$d" "$1"'

    async def told(room: RealRoom) -> None:
        await leading(room, room.spec(1, 1))
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        await leading(room, room.spec(2, 1), fresh=False, term=2)
        one = await fill(room, 2)
        assert one.cause is Cause.DISK_FULL, one
        assert "write" in one.detail

    RealRoom(tmp_path, binary=wrapper(tmp_path, mount)).play(told)


def test_a_file_size_limit_is_told_as_a_full_disk(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        await leading(room, room.spec(1, 1))
        one = await fill(room, 1)
        assert one.cause is Cause.DISK_FULL, one

    RealRoom(tmp_path, binary=wrapper(tmp_path, 'ulimit -f 2000; exec {server} "$@"')).play(told)


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        one = await launched(room, room.spec(1, 1))
        assert one.cause is Cause.BINARY_MISSING, one

    RealRoom(tmp_path, binary=wrapper(tmp_path, "exec /nonexistent/valkey-server")).play(told)


def test_no_program_at_all(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await room.engines.prepare(spec.directory, spec.identity, True)
        with pytest.raises(ArchiveRefused) as no:
            await room.engines.launch(spec)
        assert no.value.cause is Cause.BINARY_MISSING
        assert (await room.engines.survey()).exits == ()

    RealRoom(tmp_path, binary=str(tmp_path / "nothing")).play(told)


@pytest.mark.parametrize("where", ["middle", "manifest", "base"])
def test_corrupt_files(tmp_path: Path, where: str) -> None:
    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await leading(room, spec)
        for number in range(30):
            await room.write(1, f"key-{number}", "v" * 100)
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(room, 1)
        files = Path(spec.directory, "appendonlydir")
        damage(files, where)
        again = replace(spec, start_id=2)
        try:
            await room.engines.prepare(spec.directory, spec.identity, False)
        except ArchiveRefused as no:
            assert no.cause is Cause.CORRUPT_ARCHIVE  # already the reading of the position found it
            return
        await room.engines.launch(again)
        one = await ended(room, 2)
        assert one.cause is Cause.CORRUPT_ARCHIVE, one

    RealRoom(tmp_path).play(told)


def damage(files: Path, where: str) -> None:
    if where == "middle":
        path = files / "appendonly.aof.1.incr.aof"
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 300] = b"garbage" * 40
        path.write_bytes(data)
    elif where == "manifest":
        (files / "appendonly.aof.manifest").write_text("file nowhere\n")
    else:
        (files / "appendonly.aof.1.base.rdb").write_bytes(b"REDIS0011 not a base")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_terminated_from_outside(tmp_path: Path, number: int) -> None:
    async def told(room: RealRoom) -> None:
        await started(room, room.spec(1, 1))
        os.kill(room.pid(1), number)
        one = await ended(room, 1)
        assert (one.cause, one.exit_code) == (Cause.TERMINATED_FROM_OUTSIDE, 0), one
        assert signal.Signals(number).name in one.detail

    RealRoom(tmp_path).play(told)


def test_a_crash_is_not_a_kill(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        await started(room, room.spec(1, 1))
        os.kill(room.pid(1), signal.SIGSEGV)
        one = await ended(room, 1)
        assert one.cause is Cause.KILLED_BY_SIGNAL, one
        assert f"sent by pid {os.getpid()}" in one.detail
        await started(room, room.spec(2, 2))
        try:
            await room.engines._known(2).valkey.do(("DEBUG", "SEGFAULT"))
        except Exception as error:
            assert "DEBUG" in str(error)
        two = await ended(room, 2)
        assert two.cause is Cause.ENGINE_CRASHED, two

    RealRoom(tmp_path, binary=wrapper(tmp_path, 'exec {server} "$@" --enable-debug-command yes')).play(told)


@pytest.mark.parametrize("kernel_readable", [True, False])
def test_out_of_memory_needs_evidence(tmp_path: Path, kernel_readable: bool) -> None:
    counter, log = tmp_path / "oom", tmp_path / "kmsg"
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    readers = Readers(oom_file=str(counter), kernel_log=str(log) if kernel_readable else str(tmp_path / "no"))

    async def told(room: RealRoom) -> None:
        log.write_text("")
        await started(room, room.spec(1, 1))
        room.kill_from_outside(1)
        assert (await ended(room, 1)).cause is Cause.KILLED_BY_SIGNAL
        await started(room, room.spec(2, 2))
        counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
        log.write_text(f"6,1,2,-;Out of memory: Killed process {room.pid(2)} (valkey-server) total-vm:1kB\n")
        room.kill_from_outside(2)
        two = await ended(room, 2)
        assert two.cause is Cause.OUT_OF_MEMORY, two

    RealRoom(tmp_path, readers=readers).play(told)


def test_everything_killed_at_once_is_no_guess(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        one = await started(room, room.spec(1, 1))
        parent: Any = int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        os.kill(one.pid, signal.SIGKILL)
        gone = await ended(room, 1)
        assert (gone.cause, gone.signal, gone.exit_code) == (Cause.KILLED_BY_SIGNAL, None, 255)
        assert "unknown" in gone.detail

    RealRoom(tmp_path).play(told)


def test_an_engine_without_its_parent_is_still_adopted(tmp_path: Path) -> None:
    async def told(room: RealRoom) -> None:
        one = await leading(room, room.spec(1, 1))
        parent = int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        await room.restart_manager()
        survey = await until(room, lambda all: any(engine.answering for engine in all.engines))
        assert survey.engines[0].pid == one.pid
        assert survey.exits == ()
        await room.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(room, 1)).cause is Cause.OPERATOR_KILL

    RealRoom(tmp_path).play(told)


def test_a_child_that_outlives_its_engine_is_killed_before_the_next_start(tmp_path: Path) -> None:
    lingering = "sh -c 'while :; do sleep 1; done' & exec {server} \"$@\""

    async def told(room: RealRoom) -> None:
        spec = room.spec(1, 1)
        await started(room, spec)
        room.kill_from_outside(1)
        while room.engines._known(1).alive:  # a busy machine takes its time even for a SIGKILL
            await room.pause(0.002)
        await room.engines.prepare(spec.directory, spec.identity, False)
        assert (await ended(room, 1)).reaped
        await room.engines.release(spec.directory)

    RealRoom(tmp_path, binary=wrapper(tmp_path, 'cd "$(dirname "$1")"; ' + lingering)).play(told)
