"""The options of a database on the engines of this machine: the wanted options are compared with those each runs with. Pure.

An engine is launched with the options wanted at that time. Later changes are set while it runs, and what it runs with is reported
to the domain, so that people see which engine lacks an option and no promise is believed before it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypedDict

from dkv.database_options import FSYNC, events_shown
from dkv.domain.facts import OptionsSeen
from dkv.domain.model import DatabaseOptions, Process, ProcessState
from dkv.engine.contract import EngineOptions, EngineSeen, RunOptions
from dkv.machine.observation import PlanInput
from dkv.machine.spec import options_of
from dkv.machine.steps import SetOptions, Step, SubmitFact

WEAKEN_AFTER = 1_000  # ms: a client whose view has the stronger promise reads a new view after half of it (confirm/views.py)


class Runs(TypedDict):
    """What a process runs with: the fields of the facts that report it."""

    append_fsync: str
    max_memory: int
    maxmemory_policy: str
    notify_keyspace_events: str
    max_clients: int


def option_steps(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Iterator[Step]:
    """Set the options that differ, then report what the engines run with."""
    if process.leaving or not all(e.answering and not e.loading and e.options.max_memory is not None for e in engines):
        return
    wanted = [_wanted(inputs, process, e) for e in engines]
    runs = running_options(inputs, process, engines)
    if any(_lacks(process, e.options, options) for e, options in zip(engines, wanted, strict=True)):
        options = max(wanted, key=lambda options: options.max_memory)
        yield SetOptions(f"options {process.start_id}", process.start_id, options)
    elif process.state in (ProcessState.TRACKED, ProcessState.MONITORED) and _differs(process, runs):
        yield SubmitFact(f"options {process.start_id}", OptionsSeen(start_id=process.start_id, **runs, **inputs.fact_header))


def running_options(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Runs:
    """The options that the domain is to know of a process. Without an option of the database each engine has its share, reported
    as 0; an engine that got more by an earlier option keeps it until it is restarted, since its clients may have filled it."""
    fsync, max_memory = engines[0].options.append_fsync, max(e.options.max_memory or 0 for e in engines)
    if not inputs.state.databases[process.database].options.max_memory:
        max_memory = process.runs.max_memory if max_memory > inputs.share else 0
    wanted, seen = inputs.state.databases[process.database].options, engines[0].options
    return Runs(
        append_fsync=fsync,
        max_memory=max_memory,
        maxmemory_policy=seen.maxmemory_policy,
        notify_keyspace_events=wanted.notify_keyspace_events if _publishes(seen, wanted) else seen.notify_keyspace_events,
        max_clients=_clients(process, seen, wanted),
    )


def _differs(process: Process, runs: Runs) -> bool:
    return any(getattr(process.runs, name) != value for name, value in runs.items())


def _wanted(inputs: PlanInput, process: Process, engine: EngineSeen) -> RunOptions:
    memory, fsync = _memory(inputs, process, engine), _fsync(inputs, process, engine)
    return replace(options_of(inputs.state.databases[process.database], 0), max_memory=memory, append_fsync=fsync)


def _lacks(process: Process, seen: EngineOptions, wanted: RunOptions) -> bool:
    return (
        (seen.max_memory, seen.append_fsync, seen.maxmemory_policy)
        != (wanted.max_memory, wanted.append_fsync, wanted.maxmemory_policy)
        or not _publishes(seen, wanted)
        or _clients(process, seen, wanted) != wanted.max_clients
    )


def _publishes(seen: EngineOptions, wanted: RunOptions | DatabaseOptions) -> bool:
    return seen.notify_keyspace_events == events_shown(wanted.notify_keyspace_events)


def _clients(process: Process, seen: EngineOptions, wanted: RunOptions | DatabaseOptions) -> int:
    """How many connections it takes by an option, 0 where that follows from its memory: or from its machine's descriptors, so
    that without an option only the number that an earlier one had set is to be changed."""
    if wanted.max_clients:
        return seen.max_clients
    stays = seen.max_clients == process.runs.max_clients != seen.clients_by_memory
    return seen.max_clients if stays else 0


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
