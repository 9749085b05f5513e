"""The working copy a rule writes on while decide() runs: records, moves and events, nothing else.

Rules see a Draft, change it, and return a Refused or None. Nobody outside decide() ever sees one.
"""

from __future__ import annotations

from typing import Any

from dkv.domain import event_causality
from dkv.domain.commands import Command
from dkv.domain.decision import Event
from dkv.domain.evolving import evolve
from dkv.domain.hotcopy import ENDS, CopyStage, HotCopy
from dkv.domain.lifecycle import GONE, row, row_to
from dkv.domain.model import (
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
)
from dkv.domain.states import STOPPING


class Draft:
    """One decision in the making."""

    def __init__(self, state: State, command: Command) -> None:
        self.before = state
        self.command = command
        self.clock = state.clock
        self.next_archive_id = state.next_archive_id
        self.next_start_id = state.next_start_id
        self.servers: dict[str, Server] = dict(state.servers)
        self.databases: dict[str, Database] = dict(state.databases)
        self.groups: dict[tuple[str, str], Group] = dict(state.groups)
        self.archives: dict[int, Archive] = dict(state.archives)
        self.processes: dict[int, Process] = dict(state.processes)
        self.tombstones: dict[int, Tombstone] = dict(state.tombstones)
        self.records: dict[tuple[str, str], Record] = dict(state.records)
        self.next_copy_id = state.next_copy_id
        self.copies: dict[int, HotCopy] = dict(state.copies)
        self.events: list[Event] = []
        self.told: dict[str, int] = {}  # whose newest event is one of this decision, and its number
        self.answer: dict[str, object] = {}

    def state(self) -> State:
        """The state as drafted so far."""
        self._remember()
        return State(
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
            events=self.before.events + len(self.events),
        )

    # Events ------------------------------------------------------------------------------------------------

    def note(self, kind: str, subject: str, because: str, after: int | None = None, **facts: Any) -> int:
        """Record that something became true, and give its number. `after`: of the event it follows from, where the
        tables of event_causality.py cannot know it; 0: from none.
        """
        command = self.command
        number = self.before.events + len(self.events) + 1
        event = Event(kind, subject, because, command=type(command).__name__, actor=command.actor, at=command.now, **facts)
        source = event_causality.cause(self, event) if after is None else after
        self.told[event_causality.about(self, event)] = number
        self.events.append(evolve(event, back=number - source if source else 0))
        return number

    def last(self, subject: str) -> int:
        """The number of the newest event about a subject; 0: none, or it is not known any more."""
        if subject in self.told:
            return self.told[subject]
        for mapping, key in self._places(subject):
            if key in mapping:
                return int(mapping[key].last_event)
        return 0

    def _remember(self) -> None:
        """Keep with each thing the number of the newest event about it, whatever was written over it meanwhile."""
        for subject, number in self.told.items():
            for mapping, key in self._places(subject):
                if key in mapping and mapping[key].last_event != number:
                    mapping[key] = evolve(mapping[key], last_event=number)

    def _places(self, subject: str) -> list[tuple[dict[Any, Any], Any]]:
        """Where the thing that events name so is kept; nowhere for a thing that remembers nothing."""
        noun, _, name = subject.rpartition(" ") if subject.startswith("hot copy ") else subject.partition(" ")
        if noun == "group":
            return [(self.groups, tuple(name.split("/", 1)))]
        numbered: dict[str, dict[Any, Any]] = {"process": self.processes, "archive": self.archives, "hot copy": self.copies}
        if noun in numbered and name.isdecimal():
            return [(numbered[noun], int(name))]
        named: dict[str, dict[Any, Any]] = {"server": self.servers, "database": self.databases}
        return [(named[noun], name)] if noun in named else []

    # Reading -----------------------------------------------------------------------------------------------

    def processes_of(self, database: str) -> list[Process]:
        """Live processes of a database, by start id."""
        return [p for _, p in sorted(self.processes.items()) if p.database == database]

    def process_on(self, archive_id: int) -> Process | None:
        """The live process of an archive."""
        return next((p for p in self.processes.values() if p.archive_id == archive_id), None)

    def archives_in(self, group: Group) -> list[Archive]:
        """The group's archives that are not deleted, by id."""
        found = (a for _, a in sorted(self.archives.items()) if a.database == group.database and a.group == group.name)
        return [a for a in found if not a.removed]

    def group_of(self, process: Process) -> Group | None:
        """The group of an SM process."""
        return self.groups.get((process.database, process.group))

    def leader_of(self, group: Group) -> Process | None:
        """The live process that leads a group, or is assigned to."""
        return self.processes.get(group.leader_process) if group.leader_process is not None else None

    def archive_of(self, process: Process) -> Archive | None:
        """The archive of an SM; None for a TE."""
        return self.archives.get(process.archive_id) if process.archive_id is not None else None

    def server_alive(self, server_id: str) -> bool:
        """Whether the server's lease holds."""
        server = self.servers.get(server_id)
        return server is not None and server.alive

    def stopping(self, database: str) -> bool:
        """Whether a database is being shut down as a whole, or was deleted: nothing of it is started or opened."""
        found = self.databases.get(database)
        return found is not None and found.state in (*STOPPING, DatabaseState.TOMBSTONE)

    # Writing -----------------------------------------------------------------------------------------------

    def put_group(self, group: Group, **changes: Any) -> Group:
        """Store a group with changes that are not a move."""
        self.groups[group.key] = one = evolve(group, **changes)
        return one

    def put_process(self, process: Process, **changes: Any) -> Process:
        """Store a process with changes that are not a move."""
        self.processes[process.start_id] = one = evolve(process, **changes)
        return one

    def put_archive(self, archive: Archive, **changes: Any) -> Archive:
        """Store an archive with changes that are not a move."""
        self.archives[archive.archive_id] = one = evolve(archive, **changes)
        return one

    def put_database(self, database: Database, **changes: Any) -> Database:
        """Store a database with changes that are not a move."""
        self.databases[database.name] = one = evolve(database, **changes)
        return one

    # Moves, each by a row of lifecycle.py --------------------------------------------------------------------

    def move_process(self, process: Process, on: str, after: int | None = None, **changes: Any) -> Process:
        """Move a process along its life cycle. Raises Broken without a row."""
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
        """Move an archive along its life cycle; None when it is gone. Raises Broken without a row."""
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
            del self.archives[archive.archive_id]
            return None
        return self.put_archive(archive, state=ArchiveState(move.target))

    def move_database(self, database: Database, target: DatabaseState, because: str = "", **changes: Any) -> Database:
        """Move a database along its life cycle. Raises Broken without a row."""
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

    def move_group(self, group: Group, on: str, because: str, after: int | None = None, **changes: Any) -> Group:
        """Move a group along its life cycle. Raises Broken without a row or if the changes do not make the move."""
        move = row("group", group.phase, on)
        moved = self.put_group(group, **changes)
        self.note(
            f"group.{on.replace(' ', '_')}",
            group.subject,
            because,
            after,
            database=group.database,
            change=f"{group.phase} -> {move.target}",
            start_id=moved.leader_process,
            archive_id=moved.leader,
        )
        return moved

    def move_copy(self, copy: HotCopy, on: str, because: str = "", **changes: Any) -> HotCopy:
        """Move a hot copy along its life cycle; the stage's clock starts again. Raises Broken without a row."""
        move = row("copy", copy.stage, on)
        stage = CopyStage(move.target)
        ended_at = self.command.now if stage in ENDS else 0
        moved = evolve(copy, stage=stage, since=None, ended_at=ended_at, **changes)
        self.copies[copy.copy_id] = moved
        self.note(
            f"copy.{on}",
            f"hot copy {copy.copy_id}",
            because or move.because,
            database=copy.database,
            change=f"{copy.stage} -> {move.target}",
        )
        return moved
