"""Domain: which event an event follows from, so that a chain of events leads back to the root cause. Pure.

Each server, database, group, archive, process and hot copy has the number of the newest event about it (`last_event`). Two tables
say what follows from what: JUST names events of the same decision, FROM names whose newest event it is; of several the newest,
because it was the last condition to come true. An order follows from no event, nor does a fact without a known cause, such as the
end of an engine that was killed: there the chain begins. No link is a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkv.domain.command import Command
from dkv.domain.decision import Event
from dkv.domain.facts import OpenTerm, Tick
from dkv.domain.model import ArchiveState, Process, ProcessState, Reader, State
from dkv.domain.orders import ORDERS

JUST: dict[str, tuple[str, ...]] = {
    "archive.exited": ("process.exited",),
    "archive.launched": ("process.configured", "process.tracked"),
    "database.requested": ("process.requested",),
    "database.started": ("group.assigned", "process.started"),
    "database.awaiting_archive_histories_msg": ("group.vacated", "group.superseded"),
    "database.awaiting_archive_histories_inc": ("archive.exited", "group.serving"),
    "database.running": ("group.serving", "group.handed_over", "archive.launched", "archive.removed", "archive.deleted"),
    "database.requested_te_shutdown": ("database.forced_stop", "database.restarting", "process.exited"),
    "database.requested_sm_shutdown": ("process.exited", "database.requested_te_shutdown"),
    "database.not_running": ("process.exited",),
    "database.incarnation": ("server.joined",),
}
"""Of the same decision and database (archive, for an archive's): the first kind of which there is one."""

FROM: dict[str, tuple[str, ...]] = {
    "process.started": ("own",),
    "process.begun": ("own",),
    "process.configured": ("own",),
    "process.tracked": ("own",),
    "process.monitored": ("own", "group"),
    "process.running": ("own",),
    "process.syncing": ("own",),
    "process.answers": ("own",),
    "process.requested_shutdown": ("database",),
    "process.exited": ("trouble",),
    "archive.retired": ("own",),
    "archive.tail_set_aside": ("group",),
    "group.assigned": ("own", "process"),
    "group.opened": ("own",),
    "group.serving": ("own",),
    "group.superseded": ("own",),
    "group.vacated": ("own",),
    "group.handover": ("own", "process"),
    "group.handed_over": ("own",),
    "group.handover_failed": ("own",),
    "group.switchover_failed": ("own",),
    "group.clean_stop": ("database",),
    "group.deletions_kept": ("own",),
    "group.slots_owned": ("own",),
    "group.tail_measured": ("own",),
    "group.tail_fed": ("own",),
    "group.tail_fed_less": ("own",),
    "in_sync.joining": ("process on it", "group"),
    "in_sync.required": ("process on it",),
    "in_sync.grown": ("process on it",),
    "in_sync.join_aborted": ("let go",),
    "in_sync.shrunk": ("let go",),
    "database.requested_sm_shutdown": ("own",),
    "database.not_running": ("own",),
    "database.incarnation": ("own",),
    "copy.prepared": ("own",),
    "copy.paused": ("own",),
    "copy.noted": ("own",),
    "copy.held": ("own",),
    "copy.void": ("own",),
    "copy.copied": ("own",),
    "copy.failed": ("own",),
}
"""Whose newest event it follows from. A kind that stands in neither table begins a chain."""


class DecisionEvents(Reader):
    """The events of one decision so far, and the tables that say which event about each thing was the newest before."""

    before: State
    command: Command
    events: list[Event]
    newest: dict[str, int]  # subject -> number of its newest event, where that is one of this decision

    def last(self, subject: str) -> int:
        """The number of the newest event about a subject; 0: none, or it is no longer known."""
        if subject in self.newest:
            return self.newest[subject]
        for table, key in self.places_of(subject):
            if key in table:
                return int(table[key].last_event)
        return 0

    def places_of(self, subject: str) -> list[tuple[Mapping[Any, Any], Any]]:
        """The table and key of the thing that events name so; empty for a thing that has no newest event."""
        noun, _, name = subject.rpartition(" ") if subject.startswith("hot copy ") else subject.partition(" ")
        if noun == "group":
            return [(self.groups, tuple(name.split("/", 1)))]
        numbered: dict[str, Mapping[Any, Any]] = {"process": self.processes, "archive": self.archives, "hot copy": self.copies}
        if noun in numbered and name.isdecimal():
            return [(numbered[noun], int(name))]
        named: dict[str, Mapping[Any, Any]] = {"server": self.servers, "database": self.databases}
        return [(named[noun], name)] if noun in named else []


def cause(draft: DecisionEvents, event: Event) -> int:
    """The number of the event that this one follows from; 0: from none."""
    if not draft.events and isinstance(draft.command, ORDERS):
        return 0
    return _just(draft, event) or max((_last(draft, event, of) for of in FROM.get(event.kind, ())), default=0)


def about(draft: DecisionEvents, event: Event) -> str:
    """Of which thing an event is now the newest: its subject, and for an in-sync set the process of the archive."""
    if not event.kind.startswith("in_sync."):
        return event.subject
    process = draft.process_on(event.archive_id) if event.archive_id is not None else None
    return f"process {process.start_id}" if process else ""


def _just(draft: DecisionEvents, event: Event) -> int:
    of_archive = event.kind.startswith("archive.")
    for kind in JUST.get(event.kind, ()):
        for place in range(len(draft.events) - 1, -1, -1):
            earlier = draft.events[place]
            same = earlier.archive_id == event.archive_id if of_archive else earlier.database in ("", event.database)
            if earlier.kind == kind and same:
                return draft.before.events + place + 1
    return 0


def _last(draft: DecisionEvents, event: Event, of: str) -> int:
    process = draft.processes.get(event.start_id) if event.start_id is not None else None
    on_it = draft.process_on(event.archive_id) if event.archive_id is not None else None
    if of == "own":
        return draft.last(event.subject)
    if of == "database":
        return draft.last(f"database {event.database}")
    if of == "process":
        return draft.last(f"process {event.start_id}")
    if of == "group":
        its = process or on_it
        group = draft.group_of(its) if its else None
        return draft.last(group.subject) if group else 0
    if of == "process on it":
        return draft.last(f"process {on_it.start_id}") if on_it else 0
    if of == "let go":
        return _let_go(draft, event, on_it)
    return _trouble(draft, process) if process else 0


def _trouble(draft: DecisionEvents, process: Process) -> int:
    """The newest event that explains the end of a process: it was to stop, its engine or its server did not answer."""
    own, server = draft.last(f"process {process.start_id}"), f"server {process.server_id}"
    numbers = [draft.last(server)] if server in draft.newest or not draft.server_alive(process.server_id) else []
    if (
        process.kill
        or process.health.silent_at
        or process.state is ProcessState.REQUESTED_SHUTDOWN
        or isinstance(draft.command, Tick)
    ):
        numbers.append(own)
    if process.kill and (draft.stopping(process.database) or f"database {process.database}" in draft.newest):
        numbers.append(draft.last(f"database {process.database}"))
    return max(numbers, default=0)


def _let_go(draft: DecisionEvents, event: Event, process: Process | None) -> int:
    """The event for which an archive left the in-sync set: its engine ended, it has trouble, or another archive leads."""
    if isinstance(draft.command, OpenTerm):
        return draft.last(event.subject)
    archive = draft.archives.get(event.archive_id) if event.archive_id is not None else None
    ended = draft.last(f"archive {event.archive_id}")
    if process is None or (archive and archive.state is ArchiveState.NOT_RUNNING):
        return ended
    return ended if ended > draft.last(f"process {process.start_id}") else _trouble(draft, process)
