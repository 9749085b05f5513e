"""Requested processes that are held back after ends in a row: time passed, what was missing is there, an operator wants it."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import LackEnded
from dkv.domain.held_back import LACKS, rest_of
from dkv.domain.model import Process
from dkv.domain.refusals import stale_fact
from dkv.domain.rules.processes import owned


def lack_ended(draft: Draft, command: LackEnded) -> Refused | None:
    """What it lacked is there again: it is begun now."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    rest = rest_of(process)
    if rest is None or rest.lacks not in LACKS or process.leaving:
        return stale_fact(f"process {process.start_id} waits for nothing that could come back")
    begin(draft, process, LACKS[rest.lacks].again)
    return None


def tick_rest(draft: Draft, process: Process) -> None:
    """Arm the timer of one that is held back, and let it go when that ran out."""
    rest = rest_of(process)
    if rest is None or process.leaving or draft.stopping(process.database):
        return
    if rest.armed is None:
        draft.put_process(process, rest=replace(rest, armed=draft.clock))
    elif draft.clock - rest.armed >= rest.delay:
        begin(draft, process, f"it waited for {rest.delay / 1000:g} s")


def begin(draft: Draft, process: Process, because: str) -> None:
    """Hold it back no longer. How often it was tried stays known until one runs for long, or an operator asks for it."""
    assert process.rest is not None
    draft.put_process(process, rest=replace(process.rest, over=True))
    draft.note(
        "process.begun",
        f"process {process.start_id}",
        because,
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
