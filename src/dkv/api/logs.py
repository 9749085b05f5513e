"""API: the newest lines of one log of this server, of its manager or of an engine, and what was added since a caller looked.

Only the files that a support bundle takes too. Logs are cut while they are written (a manager's is begun anew, an engine's loses
its beginning); a caller that follows one then gets its newest lines again rather than none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from dkv import files
from dkv.api.context import Context, LogFile
from dkv.api.nuodb.bundle import without_credentials
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import status
from dkv.domain.model import State
from dkv.domain.refusals import unknown_process
from dkv.wire import schemas

router = Router(prefix="/admin/v1", tags=["looking"])

LARGEST = 1 << 20  # bytes of one answer: of more its end is taken
MOST_LINES = 10_000
MANAGERS, ENGINES, LAST_ENGINES = "manager.log", "engines/{}/", "archives/{}/"
"""How the names of logs begin: of the manager, of a living engine, of the last engine of an archive."""


@router.get("/logs")
async def logs(
    context: Context,
    start_id: Annotated[int | None, Query(alias="startId", ge=0, le=2**53)] = None,
    lines: Annotated[int, Query(ge=1, le=MOST_LINES)] = 200,
    after: Annotated[str, Query(pattern=r"^([0-9]{1,20}-[0-9]{1,20})?$")] = "",
) -> schemas.LogPart:
    """The newest `lines` of the manager's log, or of that of the process `startId` of this server; with `after`, the `next` of an
    earlier answer, only those since then. Of a TE it is the log of its engines together.
    """
    log = _log_of(context, start_id)
    try:
        text, following = await asyncio.to_thread(_read, log, after)
    except OSError as error:
        raise refuse(
            "not_found", f"The log {log.name} cannot be read: {error.strerror}.", "It may have been removed just now."
        ) from error
    newest = [without_credentials(line) for line in text.split("\n")[:-1][-lines:]]
    return {"server": context.manager.server_id, "name": log.name, "lines": newest, "next": following}


def _log_of(context: Context, start_id: int | None) -> LogFile:
    """The log that is asked for. Raises Refusal."""
    known = context.manager.machine.logs(context.state)
    if start_id is None:
        managers = next((log for log in known if log.name == MANAGERS), None)
        if managers is None:
            raise refuse("not_found", "This manager keeps no log.", "What it says goes to its standard error.")
        return managers
    head = ENGINES.format(start_id)
    found = next((log for log in known if log.name.startswith(head)), None) or _of_last(context.state, start_id, known)
    if found is None:
        raise _not_here(context, start_id)
    return found


def _of_last(state: State, start_id: int, known: Sequence[LogFile]) -> LogFile | None:
    """The log of a process that ended, kept until the next one of its archive ends."""
    tombstone = state.tombstones.get(start_id)
    archive_id = tombstone.process.archive_id if tombstone else None
    last = status.last_tombstone(state, archive_id) if archive_id is not None else None
    if last is None or last.process.start_id != start_id:
        return None
    head = LAST_ENGINES.format(archive_id)
    return next((log for log in known if log.name.startswith(head)), None)


def _not_here(context: Context, start_id: int) -> Refusal:
    state, here = context.state, context.manager.server_id
    process = state.processes.get(start_id)
    tombstone = state.tombstones.get(start_id)
    if process is None and tombstone is None:
        return Refusal(unknown_process(start_id))
    server_id = process.server_id if process else tombstone.process.server_id if tombstone else here
    if server_id != here:
        return refuse("not_found", f"Process {start_id} belongs to server {server_id}.", "Ask its manager.")
    if process:
        return refuse("not_found", f"Process {start_id} has no log yet.", "Its engine was not launched.")
    return refuse("not_found", f"The log of process {start_id} is not kept any more.", "Its tombstone has its last words.")


def _read(log: LogFile, after: str) -> tuple[str, str]:
    """What a log has since `after`, in whole lines, and how to go on. Raises OSError."""
    with files.proven(log.path) as file:
        seen = os.fstat(file.fileno())
        inode, _, offset = after.partition("-")
        begin = int(offset) if after and int(inode) == seen.st_ino and int(offset) <= seen.st_size else 0
        cut = seen.st_size - begin > LARGEST
        begin = max(begin, seen.st_size - LARGEST)
        file.seek(begin)
        data = file.read(seen.st_size - begin)
    whole = data[: data.rfind(b"\n") + 1]
    text = whole.partition(b"\n")[2] if cut else whole
    return text.decode("utf-8", "replace"), f"{seen.st_ino}-{begin + len(whole)}"
