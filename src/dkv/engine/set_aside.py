"""Engine room: the tail of an archive that is about to be overwritten, copied to a file beside it."""

from __future__ import annotations

import os
from pathlib import Path

from dkv.engine import archive
from dkv.engine.contract import Position
from dkv.engine.positions import bytes_after


def copy_tail(directory: str, start_id: int, keep: Position) -> str | None:
    """Copy what comes after `keep` and make it last; the path, None when nothing does.

    A copy that is there stays: repeated after the resync, there would be nothing left to copy.
    """
    folder = Path(directory, "set-aside")
    path = folder / f"{start_id}-after-{keep.term}-{keep.sequence}.aof"
    fresh = path.with_suffix(".new")
    size = 0
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if path.exists():
            return str(path)
        with open(fresh, "wb") as file:
            for block in bytes_after(directory, keep):
                size += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if size:
            fresh.rename(path)
        else:
            fresh.unlink()
    except OSError as error:
        raise archive.unusable(directory, error) from error
    return str(path) if size else None
