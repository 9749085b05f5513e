"""Strangers on the machine: no directory that an archive or a copy is given can be, or become, somebody else's."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, EngineRefused
from dkv.engine.engines import ValkeyEngines
from tests.contract.engine_harness import ValkeyMachine, ended, identity, leading
from tests.strangers import common_ground, does, needs_root, snapshot, their_directory

PLANTED = ("users.acl", "identity.json", "identity.json.new", "valkey.conf", "nodes.conf", "LOCK")


@pytest.fixture
def ground() -> Iterator[Path]:
    with common_ground() as place:
        yield place


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def prepares(tmp_path: Path, directory: Path | str, fresh: bool = True) -> ArchiveRefused | None:
    """What a manager says that is to start archive 1 there."""

    async def scenario() -> ArchiveRefused | None:
        engines = ValkeyEngines(tmp_path / "manager", lock_wait=0.1)
        try:
            await engines.prepare(str(directory), identity(1), fresh)
        except ArchiveRefused as refused:
            return refused
        finally:
            engines.close()
        return None

    return asyncio.run(scenario())


def refused(refusal: ArchiveRefused | None, words: str) -> None:
    assert refusal is not None
    assert refusal.cause is Cause.DIRECTORY_UNSAFE
    assert words in refusal.detail


@needs_root
def test_links_planted_in_a_strangers_directory_overwrite_nothing(tmp_path: Path, ground: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root only")
    theirs = their_directory(ground)
    does("for name in sys.argv[3:]: os.symlink(sys.argv[2], f'{sys.argv[1]}/{name}')", theirs, secret, *PLANTED[:1], *PLANTED[2:])
    before = snapshot(theirs)
    refused(prepares(tmp_path, theirs), "belongs to user nobody")
    assert secret.read_text() == "root only"
    assert snapshot(theirs) == before


@needs_root
def test_an_engine_never_reads_a_configuration_that_a_stranger_owns(tmp_path: Path, ground: Path) -> None:
    """He made the file before and could add `loadmodule` to what the manager writes into it."""
    theirs = their_directory(ground)
    does("open(f'{sys.argv[1]}/valkey.conf', 'w').write('loadmodule /tmp/mine.so')", theirs)
    refused(prepares(tmp_path, theirs), "belongs to user nobody")
    assert (theirs / "valkey.conf").read_text() == "loadmodule /tmp/mine.so"


@needs_root
def test_nothing_is_made_below_a_strangers_directory(tmp_path: Path, ground: Path) -> None:
    theirs = their_directory(ground)
    refused(prepares(tmp_path, theirs / "archive"), "could put something else in its place")
    assert list(theirs.iterdir()) == []


@needs_root
def test_a_strangers_link_on_the_way_is_not_followed(tmp_path: Path, ground: Path) -> None:
    does("os.symlink(sys.argv[2], sys.argv[1])", ground / "way", tmp_path)
    refused(prepares(tmp_path, ground / "way" / "archive"), "is a symbolic link")
    assert not (tmp_path / "archive").exists()


def test_a_directory_above_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    refused(prepares(tmp_path, above / "archive"), f"others may write in {above}")
    assert list(above.iterdir()) == []


def test_a_directory_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    directory.mkdir()
    directory.chmod(0o777)
    refused(prepares(tmp_path, directory), f"others may write in {directory}")
    assert mode(directory) == 0o777


def test_a_sticky_directory_above_is_no_danger(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o1777)
    assert prepares(tmp_path, above / "archive") is None
    assert mode(above / "archive") == 0o700


def test_a_link_inside_an_archive_keeps_its_engine_from_starting(tmp_path: Path) -> None:
    """An engine opens its files by name; what is not a file or directory of ours is refused before."""
    directory = tmp_path / "archive"
    assert prepares(tmp_path, directory) is None
    (directory / "appendonlydir").symlink_to(tmp_path)
    refused(prepares(tmp_path, directory, fresh=False), f"{directory}/appendonlydir is a symbolic link")


def test_an_empty_directory_that_existed_is_made_private(tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    directory.mkdir()
    directory.chmod(0o755)
    assert prepares(tmp_path, directory) is None
    assert mode(directory) == 0o700


def test_a_directory_with_other_things_in_it_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "passwd").write_text("somebody's")
    before = snapshot(directory)
    refusal = prepares(tmp_path, directory)
    assert refusal is not None
    assert refusal.cause is Cause.ARCHIVE_FOREIGN
    assert "holds passwd" in refusal.detail
    assert snapshot(directory) == before


@pytest.mark.parametrize("holding", ["passwd", "identity.json"])
def test_only_a_directory_of_the_archive_is_renamed_away(tmp_path: Path, holding: str) -> None:
    """A typo names any directory; one with the identity file of another archive is another archive's."""
    directory = tmp_path / "etc"
    if holding == "identity.json":
        assert prepares(tmp_path, directory) is None
    else:
        directory.mkdir()
        (directory / holding).write_text("somebody's")
    before = snapshot(directory)

    async def scenario() -> str | None:
        engines = ValkeyEngines(tmp_path / "manager")
        return await engines.retire(str(directory), identity(2))

    assert asyncio.run(scenario()) is None
    assert snapshot(directory) == before


@needs_root
def test_a_strangers_directory_is_not_renamed_away(tmp_path: Path, ground: Path) -> None:
    """He copies an identity file, which the view tells him word by word, into his own."""
    ours = tmp_path / "archive"
    assert prepares(tmp_path, ours) is None
    theirs = their_directory(ground)
    does("open(f'{sys.argv[1]}/identity.json', 'w').write(sys.argv[2])", theirs, (ours / "identity.json").read_text())

    async def scenario() -> str | None:
        return await ValkeyEngines(tmp_path / "manager").retire(str(theirs), identity(1))

    assert asyncio.run(scenario()) is None
    assert theirs.exists()


def plays(tmp_path: Path, scenario: Callable[[ValkeyMachine], Awaitable[None]]) -> None:
    ValkeyMachine(tmp_path).play(scenario)


LABEL = CopyLabel("domain-1/1", identity(1), ((0, 16383),), 0)


@needs_root
def test_a_hot_copy_goes_to_no_place_that_a_stranger_can_swap(tmp_path: Path, ground: Path) -> None:
    """He would put a link where the files are written, and choose their content as a client."""
    theirs = their_directory(ground)
    keys = tmp_path / "authorized_keys"
    keys.write_text("root only")

    async def nobody_asks(percent: int) -> None:
        pass

    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        engines = machine.engines
        still = await engines.pause(1, 5000)
        cut = await engines.note_cut(1, "1-1", still)
        await engines.resume(1)
        target = theirs / "copy"
        with pytest.raises(EngineRefused, match="could put something else in its place"):
            await engines.claim_target(spec.directory, str(target), LABEL)
        assert list(theirs.iterdir()) == []
        good = tmp_path / "copy"
        await engines.claim_target(spec.directory, str(good), LABEL)
        (good / "appendonlydir").mkdir()
        (good / "appendonlydir" / cut.file).symlink_to(keys)
        await engines.write_copy(spec.directory, "1-1", str(good), LABEL, rate=0, report=nobody_asks)
        assert mode(good) == mode(good / "appendonlydir") == 0o700
        assert keys.read_text() == "root only"
        assert not (good / "appendonlydir" / cut.file).is_symlink()

    plays(tmp_path, scenario)


def test_a_copy_that_is_being_written_follows_no_link_put_in_its_way(tmp_path: Path) -> None:
    """`appendonlydir` is swapped for a link in the middle: the rest goes where it began, or nowhere."""
    prey = tmp_path / "prey"
    prey.mkdir()

    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        await machine.write(1, "k", "v" * 20_000)
        engines = machine.engines
        still = await engines.pause(1, 5000)
        cut = await engines.note_cut(1, "1-1", still)
        (prey / cut.file).write_text("root only")
        await engines.resume(1)
        target = tmp_path / "copy"
        await engines.claim_target(spec.directory, str(target), LABEL)
        swapped = False

        async def swap(percent: int) -> None:
            nonlocal swapped
            if not swapped:
                swapped = True
                os.rename(target / "appendonlydir", tmp_path / "before")
                os.symlink(prey, target / "appendonlydir")

        try:
            await engines.write_copy(spec.directory, "1-1", str(target), LABEL, rate=20_000, report=swap)
        except EngineRefused:
            pass
        assert swapped
        assert [path.read_text() for path in prey.iterdir()] == ["root only"]

    plays(tmp_path, scenario)


def test_no_file_of_a_running_archive_can_be_read_by_others(tmp_path: Path) -> None:
    """Even if its directory was open to all when it was given, and the manager's umask lets everybody read."""
    old = os.umask(0o022)
    try:
        directory = tmp_path / "archive-1"
        directory.mkdir()
        directory.chmod(0o755)

        async def scenario(machine: ValkeyMachine) -> None:
            await leading(machine, machine.spec(1, 1))
            await machine.write(1, "k", "v")
            open_ones = [str(p) for p in (directory, *directory.rglob("*")) if not p.is_symlink() and mode(p) & 0o077]
            assert open_ones == []

        plays(tmp_path, scenario)
    finally:
        os.umask(old)


def test_an_engine_inherits_no_variable_that_could_be_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUOCMD_BASIC_CREDS", "canary:canary")
    monkeypatch.setenv("DKV_STATE", "etcd:https://u:canary@h")

    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        pid = machine.pid(1)
        for process in (pid, int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])):
            assert "canary" not in Path(f"/proc/{process}/environ").read_text()

    plays(tmp_path, scenario)


def test_what_a_dead_engine_said_is_kept_without_following_a_link(tmp_path: Path) -> None:
    prey = tmp_path / "prey"
    prey.write_text("mine")

    async def scenario(machine: ValkeyMachine) -> None:
        spec = machine.spec(1, 1)
        await leading(machine, spec)
        Path(spec.directory, "previous-engine.log").symlink_to(prey)
        machine.kill_from_outside(1)
        await ended(machine, 1)
        await machine.engines.forget_exit(1)
        assert prey.read_text() == "mine"
        assert "Ready to accept" in Path(spec.directory, "previous-engine.log").read_text()
        assert not Path(spec.directory, "previous-engine.log").is_symlink()

    plays(tmp_path, scenario)


def test_only_ours_and_roots_files_are_read(tmp_path: Path) -> None:
    """A pipe in the place of a file would hold its reader for ever."""
    directory = tmp_path / "archive"
    assert prepares(tmp_path, directory) is None
    os.unlink(directory / "identity.json")
    os.mkfifo(directory / "identity.json")
    refusal = prepares(tmp_path, directory, fresh=False)
    assert refusal is not None
    assert refusal.cause is Cause.DIRECTORY_UNSAFE
