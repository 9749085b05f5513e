"""What must hold in every state and over every step, checked before each commit. A breach is our own mistake."""

from __future__ import annotations

from dkv.domain.decision import InvariantError
from dkv.domain.model import Group, ProcessRole, State
from dkv.domain.states import RESTING


def check(before: State, after: State) -> None:
    """Raise Broken, naming the breach, if `after` may not follow `before`."""
    for group in after.groups.values():
        _group(after, group)
        _group_step(before, group)
    _processes(before, after)
    _databases(before, after)


def _require(holds: bool, breach: str, *names: object) -> None:
    """`names` take the places of {} in what is said of the breach."""
    if not holds:
        raise InvariantError(breach.format(*names))


def _group(state: State, group: Group) -> None:
    name = group.subject
    members = {a.archive_id for a in state.archives.values() if (a.database, a.group) == group.key}
    _require(set(group.in_sync) <= members, "{} has in-sync archives that are not its own", name)
    joining = {j.archive_id for j in group.joining}
    _require(not joining & set(group.in_sync), "{} has an archive both joining and in sync", name)
    _require((group.leader is None) == (group.leader_process is None), "{} has half a leader", name)
    _require(group.tail is None or (group.leader is not None and not group.open), "{} feeds without an assignment", name)
    if group.leader is None:
        _require(not group.open and group.handover is None, "{} is open without a leader", name)
        return
    process = state.leader_of(group)
    _require(process is not None and process.archive_id == group.leader, "{} is led by no process of its leader", name)
    _require(process is not None and process.role is ProcessRole.SM, "{} is led by a TE", name)
    if group.open:
        _require(group.leader in group.in_sync, "{} is led by an archive that is not in sync", name)
        _require(set(group.in_sync) - {group.leader} <= set(group.required), "{} confirms without a member of S", name)
        _require(set(group.required) <= (set(group.in_sync) - {group.leader}) | joining, "{} requires a stranger", name)


def _group_step(before: State, group: Group) -> None:
    old = before.groups.get(group.key)
    if old is None or old.shard_id != group.shard_id:
        return
    name = group.subject
    _require(group.term in (old.term, old.term + 1), "{} moved from term {} to {}", name, old.term, group.term)
    if group.term == old.term and old.leader is not None and group.leader is not None:
        _require(group.leader == old.leader, "{} changed its leader within term {}", name, group.term)
    if group.open and not old.open:
        _require(group.term == old.term, "{} opened a term in the commit that assigned it", name)
    grown = set(group.in_sync) - set(old.in_sync)
    known = set(old.required) | {group.leader, group.enforced}
    _require(grown <= known, "{} took {} into S before `required` said so", name, grown)


def _processes(before: State, after: State) -> None:
    on_archive: set[int] = set()
    for process in after.processes.values():
        _require(process.start_id < after.next_start_id, "start id {} was never given out", process.start_id)
        fresh = process.start_id not in before.processes
        _require(not fresh or process.start_id >= before.next_start_id, "start id {} was used twice", process.start_id)
        _require(process.start_id not in after.tombstones, "process {} lives beside its tombstone", process.start_id)
        if process.archive_id is not None:
            _require(process.archive_id not in on_archive, "archive {} has two processes", process.archive_id)
            on_archive.add(process.archive_id)


def _databases(before: State, after: State) -> None:
    running = {p.database for p in after.processes.values()}
    for database in after.databases.values():
        resting = database.state in RESTING
        _require(resting == (database.name not in running), "{} is {} with the wrong processes", database.name, database.state)
        old = before.databases.get(database.name)
        if old and old.uid == database.uid:
            step = ((old.major, old.minor), (database.major, database.minor))
            _require(step[0] <= step[1], "{} went back from incarnation {} to {}", database.name, step[0], step[1])
