"""Planned changes of leader: a group remembers the request, its leader's manager begins the handover, and an event says how it
ended. By level: a request whose target is gone, or that is not begun in time, is given up with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dkv.domain import spread
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.elections import electing_elsewhere, lack_of_votes
from dkv.domain.model import GROUPS_MOVING, Archive, Database, EngineState, Group, Process, ProcessState, Reader
from dkv.domain.orders import RebalanceLeaders, Switchover
from dkv.domain.phases import HandingOver, Open, SwitchoverRequest
from dkv.domain.refusals import living_database, nearest, no, unknown_process
from dkv.domain.table import keys_of
from dkv.hints import Part, action

LATER: tuple[Part, ...] = ("Repeat this in some seconds; how far it is: ", action("showWaiting"), ".")
BEGIN_WITHIN = 15_000  # ms of the domain clock that a leader's manager may take to begin
HOME_AFTER = 10_000  # ms of the domain clock that a copy could lead again before it does: its machine may not be well yet


def switchover(draft: Draft, command: Switchover) -> Refused | None:
    """Remember the request in each group asked for; all or none."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    groups = _groups(draft, database, command)
    if isinstance(groups, Refused):
        return groups
    for group in groups:
        refused = _may_hand_over(draft, group, command.to)
        if refused:
            return refused
    for group in groups:
        request_switchover(draft, group, command.to, "an operator asked for it")
    draft.answer.update(groups=[g.name for g in groups])
    return None


def rebalance_leaders(draft: Draft, command: RebalanceLeaders) -> Refused | None:
    """Request the handovers that spread the leaders of a database evenly. Groups without a serving leader, or that hand over,
    stay as they are."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    leaders, others = {}, {}
    for group in draft.groups_of(database.name):
        leader = _leads_soon(draft, group)
        if leader:
            leaders[group.name] = leader.server_id
        if _may_hand_over(draft, group, None) is None:
            others[group.name] = {p.server_id: p for a in group.in_sync if (p := _able(draft, group, a))}
    moves = spread.moves(leaders, {name: set(able) for name, able in others.items()})
    if not moves and (stuck := _stuck(draft, database.name, leaders, others)):
        return stuck
    groups = ", ".join(name for name, _ in moves)
    why = f"handovers of {groups} are requested" if moves else "they are spread already"
    draft.note("database.rebalance", f"database {database.name}", why, database=database.name)
    for name, server in moves:
        to = others[name][server].start_id
        request_switchover(draft, draft.groups[(database.name, name)], to, "the leaders are to be spread over the servers")
    draft.answer.update(groups=[name for name, _ in moves])
    return None


def _stuck(draft: Draft, database: str, leaders: Mapping[str, str], others: Mapping[str, object]) -> Refused | None:
    """Why leaders that could be spread better, if all copies could lead, cannot be now."""
    groups = draft.groups_of(database)
    wanted = spread.moves(leaders, {g.name: {a.server_id for a in draft.archives_in(g)} for g in groups})
    for name, server in wanted:
        group = draft.groups[(database, name)]
        refused = _may_hand_over(draft, group, None)
        why = refused.message if refused else f"Its copy on server {server} cannot lead now."
        comes = any(p.server_id == server and _is_coming(draft, group, p) for p in draft.processes_in(group))
        message = f"The leaders of {database} cannot be spread now; group {name}: {why}"
        code = "copy_joining" if comes else refused.code if refused else "cannot_switch_over"
        return no(code, message, "See why: ", action("showWaiting"), ".")
    return None


def _leads_soon(draft: Draft, group: Group) -> Process | None:
    """Who leads a group once what is under way is done."""
    phase, request = group.phase, group.switchover
    to = phase.to_process if isinstance(phase, HandingOver) else request.to_process if request else None
    return draft.leader_of(group) if to is None else draft.processes.get(to)


def _able(draft: Draft, group: Group, archive_id: int) -> Process | None:
    """The process of a copy that could lead now."""
    process = draft.process_on(archive_id)
    return process if process and archive_id != group.leader and unfit(draft, group, process) == "" else None


def request_switchover(draft: Draft, group: Group, to: int | None, reason: str, after: int = 0) -> None:
    """Make a group remember that it is to be handed over. `after`: the number of the event it follows from."""
    command = draft.command
    draft.put_phase(group, switchover=SwitchoverRequest(to, reason, command.actor, command.now))
    target = f"to process {to}" if to is not None else "to the most advanced copy"
    draft.note(
        "group.switchover",
        group.subject,
        f"its leadership is to be handed over {target}: {reason}",
        after,
        database=group.database,
        start_id=group.leader_process,
        archive_id=group.leader,
    )


def _groups(draft: Draft, database: Database, command: Switchover) -> list[Group] | Refused:
    """The groups to hand over: the named one, else that of the target, else all."""
    mine = draft.groups_of(database.name)
    if command.group and all(g.name != command.group for g in mine):
        return no(
            "unknown_group",
            f"{database.name} has no storage group {command.group}.",
            nearest(command.group, [g.name for g in mine]),
        )
    if command.to is None:
        return [g for g in mine if command.group in ("", g.name)]
    process = draft.processes.get(command.to)
    if process is None or process.database != database.name:
        return unknown_process(command.to)
    if process.archive_id is None:
        return _no(f"Process {command.to} is a TE, which has no archive and never leads.", "Name a process with an archive.")
    if command.group and process.group != command.group:
        return _no(
            f"Process {command.to} belongs to group {process.group}, not {command.group}.",
            "Use ",
            action("useGroup", group=process.group),
            ".",
        )
    return [g for g in mine if g.name == process.group]


def _no(message: str, *hint: Part) -> Refused:
    return no("cannot_switch_over", message, *hint)


def _may_hand_over(draft: Draft, group: Group, to: int | None) -> Refused | None:
    leader = draft.leader_of(group)
    if leader is None or not group.serving or draft.stopping(group.database):
        return _no(
            f"Group {group.name} has no serving leader that could hand over.",
            "Look at what it waits for: ",
            action("showWaiting"),
            ".",
        )
    if isinstance(group.phase, HandingOver) or group.switchover:
        return _no(f"A handover of group {group.name} is already under way.", "Wait until that is done.")
    no_votes = lack_of_votes(draft, group)
    if no_votes:
        return _no(
            f"Group {group.name} cannot be handed over: {no_votes}.",
            "See what keeps a leader from answering: ",
            action("showWaiting"),
            ".",
        )
    if not draft.server_alive(leader.server_id):
        return _no(
            f"The manager of the leader of {group.name}, on {leader.server_id}, is away.",
            f"Start the manager of server {leader.server_id}.",
        )
    if to is not None:
        return _bad_target(draft, group, draft.processes[to])
    others = [draft.process_on(a) for a in group.in_sync if a != group.leader]
    if not any(p and unfit(draft, group, p) == "" for p in others):
        if joiner := next((p for p in draft.processes_in(group) if _is_coming(draft, group, p)), None):
            place = f"that of process {joiner.start_id} on {joiner.server_id}"
            return no("copy_joining", f"Group {group.name} has no other copy in sync yet; {place} is on its way.", *LATER)
        return _no(f"Group {group.name} has no other copy in sync that runs.", "Wait for a copy to be in sync, or add one.")
    return None


def _bad_target(draft: Draft, group: Group, target: Process) -> Refused | None:
    if target.start_id == group.leader_process:
        return _no(f"Process {target.start_id} leads group {group.name} already.", "Nothing to do.")
    if _is_coming(draft, group, target):
        why = "its copy is on its way into the in-sync set"
        return no("copy_joining", f"Process {target.start_id} cannot lead group {group.name} yet: {why}.", *LATER)
    why = unfit(draft, group, target)
    return _no(f"Process {target.start_id} cannot lead group {group.name}: {why}.", "Name a copy in sync.") if why else None


def _is_coming(draft: Draft, group: Group, process: Process) -> bool:
    """Whether nothing is known that keeps a process's copy from entering the in-sync set by itself."""
    if process.archive_id is None or process.archive_id in group.in_sync or process.leaving or process.health.silent_at:
        return False
    return (process.rest is None or process.rest.over) and draft.server_alive(process.server_id)


def unfit(draft: Draft, group: Group, target: Process) -> str:
    """Why a process cannot be handed over to; "" if it can."""
    if target.archive_id not in group.in_sync:
        return "it is not in the in-sync set"
    if target.leaving:
        return "it is stopping"
    if target.health.silent_at:
        return "its engine does not answer"
    if target.state is not ProcessState.MONITORED or target.engine_state is not EngineState.RUNNING:
        return "it does not run yet"
    return "" if draft.server_alive(target.server_id) else f"its server {target.server_id} is away"


# How a request ends --------------------------------------------------------------------------------------------


def settle_switchover(draft: Draft, group: Group) -> None:
    """Give up a request that is impossible now; a handover that has begun is left to its two managers."""
    if not isinstance(group.phase, Open) or group.phase.switchover is None:
        return
    why = _why_impossible(draft, group, group.phase.switchover)
    if why:
        give_up(draft, group, why)


def _why_impossible(draft: Draft, group: Group, request: SwitchoverRequest) -> str:
    if draft.stopping(group.database):
        return "its database is being shut down"
    leader = draft.leader_of(group)
    if leader and not draft.server_alive(leader.server_id):
        return f"the manager of its leader, on {leader.server_id}, is away"
    if request.to_process is None:
        return ""
    target = draft.processes.get(request.to_process)
    if target is None:
        return f"process {request.to_process} ended"
    why = "" if not draft.server_alive(target.server_id) else unfit(draft, group, target)
    return f"of process {target.start_id}, {why}" if why else ""


def give_up(draft: Draft, group: Group, why: str) -> None:
    """Forget a request whose handover did not begin, and say why."""
    note_failure(draft, group, why)
    draft.put_phase(group, switchover=None)


def note_failure(draft: Draft, group: Group, why: str) -> None:
    """Say why a request's handover did not happen. A leader goes home by itself once: then it is for an operator."""
    forget_home(draft, group)
    draft.note(
        "group.switchover_failed",
        group.subject,
        f"its leadership was not handed over: {why}",
        database=group.database,
        start_id=group.leader_process,
        archive_id=group.leader,
    )


def tick_switchover(draft: Draft, group: Group) -> None:
    """Start the time limit of a request, or end it. It begins anew while the request waits for another group's handover."""
    if not isinstance(group.phase, Open) or group.phase.switchover is None:
        return
    request = group.phase.switchover
    lasts = draft.clock - request.since if request.since is not None else BEGIN_WITHIN
    waits = lasts >= BEGIN_WITHIN // 3 and electing_elsewhere(draft, group, draft.command.now)
    if request.since is None or waits:
        draft.put_phase(group, switchover=replace(request, since=draft.clock))
    elif lasts >= BEGIN_WITHIN:
        give_up(draft, group, lack_of_votes(draft, group) or f"no copy was ready to take over within {BEGIN_WITHIN // 1000} s")


# Leaders go home ------------------------------------------------------------------------------------------------------


def remember_home(draft: Draft, group: Group, leader: Process) -> None:
    """The server of a leader was lost: its copy is to lead again, unless one before it is to, or leaders stay."""
    archive = draft.archive_of(leader)
    stays = draft.databases[group.database].options.leaders == "stay"
    if archive is None or stays or any(other.goes_home for other in draft.archives_in(group)):
        return
    draft.put_archive(archive, goes_home=True)


def forget_home(draft: Draft, group: Group) -> None:
    """No copy of a group is to lead again by itself."""
    for archive in draft.archives_in(group):
        if archive.goes_home:
            draft.put_archive(archive, goes_home=False, home_since=None)


def may_go_home(reader: Reader, archive: Archive) -> bool:
    """Whether time counts for a copy that is to lead again: it is in sync, or leads by now."""
    group = reader.group_of_archive(archive.archive_id)
    return archive.archive_id in (group.leader, *group.in_sync)


def tick_home(draft: Draft, archive: Archive) -> None:
    """Request the handover to a copy that is to lead again, once it could for a while: one in the domain at a time."""
    group = draft.group_of_archive(archive.archive_id)
    stays = draft.databases[group.database].options.leaders == "stay"
    if stays or (group.serving and group.leader == archive.archive_id):
        forget_home(draft, group)
        return
    process = draft.process_on(archive.archive_id)
    if process is None or _may_hand_over(draft, group, process.start_id):
        if archive.home_since is not None:
            draft.put_archive(archive, home_since=None)
    elif archive.home_since is None:
        draft.put_archive(archive, home_since=draft.clock)
    elif draft.clock - archive.home_since >= HOME_AFTER and not _any_requested(draft):
        why = f"server {archive.server_id} is back, where it led until that was lost"
        request_switchover(draft, group, process.start_id, why)


def _any_requested(draft: Draft) -> bool:
    return any(draft.groups[key].switchover for key in keys_of(draft.groups, GROUPS_MOVING))
