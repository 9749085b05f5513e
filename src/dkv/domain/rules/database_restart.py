"""Restarting a database: one process after the other while it serves, or by a whole stop and start.

The database remembers below which start id everything is to be replaced; each decision brings that one step further
if it can (domain/database_restart.py says which). So a restart survives every manager and
the command that requested it.
"""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.database_restart import Done, HandOver, Replace, next_step, outdated
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Database, DatabaseRestart, DatabaseState, EngineState, Group, Process
from dkv.domain.orders import RestartDatabase, ShutdownDatabase, StopRestart
from dkv.domain.refusals import living_database, no
from dkv.domain.rules.databases import settle_database, shutdown_database
from dkv.domain.rules.process_lifecycle import open_incarnation, request_again
from dkv.domain.rules.switchover import request_switchover
from dkv.hints import action


def restart_database(draft: Draft, command: RestartDatabase) -> Refused | None:
    """Begin a restart; refused while one runs, and where writes would stop unless that is accepted."""
    database = living_database(draft.databases, command.name)
    if isinstance(database, Refused):
        return database
    live = draft.processes_of(database.name)
    refused = _may_restart(draft, database, live, command)
    if refused:
        return refused
    restart = DatabaseRestart(
        draft.next_start_id,
        len(live),
        command.rolling,
        command.force,
        command.actor,
        command.now,
        again=() if command.rolling else tuple(live),
    )
    how = "one after the other" if command.rolling else "all at once"
    number = _note(draft, database, "restarting", f"an operator asked to restart its {len(live)} processes, {how}")
    draft.put_database(database, restart=replace(restart, last_event=number))
    draft.answer.update(below=restart.below, processes=len(live))
    if command.rolling:
        return None
    return shutdown_database(
        draft, ShutdownDatabase(now=command.now, actor=command.actor, name=database.name, force=command.force)
    )


def stop_restart(draft: Draft, command: StopRestart) -> Refused | None:
    """End a restart where it stands."""
    database = living_database(draft.databases, command.name)
    if isinstance(database, Refused):
        return database
    if database.restart is None:
        return no("not_restarting", f"{database.name} is not being restarted.", "Nothing to stop.")
    _end(draft, database, "restart_stopped", "an operator ended its restart" + _left(draft, database, database.restart))
    return None


def _may_restart(draft: Draft, database: Database, live: list[Process], command: RestartDatabase) -> Refused | None:
    if database.restart:
        return no(
            "restart_running",
            f"{database.name} is being restarted already.",
            "Wait for it, or end it: ",
            action("endRestart", store=database.name),
            ".",
        )
    if draft.stopping(database.name):
        return no("database_stopping", f"{database.name} is being shut down.", "Start it again once it has stopped.")
    if not live:
        return no(
            "database_not_running", f"{database.name} does not run.", "Start it: ", action("startStore", store=database.name), "."
        )
    if not command.rolling or command.force:
        return None
    least = max(1, database.options.min_in_sync)
    for group in draft.groups_of(database.name):
        copies = len(draft.archives_in(group))
        if copies - 1 < least:
            return _would_stop_writes(group, copies, least)
    return None


def _would_stop_writes(group: Group, copies: int, least: int) -> Refused:
    word = "copy" if copies == 1 else "copies"
    return no(
        "would_stop_writes",
        f"Group {group.name} has {copies} {word} and needs {least} in sync: while one is restarted its writes would stop.",
        "Add a copy (",
        action("addInstance", store=group.database),
        "), or if writes may stop for a moment, repeat with ",
        action("force"),
        ".",
    )


# By level ------------------------------------------------------------------------------------------------------------


def settle_restart(draft: Draft, name: str) -> None:
    """Bring a restart one step further."""
    database = draft.databases[name]
    restart = database.restart
    if restart is None:
        return
    if not restart.rolling:
        _settle_whole(draft, database, restart)
    elif draft.stopping(name):
        _end(draft, database, "restart_stopped", "it is being shut down, so its restart ends" + _left(draft, database, restart))
    elif not draft.has_processes(name):
        _end(draft, database, "restart_stopped", "none of its processes runs, so its restart ends")
    else:
        _roll(draft, database, restart)


def _roll(draft: Draft, database: Database, restart: DatabaseRestart) -> None:
    step = next_step(draft, database, restart)
    if isinstance(step, Replace):
        draft.move_process(step.process, "stop", restart.last_event, engine_state=EngineState.SHUTTING_DOWN, restarted=True)
    elif isinstance(step, HandOver):
        request_switchover(draft, step.group, None, "its leader is to be restarted", restart.last_event)
    elif isinstance(step, Done):
        seconds = max(0, draft.command.now - restart.at) / 1000
        _end(draft, database, "restarted", f"its {restart.of} processes were replaced one after the other in {seconds:.1f} s")


def _settle_whole(draft: Draft, database: Database, restart: DatabaseRestart) -> None:
    """When all has stopped, request again what ran."""
    if database.state is DatabaseState.NOT_RUNNING:
        database = draft.put_database(database, restart=None)
        open_incarnation(draft, database.name)
        for process in restart.again:
            _again(draft, process)
        because = f"all its processes had stopped, and {restart.of} were requested again"
        _note(draft, database, "restarted", because, restart.last_event)
        settle_database(draft, draft.databases[database.name])
    elif not draft.stopping(database.name):
        _end(draft, database, "restart_stopped", "its shutdown was given up, so its restart ends")


def _again(draft: Draft, old: Process) -> None:
    """Request what ran before, with what it was requested with. An archive that is gone is passed over."""
    archive = draft.archive_of(old)
    if archive and not archive.removed:
        draft.put_archive(archive, stopped_by_operator=False)
    if old.archive_id is None or (archive and not archive.removed):
        request_again(draft, old)


def _left(draft: Draft, database: Database, restart: DatabaseRestart) -> str:
    left = len(outdated(draft, database.name, restart)) if restart.rolling else 0
    return f"; {left} of {restart.of} processes were not replaced" if left else ""


def _end(draft: Draft, database: Database, kind: str, because: str) -> None:
    _note(draft, database, kind, because, database.restart.last_event if database.restart else None)
    draft.put_database(database, restart=None)


def _note(draft: Draft, database: Database, kind: str, because: str, after: int | None = None) -> int:
    return draft.note(f"database.{kind}", f"database {database.name}", because, after, database=database.name)
