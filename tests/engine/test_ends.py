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
from tests.contract.engine_harness import ValkeyMachine, ended, identity, leading, started, until

Change = Callable[[EngineSpec], EngineSpec]


async def launched(machine: ValkeyMachine, spec: EngineSpec) -> ExitSeen:
    """An engine that is expected to end by itself at its start."""
    await machine.engines.prepare(spec.directory, spec.identity, True)
    await machine.engines.launch(spec)
    return await ended(machine, spec.start_id)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.cluster_port))
            other.listen()
            end = await launched(machine, spec)
        assert end.cause is Cause.PORT_TAKEN, end
        assert str(spec.cluster_port) in end.detail
        assert end.exit_code == 1
        again = replace(spec, start_id=2)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.client_port))
            other.listen()
            with pytest.raises(ArchiveRefused, match=str(spec.client_port)) as refused:
                await launched(machine, again)
        assert refused.value.cause is Cause.PORT_TAKEN
        await machine.engines.release(spec.directory)
        await started(machine, again)

    ValkeyMachine(tmp_path).play(scenario)


def test_a_port_that_was_taken_after_the_start_is_named_too(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await started(machine, spec)
        await machine.engines.take_over(1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", spec.client_port))
            other.listen()
            with pytest.raises(EngineRefused):
                await machine.engines.take_clients(1)
            end = await ended(machine, 1)
        assert end.cause is Cause.PORT_TAKEN, end
        assert "a port it needs is taken" in end.detail

    ValkeyMachine(tmp_path).play(scenario)


@pytest.mark.parametrize(
    ("change", "quotation"),
    [
        (lambda spec: replace(spec, options=replace(spec.options, append_fsync="sometimes")), "appendfsync sometimes"),
        (lambda spec: replace(spec, address="192.0.2.1"), "192.0.2.1"),
    ],
)
def test_a_bad_option_is_quoted(tmp_path: Path, change: Change, quotation: str) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        end = await launched(machine, change(machine.spec(1, 1)))
        assert end.cause is Cause.BAD_OPTION, end
        assert quotation in end.detail

    ValkeyMachine(tmp_path).play(scenario)


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        Path(machine.directory(1)).write_text("not a directory")
        for fresh in (True, False):
            with pytest.raises(ArchiveRefused) as no:
                await machine.engines.prepare(machine.directory(1), identity(1), fresh)
            assert no.value.cause is Cause.DIRECTORY_UNUSABLE
        spec = machine.spec(2, 2)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        Path(spec.directory, "appendonlydir").write_text("not a directory either")
        await machine.engines.launch(spec)
        assert (await ended(machine, 2)).cause is Cause.DIRECTORY_UNUSABLE

    ValkeyMachine(tmp_path).play(scenario)


def test_an_emptied_archive_is_refused(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        shutil.rmtree(Path(spec.directory, "appendonlydir"))
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.prepare(spec.directory, spec.identity, False)
        assert no.value.cause is Cause.ARCHIVE_UNINITIALISED

    ValkeyMachine(tmp_path).play(scenario)


def wrapper(path: Path, text: str) -> str:
    """A program that prepares something and becomes the real server."""
    script = path / "wrapped-valkey-server"
    script.write_text(f"#!/bin/sh\n{text.format(server=find_binary())}\n")
    script.chmod(0o755)
    return str(script)


def namespaces_work() -> bool:
    done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


async def fill(machine: ValkeyMachine, start_id: int) -> ExitSeen:
    """Write until the engine gives up."""
    for number in range(400):
        if (await machine.write(start_id, f"key-{number}", "x" * 20_000)).startswith("-"):
            break
    return await ended(machine, start_id)


@pytest.mark.skipif(not namespaces_work(), reason="no user namespaces here")
def test_a_full_disk(tmp_path: Path) -> None:
    """The second start finds its append-only files on a file system of one megabyte, seen by it alone."""
    inside = 'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=1m tmpfs "$0" && cp "$0.kept"/* "$0" && exec {server} "$1"'
    outside = 'd=$(dirname "$1")/appendonlydir; [ -d "$d" ] || exec {server} "$1"; '
    mount = f'{outside}exec unshare -rm sh -c \'{inside}\' "$d" "$1"'

    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        await leading(machine, machine.spec(2, 1), fresh=False, term=2)
        end = await fill(machine, 2)
        assert end.cause is Cause.DISK_FULL, end
        assert "write" in end.detail

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, mount)).play(scenario)


def test_a_file_size_limit_is_told_as_a_full_disk(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        end = await fill(machine, 1)
        assert end.cause is Cause.DISK_FULL, end

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, 'ulimit -f 2000; exec {server} "$@"')).play(scenario)


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        end = await launched(machine, machine.spec(1, 1))
        assert end.cause is Cause.BINARY_MISSING, end

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, "exec /nonexistent/valkey-server")).play(scenario)


def test_no_program_at_all(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await machine.engines.prepare(spec.directory, spec.identity, True)
        with pytest.raises(ArchiveRefused) as no:
            await machine.engines.launch(spec)
        assert no.value.cause is Cause.BINARY_MISSING
        assert (await machine.engines.survey()).exits == ()

    ValkeyMachine(tmp_path, binary=str(tmp_path / "nothing")).play(scenario)


@pytest.mark.parametrize("where", ["middle", "manifest", "base"])
def test_corrupt_files(tmp_path: Path, where: str) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        for number in range(30):
            await machine.write(1, f"key-{number}", "v" * 100)
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        await ended(machine, 1)
        files = Path(spec.directory, "appendonlydir")
        damage(files, where)
        again = replace(spec, start_id=2)
        try:
            await machine.engines.prepare(spec.directory, spec.identity, False)
        except ArchiveRefused as no:
            assert no.cause is Cause.CORRUPT_ARCHIVE  # already the reading of the position found it
            return
        await machine.engines.launch(again)
        end = await ended(machine, 2)
        assert end.cause is Cause.CORRUPT_ARCHIVE, end

    ValkeyMachine(tmp_path).play(scenario)


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
    async def scenario(machine: ValkeyMachine) -> None:
        await started(machine, machine.spec(1, 1))
        os.kill(machine.pid(1), number)
        end = await ended(machine, 1)
        assert (end.cause, end.exit_code) == (Cause.TERMINATED_FROM_OUTSIDE, 0), end
        assert signal.Signals(number).name in end.detail

    ValkeyMachine(tmp_path).play(scenario)


def test_a_crash_is_not_a_kill(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await started(machine, machine.spec(1, 1))
        os.kill(machine.pid(1), signal.SIGSEGV)
        end = await ended(machine, 1)
        assert end.cause is Cause.KILLED_BY_SIGNAL, end
        assert f"sent by pid {os.getpid()}" in end.detail
        await started(machine, machine.spec(2, 2))
        try:
            await machine.engines._known(2).valkey.do(("DEBUG", "SEGFAULT"))
        except Exception as error:
            assert "DEBUG" in str(error)
        two = await ended(machine, 2)
        assert two.cause is Cause.ENGINE_CRASHED, two

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, 'exec {server} "$@" --enable-debug-command yes')).play(scenario)


@pytest.mark.parametrize("kernel_readable", [True, False])
def test_out_of_memory_needs_evidence(tmp_path: Path, kernel_readable: bool) -> None:
    counter, log = tmp_path / "oom", tmp_path / "kmsg"
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    readers = Readers(oom_file=str(counter), kernel_log=str(log) if kernel_readable else str(tmp_path / "no"))

    async def scenario(machine: ValkeyMachine) -> None:
        log.write_text("")
        await started(machine, machine.spec(1, 1))
        machine.kill_from_outside(1)
        assert (await ended(machine, 1)).cause is Cause.KILLED_BY_SIGNAL
        await started(machine, machine.spec(2, 2))
        counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
        log.write_text(f"6,1,2,-;Out of memory: Killed process {machine.pid(2)} (valkey-server) total-vm:1kB\n")
        machine.kill_from_outside(2)
        two = await ended(machine, 2)
        assert two.cause is Cause.OUT_OF_MEMORY, two

    ValkeyMachine(tmp_path, readers=readers).play(scenario)


def test_everything_killed_at_once_is_no_guess(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        end = await started(machine, machine.spec(1, 1))
        parent: Any = int(Path(f"/proc/{end.pid}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        os.kill(end.pid, signal.SIGKILL)
        gone = await ended(machine, 1)
        assert (gone.cause, gone.signal, gone.exit_code) == (Cause.KILLED_BY_SIGNAL, None, 255)
        assert "unknown" in gone.detail

    ValkeyMachine(tmp_path).play(scenario)


def test_an_engine_without_its_parent_is_still_adopted(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        end = await leading(machine, machine.spec(1, 1))
        parent = int(Path(f"/proc/{end.pid}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        await machine.restart_manager()
        survey = await until(machine, lambda all: any(engine.answering for engine in all.engines))
        assert survey.engines[0].pid == end.pid
        assert survey.exits == ()
        await machine.engines.kill(1, Cause.OPERATOR_KILL)
        assert (await ended(machine, 1)).cause is Cause.OPERATOR_KILL

    ValkeyMachine(tmp_path).play(scenario)


def test_a_child_that_outlives_its_engine_is_killed_before_the_next_start(tmp_path: Path) -> None:
    lingering = "sh -c 'while :; do sleep 1; done' & exec {server} \"$@\""

    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await started(machine, spec)
        machine.kill_from_outside(1)
        while machine.engines._known(1).alive:  # a busy machine takes its time even for a SIGKILL
            await machine.pause(0.002)
        await machine.engines.prepare(spec.directory, spec.identity, False)
        assert (await ended(machine, 1)).reaped
        await machine.engines.release(spec.directory)

    ValkeyMachine(tmp_path, binary=wrapper(tmp_path, 'cd "$(dirname "$1")"; ' + lingering)).play(scenario)
