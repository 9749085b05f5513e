"""Engine: what an engine deleted because it lost its hash slots, found in its append-only file and kept as it was.

An engine that hears of another owner of its slots, in a higher epoch, deletes the keys in them: `UNLINK key`, one by one,
slot by slot in rising order, into its file and to its followers (measured on 9.1.2, decision 0026). Everything before
is still in the file until the next rewrite. Deletions that clients asked for just before, of keys in no higher slots, cannot
be told from the engine's own.
"""

from __future__ import annotations

import mmap
import os
from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass

from dkv import files
from dkv.constants import SLOTS
from dkv.engine import aof, archive
from dkv.engine.contract import EngineRefused, KeptDeletions
from dkv.engine.positions import manifest

_REMOVALS = (b"UNLINK", b"DEL")
_NEUTRAL = (b"SELECT", b"FUNCTION")  # what may stand between the deletions: another database, a marker of dkv
_MANIFEST = "appendonly.aof.manifest"
_DELETED = "with-deletions"  # the replaced files, in the directory of the copy


@dataclass(frozen=True)
class Run:
    """The deletions at the end of a file: the offset of the first, and how many."""

    start: int
    keys: int


def slot_of(key: bytes) -> int:
    """The hash slot of a key, by what stands between the first braces if anything does."""
    begins = key.find(b"{")
    ends = key.find(b"}", begins + 1) if begins >= 0 else -1
    return crc_hqx(key[begins + 1 : ends] if ends > begins + 1 else key, 0) % SLOTS


def last_run(data: bytes | mmap.mmap) -> Run | None:
    """The deletions in rising order of slots with which a file ends; None if it ends with anything else."""
    start, keys, slot = -1, 0, -1
    for offset, words in _commands(data):
        if len(words) == 2 and words[0] in _REMOVALS:
            here = slot_of(words[1])
            if start < 0 or here < slot:
                start, keys = offset, 0
            keys, slot = keys + 1, here
        elif words[0] not in _NEUTRAL:
            start, keys, slot = -1, 0, -1
    return Run(start, keys) if keys else None


def _commands(data: bytes | mmap.mmap) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Offset and first two words of each whole command; stops where something else begins."""
    at, size = 0, len(data)
    while at < size and data[at : at + 1] == b"*":
        eol = data.find(b"\r\n", at)
        if eol < 0:
            return
        count, place, words = int(data[at + 1 : eol]), eol + 2, []
        for index in range(count):
            eol = data.find(b"\r\n", place)
            if eol < 0 or data[place : place + 1] != b"$":
                return
            ends = eol + 2 + int(data[place + 1 : eol])
            if ends + 2 > size:
                return
            if index == 0 or (index == 1 and count == 2):
                words.append(bytes(data[eol + 2 : ends]))
            place = ends + 2
        words[0] = words[0].upper()
        yield at, tuple(words)
        at = place


def keep(directory: str, start_id: int) -> KeptDeletions | None:
    """Copy the files as they were before the deletions at their end; None if they do not end in any. Raises ArchiveRefused."""
    try:
        named = [file for file in manifest(directory) if file.kind != "h"]
        if not named or named[-1].kind != "i":
            return None
        with files.directory(os.path.join(directory, archive.APPEND_ONLY_DIR)) as source:
            with files.opened(named[-1].name, at=source) as last:
                if not os.fstat(last.fileno()).st_size:
                    return None
                with mmap.mmap(last.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    run = last_run(data)
                    path = _copied(directory, start_id, source, named, data[: run.start]) if run else None
    except (OSError, ValueError) as error:
        raise archive.unusable(directory, error if isinstance(error, OSError) else OSError(str(error))) from error
    return KeptDeletions(path, run.keys, whole=True) if run and path else None


def _copied(directory: str, start_id: int, source: int, named: list[aof.ManifestFile], last: bytes) -> str:
    """The manifest comes last: without it the copy is none. What is never written to again needs no second copy."""
    path = _free_name(directory, start_id)
    with files.directory(os.path.join(path, archive.APPEND_ONLY_DIR), make=True) as target:
        for file in named[:-1]:
            os.link(file.name, file.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        with os.fdopen(files.make_file(named[-1].name, at=target), "wb") as copy:
            copy.write(last)
            copy.flush()
            os.fsync(copy.fileno())
        lines = (f"file {file.name} seq {file.sequence} type {file.kind}\n" for file in named)
        files.write_new(_MANIFEST, "".join(lines), at=target)
    return path


def _free_name(directory: str, start_id: int) -> str:
    """The path of a copy that is not there yet."""
    aside = os.path.join(directory, "set-aside")
    taken = set(files.names_in(aside))
    name = next(name for number in range(1, 10**6) if (name := f"{start_id}-before-deletions-{number}") not in taken)
    return os.path.join(aside, name)


def put_back(directory: str, path: str) -> None:
    """Exchange the files of an archive, whose lock the caller holds, for the copy. What they were is kept beside it.

    Raises EngineRefused, ArchiveRefused.
    """
    try:
        with files.directory(directory) as current, files.directory(path) as aside:
            with files.directory(os.path.join(path, archive.APPEND_ONLY_DIR)) as copy:
                if not files.there(_MANIFEST, at=copy):
                    raise EngineRefused(f"there is no copy in {path}")
            os.rename(archive.APPEND_ONLY_DIR, _DELETED, src_dir_fd=current, dst_dir_fd=aside)
            os.rename(archive.APPEND_ONLY_DIR, archive.APPEND_ONLY_DIR, src_dir_fd=aside, dst_dir_fd=current)
    except OSError as error:
        raise archive.unusable(directory, error) from error
