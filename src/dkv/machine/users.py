"""The users of a database on the engines of this machine: those each engine lets in are compared with the wanted ones. Pure.

An engine is launched with the users wanted at that time. Later changes are set while it runs. What differs although the engine
was right before was changed by something else than its manager: that is reported, and then the users are set again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkv.domain.database_users import users_digest
from dkv.domain.facts import UsersSeen
from dkv.domain.model import Process, ProcessState
from dkv.engine.contract import EngineSeen, EngineUsers, Secrets
from dkv.machine.observation import PlanInput
from dkv.machine.spec import secrets_of, users_of
from dkv.machine.steps import SetUsers, Step, SubmitFact

ALTERED_SHOWN = 10  # names in the event


def user_steps(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Iterator[Step]:
    """Report users that something else changed, set those that differ, then report that they are as they should be."""
    if process.leaving or not all(e.answering and not e.busy and not e.loading and e.options.users is not None for e in engines):
        return
    loaded = process.state in (ProcessState.TRACKED, ProcessState.MONITORED)
    wanted = inputs.state.memoized(users_of, process.database)
    digest = inputs.state.memoized(users_digest, process.database)
    secrets = secrets_of(inputs.state.databases[process.database])
    altered = sorted({name for engine in engines for name in _differing(wanted, secrets, engine)})
    key = f"users {process.start_id}"
    if altered and loaded and process.runs.users == digest:
        yield SubmitFact(
            key, UsersSeen(start_id=process.start_id, users="", altered=tuple(altered[:ALTERED_SHOWN]), **inputs.fact_header)
        )
    elif altered:
        yield SetUsers(key, process.start_id, wanted, secrets)
    elif loaded and process.runs.users != digest:
        yield SubmitFact(key, UsersSeen(start_id=process.start_id, users=digest, **inputs.fact_header))


def running_users(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> str:
    """The digest of whom the engines of a process let in, if that is who they should; else ""."""
    wanted = inputs.state.memoized(users_of, process.database)
    secrets = secrets_of(inputs.state.databases[process.database])
    same = not any(engine.options.users is None or _differing(wanted, secrets, engine) for engine in engines)
    return inputs.state.memoized(users_digest, process.database) if same else ""


def _differing(wanted: EngineUsers, secrets: Secrets, engine: EngineSeen) -> set[str]:
    """The names of the users of an engine that are not as they should be."""
    present = engine.options.users or wanted
    names = {user.name for user in {*wanted.users} ^ {*present.users}}
    names |= {"default"} if wanted.open != present.open else set()
    return names | ({"dkv-manager"} if engine.options.secrets not in ("", secrets.digest) else set())
