"""decide(state, command): the one pure function that says what a command makes true.

Look up the rule, let it write on a draft, settle what follows from it (leaders, database states), check the
invariants. All judgement about the domain is in here and in rules/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dkv.domain import facts, invariants, levels, orders
from dkv.domain.admission import may_order
from dkv.domain.command import Command
from dkv.domain.command_rights import right_of
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
from dkv.domain.rules import levels as level_rules
from dkv.domain.table import keys_of

Rule = Callable[[Draft, Any], Refused | None]

RULES: dict[type[Command], Rule] = {
    orders.CreateDatabase: databases.create_database,
    orders.DeleteDatabase: databases.delete_database,
    orders.ShutdownDatabase: databases.shutdown_database,
    orders.CreateArchives: archives.create_archives,
    orders.DeleteArchive: archives.delete_archive,
    orders.BringBackArchive: archives.bring_back_archive,
    orders.SetDatabaseOptions: options.set_database_options,
    orders.StartProcess: processes.start_process,
    orders.ShutdownProcess: processes.shutdown_process,
    orders.EnforceLeader: leadership.enforce_leader,
    orders.PutRecord: records.put_record,
    orders.CreateToken: tokens.create_token,
    orders.DeleteToken: tokens.delete_token,
    orders.CreateDatabaseUser: database_users.create_database_user,
    orders.AddUserPassword: database_users.add_user_password,
    orders.DropUserPassword: database_users.drop_user_password,
    orders.DeleteDatabaseUser: database_users.delete_database_user,
    orders.SetDatabaseAccess: database_users.set_database_access,
    orders.RotateSecret: secrets.rotate_secret,
    orders.CreateJoinToken: join_tokens.create_join_token,
    orders.DeleteJoinToken: join_tokens.delete_join_token,
    orders.AdmitServer: join_tokens.admit_server,
    orders.RotateAuthority: authorities.rotate_authority,
    orders.RemoveServer: departures.remove_server,
    orders.RemoveServerState: departures.remove_server_state,
    orders.ReplaceVoter: departures.replace_voter,
    orders.Switchover: switchover.switchover,
    orders.RebalanceLeaders: switchover.rebalance_leaders,
    orders.RestartDatabase: database_restart.restart_database,
    orders.StopRestart: database_restart.stop_restart,
    orders.DrainServer: draining.drain_server,
    facts.Tick: timing.tick,
    facts.ServerJoined: servers.server_joined,
    facts.ServerLost: servers.server_lost,
    facts.LevelsRead: level_rules.levels_read,
    facts.RequestsRefused: servers.requests_refused,
    facts.StateMemberSeen: servers.state_member_seen,
    facts.MemberTroubled: servers.member_troubled,
    facts.LackEnded: held_back.lack_ended,
    facts.ProcessStarted: processes.process_started,
    facts.ProcessConfigured: processes.process_configured,
    facts.OptionsSeen: options.options_seen,
    facts.UsersSeen: database_users.users_seen,
    facts.LoadingProgressed: processes.loading_progressed,
    facts.LeaderProgressed: processes.leader_progressed,
    facts.ProcessTracked: processes.process_tracked,
    facts.MemorySynced: processes.memory_synced,
    facts.PositionReported: processes.position_reported,
    facts.OpenTerm: groups.open_term,
    facts.LeaderServing: groups.leader_serving,
    facts.JoinAnnounced: groups.join_announced,
    facts.JoinMarked: groups.join_marked,
    facts.JoinDurable: groups.join_durable,
    facts.JoinCompleted: groups.join_completed,
    facts.JoinAborted: groups.join_aborted,
    facts.InSyncShrunk: groups.in_sync_shrunk,
    facts.HandoverBegun: groups.handover_begun,
    facts.HandoverDone: groups.handover_done,
    facts.HandoverFailed: groups.handover_failed,
    facts.HandoverDeclined: groups.handover_declined,
    facts.HandoverWithdrawn: groups.handover_withdrawn,
    facts.LeaderSteppedDown: groups.leader_stepped_down,
    facts.CleanStopReached: groups.clean_stop_reached,
    facts.LeaderSilence: groups.leader_silence,
    facts.ProcessExited: processes.process_exited,
    facts.EngineSilent: health.engine_silent,
    facts.WritesRefused: health.writes_refused,
    facts.TailSetAside: processes.tail_set_aside,
    facts.SlotsLost: intrusion.slots_lost,
    facts.DeletionsKept: intrusion.deletions_kept,
    facts.SlotsOwned: intrusion.slots_owned,
    facts.TailMeasured: tail.tail_measured,
    facts.TailFed: tail.tail_fed,
    facts.TailBroken: tail.tail_broken,
    facts.ArchiveRetired: archives.archive_retired,
    facts.CopyRecognised: restoring.copy_recognised,
    orders.RequestHotCopy: copies.request_hot_copy,
    orders.CancelHotCopy: copies.cancel_hot_copy,
    facts.CopyPrepared: copies.copy_prepared,
    facts.WritesPaused: copies.writes_paused,
    facts.CutNoted: copies.cut_noted,
    facts.WritesResumed: copies.writes_resumed,
    facts.CopyProgressed: copies.copy_progressed,
    facts.CopyWritten: copies.copy_written,
    facts.CopyBroke: copies.copy_broke,
    facts.CutDropped: copies.cut_dropped,
    facts.AuthorityFounded: authorities.authority_founded,
    facts.CertificateKept: authorities.certificate_kept,
    facts.CertificateSeen: authorities.certificate_seen,
}


ROUNDS = 100  # of settling: each follows from what the one before it wrote, so two or three are usual


def decide(state: State, command: Command) -> Decision:
    """What `command` makes true in `state`, or why not. Raises InvariantError on our own mistakes only."""
    return _decide(state, command, settle_all if isinstance(command, facts.ServerJoined) else settle)


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
    if refused := levels.refusal(state, after):
        return refused
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


COUNTERS = ("uid", "next_archive_id", "next_start_id", "next_copy_id", "events", "level")


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
