"""Engine: the tail of an archive that is about to be overwritten, copied to a file beside it."""

from __future__ import annotations

import os
from contextlib import suppress

from dkv import files
from dkv.engine import archive
from dkv.engine.contract import Position
from dkv.engine.positions import bytes_after


def copy_tail(directory: str, start_id: int, keep: Position) -> str | None:
    """Copy what comes after `keep` and make it last; the path, None when nothing does.

    A copy that is there stays: repeated after the resync, there would be nothing left to copy.
    """
    name = f"{start_id}-after-{keep.term}-{keep.sequence}.aof"
    path = os.path.join(directory, "set-aside", name)
    try:
        with files.directory(os.path.dirname(path), make=True) as folder:
            if files.there(name, at=folder) or _copied(directory, keep, name, folder):
                return path
    except OSError as error:
        raise archive.unusable(directory, error) from error
    return None


def _copied(directory: str, keep: Position, name: str, folder: int) -> bool:
    """Whether there was anything to copy. Raises OSError, ArchiveRefused."""
    fresh = f"{files.FRESH}{name}"
    with suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=folder)  # of an attempt that was interrupted
    size = 0
    with os.fdopen(files.make_file(fresh, at=folder), "wb") as file:
        for block in bytes_after(directory, keep):
            size += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if size:
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(fresh, dir_fd=folder)
    return size > 0
