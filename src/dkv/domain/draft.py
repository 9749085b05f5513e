"""The working copy a rule writes on while decide() runs: records, moves and events, nothing else.

Rules see a Draft, change it, and return a Refused or None. It never leaves decide().
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from dkv.domain import event_causality
from dkv.domain.access import Authority, DatabaseUser, Departed, JoinToken, Token
from dkv.domain.command import Command
from dkv.domain.decision import Event, InvariantError
from dkv.domain.hotcopy import ENDS, CopyStage, HotCopy
from dkv.domain.lifecycle import GONE, row, row_to
from dkv.domain.model import (
    GROUPS_OF,
    TOMBSTONES_ON,
    Archive,
    ArchiveState,
    Database,
    DatabaseState,
    Group,
    Process,
    ProcessState,
    Record,
    Server,
    State,
    Tombstone,
    evolve,
)
from dkv.domain.phases import Moment, Phase
from dkv.domain.table import Table, items_of, keys_of

T = TypeVar("T")


KEYS: dict[type, tuple[str, Callable[[Any], Hashable]]] = {
    Server: ("servers", lambda s: s.server_id),
    Database: ("databases", lambda d: d.name),
    Group: ("groups", lambda g: g.key),
    Archive: ("archives", lambda a: a.archive_id),
    Process: ("processes", lambda p: p.start_id),
    Tombstone: ("tombstones", lambda t: t.process.start_id),
    Record: ("records", lambda r: (r.kind, r.key)),
    HotCopy: ("copies", lambda c: c.copy_id),
    Token: ("tokens", lambda t: t.token_id),
    Authority: ("authorities", lambda a: a.owner),
    DatabaseUser: ("database_users", lambda u: (u.database, u.name)),
    Departed: ("departed", lambda d: d.uid),
    JoinToken: ("join_tokens", lambda j: j.token_id),
}
"""The field of State that holds things of a type, and a thing's key there."""


class Draft(event_causality.DecisionEvents):
    """One decision in the making. Its tables are those of the state before until something is written to them.

    It remembers what was written, and which groups and databases have to be looked at because of it: all that the settling
    of a group or a database reads belongs to that group or database, or is the liveness of a server (`_unsettle`).
    """

    def __init__(self, state: State, command: Command) -> None:
        self.before = state
        self.command = command
        self.clock = state.clock
        self.next_archive_id = state.next_archive_id
        self.next_start_id = state.next_start_id
        self.servers = state.servers
        self.databases = state.databases
        self.groups = state.groups
        self.archives = state.archives
        self.processes = state.processes
        self.tombstones = state.tombstones
        self.records = state.records
        self.next_copy_id = state.next_copy_id
        self.copies = state.copies
        self.tokens = state.tokens
        self.authorities = state.authorities
        self.database_users = state.database_users
        self.departed = state.departed
        self.join_tokens = state.join_tokens
        self.level = state.level
        self.touched: dict[str, set[Any]] = {}  # keys of what was written, by the field of State
        self.unsettled_groups: set[tuple[str, str]] = set()
        self.unsettled_databases: set[str] = set()
        self.events = []
        self.newest = {}
        self.answer: dict[str, object] = {}

    @property
    def moment(self) -> Moment:
        """The moment of the command, on both clocks."""
        return Moment(self.clock, self.command.now)

    def state(self) -> State:
        """The state as drafted. Nothing is written to the draft after that."""
        self._remember()
        drafted = State(
            uid=self.before.uid,
            clock=self.clock,
            next_archive_id=self.next_archive_id,
            next_start_id=self.next_start_id,
            servers=self.servers,
            databases=self.databases,
            groups=self.groups,
            archives=self.archives,
            processes=self.processes,
            tombstones=self.tombstones,
            records=self.records,
            next_copy_id=self.next_copy_id,
            copies=self.copies,
            tokens=self.tokens,
            authorities=self.authorities,
            database_users=self.database_users,
            departed=self.departed,
            join_tokens=self.join_tokens,
            events=self.before.events + len(self.events),
            recoveries=self.before.recoveries,
            recovery_ids=self.before.recovery_ids,
            level=self.level,
        )
        return drafted.made_from(self.before, self.touched)

    # Events ------------------------------------------------------------------------------------------------

    def note(self, kind: str, subject: str, because: str, after: int | None = None, **facts: Any) -> int:
        """Record that something became true, and give its number. `after`: of the event it follows from, where the
        tables of event_causality.py cannot know it; 0: from none.
        """
        command = self.command
        number = self.before.events + len(self.events) + 1
        event = Event(
            kind,
            subject,
            because,
            command=type(command).__name__,
            actor=command.actor,
            entry=command.entry,
            at=command.now,
            **facts,
        )
        source = event_causality.cause(self, event) if after is None else after
        self.newest[event_causality.about(self, event)] = number
        self.events.append(evolve(event, back=number - source if source else 0))
        return number

    def _remember(self) -> None:
        """Keep with each thing the number of the newest event about it, whatever was written over it meanwhile."""
        for subject, number in self.newest.items():
            for table, key in self.places_of(subject):
                if key in table and table[key].last_event != number:
                    self.put(evolve(table[key], last_event=number))

    # Writing -----------------------------------------------------------------------------------------------

    def put(self, thing: T) -> T:
        """Store a thing that is new, or has changed."""
        field, key_of = KEYS[type(thing)]
        key = key_of(thing)
        table = self._own(field)
        old = table.get(key)
        table.put(key, thing)
        self.touched[field].add(key)
        self._unsettle(old, thing)
        return thing

    def drop(self, thing: object) -> None:
        """Forget a thing. Raises KeyError."""
        field, key_of = KEYS[type(thing)]
        key = key_of(thing)
        table = self._own(field)
        old = table[key]
        table.drop(key)
        self.touched[field].add(key)
        self._unsettle(old, None)

    def _own(self, field: str) -> Table[Any, Any]:
        """The table of a field as this draft's own copy."""
        if field not in self.touched:
            self.touched[field] = set()
            setattr(self, field, getattr(self, field).copied())
        table: Table[Any, Any] = getattr(self, field)
        return table

    def unsettle(self, group: Group) -> None:
        """Have a group settled although nothing of it was written: time has passed for it."""
        self.unsettled_groups.add(group.key)
        self.unsettled_databases.add(group.database)

    def _unsettle(self, old: Any, new: Any) -> None:
        """Note what has to be settled because a thing was written."""
        if isinstance(new or old, Server):
            if (old is not None and old.alive) != (new is not None and new.alive):
                self._unsettle_server((new or old).server_id)
            return
        for thing in (old, new):
            if isinstance(thing, Group | Archive | Process):
                self._unsettle_member(thing)
            elif isinstance(thing, Tombstone):
                self._unsettle_member(thing.process)
            elif isinstance(thing, Database):
                self.unsettled_databases.add(thing.name)
        if isinstance(new or old, Database) and _governs_otherwise(old, new):
            self.unsettled_groups.update(keys_of(self.groups, GROUPS_OF, (new or old).name))

    def _unsettle_member(self, thing: Group | Archive | Process) -> None:
        key = thing.key if isinstance(thing, Group) else (thing.database, thing.group)
        if key[1]:
            self.unsettled_groups.add(key)
        self.unsettled_databases.add(thing.database)

    def _unsettle_server(self, server_id: str) -> None:
        """Everything whose place was on it: which archives may lead depends on its liveness."""
        for process in self.processes_on(server_id):
            self._unsettle_member(process)
        for archive in self.archives_on(server_id):
            self._unsettle_member(archive)
        for tombstone in items_of(self.tombstones, TOMBSTONES_ON, server_id):
            self._unsettle_member(tombstone.process)

    def put_group(self, group: Group, **changes: Any) -> Group:
        """Store a group with changes that are not a move."""
        return self.put(evolve(group, **changes))

    def put_phase(self, group: Group, **changes: Any) -> Group:
        """Store a group whose phase has changes that are not a move. Raises TypeError for a field its phase does not have."""
        return self.put(evolve(group, phase=evolve(group.phase, **changes)))

    def put_process(self, process: Process, **changes: Any) -> Process:
        """Store a process with changes that are not a move."""
        return self.put(evolve(process, **changes))

    def put_archive(self, archive: Archive, **changes: Any) -> Archive:
        """Store an archive with changes that are not a move."""
        return self.put(evolve(archive, **changes))

    def put_database(self, database: Database, **changes: Any) -> Database:
        """Store a database with changes that are not a move."""
        return self.put(evolve(database, **changes))

    # Moves, each by a row of lifecycle.py --------------------------------------------------------------------

    def move_process(self, process: Process, on: str, after: int | None = None, **changes: Any) -> Process:
        """Move a process along its life cycle. Raises InvariantError without a row."""
        move = row("process", process.state, on)
        moved = self.put_process(process, state=ProcessState(move.target), state_at=self.command.now, **changes)
        self.note(
            f"process.{move.target.lower()}",
            f"process {process.start_id}",
            move.because,
            after,
            database=process.database,
            change=f"{process.state} -> {move.target}",
            start_id=process.start_id,
            archive_id=process.archive_id,
        )
        return moved

    def move_archive(self, archive: Archive, on: str) -> Archive | None:
        """Move an archive along its life cycle; None when it is gone. Raises InvariantError without a row."""
        move = row("archive", archive.state, on)
        self.note(
            f"archive.{on}",
            f"archive {archive.archive_id}",
            move.because,
            database=archive.database,
            change=f"{archive.state} -> {move.target}",
            archive_id=archive.archive_id,
        )
        if move.target == GONE:
            self.drop(archive)
            return None
        return self.put_archive(archive, state=ArchiveState(move.target))

    def move_database(self, database: Database, target: DatabaseState, because: str = "", **changes: Any) -> Database:
        """Move a database along its life cycle. Raises InvariantError without a row."""
        move = row_to("database", database.state, target)
        moved = self.put_database(database, state=target, state_at=self.command.now, **changes)
        self.note(
            f"database.{target.lower()}",
            f"database {database.name}",
            because or move.because,
            database=database.name,
            change=f"{database.state} -> {target}",
        )
        return moved

    def move_group(self, group: Group, on: str, to: Phase, because: str, *, after: int | None = None, **changes: Any) -> Group:
        """Move a group to a phase along its life cycle. Raises InvariantError without a row, or if the row leads elsewhere."""
        move = row("group", group.phase.name, on)
        if move.target != to.name:
            raise InvariantError(f"{group.subject} moved to {to.name} on {on}, which leads to {move.target}")
        moved = self.put_group(group, phase=to, **changes)
        self.note(
            f"group.{on.replace(' ', '_')}",
            group.subject,
            because,
            after,
            database=group.database,
            change=f"{group.phase.name} -> {move.target}",
            start_id=moved.leader_process,
            archive_id=moved.leader,
        )
        return moved

    def move_copy(self, copy: HotCopy, on: str, because: str = "", **changes: Any) -> HotCopy:
        """Move a hot copy along its life cycle; the stage's clock starts again. Raises InvariantError without a row."""
        move = row("copy", copy.stage, on)
        stage = CopyStage(move.target)
        ended_at = self.command.now if stage in ENDS else 0
        moved = evolve(copy, stage=stage, since=None, ended_at=ended_at, **changes)
        self.put(moved)
        self.note(
            f"copy.{on}",
            f"hot copy {copy.copy_id}",
            because or move.because,
            database=copy.database,
            change=f"{copy.stage} -> {move.target}",
        )
        return moved


def _governs_otherwise(old: Database | None, new: Database | None) -> bool:
    """Whether the groups of a database are judged by something else than before: its options, or that it stops."""
    if old is None or new is None:
        return True
    return old.options != new.options or old.stopping != new.stopping
