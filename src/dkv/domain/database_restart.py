"""Domain: what a rolling restart does next, read from the state alone. Pure; the rule that does it is
rules/database_restart.py, and the views that show it ask here too.

One process at a time, and only in a group that is whole: first the followers, then, after a handover, the former
leader, last what keeps everything in memory. Nothing is remembered between two steps but the start id below which
everything is to be replaced, so it does not matter who decides the next one, or how often.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.actions import start_instance
from dkv.domain.elections import lack_of_votes
from dkv.domain.model import (
    Archive,
    Database,
    DatabaseRestart,
    EngineState,
    Group,
    Process,
    ProcessRole,
    ProcessState,
    Reader,
    State,
)
from dkv.domain.phases import HandingOver
from dkv.domain.status import instances, why_not_running
from dkv.hints import Hint, action, hint


@dataclass(frozen=True)
class Replace:
    """This process leaves and is requested again."""

    process: Process


@dataclass(frozen=True)
class HandOver:
    """The group's leader is the last of it that is old: another leads first."""

    group: Group


@dataclass(frozen=True)
class Wait:
    """Nothing to do now: what the restart waits for, why, and what would help if it lasts."""

    waits_for: str
    reason: str
    hint: Hint = Hint()


@dataclass(frozen=True)
class Done:
    """Everything is replaced and runs."""


Next = Replace | HandOver | Wait | Done


def outdated(state: Reader, database: str, restart: DatabaseRestart) -> list[Process]:
    """The processes that are still to be replaced, by start id."""
    return [p for p in state.processes_of(database) if p.start_id < restart.below]


def next_step(state: Reader, database: Database, restart: DatabaseRestart) -> Next:
    """What comes next in a rolling restart."""
    live = state.processes_of(database.name)
    busy = next((p for p in live if p.leaving), None) or next((p for p in live if _comes(state, restart, p)), None)
    if busy:
        return _wait_for(state, busy)
    obstacles: list[Wait] = []
    for group in state.groups_of(database.name):
        step = _in_group(state, database, group, restart)
        if isinstance(step, Wait):
            obstacles.append(step)
        elif step:
            return step
    if obstacles:
        return obstacles[0]
    old = outdated(state, database.name, restart)
    return Replace(old[0]) if old else Done()


def now(state: State, database: Database, restart: DatabaseRestart) -> Wait:
    """What a restart is at, in words."""
    if not restart.rolling:
        left = ", ".join(f"process {p.start_id}" for p in state.processes_of(database.name))
        return Wait(left, "all of it stops before it starts again", hint(action("forceStopStore", store=database.name), "."))
    step = next_step(state, database, restart)
    if isinstance(step, Wait):
        return step
    if isinstance(step, Replace):
        return Wait(f"process {step.process.start_id}", "it is the next to be replaced")
    if isinstance(step, HandOver):
        return Wait(f"group {step.group.name}", "its leadership is to be handed over")
    return Wait("", "it is done")


def _comes(state: Reader, restart: DatabaseRestart, process: Process) -> bool:
    """Whether a replacement is still on its way to where it belongs."""
    if process.start_id < restart.below:
        return False
    if process.archive_id is None:
        return process.state is not ProcessState.MONITORED or process.engine_state is not EngineState.RUNNING
    group = state.group_of_archive(process.archive_id)
    return process.archive_id not in group.in_sync or process.engine_state is not EngineState.RUNNING


def _wait_for(state: Reader, process: Process) -> Wait:
    archive = state.archive_of(process)
    name = f"process {process.start_id}" + (f" ({archive.name})" if archive else "")
    if process.leaving:
        return Wait(name, "it is stopping", hint("If it never ends: ", action("evictProcess", startId=process.start_id), "."))
    why = why_not_running(state, archive) if archive else None
    return Wait(
        name, why or "it starts and joins", hint("Look at its last words, or ", action("endRestart", store=process.database), ".")
    )


def _in_group(state: Reader, database: Database, group: Group, restart: DatabaseRestart) -> Next | None:
    """The next step in one group; None if nothing of it is old."""
    old = [p for p in outdated(state, group.database, restart) if p.group == group.name and p.role is ProcessRole.SM]
    if not old:
        return None
    obstacle = _not_whole(state, group) or _too_thin(state, database, group, restart)
    if obstacle:
        return obstacle
    followers = [p for p in old if p.start_id != group.leader_process]
    if followers:
        return Replace(followers[0])
    if len(group.in_sync) == 1:
        return Replace(old[0])
    no_votes = lack_of_votes(state, group)
    if no_votes:
        cure = hint("See what keeps a leader from answering: ", action("showWaiting"), ".")
        return Wait(f"group {group.name}", no_votes, cure)
    return HandOver(group)


def _not_whole(state: Reader, group: Group) -> Wait | None:
    """Why a group cannot spare a copy now: everything that should run has to be in sync."""
    name = f"group {group.name}"
    if not group.serving:
        return Wait(name, "it has no serving leader", hint("Look at what the group waits for: ", action("showWaiting"), "."))
    if isinstance(group.phase, HandingOver) or group.switchover:
        return Wait(name, "its leadership is being handed over")
    for archive in instances(state, group.database):
        if archive.group == group.name and archive.archive_id not in group.in_sync and not archive.stopped_by_operator:
            return _missing(state, archive)
    leader = state.leader_of(group)
    if leader and not state.server_alive(leader.server_id):
        return Wait(
            name,
            f"the manager of its leader, on {leader.server_id}, is away",
            hint(f"Start the manager of server {leader.server_id}."),
        )
    return None


def _missing(state: Reader, archive: Archive) -> Wait:
    why = why_not_running(state, archive) or "it is not in sync yet"
    process = state.process_on(archive.archive_id)
    return Wait(archive.name, why, Hint() if process else hint("Start it: ", start_instance(archive), "."))


def _too_thin(state: Reader, database: Database, group: Group, restart: DatabaseRestart) -> Wait | None:
    """Why writes would stop if one copy of a whole group left, and which copy would help."""
    least = max(1, database.options.min_in_sync)
    if restart.force or len(group.in_sync) - 1 >= least:
        return None
    why = f"it has {len(group.in_sync)} of its copies in sync and needs {least} for writes, so none can be spared"
    idle = (a for a in instances(state, database.name) if a.group == group.name and not state.process_on(a.archive_id))
    archive = next(idle, None)
    store = database.name
    more = start_instance(archive) if archive else action("addInstance", store=store)
    forced = (action("endRestart", store=store), ", then ", action("restartForced", store=store))
    return Wait(f"group {group.name}", why, hint("Have one copy more: ", more, "; or give up the writes: ", *forced, "."))
