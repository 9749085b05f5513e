"""The options of a database on the engines of this machine: the wanted options are compared with those each runs with. Pure.

An engine is launched with the options wanted at that time. Later changes are set while it runs, and what it runs with is reported
to the domain, so that people see which engine lacks an option and no promise is believed before it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from dkv.database_options import FSYNC
from dkv.domain.facts import OptionsSeen
from dkv.domain.model import Process, ProcessState
from dkv.engine.contract import EngineSeen
from dkv.machine.observation import PlanInput
from dkv.machine.steps import SetOptions, Step, SubmitFact

WEAKEN_AFTER = 1_000  # ms: a client whose view has the stronger promise reads a new view after half of it (confirm/views.py)


class Runs(TypedDict):
    """What a process runs with: the fields of the facts that report it."""

    append_fsync: str
    max_memory: int


def option_steps(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Iterator[Step]:
    """Set the options that differ, then report what the engines run with."""
    if process.leaving or not all(e.answering and not e.loading and e.options.max_memory is not None for e in engines):
        return
    wanted = [(_memory(inputs, process, e), _fsync(inputs, process, e)) for e in engines]
    runs = running_options(inputs, process, engines)
    if [(e.options.max_memory, e.options.append_fsync) for e in engines] != wanted:
        max_memory, fsync = max(wanted)
        yield SetOptions(f"options {process.start_id}", process.start_id, max_memory, fsync)
    elif process.state in (ProcessState.TRACKED, ProcessState.MONITORED) and _differs(process, runs):
        yield SubmitFact(f"options {process.start_id}", OptionsSeen(start_id=process.start_id, **runs, **inputs.fact_header))


def running_options(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Runs:
    """The options that the domain is to know of a process. Without an option of the database each engine has its share, reported
    as 0; an engine that got more by an earlier option keeps it until it is restarted, since its clients may have filled it."""
    fsync, max_memory = engines[0].options.append_fsync, max(e.options.max_memory or 0 for e in engines)
    if not inputs.state.databases[process.database].options.max_memory:
        max_memory = process.runs.max_memory if max_memory > inputs.share else 0
    return Runs(append_fsync=fsync, max_memory=max_memory)


def _differs(process: Process, runs: Runs) -> bool:
    return (process.runs.append_fsync, process.runs.max_memory) != (runs["append_fsync"], runs["max_memory"])


def _memory(inputs: PlanInput, process: Process, engine: EngineSeen) -> int:
    """A share is only ever raised while an engine runs: its writes are not refused because of another database."""
    wanted = inputs.state.databases[process.database].options.max_memory
    return wanted or max(inputs.share, engine.options.max_memory or 0)


def _fsync(inputs: PlanInput, process: Process, engine: EngineSeen) -> str:
    """A stronger promise is kept before it is given, a weaker one is given first."""
    wanted = inputs.state.databases[process.database].options.append_fsync
    if engine.options.append_fsync in ("", wanted):
        return engine.options.append_fsync
    weaker = FSYNC.index(wanted) > FSYNC.index(engine.options.append_fsync)
    return engine.options.append_fsync if weaker and inputs.lasted(("weaker", engine.start_id)) < WEAKEN_AFTER else wanted
