"""What must hold in every state and over every step, checked before each commit. A breach is our own mistake."""

from __future__ import annotations

from dkv.domain.decision import Broken
from dkv.domain.model import EngineType, Group, State
from dkv.domain.states import RESTING


def check(before: State, after: State) -> None:
    """Raise Broken, naming the breach, if `after` may not follow `before`."""
    for group in after.groups.values():
        _group(after, group)
        _group_step(before, group)
    _processes(before, after)
    _databases(before, after)


def _require(holds: bool, breach: str) -> None:
    if not holds:
        raise Broken(breach)


def _group(state: State, group: Group) -> None:
    name = group.subject
    members = {a.archive_id for a in state.archives.values() if (a.database, a.group) == group.key}
    _require(set(group.in_sync) <= members, f"{name} has in-sync archives that are not its own")
    joining = {j.archive_id for j in group.joining}
    _require(not joining & set(group.in_sync), f"{name} has an archive both joining and in sync")
    _require((group.leader is None) == (group.leader_process is None), f"{name} has half a leader")
    _require(group.tail is None or (group.leader is not None and not group.open), f"{name} feeds without an assignment")
    if group.leader is None:
        _require(not group.open and group.handover is None, f"{name} is open without a leader")
        return
    process = state.leader_of(group)
    _require(process is not None and process.archive_id == group.leader, f"{name} is led by no process of its leader")
    _require(process is not None and process.engine_type is EngineType.SM, f"{name} is led by a TE")
    if group.open:
        _require(group.leader in group.in_sync, f"{name} is led by an archive that is not in sync")
        _require(set(group.in_sync) - {group.leader} <= set(group.required), f"{name} confirms without a member of S")
        _require(set(group.required) <= (set(group.in_sync) - {group.leader}) | joining, f"{name} requires a stranger")


def _group_step(before: State, group: Group) -> None:
    old = before.groups.get(group.key)
    if old is None or old.shard_id != group.shard_id:
        return
    name = group.subject
    _require(group.term in (old.term, old.term + 1), f"{name} moved from term {old.term} to {group.term}")
    if group.term == old.term and old.leader is not None and group.leader is not None:
        _require(group.leader == old.leader, f"{name} changed its leader within term {group.term}")
    if group.open and not old.open:
        _require(group.term == old.term, f"{name} opened a term in the commit that assigned it")
    grown = set(group.in_sync) - set(old.in_sync)
    known = set(old.required) | {group.leader, group.enforced}
    _require(grown <= known, f"{name} took {grown} into S before `required` said so")


def _processes(before: State, after: State) -> None:
    on_archive: set[int] = set()
    for process in after.processes.values():
        _require(process.start_id < after.next_start_id, f"start id {process.start_id} was never given out")
        fresh = process.start_id not in before.processes
        _require(not fresh or process.start_id >= before.next_start_id, f"start id {process.start_id} was used twice")
        _require(process.start_id not in after.tombstones, f"process {process.start_id} lives beside its tombstone")
        if process.archive_id is not None:
            _require(process.archive_id not in on_archive, f"archive {process.archive_id} has two processes")
            on_archive.add(process.archive_id)


def _databases(before: State, after: State) -> None:
    running = {p.database for p in after.processes.values()}
    for database in after.databases.values():
        resting = database.state in RESTING
        _require(resting == (database.name not in running), f"{database.name} is {database.state} with the wrong processes")
        old = before.databases.get(database.name)
        if old and old.uid == database.uid:
            step = ((old.major, old.minor), (database.major, database.minor))
            _require(step[0] <= step[1], f"{database.name} went back from incarnation {step[0]} to {step[1]}")
