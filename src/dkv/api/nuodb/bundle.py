"""API: the ZIP of diagnostics/logs: what one server can say of itself, and nothing that must stay secret.

Every member begins with `<server id>/`, so that the bundles of several servers can be unpacked into one place.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from dkv import files
from dkv.api.context import LogFile, ManagerContext
from dkv.api.nuodb import schemas
from dkv.api.nuodb.safe_regex import matches
from dkv.control.submit import View
from dkv.store.contract import Snapshot

LARGEST_FILE = 32_000_000  # bytes; of a longer log its end is taken
HIDDEN = "(hidden)"
SECRET_FIELDS = ("secret", "password", "passwords", "hash_seed")  # how their names end, such as dba_password
SEALED_KEYS = ("key", "other_key")  # of an authority
SECRET_WORDS = re.compile(r"pass|secret|token|key|cred|auth", re.IGNORECASE)
CREDENTIALS = (
    re.compile(r"(//)[^\s]*(@)"),  # //user:password@, to the last @: a password may have one
    re.compile(r"((?:^|[\s,;=:])[^\s/:@,;=]+:)[^\s/@]+(@)"),  # user:password@
    re.compile(r"((?:pass\w*|secret|token|key|cred\w*|auth\w*)=)[^\s&;,]+()", re.IGNORECASE),
)
SHOWN_VARIABLES = re.compile(r"(DKV|NUO|LC|PYTHON|VALKEY)_?.*|LANG|PATH|TZ|HOME|USER")


@dataclass(frozen=True)
class BundleRequest:
    """What the caller wants of the logs."""

    threads: bool = False
    cores: bool = False
    modified_after: int = 0  # s since 1970
    ignore: str = ""  # a pattern of file and directory names to leave out


def told_state(snapshot: Snapshot) -> schemas.DomainState:
    """The domain's records as objects, without passwords and without the values of the key-value store."""
    records = {key: _open(key, json.loads(text)) for key, text in snapshot.records.items()}
    return {"revision": snapshot.revision, "records": records}


def _open(key: str, record: Any) -> Any:
    if key.startswith("record/kvstore/"):
        return record | {"value": HIDDEN}
    if key.startswith("authority/"):
        return record | dict.fromkeys(SEALED_KEYS, HIDDEN)
    if key.startswith("record/"):
        record = record | {"value": json.loads(record["value"])}
    return _without_secrets(record)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: HIDDEN if name.lower().endswith(SECRET_FIELDS) else _without_secrets(item) for name, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def shown_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that concern dkv, what could be a secret hidden."""
    shown = {name: value for name, value in sorted(environment.items()) if SHOWN_VARIABLES.fullmatch(name)}
    return {name: HIDDEN if SECRET_WORDS.search(name) else without_credentials(value) for name, value in shown.items()}


def without_credentials(text: str) -> str:
    """A text with what could be a password in an address (`//user:password@host`, `?token=...`) hidden."""
    for pattern in CREDENTIALS:
        text = pattern.sub(rf"\1{HIDDEN}\2", text)
    return text


def tasks_report() -> str:
    """What the manager's tasks and threads wait for. To be called in its event loop."""
    lines = []
    for task in asyncio.all_tasks():
        stack = [traceback.format_list(traceback.extract_stack(frame, 1))[0] for frame in task.get_stack(limit=8)]
        lines.append(f"task {task.get_name()}\n{''.join(stack)}")
    for number, frame in sys._current_frames().items():
        lines.append(f"thread {number}\n{''.join(traceback.format_stack(frame, 20))}")
    return "\n".join(lines)


async def bundle(manager: ManagerContext, request: BundleRequest) -> IO[bytes]:
    """The ZIP, at its beginning; whoever reads it closes it. Raises StoreError."""
    view, snapshot = await manager.submitter.view(), await manager.submitter.snapshot()
    texts = {
        "domain-state.json": json.dumps(told_state(snapshot), indent=2, sort_keys=True),
        "environment.json": json.dumps(shown_environment(manager.machine.environment()), indent=2),
        "settings.json": json.dumps(dict(manager.configured()), indent=2, sort_keys=True),
        "about.txt": _about(manager, view, request),
    }
    if request.threads:
        texts["threads.txt"] = tasks_report()
    logs = [file for file in manager.machine.logs(view.state) if _wanted(file, request)]
    return await asyncio.to_thread(_packed, manager.server_id, texts, logs)


def _about(manager: ManagerContext, view: View, request: BundleRequest) -> str:
    lines = [f"Server {manager.server_id} at {manager.address}:{manager.port}, {manager.version}, revision {view.revision}."]
    lines += [f"Of a log longer than {LARGEST_FILE} bytes its end is here."]
    lines += ["Passwords, and the values of the key-value store, are left out."]
    lines += ["Core files are where the system puts them (core_pattern); dkv collects none."] if request.cores else []
    return "\n".join(lines) + "\n"


def _wanted(file: LogFile, request: BundleRequest) -> bool:
    if request.ignore and any(matches(request.ignore, part) for part in file.name.split("/")):
        return False
    try:
        return file.path.lstat().st_mtime >= request.modified_after
    except OSError:
        return False  # it went away: an engine ended


def _packed(server_id: str, texts: Mapping[str, str], logs: list[LogFile]) -> IO[bytes]:
    target = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, text in texts.items():
            pack.writestr(f"{server_id}/{name}", text)
        for file in logs:
            _add(pack, f"{server_id}/{file.name}", file)
    target.seek(0)
    return target


def _add(pack: zipfile.ZipFile, name: str, file: LogFile) -> None:
    """Put in what is a file of ours in a directory of ours; whatever else has its name is left out."""
    with suppress(OSError), files.proven(file.path) as source, pack.open(name, "w") as member:
        source.seek(-min(LARGEST_FILE, os.fstat(source.fileno()).st_size), os.SEEK_END)
        left = LARGEST_FILE  # it may be growing
        while left > 0 and (chunk := source.read(min(left, 1 << 20))):
            member.write(chunk)
            left -= len(chunk)


def chunks(packed: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a bundle, which is closed at its end or when the client is gone."""
    with packed:
        while chunk := packed.read(1 << 18):
            yield chunk
