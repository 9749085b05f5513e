"""The options of a database on the engines of this machine: what is wanted is compared with what each runs with. Pure.

An engine is launched with what is wanted then; whatever changes later is set while it runs, and what it runs with is told to
the domain, so that people see who lacks an option, and nobody takes a promise for kept that is not yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from dkv.domain.commands import OptionsSeen
from dkv.domain.model import Process, ProcessState
from dkv.domain.options import FSYNC
from dkv.engine.contract import EngineSeen
from dkv.machine.observation import PlanInput
from dkv.machine.steps import SetOptions, Step, SubmitFact

WEAKEN_AFTER = 1_000  # ms: who still goes by a view with the stronger promise asked again after half of it (confirm.py)


class Runs(TypedDict):
    """What a process runs with, in the words of the facts that tell it."""

    append_fsync: str
    max_memory: int


def option_steps(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Iterator[Step]:
    """Set what differs, then tell what came of it."""
    if process.leaving or not all(e.answering and not e.loading and e.max_memory is not None for e in engines):
        return
    wanted = [(_memory(inputs, process, e), _fsync(inputs, process, e)) for e in engines]
    runs = running_options(inputs, process, engines)
    if [(e.max_memory, e.append_fsync) for e in engines] != wanted:
        memory, fsync = max(wanted)
        yield SetOptions(f"options {process.start_id}", process.start_id, memory, fsync)
    elif process.state in (ProcessState.TRACKED, ProcessState.MONITORED) and _news(process, runs):
        yield SubmitFact(f"options {process.start_id}", OptionsSeen(start_id=process.start_id, **runs, **inputs.fact_header))


def running_options(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Runs:
    """What the domain is to know of a process. Without an option of the database each engine has its share, told as 0;
    one that was given more by an earlier option keeps it until it is restarted, since its clients may have filled it."""
    fsync, memory = engines[0].append_fsync, max(e.max_memory or 0 for e in engines)
    if not inputs.state.databases[process.database].options.max_memory:
        memory = process.max_memory if memory > inputs.share else 0
    return Runs(append_fsync=fsync, max_memory=memory)


def _news(process: Process, runs: Runs) -> bool:
    return (process.append_fsync, process.max_memory) != (runs["append_fsync"], runs["max_memory"])


def _memory(inputs: PlanInput, process: Process, engine: EngineSeen) -> int:
    """A share is only ever raised while an engine runs: its writes are not refused because of another database."""
    wanted = inputs.state.databases[process.database].options.max_memory
    return wanted or max(inputs.share, engine.max_memory or 0)


def _fsync(inputs: PlanInput, process: Process, engine: EngineSeen) -> str:
    """A stronger promise is kept before it is given, a weaker one is given first."""
    wanted = inputs.state.databases[process.database].options.append_fsync
    if engine.append_fsync in ("", wanted):
        return engine.append_fsync
    weaker = FSYNC.index(wanted) > FSYNC.index(engine.append_fsync)
    return engine.append_fsync if weaker and inputs.lasted(("weaker", engine.start_id)) < WEAKEN_AFTER else wanted
