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
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from dkv import files
from dkv.engine.archive import APPEND_ONLY_DIR, unusable
from dkv.engine.contract import ArchiveRefused, Cause, CopyLabel, CutSeen, EngineRefused, Identity
from dkv.engine.positions import manifest

LABEL_FILE = "hot-copy.json"
_UNFINISHED = "hot-copy.unfinished"
_CUTS = "hot-copy"  # below the archive: one directory for each cut
_CUT_FILE = "cut.json"
_MANIFEST = "appendonly.aof.manifest"
_CHUNK = 1 << 20
_SLOWEST = 4 << 10  # bytes of the smallest chunk a rate is cut into
_SYNC_EVERY = 16 << 20  # bytes between two syncs, so that no single one holds up the engines of that disk
_REPORT_EVERY = 0.5  # seconds between two looks whether the copy is still wanted
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

    A cut that was noted stays as it is: noted again after writes went on, it would be another moment. The caller has
    made sure that the engine writes nothing that it acknowledges. Raises EngineRefused.
    """
    if os.path.lexists(os.path.join(directory, _CUTS, name, _CUT_FILE)):
        return _seen(_read_cut(directory, name))
    drop_cut(directory)
    try:
        with files.directory(os.path.join(directory, _CUTS, name), make=True) as folder:
            linked = _linked(directory, folder)
            fields = {"version": _VERSION, "files": [asdict(file) for file in linked]}
            files.write_new(_CUT_FILE, json.dumps(fields) + "\n", at=folder)
    except OSError as error:
        raise EngineRefused(f"the files of {directory} cannot be linked: {error.strerror or error}") from error
    return _seen(linked)


def _seen(cut: list[_File]) -> CutSeen:
    newest = next(file for file in reversed(cut) if file.kind == "i")
    return CutSeen(newest.name, newest.length, sum(file.length for file in cut))


def _linked(directory: str, folder: int) -> list[_File]:
    """A rewrite may end between manifest and files: then once more."""
    with files.directory(os.path.join(directory, APPEND_ONLY_DIR)) as source:
        for _ in range(20):
            before = manifest(directory)
            try:
                linked = [_link(source, folder, f.name, f.sequence, f.kind) for f in before if f.kind != "h"]
            except FileNotFoundError:
                linked = []
            if linked and manifest(directory) == before and any(f.kind == "i" for f in linked):
                return linked
            for left in os.listdir(folder):
                os.unlink(left, dir_fd=folder)
    raise EngineRefused(f"the files of {directory} do not come to rest")


def _link(source: int, folder: int, name: str, sequence: int, kind: str) -> _File:
    os.link(name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    fd = files.open_file(name, at=folder)
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
    with suppress(OSError), files.directory(os.path.join(directory, _CUTS) if name else directory) as above:
        files.remove_tree(name or _CUTS, at=above)


def _read_cut(directory: str, name: str) -> list[_File]:
    try:
        fields = json.loads(files.read_text(os.path.join(directory, _CUTS, name, _CUT_FILE)))
        return [_File(**file) for file in fields["files"]]
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
        with files.directory(target, make=True) as place:
            held = [name for name in os.listdir(place) if not name.startswith(files.FRESH)]
            if held and not _is_mine(target, label):
                raise EngineRefused(f"{target} is not empty")
            files.make_private(place)
            if not held:
                files.write_new(_UNFINISHED, _text(label, []), at=place)
            disk = os.statvfs(place)
        need = _size(directory)
    except OSError as error:
        raise EngineRefused(f"{target}: {error.strerror or error}") from error
    if disk.f_bavail * disk.f_frsize < need:
        raise EngineRefused(f"{target} has {disk.f_bavail * disk.f_frsize} bytes free and the archive has {need}")


def _size(directory: str) -> int:
    """Bytes of its append-only files; a rewrite may take one away meanwhile."""
    total = 0
    with files.directory(os.path.join(directory, APPEND_ONLY_DIR)) as folder:
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                total += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    return total


def _is_mine(target: str, label: CopyLabel) -> bool:
    return label in (_label_in(target, _UNFINISHED), _label_in(target, LABEL_FILE))


def abandon_target(target: str, label: CopyLabel) -> None:
    """Remove what an unfinished copy left. A whole one, and a stranger's directory, stay as they are."""
    if _label_in(target, _UNFINISHED) != label or os.path.lexists(os.path.join(target, LABEL_FILE)):
        return
    with suppress(OSError), files.directory(target) as place:
        files.remove_tree(APPEND_ONLY_DIR, at=place)
        os.unlink(_UNFINISHED, dir_fd=place)


# Writing ---------------------------------------------------------------------------------------------------------


async def write_copy(
    directory: str, name: str, target: str, label: CopyLabel, *, rate: int, report: Callable[[int], Awaitable[None]]
) -> None:
    """Copy a cut's files into the claimed directory, at most `rate` bytes per second, and label it when it is whole.

    `report` is called with the percentage twice a second and may raise to end the copy. Raises EngineRefused.
    """
    if _label_in(target, LABEL_FILE) == label:
        return
    cut = await asyncio.to_thread(_read_cut, directory, name)
    if not _is_mine(target, label):
        raise EngineRefused(f"{target} is another copy's by now")
    pace = _Pace(rate, sum(file.length for file in cut), report)
    try:
        with files.directory(target) as place, files.directory(os.path.join(directory, _CUTS, name)) as source:
            await asyncio.to_thread(files.remove_tree, APPEND_ONLY_DIR, at=place)  # of an interrupted attempt
            os.mkdir(APPEND_ONLY_DIR, files.PRIVATE, dir_fd=place)
            with files.directory(os.path.join(target, APPEND_ONLY_DIR)) as folder:
                for file in cut:
                    await _copy_file(file, source, folder, pace)
                await asyncio.to_thread(_complete, place, folder, label, cut)
    except OSError as error:
        full = " (no room is left)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise EngineRefused(f"{target}: {error.strerror or error}{full}") from error


class _Pace:
    """How fast a copy goes, and how far it is."""

    def __init__(self, rate: int, total: int, report: Callable[[int], Awaitable[None]]) -> None:
        self.chunk = max(_SLOWEST, min(_CHUNK, rate // 10)) if rate else _CHUNK
        self._rate, self._total, self._report = rate, max(1, total), report
        self._done, self._began, self._reported_at = 0, time.monotonic(), time.monotonic()

    async def wrote(self, count: int) -> None:
        """Report, and wait until so much was allowed."""
        self._done += count
        while True:
            now = time.monotonic()
            if now - self._reported_at >= _REPORT_EVERY:
                self._reported_at = now
                await self._report(min(99, 100 * self._done // self._total))
            ahead = self._began + self._done / self._rate - now if self._rate else 0.0
            if ahead <= 0:
                return
            await asyncio.sleep(min(ahead, _REPORT_EVERY))


def _complete(place: int, folder: int, label: CopyLabel, cut: list[_File]) -> None:
    """The manifest, then the label: with it the copy is whole."""
    lines = "".join(f"file {f.name} seq {f.sequence} type {f.kind}\n" for f in cut)
    files.write_new(_MANIFEST, lines, at=folder)
    files.write_new(LABEL_FILE, _text(label, cut), at=place)
    with suppress(FileNotFoundError):
        os.unlink(_UNFINISHED, dir_fd=place)


async def _copy_file(file: _File, source: int, folder: int, pace: _Pace) -> None:
    """Both files stay open: whatever is done to their names meanwhile, these are read and written."""
    with files.opened(file.name, at=source) as old, os.fdopen(files.make_file(file.name, at=folder), "wb") as new:
        done = unsynced = 0
        while done < file.length:
            count = min(pace.chunk, file.length - done)
            unsynced += count
            sync = unsynced >= _SYNC_EVERY or done + count == file.length
            count = await asyncio.to_thread(_chunk, old.fileno(), new.fileno(), done, count, sync)
            done, unsynced = done + count, 0 if sync else unsynced
            await pace.wrote(count)


def _chunk(old: int, new: int, offset: int, count: int, sync: bool) -> int:
    block = os.pread(old, count, offset)
    if not block:
        raise OSError(errno.EIO, "a file of the cut is shorter than it was")
    written = os.pwrite(new, block, offset)
    if sync:
        os.fsync(new)
    return written


# Restoring ---------------------------------------------------------------------------------------------------------


def _text(label: CopyLabel, cut: list[_File]) -> str:
    return json.dumps({"version": _VERSION, **asdict(label), "files": [asdict(file) for file in cut]}, indent=2) + "\n"


def _fields(directory: str, name: str) -> dict[str, object] | None:
    try:
        fields = json.loads(files.read_text(os.path.join(directory, name)))
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _label_in(directory: str, name: str) -> CopyLabel | None:
    fields = _fields(directory, name)
    try:
        return None if fields is None else _label(fields)
    except (KeyError, TypeError, ValueError):
        return None


def _label(fields: dict[str, object]) -> CopyLabel:
    identity, slots, at = fields["identity"], fields["slots"], fields["at"]
    assert isinstance(identity, dict) and isinstance(slots, list) and isinstance(at, int)
    return CopyLabel(str(fields["cut"]), Identity(**identity), tuple((int(a), int(b)) for a, b in slots), at)


def label_of(directory: str) -> CopyLabel | None:
    """What a whole hot copy, or an archive that was one, says of itself."""
    return _label_in(directory, LABEL_FILE)


def check_copy(directory: str, slots: tuple[tuple[int, int], ...]) -> CopyLabel:
    """The label of a whole copy of exactly these slots. Reads only. Raises ArchiveRefused with a cause of its own."""
    fields, label = _fields(directory, LABEL_FILE), _label_in(directory, LABEL_FILE)
    if fields is None or label is None:
        raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} holds no hot copy that is whole")
    for wrong in _damages(directory, fields):
        raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} is damaged: {wrong}")
    if label.slots != slots:
        what = f"group {label.identity.group} of {label.identity.database}, slots {_ranges(label.slots)}"
        raise ArchiveRefused(Cause.COPY_OF_ANOTHER_GROUP, f"{directory} is a copy of {what}; wanted are slots {_ranges(slots)}")
    return label


def _damages(directory: str, fields: dict[str, object]) -> Iterator[str]:
    listed = fields.get("files")
    for file in listed if isinstance(listed, list) else []:
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
