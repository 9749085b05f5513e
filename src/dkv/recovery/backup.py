"""Recovery: the backup file of a domain state, and the state file it comes from or goes to. A file that was cut off or altered is
refused with one sentence.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dkv import files
from dkv.control.submit import Submitter
from dkv.domain.decision import Event
from dkv.domain.model import State
from dkv.errors import HintedError
from dkv.store import codec
from dkv.store.backup_file import KIND, VERSION, backup_text
from dkv.store.contract import StoreError
from dkv.store.sqlite import SqliteStore

Json = dict[str, Any]


class RecoveryError(HintedError):
    """A recovery command cannot go on. Root of everything this package raises; `hint` is what to do."""


# The backup file -----------------------------------------------------------------------------------------------------


def write_backup(path: Path, document: Mapping[str, Any]) -> None:
    """Write `uid`, `revision` and `records` whole or not at all, readable by its owner only. Raises RecoveryError."""
    records: Mapping[str, str] = document["records"]
    _decoded(records, "What was read")  # what cannot be put back is no backup
    try:
        files.write_whole(path, backup_text(document["uid"], document["revision"], records))
    except OSError as error:
        raise RecoveryError(f"{path} cannot be written: {error.strerror}.", "Choose another file.") from error


def read_backup(path: Path) -> State:
    """The state a backup holds. Raises RecoveryError saying what is wrong with the file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecoveryError(f"{path} cannot be read: {getattr(error, 'strerror', 'it is no text')}.", "") from error
    head, end = _object(lines[:1]), _object(lines[-1:])
    if head.get("dkv") != KIND:
        raise RecoveryError(f"{path} is not a backup of a domain state.", "Give a file that dkv backup state wrote.")
    if head.get("version") != VERSION:
        raise RecoveryError(f"{path} was written by another version of dkv.", "Use that version.")
    if "end" not in end:
        whole = sum("key" in _object([line]) for line in lines)
        raise RecoveryError(f"{path} ends early, after {whole} of {head['records']} records.", "Use another backup.")
    if end.get("sha256") != hashlib.sha256("".join(lines[:-1]).encode()).hexdigest():
        raise RecoveryError(f"{path} was altered: its checksum is wrong.", "Use another backup.")
    records = [_object([line]) for line in lines[1:-1]]
    return _decoded({record["key"]: record["text"] for record in records}, str(path))


def revision_of(path: Path) -> int:
    """The revision of the state in a backup that `read_backup` has read. Raises OSError."""
    with path.open(encoding="utf-8") as file:
        return int(_object([file.readline()]).get("revision", 0))


def _object(lines: Sequence[str]) -> Json:
    try:
        value = json.loads(lines[0]) if lines else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _decoded(records: Mapping[str, str], source: str) -> State:
    try:
        return codec.decode(records)
    except StoreError as error:
        raise RecoveryError(f"{source} cannot be used: {error.detail}", "Use the version of dkv that wrote it.") from error


# The state file ------------------------------------------------------------------------------------------------------


def path_of(state: str) -> Path:
    """The file that `sqlite:PATH` names. Raises RecoveryError."""
    kind, _, path = state.partition(":")
    if kind != "sqlite" or not path:
        raise RecoveryError(f"The state backend {state!r} is not known.", "Write --state sqlite:PATH.")
    return Path(path).absolute()


def read_state(state: str) -> Json:
    """`uid`, `revision` and `records` of a state file, whether managers use it or not. Raises RecoveryError."""
    path = path_of(state)
    if not path.exists():
        raise RecoveryError(f"There is no state file {path}.", "Give the path that the managers have as --state.")
    return asyncio.run(_read(path))


async def _read(path: Path) -> Json:
    try:
        store = await SqliteStore.open(path)
        try:
            submitter = Submitter(store, lambda: 0, lambda: "")
            snapshot = await submitter.snapshot()
        finally:
            await store.close()
    except StoreError as error:
        raise RecoveryError(f"The state cannot be read: {error.detail}.", error.hint) from error
    uid = _decoded(snapshot.records, str(path)).uid
    return {"uid": uid, "revision": snapshot.revision, "records": dict(snapshot.records)}


def refuse_existing(path: Path) -> None:
    """Raises RecoveryError if a state, or its journal, is there: nothing is ever written over."""
    existing = [file for file in (path, Path(f"{path}-wal")) if file.exists()]
    if existing:
        raise RecoveryError(
            f"{existing[0]} exists and is not overwritten.",
            f"Stop all managers, then move {path} and its -wal and -leases files away.",
        )


def write_state(path: Path, state: State, event: Event, token: str) -> None:
    """Make the state file with this state, in one commit. Raises RecoveryError."""
    refuse_existing(path)
    try:
        with files.directory(files.without_links(path.parent), make=True):
            pass
        asyncio.run(_write(path, state, event, token))
    except (StoreError, OSError) as error:
        raise RecoveryError(f"{path} cannot be written: {error}", "Remove it before you try again.") from error


async def _write(path: Path, state: State, event: Event, token: str) -> None:
    store = await SqliteStore.open(path)
    try:
        await store.commit(0, dict(codec.encode(state)), [codec.to_text(event)], token)
    finally:
        await store.close()
