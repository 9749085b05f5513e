"""members: the newest state of the domain that a manager has seen, as a file in its data directory.

Where all machines with a voter are lost, it is what the domain is recovered from: `dkv recover domain`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from dkv import files
from dkv.store.backup_file import backup_text
from dkv.store.contract import Snapshot, Store

KNOWN_STATE = "known-state"  # below the data directory; as `dkv backup state` writes it
AT_MOST_EVERY = 1.0  # s


async def keep_known_state(store: Store, data_dir: Path, domain: str) -> None:
    """Write each newest state that is seen, once a second at most, until cancelled. A disk that is full is tried again."""
    async for snapshot in store.watch():
        try:
            await asyncio.to_thread(_write, snapshot, data_dir, domain)
        except OSError:
            pass  # what it says is older then; the file says of which revision it is
        await asyncio.sleep(AT_MOST_EVERY)


def _write(snapshot: Snapshot, data_dir: Path, domain: str) -> None:
    text = backup_text(domain, snapshot.revision, snapshot.records)
    with files.directory(data_dir) as folder:
        files.write_new(KNOWN_STATE, text, at=folder)
