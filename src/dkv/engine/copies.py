"""Copies of an archive's files up to a cut: noted with links in a moment, written in peace, recognised when restored.

A link keeps a file from being rewritten away; it does not keep it from growing, so a cut is links and lengths. A copy
says of itself what it is (hot-copy.json, written last): an archive has that file's place taken by identity.json, so
neither is ever mistaken for the other.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dkv.engine.archive import APPEND_ONLY_DIR, unusable, write_whole
from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, CutSeen, EngineRefused, Identity
from dkv.engine.positions import manifest

LABEL_FILE = "hot-copy.json"
_UNFINISHED = "hot-copy.unfinished"
_CUTS = "hot-copy"                 # below the archive: one directory for each cut
_CUT_FILE = "cut.json"
_MANIFEST = "appendonly.aof.manifest"
_CHUNK = 1 << 20
_SLOWEST = 4 << 10                 # bytes of the smallest chunk a rate is cut into
_SYNC_EVERY = 16 << 20             # bytes between two syncs, so that no single one holds up the engines of that disk
_TELL_EVERY = 0.5                  # seconds between two looks whether the copy is still wanted
_VERSION = 1


@dataclass(frozen=True)
class _File:
    name: str
    sequence: int
    kind: str
    length: int


# The cut ---------------------------------------------------------------------------------------------------------


def note_cut(directory: str, name: str) -> CutSeen:
    """Link the archive's files as its manifest names them now, and note their lengths. Cuts of other names are dropped.

    A cut that was noted stays as it is: noted again after writes went on, it would be another moment. Whoever calls has
    made sure that the engine writes nothing that it acknowledges. Raises EngineRefused.
    """
    folder = Path(directory, _CUTS, name)
    if (folder / _CUT_FILE).exists():
        return _seen(_read_cut(directory, name))
    drop_cut(directory)
    try:
        folder.mkdir(mode=0o700, parents=True)
        files = _linked(directory, folder)
        said = {"version": _VERSION, "files": [asdict(file) for file in files]}
        write_whole(folder / _CUT_FILE, json.dumps(said) + "\n")
    except OSError as error:
        raise EngineRefused(f"the files of {directory} cannot be linked: {error.strerror or error}") from error
    return _seen(files)


def _seen(files: list[_File]) -> CutSeen:
    newest = next(file for file in reversed(files) if file.kind == "i")
    return CutSeen(newest.name, newest.length, sum(file.length for file in files))


def _linked(directory: str, folder: Path) -> list[_File]:
    """A rewrite may end between manifest and files: then once more."""
    for _ in range(20):
        before = manifest(directory)
        try:
            files = [_link(directory, folder, f.name, f.sequence, f.kind) for f in before if f.kind != "h"]
        except FileNotFoundError:
            files = []
        if files and manifest(directory) == before and any(f.kind == "i" for f in files):
            return files
        for left in folder.iterdir():
            left.unlink()
    raise EngineRefused(f"the files of {directory} do not come to rest")


def _link(directory: str, folder: Path, name: str, sequence: int, kind: str) -> _File:
    os.link(os.path.join(directory, APPEND_ONLY_DIR, name), folder / name)
    fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        return _File(name, sequence, kind, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def newest_file(directory: str) -> tuple[str, int]:
    """The incremental file an engine appends to, and its length. Raises EngineRefused."""
    try:
        for _ in range(20):
            name = [f.name for f in manifest(directory) if f.kind == "i"][-1]
            size = os.stat(os.path.join(directory, APPEND_ONLY_DIR, name)).st_size
            if [f.name for f in manifest(directory) if f.kind == "i"][-1] == name:
                return name, size
    except (OSError, IndexError) as error:
        raise EngineRefused(f"the files of {directory} cannot be read: {error}") from error
    raise EngineRefused(f"the files of {directory} do not come to rest")


def drop_cut(directory: str, name: str = "") -> None:
    """Remove the links of a cut, of all cuts without a name. What is not there is dropped already."""
    folder = Path(directory, _CUTS, name) if name else Path(directory, _CUTS)
    shutil.rmtree(folder, ignore_errors=True)


def _read_cut(directory: str, name: str) -> list[_File]:
    try:
        said = json.loads(Path(directory, _CUTS, name, _CUT_FILE).read_text())
        return [_File(**file) for file in said["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineRefused(f"the cut {name} of {directory} is not there any more") from error


# The place of a copy -----------------------------------------------------------------------------------------------


def claim_target(directory: str, target: str, label: CopyLabel) -> None:
    """Make the directory of a copy and sign it; one of the same copy that was interrupted is taken up again.

    Raises EngineRefused when it holds anything else, lies inside the archive, or lacks room.
    """
    here, there = os.path.realpath(directory), os.path.realpath(target)
    if f"{there}/".startswith(f"{here}/") or f"{here}/".startswith(f"{there}/"):
        raise EngineRefused(f"{target} and the archive {directory} lie in each other")
    try:
        os.makedirs(target, mode=0o700, exist_ok=True)
        held = set(os.listdir(target))
        if held and not _is_mine(target, label):
            raise EngineRefused(f"{target} is not empty")
        if not held:
            write_whole(Path(target, _UNFINISHED), _text(label, []))
        need = _size(Path(directory, APPEND_ONLY_DIR))
        disk = os.statvfs(target)
    except OSError as error:
        raise EngineRefused(f"{target}: {error.strerror or error}") from error
    if disk.f_bavail * disk.f_frsize < need:
        raise EngineRefused(f"{target} has {disk.f_bavail * disk.f_frsize} bytes free and the archive has {need}")


def _size(folder: Path) -> int:
    """Bytes of the files there; a rewrite may take one away meanwhile."""
    total = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def _is_mine(target: str, label: CopyLabel) -> bool:
    return label in (_label_in(Path(target, _UNFINISHED)), _label_in(Path(target, LABEL_FILE)))


def abandon_target(target: str, label: CopyLabel) -> None:
    """Remove what an unfinished copy left. A whole one, and a stranger's directory, stay as they are."""
    if _label_in(Path(target, _UNFINISHED)) != label or os.path.exists(os.path.join(target, LABEL_FILE)):
        return
    shutil.rmtree(os.path.join(target, APPEND_ONLY_DIR), ignore_errors=True)
    Path(target, _UNFINISHED).unlink(missing_ok=True)


# Writing ---------------------------------------------------------------------------------------------------------


async def write_copy(
    directory: str, name: str, target: str, label: CopyLabel, *, rate: int, tell: Callable[[int], Awaitable[None]]
) -> None:
    """Copy a cut's files into the claimed directory, at most `rate` bytes per second, and label it when it is whole.

    `tell` is told the percentage twice a second and may raise to end the copy. Raises EngineRefused.
    """
    if _label_in(Path(target, LABEL_FILE)) == label:
        return
    files = await asyncio.to_thread(_read_cut, directory, name)
    if not _is_mine(target, label):
        raise EngineRefused(f"{target} is another copy's by now")
    pace = _Pace(rate, sum(file.length for file in files), tell)
    try:
        await asyncio.to_thread(_empty, target)
        for file in files:
            await _copy_file(Path(directory, _CUTS, name, file.name), Path(target, APPEND_ONLY_DIR, file.name), file.length, pace)
        await asyncio.to_thread(_complete, target, label, files)
    except OSError as error:
        full = " (no room is left)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise EngineRefused(f"{target}: {error.strerror or error}{full}") from error


def _empty(target: str) -> None:
    """What an interrupted attempt left is written again."""
    folder = Path(target, APPEND_ONLY_DIR)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _complete(target: str, label: CopyLabel, files: list[_File]) -> None:
    """The manifest, then the label: with it the copy is whole."""
    lines = "".join(f"file {f.name} seq {f.sequence} type {f.kind}\n" for f in files)
    write_whole(Path(target, APPEND_ONLY_DIR, _MANIFEST), lines)
    write_whole(Path(target, LABEL_FILE), _text(label, files))
    Path(target, _UNFINISHED).unlink(missing_ok=True)


class _Pace:
    """How fast a copy goes, and how far it is."""

    def __init__(self, rate: int, total: int, tell: Callable[[int], Awaitable[None]]) -> None:
        self.chunk = max(_SLOWEST, min(_CHUNK, rate // 10)) if rate else _CHUNK
        self._rate, self._total, self._tell = rate, max(1, total), tell
        self._done, self._began, self._told = 0, time.monotonic(), time.monotonic()

    async def wrote(self, count: int) -> None:
        """Tell, and wait until so much was allowed."""
        self._done += count
        while True:
            now = time.monotonic()
            if now - self._told >= _TELL_EVERY:
                self._told = now
                await self._tell(min(99, 100 * self._done // self._total))
            ahead = self._began + self._done / self._rate - now if self._rate else 0.0
            if ahead <= 0:
                return
            await asyncio.sleep(min(ahead, _TELL_EVERY))


async def _copy_file(source: Path, place: Path, length: int, pace: _Pace) -> None:
    done = unsynced = 0
    await asyncio.to_thread(place.touch, 0o600)
    while done < length:
        count = min(pace.chunk, length - done)
        unsynced += count
        sync = unsynced >= _SYNC_EVERY or done + count == length
        count = await asyncio.to_thread(_chunk, source, place, done, count, sync)
        done, unsynced = done + count, 0 if sync else unsynced
        await pace.wrote(count)


def _chunk(source: Path, place: Path, offset: int, count: int, sync: bool) -> int:
    with open(source, "rb") as old, open(place, "r+b", buffering=0) as new:
        block = os.pread(old.fileno(), count, offset)
        if not block:
            raise OSError(errno.EIO, "a file of the cut is shorter than it was")
        written = os.pwrite(new.fileno(), block, offset)
        if sync:
            os.fsync(new.fileno())
        return written


# Restoring ---------------------------------------------------------------------------------------------------------


def _text(label: CopyLabel, files: list[_File]) -> str:
    return json.dumps({"version": _VERSION, **asdict(label), "files": [asdict(file) for file in files]}, indent=2) + "\n"


def _said(path: Path) -> dict[str, object] | None:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _label_in(path: Path) -> CopyLabel | None:
    said = _said(path)
    try:
        return None if said is None else _label(said)
    except (KeyError, TypeError, ValueError):
        return None


def _label(said: dict[str, object]) -> CopyLabel:
    identity, slots, at = said["identity"], said["slots"], said["at"]
    assert isinstance(identity, dict) and isinstance(slots, list) and isinstance(at, int)
    return CopyLabel(str(said["cut"]), Identity(**identity), tuple((int(a), int(b)) for a, b in slots), at)


def label_of(directory: str) -> CopyLabel | None:
    """What a whole hot copy, or an archive that was one, says of itself."""
    return _label_in(Path(directory, LABEL_FILE))


def check_copy(directory: str, slots: tuple[tuple[int, int], ...]) -> CopyLabel:
    """The label of a whole copy of exactly these slots. Reads only. Raises ArchiveRefused with a cause of its own."""
    path = Path(directory, LABEL_FILE)
    said, label = _said(path), _label_in(path)
    if said is None or label is None:
        raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} holds no hot copy that is whole")
    for wrong in _damages(directory, said):
        raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} is damaged: {wrong}")
    if label.slots != slots:
        what = f"group {label.identity.group} of {label.identity.database}, slots {_ranges(label.slots)}"
        raise ArchiveRefused(Cause.COPY_OF_ANOTHER_GROUP, f"{directory} is a copy of {what}; wanted are slots {_ranges(slots)}")
    return label


def _damages(directory: str, said: dict[str, object]) -> Iterator[str]:
    files = said.get("files")
    for file in files if isinstance(files, list) else []:
        name = os.path.join(directory, APPEND_ONLY_DIR, str(file["name"]))
        try:
            size = os.stat(name).st_size
        except FileNotFoundError:
            yield f"{file['name']} is missing"
            continue
        except OSError as error:
            raise unusable(directory, error) from error
        if size != file["length"]:
            yield f"{file['name']} has {size} bytes and should have {file['length']}"
    if not manifest(directory):
        yield "it has no manifest"


def _ranges(slots: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(f"{low}-{high}" for low, high in slots)
