"""decide(state, command): the one pure function that says what a command makes true.

Look up the rule, let it write on a draft, settle what follows from it (leaders, database states), check the
invariants. All judgement about the domain is in here and in rules/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dkv.domain import commands as c
from dkv.domain import invariants
from dkv.domain.admission import may_order
from dkv.domain.command_rights import right_of
from dkv.domain.commands import Command
from dkv.domain.decision import Accepted, Decision, InvariantError, Refused
from dkv.domain.draft import Draft
from dkv.domain.identities import roles_of
from dkv.domain.model import COPIES_ACTIVE, State
from dkv.domain.rules import (
    archives,
    authorities,
    copies,
    database_restart,
    database_users,
    databases,
    departures,
    draining,
    groups,
    health,
    held_back,
    intrusion,
    join_tokens,
    leadership,
    options,
    processes,
    records,
    restoring,
    secrets,
    servers,
    switchover,
    tail,
    texts,
    timing,
    tokens,
)
from dkv.domain.table import keys_of

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
    c.CreateToken: tokens.create_token,
    c.DeleteToken: tokens.delete_token,
    c.CreateDatabaseUser: database_users.create_database_user,
    c.AddUserPassword: database_users.add_user_password,
    c.DropUserPassword: database_users.drop_user_password,
    c.DeleteDatabaseUser: database_users.delete_database_user,
    c.SetDatabaseAccess: database_users.set_database_access,
    c.RotateSecret: secrets.rotate_secret,
    c.CreateJoinToken: join_tokens.create_join_token,
    c.DeleteJoinToken: join_tokens.delete_join_token,
    c.AdmitServer: join_tokens.admit_server,
    c.RotateAuthority: authorities.rotate_authority,
    c.RemoveServer: departures.remove_server,
    c.RemoveServerState: departures.remove_server_state,
    c.Switchover: switchover.switchover,
    c.RebalanceLeaders: switchover.rebalance_leaders,
    c.RestartDatabase: database_restart.restart_database,
    c.StopRestart: database_restart.stop_restart,
    c.DrainServer: draining.drain_server,
    c.Tick: timing.tick,
    c.ServerJoined: servers.server_joined,
    c.ServerLost: servers.server_lost,
    c.RequestsRefused: servers.requests_refused,
    c.LackEnded: held_back.lack_ended,
    c.ProcessStarted: processes.process_started,
    c.ProcessConfigured: processes.process_configured,
    c.OptionsSeen: options.options_seen,
    c.UsersSeen: database_users.users_seen,
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
    c.AuthorityFounded: authorities.authority_founded,
    c.CertificateKept: authorities.certificate_kept,
    c.CertificateSeen: authorities.certificate_seen,
}


ROUNDS = 100  # of settling: each follows from what the one before it wrote, so two or three are usual


def decide(state: State, command: Command) -> Decision:
    """What `command` makes true in `state`, or why not. Raises InvariantError on our own mistakes only."""
    return _decide(state, command, settle_all if isinstance(command, c.ServerJoined) else settle)


def decide_looking_at_all(state: State, command: Command) -> Decision:
    """The same answer, with everything settled and checked whether it was touched or not: what decide() is tested against."""
    decision = _decide(state, command, settle_all)
    if isinstance(decision, Accepted):
        invariants.check_all(state, decision.state)
    return decision


def _decide(state: State, command: Command, settle_draft: Callable[[Draft], None]) -> Decision:
    draft = Draft(state, command)
    refused = (
        may_order(command, right_of(command), roles_of(state) if command.grants else {})
        or texts.unprintable(command)
        or RULES[type(command)](draft, command)
    )
    if refused:
        return refused
    settle_draft(draft)
    after = draft.state()
    if not draft.events and _same(state, after):
        return Accepted(state, (), draft.answer)
    invariants.check(state, after)
    return Accepted(after, tuple(draft.events), draft.answer)


def _same(before: State, after: State) -> bool:
    """Whether nothing but the clock moved."""
    if any(getattr(before, name) != getattr(after, name) for name in COUNTERS):
        return False
    touched = after.touched_since(before)
    return all(
        getattr(before, field).get(key) == getattr(after, field).get(key) for field, keys in touched.items() for key in keys
    )


COUNTERS = ("uid", "next_archive_id", "next_start_id", "next_copy_id", "events")


def settle(draft: Draft) -> None:
    """What follows from a change, by level: who may lead now, what each database is now.

    Only what was touched is looked at, and again what that touched, until nothing is left; then hot copies, on which nothing
    else depends. An untouched group or database was settled by the decision before, and time alone changes only what Tick
    touches. Where the decision before is uncertain (a state that was restored, or written by an older dkv), a manager
    joins before anything else, and then all of it is settled.
    """
    for _ in range(ROUNDS):
        if not draft.unsettled_groups and not draft.unsettled_databases:
            break
        _settle_round(draft)
    else:
        raise InvariantError(f"{type(draft.command).__name__} does not come to rest")
    for copy_id in keys_of(draft.copies, COPIES_ACTIVE):
        copies.settle_copy(draft, draft.copies[copy_id])


def settle_all(draft: Draft) -> None:
    """The same, beginning with all groups and databases."""
    draft.unsettled_groups.update(draft.groups)
    draft.unsettled_databases.update(draft.databases)
    settle(draft)


def _settle_round(draft: Draft) -> None:
    groups, draft.unsettled_groups = draft.unsettled_groups, set()
    for key in sorted(groups & draft.groups.keys()):
        leadership.settle_group(draft, draft.groups[key])
        switchover.settle_switchover(draft, draft.groups[key])
        health.settle_under_replicated(draft, draft.groups[key])
    databases_now, draft.unsettled_databases = draft.unsettled_databases, set()
    for name in sorted(databases_now & draft.databases.keys()):
        processes.settle_memory_only(draft, name)
        databases.settle_database(draft, draft.databases[name])
        database_restart.settle_restart(draft, name)
        authorities.settle_engines(draft, name)
        secrets.settle_secret(draft, name)
