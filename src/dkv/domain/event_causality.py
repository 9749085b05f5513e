"""Domain: which event an event follows from, so that "why" can be asked again and again. Pure; the draft asks it.

The newest event told of a server, database, group, archive, process or hot copy is remembered with it (`told`). What
follows from what stands in two tables: JUST names events of the same decision, FROM names whose newest event it is; of
several the newest, because it was the last thing that was missing. What somebody ordered follows from nothing, and so
does what merely happened, such as an engine that was killed: there the chain begins. No guess is ever a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkv.domain.commands import ORDERS, OpenTerm, Tick
from dkv.domain.decision import Event
from dkv.domain.model import ArchiveState, Process, ProcessState

if TYPE_CHECKING:
    from dkv.domain.draft import Draft

JUST: dict[str, tuple[str, ...]] = {
    "archive.exited": ("process.exited",),
    "archive.parked": ("process.exited",),
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


def cause(draft: Draft, event: Event) -> int:
    """The number of the event that this one follows from; 0: from none."""
    if not draft.events and isinstance(draft.command, ORDERS):
        return 0
    return _just(draft, event) or max((_last(draft, event, of) for of in FROM.get(event.kind, ())), default=0)


def about(draft: Draft, event: Event) -> str:
    """Of whom an event is the newest from now on. What is said of a copy in a group is told of the process that makes it."""
    if not event.kind.startswith("in_sync."):
        return event.subject
    process = draft.process_on(event.archive_id) if event.archive_id is not None else None
    return f"process {process.start_id}" if process else ""


def _just(draft: Draft, event: Event) -> int:
    of_archive = event.kind.startswith("archive.")
    for kind in JUST.get(event.kind, ()):
        for place in range(len(draft.events) - 1, -1, -1):
            one = draft.events[place]
            same = one.archive_id == event.archive_id if of_archive else one.database in ("", event.database)
            if one.kind == kind and same:
                return draft.before.events + place + 1
    return 0


def _last(draft: Draft, event: Event, of: str) -> int:
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


def _trouble(draft: Draft, process: Process) -> int:
    """What was told of a process that explains its end: it was asked to leave, went silent, or its server did."""
    own, server = draft.last(f"process {process.start_id}"), f"server {process.server_id}"
    found = [draft.last(server)] if server in draft.told or not draft.server_alive(process.server_id) else []
    if process.kill or process.silent_at or process.state is ProcessState.REQUESTED_SHUTDOWN or isinstance(draft.command, Tick):
        found.append(own)
    if process.kill and (draft.stopping(process.database) or f"database {process.database}" in draft.told):
        found.append(draft.last(f"database {process.database}"))
    return max(found, default=0)


def _let_go(draft: Draft, event: Event, process: Process | None) -> int:
    """Why its leader's manager let go of a copy: its engine ended, it is in trouble, or another one leads."""
    if isinstance(draft.command, OpenTerm):
        return draft.last(event.subject)
    archive = draft.archives.get(event.archive_id) if event.archive_id is not None else None
    ended = draft.last(f"archive {event.archive_id}")
    if process is None or (archive and archive.state is ArchiveState.NOT_RUNNING):
        return ended
    return ended if ended > draft.last(f"process {process.start_id}") else _trouble(draft, process)
