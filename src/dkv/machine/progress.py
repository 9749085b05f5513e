"""Busy is not dead: what of this machine works, seen from outside, while a term waits for it; and what hangs. Pure.

An engine that loads a few large values says nothing for as long as each takes, and neither does its percentage. Its process
moves all the same (docs/decisions/0021). A leader that is waited for is given up by the domain once its manager has proven no
work for failoverGrace; so this manager proves it, some times in each failoverGrace, and only what it saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dkv.domain.facts import LeaderProgressed
from dkv.domain.model import Group, Process, ProcessState
from dkv.engine.contract import EngineSeen
from dkv.machine.conditions import is_awaited
from dkv.machine.observation import OK_PATIENCE, PlanInput, directory_of
from dkv.machine.steps import Step, SubmitFact
from dkv.machine.tail.conditions import tail_moved_key

PROOFS = 5  # in each failoverGrace: three may come late, as on a machine with much else to do
SPINNING = 10  # engineHangTimeouts after which one that has loaded is ended although it computes


def progress_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen | None) -> Iterator[Step]:
    """Report that the process that an assigned term waits for works, where nothing else reports it.

    The view alone does not say what was reported last: a look at a silent engine takes half a second, and the view is as old.
    """
    if not is_awaited(group, process):
        return
    window = max(1.0, inputs.state.databases[process.database].options.failover_grace / PROOFS)
    count = int(inputs.seen.conditions.now // window * window)
    if count > process.progress and _works(inputs, group, process, engine, window):
        fact = LeaderProgressed(start_id=process.start_id, term=group.term, count=count, **inputs.fact_header)
        yield SubmitFact(f"progress {process.start_id} {count}", fact)


def _works(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen | None, window: float) -> bool:
    """Whether anything of it moved since the last look, or in the last `window` ms."""
    if group.tail is not None and _handled(inputs, process, engine) < window:
        return True
    if engine is not None and (engine.loading or not engine.answering):
        reported_soon = engine.answering and engine.loading_percent > process.loading_percent  # as LoadingProgressed
        return engine.idle_ms < window and not reported_soon
    if engine is not None and process.state is ProcessState.CONFIGURED:  # it has loaded, and its cluster is not ok yet
        return inputs.lasted(("not ok", process.start_id)) < OK_PATIENCE
    return False


def _handled(inputs: PlanInput, process: Process, engine: EngineSeen | None) -> float:
    """ms since a tail moved at this end: bytes that its manager read or sent, or that its engine took; also while the engine
    itself is silent.
    """
    if process.archive_id is None:
        return math.inf
    directory = directory_of(inputs.server.data_dir, inputs.state.archives[process.archive_id])
    return inputs.lasted(tail_moved_key(process, engine, inputs.seen.handled.get(directory, 0)))


def hangs(inputs: PlanInput, process: Process, engine: EngineSeen) -> bool:
    """Whether an engine is to be ended because it answers nothing: for engineHangTimeout, in which nothing of its process
    moved; or for so long that it is no large value any more, unless it still loads its files.
    """
    timeout = inputs.server.hang_timeout
    if engine.answering or engine.silent_ms < timeout:
        return False
    loads = process.state is ProcessState.CONFIGURED
    return engine.idle_ms >= timeout or (not loads and engine.silent_ms >= SPINNING * timeout)
