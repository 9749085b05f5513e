"""What must hold in every state and over every step, checked before each commit. A breach is our own mistake."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.access import MANAGERS, RotationPhase
from dkv.domain.decision import InvariantError
from dkv.domain.model import ARCHIVES_IN, INDEXES, PROCESSES_OF_ARCHIVE, Database, Group, Process, ProcessRole, State, Touched
from dkv.domain.phases import Leadership, Vacant
from dkv.domain.states import RESTING
from dkv.domain.table import keys_of


def check(before: State, after: State) -> None:
    """Raise InvariantError, naming the breach, if `after` may not follow `before`, for which all of this held."""
    _check(before, after, after.touched_since(before))


def check_all(before: State, after: State) -> None:
    """The same without trusting `before`, or what `after` says of where it differs."""
    _check(before, after, {name: {**getattr(before, name), **getattr(after, name)} for name in INDEXES})


def _check(before: State, after: State, touched: Touched) -> None:
    _require(after.next_start_id >= before.next_start_id, "start ids would be given out again from {}", after.next_start_id)
    members = list(_members(before, after, touched))
    for key in {*touched.get("groups", ()), *members}:
        if group := after.groups.get(key):
            _group(after, group)
            _group_step(before, group)
    for owner in touched.get("authorities", ()):
        _authority(before, after, owner)
    for start_id in {*touched.get("processes", ()), *touched.get("tombstones", ())}:
        if process := after.processes.get(start_id):
            _process(before, after, process)
    for name in {*touched.get("databases", ()), *(database for database, _ in members)}:
        if known := after.databases.get(name):
            _database(before, after, known)


def _members(before: State, after: State, touched: Touched) -> Iterator[tuple[str, str]]:
    """The groups of the processes and archives that were touched, as they were and as they are."""
    for field in ("processes", "archives"):
        for state in (before, after):
            table = getattr(state, field)
            for thing in (table[key] for key in touched.get(field, ()) if key in table):
                yield thing.database, thing.group


def _require(holds: bool, breach: str, *names: object) -> None:
    """`names` take the places of {} in what is said of the breach."""
    if not holds:
        raise InvariantError(breach.format(*names))


def _group(state: State, group: Group) -> None:
    name = group.subject
    members = keys_of(state.archives, ARCHIVES_IN, group.key)
    _require(set(group.in_sync) <= set(members), "{} has in-sync archives that are not its own", name)
    joining = {j.archive_id for j in group.joining}
    _require(not joining & set(group.in_sync), "{} has an archive both joining and in sync", name)
    phase = group.phase
    if isinstance(phase, Vacant):
        return
    process = state.leader_of(group)
    _require(process is not None and process.archive_id == phase.leader, "{} is led by no process of its leader", name)
    _require(process is not None and process.role is ProcessRole.SM, "{} is led by a TE", name)
    if isinstance(phase, Leadership):
        _require(phase.leader in group.in_sync, "{} is led by an archive that is not in sync", name)
        _require(set(group.in_sync) - {phase.leader} <= set(group.required), "{} confirms without a member of S", name)
        _require(
            set(group.required) <= (set(group.in_sync) - {phase.leader}) | joining,
            "{} requires an archive that is neither in sync nor joining",
            name,
        )


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


def _authority(before: State, after: State, owner: str) -> None:
    old, new = before.authorities.get(owner), after.authorities.get(owner)
    names = [database.name for database in before.databases.values() if database.uid == owner]
    processes = [process for name in names for process in before.processes_of(name)]
    _require(new is not None or old is None or not (owner == MANAGERS or processes), "the authority of {} is gone", owner)
    if new is None:
        return
    rests = new.phase is RotationPhase.DONE
    _require(rests == (not new.other), "the authority of {} is {} with the wrong certificates", owner, new.phase)
    left_out = {server.server_id for server in after.servers.values() if server.uid in new.without}
    used = owner == MANAGERS or any(process.pid is not None and process.server_id not in left_out for process in processes)
    if old is not None and old.current != new.current and used:
        _require(old.other == new.current, "{} signs with an authority that not all trusted before", owner)


def _process(before: State, after: State, process: Process) -> None:
    _require(process.start_id < after.next_start_id, "start id {} was never given out", process.start_id)
    fresh = process.start_id not in before.processes
    _require(not fresh or process.start_id >= before.next_start_id, "start id {} was used twice", process.start_id)
    _require(process.start_id not in after.tombstones, "process {} lives beside its tombstone", process.start_id)
    if process.archive_id is not None:
        on_archive = keys_of(after.processes, PROCESSES_OF_ARCHIVE, process.archive_id)
        _require(len(on_archive) == 1, "archive {} has two processes", process.archive_id)


def _database(before: State, after: State, database: Database) -> None:
    resting = database.state in RESTING
    holds = resting == (not after.has_processes(database.name))
    _require(holds, "{} is {} with the wrong processes", database.name, database.state)
    old = before.databases.get(database.name)
    if old and old.uid == database.uid:
        step = ((old.major, old.minor), (database.major, database.minor))
        _require(step[0] <= step[1], "{} went back from incarnation {} to {}", database.name, step[0], step[1])
