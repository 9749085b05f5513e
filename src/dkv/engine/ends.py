"""What became of an engine that no longer runs: evidence gathered, judged, and its process group proven gone."""

from __future__ import annotations

import asyncio
import time

from dkv import files
from dkv.engine import causes, supervisor
from dkv.engine.contract import ExitSeen
from dkv.engine.evidence import Readers, is_full, parse_oom
from dkv.engine.supervisor import Run

_CODE_WITHIN = 1.0  # seconds the waiting parent may take to write the exit code


async def end_of(run: Run, readers: Readers, boot_id: str) -> ExitSeen | None:
    """The end of that engine, or None while its parent may still write its pid or exit code."""
    same_boot = run.record.boot_id == boot_id
    if same_boot and not await _settled(run):
        return None
    born, record = run.born, run.record
    reaped = born is None or not same_boot
    if born is not None and same_boot:
        supervisor.kill_group(born, record.directory)  # children of a dead engine are of no use
        reaped = not supervisor.group_members(born, record.directory)
    verdict = causes.judge(
        causes.Evidence(
            exit_code=run.exit_code,
            intents=run.intents,
            words=run.log_lines(),
            kernel=readers.kernel_lines() if run.exit_code == 137 else (),
            oom_kills=_rise(run),
            pid=born.pid if born else 0,
            launched=born is not None,
            same_boot=same_boot,
            full=tuple(place for place in (record.directory, str(run.path)) if is_full(place)),
        )
    )
    return ExitSeen(
        start_id=record.start_id,
        directory=record.directory,
        cause=verdict.cause,
        detail=_which(run) + verdict.detail,
        exit_code=verdict.exit_code,
        signal=verdict.signal,
        last_words=verdict.last_words,
        reaped=reaped,
    )


def _which(run: Run) -> str:
    """Of a memory-only process with several engines: which of them ended first, as its launcher wrote down."""
    try:
        ended = files.read_text(f"{run.record.directory}/first").strip() if len(run.record.parts) > 1 else ""
    except OSError:
        ended = ""
    group = next((part.group for part in run.record.parts if part.directory.endswith(f"/{ended}")), "")
    return f"its engine of {group}: " if ended and group else ""


async def _settled(run: Run) -> bool:
    """Whether no exit code can come any more, or it is there."""
    deadline = time.monotonic() + _CODE_WITHIN
    while run.exit_code is None and run.parent_waits():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.002)
    return True


def _rise(run: Run) -> int | None:
    """How many out-of-memory kills its memory cgroup counted from its start to its end."""
    after = parse_oom(run.oom_text or "")
    if after is None or run.record.oom_kills is None:
        return None
    return after - run.record.oom_kills
