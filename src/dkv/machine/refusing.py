"""Whether an engine that leads refuses its clients' writes, and for how long: reported when it lasts. And the end of scripts
that run longer than they may. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.facts import WritesRefused
from dkv.domain.model import Process, State
from dkv.domain.states import STOPPING
from dkv.domain.writes_refused import WRITE_REFUSALS, leading
from dkv.engine.contract import EngineSeen
from dkv.machine.conditions import in_a_script, unresponsive_key, why_refused, write_refusal_key
from dkv.machine.observation import Observation, PlanInput
from dkv.machine.steps import EndScript, Step, SubmitFact

LASTED = 2_000  # ms; an engine is looked at once a second, so that people see it within 3 s or little more


def refusing_steps(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """Report why writes are refused once that has lasted, and at once when they are accepted again."""
    why = refused_with(inputs.state, process, engine)
    if why == process.health.refuses or (not engine.answering and process.health.refuses):
        return
    if why and why != "BUSY" and inputs.lasted(write_refusal_key(engine)) < LASTED:  # BUSY comes after seconds of silence
        return
    yield SubmitFact(f"refuses {process.start_id}", WritesRefused(start_id=process.start_id, why=why, **inputs.fact_header))


def script_steps(inputs: PlanInput, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """End what keeps an engine longer than its database allows, also on a follower."""
    limit = inputs.state.databases[process.database].options.script_limit
    if limit and in_a_script(engine) and not process.leaving and inputs.lasted(unresponsive_key(engine)) >= limit:
        yield EndScript(f"script {process.start_id}", process.start_id)


def refusing(state: State, server_id: str, seen: Observation) -> tuple[tuple[int, str], ...]:
    """The processes of a server whose engines refuse writes now, and why: for when nothing can be reported."""
    engines = [(engine, state.processes.get(engine.start_id)) for engine in seen.survey.engines]
    reasons = [(e.start_id, refused_with(state, p, e)) for e, p in engines if p is not None and p.server_id == server_id]
    return tuple((start_id, why) for start_id, why in reasons if why)


def refused_with(state: State, process: Process, engine: EngineSeen) -> str:
    """The reason of domain/writes_refused.py; "" where writes are accepted, or this engine is not expected to accept any."""
    group = leading(state, process)
    if group is None or not group.serving or process.leaving or state.databases[process.database].state in STOPPING:
        return ""
    if not engine.answering:
        return process.health.refuses
    why = why_refused(engine)
    return why if why in WRITE_REFUSALS else ""
