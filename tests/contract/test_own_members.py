"""Etcd members that managers run, on loopback: a state that moves there, broken off and twice at once, and what is adopted."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.backend import OWN, open_members, state_at_members
from dkv.config import Settings, default_state
from dkv.constants import PEERS_ABOVE
from dkv.kernel import command_line
from dkv.members.child import DATA, RECORD, MemberProcess, MemberSpec
from dkv.members.move import first_member, move
from dkv.members.place import Members, members_in, new_members
from dkv.members.program import program
from dkv.store.contract import Moved, Unavailable, Unusable
from dkv.store.etcd import EtcdStore
from dkv.store.sqlite import SqliteStore
from tests.contract.etcd_cluster import needs_etcd
from tests.contract.ports import free_port
from tests.contract.test_store_etcd_deaths import play
from tests.contract.test_store_moves import written
from tests.disks import fill_up, small_disk
from tests.tls import Place

pytestmark = needs_etcd
RECORDS = {"a": "2", "b": "2"}
SEALED_AND_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.contract.test_own_members import Machine
from dkv.members import move
async def no_copy(*_):
    os.kill(os.getpid(), signal.SIGKILL)
move.EtcdStore.take_over = no_copy
machine = Machine(Path(sys.argv[1]), int(sys.argv[2]))
asyncio.run(move.move(Path(sys.argv[3]), "d0", machine.process, machine.opened))
"""


class Machine:
    """What a manager has for its member: a data directory with certificates, and a port."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir, self.port = data_dir, port
        self.settings = Settings(data_dir=data_dir)
        place = Place(data_dir / "certificates")
        self.process = MemberProcess(MemberSpec(f"u{port}", "127.0.0.1", port, data_dir / "etcd", place.files), program())

    @classmethod
    def made(cls, data_dir: Path, like: Machine | None = None) -> Machine:
        """A new one, of the domain of another one where there is one."""
        certificates = data_dir / "certificates"
        certificates.mkdir(mode=0o700, parents=True)
        data_dir.chmod(0o700)
        if like is None:
            place = Place(certificates)
            place.install("own")
        else:
            for path in (like.data_dir / "certificates").iterdir():
                (certificates / path.name).write_bytes(path.read_bytes())
                (certificates / path.name).chmod(0o600)
        return cls(data_dir, free_port(PEERS_ABOVE))

    async def opened(self, clients: tuple[str, ...]) -> EtcdStore:
        return await open_members(self.settings, clients)

    async def move(self, file: Path) -> Members:
        return await move(file, "d0", self.process, self.opened)


Scene = Callable[[Path, Callable[..., Machine]], Awaitable[None]]


def scene(tells: Scene) -> Callable[[Path], None]:
    """A test with a directory and machines whose members are ended at its end."""

    def test(tmp_path: Path) -> None:
        async def played() -> None:
            async with machines(tmp_path) as made:
                await tells(tmp_path / "domain.sqlite", made)

        play(played())

    test.__name__ = tells.__name__  # type: ignore[attr-defined]
    return test


@asynccontextmanager
async def machines(root: Path) -> AsyncIterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def machine(like: Machine | None = None) -> Machine:
        made.append(Machine.made(root / f"s{len(made)}", like))
        return made[-1]

    try:
        yield machine
    finally:
        for each in made:
            await each.process.end()


async def file_at(path: Path) -> None:
    store = await written(path)
    await store.close()


async def moved_whole(machine: Machine, members: Members) -> None:
    """The state is at the members, revisions and records as they were in the file."""
    store = await machine.opened(members.clients)
    try:
        snapshot = await store.read()
        assert (snapshot.revision, dict(snapshot.records)) == (4, RECORDS)
    finally:
        await store.close()


@scene
async def test_two_managers_of_one_file_that_move_it_at_once_agree_on_one_member(
    file: Path, machine: Callable[..., Machine]
) -> None:
    await file_at(file)
    one = machine()
    other = machine(one)
    first, second = await asyncio.gather(one.move(file), other.move(file))
    assert first == second, "both go on where the file says that its state is"
    winner, loser = (one, other) if first.clients == (one.process.spec.client,) else (other, one)
    assert winner.process.running() is not None
    assert loser.process.running() is None and not loser.process.has_data
    await moved_whole(winner, first)
    with pytest.raises(Moved) as moved:
        await SqliteStore.open(file)
    assert members_in(moved.value.place).clients == first.clients


@scene
async def test_a_move_that_is_killed_between_seal_and_copy_is_ended_by_the_next_start(
    file: Path, machine: Callable[..., Machine]
) -> None:
    await file_at(file)
    here = machine()
    words = [sys.executable, "-c", SEALED_AND_KILLED, str(here.data_dir), str(here.port), str(file)]
    ended = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with pytest.raises(Moved):
        await SqliteStore.open(file)
    running = here.process.running()
    assert running is not None, "its member runs on"
    members = await here.move(file)
    after = here.process.running()
    assert after is not None and after.pid == running.pid, "the same member was gone on with"
    await moved_whole(here, members)


@scene
async def test_a_member_that_no_record_names_is_adopted_and_not_started_twice(
    file: Path, machine: Callable[..., Machine]
) -> None:
    here = machine()
    members = new_members("d0", here.process.spec.client)
    await (await first_member(here.process, members, here.opened)).close()
    running = here.process.running()
    assert running is not None
    (here.process.spec.directory / RECORD).unlink()  # its manager was killed before it wrote that
    assert here.process.running() is None
    here.process.start({}, members.token, new=False)
    adopted = here.process.running()
    assert adopted is not None and adopted.pid == running.pid
    assert f"--data-dir={here.process.spec.directory / DATA}" in command_line(adopted.pid)


@scene
async def test_a_member_of_another_cluster_at_the_same_address_is_none_of_ours(
    file: Path, machine: Callable[..., Machine]
) -> None:
    here = machine()
    members = new_members("d0", here.process.spec.client)
    store = await first_member(here.process, members, here.opened)
    await store.members.list()
    ours = store.members.cluster
    await store.close()
    assert ours
    await (await open_members(here.settings, members.clients, ours)).close()
    with pytest.raises(Unavailable) as refused:
        await open_members(here.settings, members.clients, ours + 1)
    assert "of another etcd cluster" in str(refused.value)


def test_the_sealed_file_of_a_state_that_moved_may_be_deleted(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings = Settings(data_dir=tmp_path, state=default_state(tmp_path))
    assert state_at_members(settings) == settings, "it never moved"
    new_members("d0", "https://127.0.0.1:7901").write(tmp_path)
    assert state_at_members(settings).state == OWN, "and no second domain is founded"
    (tmp_path / "domain.sqlite").touch()
    assert state_at_members(settings) == settings, "the file says itself where its state is"


@scene
async def test_a_member_whose_port_is_taken_says_so_and_the_state_stays_in_its_file(
    file: Path, machine: Callable[..., Machine]
) -> None:
    await file_at(file)
    first = machine()
    with socket.create_server(("127.0.0.1", first.port + PEERS_ABOVE)):
        taken = rf"etcd ended at once: .*listen tcp 127\.0\.0\.1:{first.port + PEERS_ABOVE}: bind: address already in use"
        with pytest.raises(Unavailable, match=taken) as refused:
            await first.move(file)
        assert "{" not in refused.value.detail
    store = await SqliteStore.open(file)
    assert (await store.read()).revision == 4
    await store.close()
    await moved_whole(first, await first.move(file))


def test_a_member_whose_disk_is_full_says_so_changes_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def played(disk: Path) -> None:
        file = tmp_path / "domain.sqlite"
        await file_at(file)
        machine = Machine.made(disk / "s0")
        full = re.escape(f"the disk of {machine.data_dir / 'etcd'} has ") + r"\d+ MB left, and it needs 64 MB: make room"
        ballast = filled_but(disk, 20 << 20)
        try:
            with pytest.raises(Unavailable, match=full):
                await machine.move(file)
            store = await SqliteStore.open(file)
            assert (await store.read()).revision == 4, "the state stayed where it is"
            await store.close()
            ballast.unlink()
            members = await machine.move(file)
            await moved_whole(machine, members)
            await machine.process.end()
            filled_but(disk, 1 << 20)
            assert re.fullmatch(full, machine.process.why_it_ends())
            ballast.unlink()
            machine.process.start({}, members.token, new=False)
            await moved_whole(machine, members)
        finally:
            await machine.process.end()

    with small_disk(tmp_path / "disk", "200m") as disk:
        play(played(disk))


def filled_but(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes of it."""
    ballast = fill_up(disk)
    os.truncate(ballast, ballast.stat().st_size - left)
    return ballast


@scene
async def test_a_member_that_a_manager_of_an_older_release_started_is_adopted(
    file: Path, machine: Callable[..., Machine]
) -> None:
    """It wrote no `peer`; and one of a newer release may have written what this one does not know."""
    await file_at(file)
    first = machine()
    await first.move(file)
    before = first.process.running()
    record = first.process.spec.directory / RECORD
    written = json.loads(record.read_text())
    del written["peer"]
    record.write_text(json.dumps({**written, "later": 1}))
    after = first.process.running()
    assert before is not None and after == replace(before, peer="")
    first.process.refuse_another_address()


@scene
async def test_a_member_is_started_at_its_address_only(file: Path, machine: Callable[..., Machine]) -> None:
    await file_at(file)
    first = machine()
    members = await first.move(file)
    await first.process.end()
    spec = replace(first.process.spec, etcd_port=free_port())
    with pytest.raises(Unusable, match=r"is at https://127\.0\.0\.1:\d+, and its manager was started at another address"):
        MemberProcess(spec, program()).refuse_another_address()
    MemberProcess(first.process.spec, program()).refuse_another_address()
    first.process.start({}, members.token, new=False)
    await moved_whole(first, members)
