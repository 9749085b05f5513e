"""decide(state, command): the one pure function that says what a command makes true.

Look up the rule, let it write on a draft, settle what follows from it (leaders, database states), check the
invariants. All judgement about the domain is in here and in rules/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from dkv.domain import commands as c
from dkv.domain import invariants
from dkv.domain.commands import Command
from dkv.domain.decision import Accepted, Decision, Refused
from dkv.domain.draft import Draft
from dkv.domain.model import State
from dkv.domain.rules import (
    archives,
    copies,
    database_restart,
    databases,
    departures,
    draining,
    groups,
    health,
    held_back,
    intrusion,
    leadership,
    options,
    processes,
    records,
    restoring,
    servers,
    switchover,
    tail,
    texts,
    timing,
)

Rule = Callable[[Draft, Any], Refused | None]

RULES: dict[type[Command], Rule] = {
    c.CreateDatabase: databases.create_database,
    c.DeleteDatabase: databases.delete_database,
    c.ShutdownDatabase: databases.shutdown_database,
    c.CreateArchives: archives.create_archives,
    c.DeleteArchive: archives.delete_archive,
    c.BringBackArchive: archives.bring_back_archive,
    c.SetDatabaseOptions: options.set_database_options,
    c.StartProcess: processes.start_process,
    c.ShutdownProcess: processes.shutdown_process,
    c.EnforceLeader: leadership.enforce_leader,
    c.PutRecord: records.put_record,
    c.RemoveServer: departures.remove_server,
    c.RemoveServerState: departures.remove_server_state,
    c.Switchover: switchover.switchover,
    c.RestartDatabase: database_restart.restart_database,
    c.StopRestart: database_restart.stop_restart,
    c.DrainServer: draining.drain_server,
    c.Tick: timing.tick,
    c.ServerJoined: servers.server_joined,
    c.ServerLost: servers.server_lost,
    c.LackEnded: held_back.lack_ended,
    c.ProcessStarted: processes.process_started,
    c.ProcessConfigured: processes.process_configured,
    c.OptionsSeen: options.options_seen,
    c.LoadingProgressed: processes.loading_progressed,
    c.LeaderProgressed: processes.leader_progressed,
    c.ProcessTracked: processes.process_tracked,
    c.MemorySynced: processes.memory_synced,
    c.PositionReported: processes.position_reported,
    c.OpenTerm: groups.open_term,
    c.LeaderServing: groups.leader_serving,
    c.JoinAnnounced: groups.join_announced,
    c.JoinMarked: groups.join_marked,
    c.JoinDurable: groups.join_durable,
    c.JoinCompleted: groups.join_completed,
    c.JoinAborted: groups.join_aborted,
    c.InSyncShrunk: groups.in_sync_shrunk,
    c.HandoverBegun: groups.handover_begun,
    c.HandoverDone: groups.handover_done,
    c.HandoverFailed: groups.handover_failed,
    c.HandoverDeclined: groups.handover_declined,
    c.HandoverWithdrawn: groups.handover_withdrawn,
    c.LeaderSteppedDown: groups.leader_stepped_down,
    c.CleanStopReached: groups.clean_stop_reached,
    c.LeaderSilence: groups.leader_silence,
    c.ProcessExited: processes.process_exited,
    c.EngineSilent: health.engine_silent,
    c.WritesRefused: health.writes_refused,
    c.TailSetAside: processes.tail_set_aside,
    c.SlotsLost: intrusion.slots_lost,
    c.DeletionsKept: intrusion.deletions_kept,
    c.SlotsOwned: intrusion.slots_owned,
    c.TailMeasured: tail.tail_measured,
    c.TailFed: tail.tail_fed,
    c.TailBroken: tail.tail_broken,
    c.ArchiveRetired: archives.archive_retired,
    c.CopyRecognised: restoring.copy_recognised,
    c.RequestHotCopy: copies.request_hot_copy,
    c.CancelHotCopy: copies.cancel_hot_copy,
    c.CopyPrepared: copies.copy_prepared,
    c.WritesPaused: copies.writes_paused,
    c.CutNoted: copies.cut_noted,
    c.WritesResumed: copies.writes_resumed,
    c.CopyProgressed: copies.copy_progressed,
    c.CopyWritten: copies.copy_written,
    c.CopyBroke: copies.copy_broke,
    c.CutDropped: copies.cut_dropped,
}


def decide(state: State, command: Command) -> Decision:
    """What `command` makes true in `state`, or why not. Raises Broken on our own mistakes only."""
    draft = Draft(state, command)
    refused = texts.unprintable(command) or RULES[type(command)](draft, command)
    if refused:
        return refused
    _settle(draft)
    after = draft.state()
    if not draft.events and _same(state, after):
        return Accepted(state, (), draft.answer)
    invariants.check(state, after)
    return Accepted(after, tuple(draft.events), draft.answer)


def _same(before: State, after: State) -> bool:
    """Whether nothing but the clock moved."""
    return all(getattr(before, name) == getattr(after, name) for name in _JUDGED)


_JUDGED = tuple(one.name for one in fields(State) if one.name != "clock")


def _settle(draft: Draft) -> None:
    """What follows from a change, by level: who may lead now, what each database is now."""
    for key in sorted(draft.groups):
        leadership.settle_group(draft, draft.groups[key])
        switchover.settle_wish(draft, draft.groups[key])
        health.settle_thin(draft, draft.groups[key])
    for name in sorted(draft.databases):
        processes.settle_memory_only(draft, name)
        databases.settle_database(draft, draft.databases[name])
        database_restart.settle_restart(draft, name)
    for copy_id in sorted(draft.copies):
        copies.settle_copy(draft, draft.copies[copy_id])
