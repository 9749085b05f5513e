"""Departures: a server that is away for good. Its processes are given up without proof, its archives where that is safe.

No manager saw the processes of such a server end, so each stays a suspect of its group: another archive leads only by the
proof it would need anyway (docs/reference/safety.md#assignment), and an archive in S stays until S is without it.
"""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.access import MANAGERS, Departed
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Archive, Group, Process, Server
from dkv.domain.orders import NewArchive, RemoveServer, RemoveServerState, ReplaceVoter
from dkv.domain.phases import HandingOver
from dkv.domain.refusals import no, unknown_server
from dkv.domain.rules.archives import add, remove
from dkv.domain.rules.authorities import settle_authority
from dkv.domain.rules.leadership import living_followers
from dkv.domain.rules.levels import settle_level
from dkv.domain.rules.process_lifecycle import Ending, end, open_incarnation, restart
from dkv.domain.rules.servers import forget_suspects
from dkv.domain.state_members import VOTER, holds_the_state_alone, spare_voter
from dkv.hints import action

UNPROVEN = Ending(
    cause="server away",
    detail="An operator gave up its server, which was away; whether the process ended is not known.",
    exit_code=255,
    planned=True,
    reaped=False,
    budget=False,
)
AGAIN = "Repeat this some seconds later; if that does not help, look what its group waits for."
MAY_LEAD = "may be needed to lead: delete it once another archive leads without it"
LAST = "is the last archive of its group: it is deleted with its database"


def _away(draft: Draft, server_id: str) -> Server | Refused:
    """The server, if its lease is lost."""
    server = draft.servers.get(server_id)
    if server is None:
        return unknown_server(server_id, draft.servers)
    if server.alive:
        return no(
            "server_alive",
            f"Server {server_id} is here: its manager renews its lease.",
            "Stop its manager first, and wait until its lease has ended: ",
            action("stopManager", server=server_id),
            ".",
        )
    return server


def remove_server(draft: Draft, command: RemoveServer) -> Refused | None:
    """It leaves the domain. If its manager comes back it joins again, as a server without archives; where the domain has an
    authority, with a join token only.
    """
    server = _away(draft, command.server_id)
    if isinstance(server, Refused):
        return server
    name = server.server_id
    if draft.processes_on(name):
        return _in_use(draft, name, f"Server {name} still has processes.")
    if holds_the_state_alone(draft.servers, server):
        return last_voter(name)
    mine = draft.archives_on(name)
    remaining = [a for a in mine if not a.removed]
    if remaining:
        return _in_use(draft, name, f"Server {name} still has {_names(remaining)}.")
    for archive in mine:
        draft.drop(archive)
        draft.note(
            "archive.forgotten",
            f"archive {archive.archive_id}",
            "its server left; its directory is still there",
            database=archive.database,
            archive_id=archive.archive_id,
        )
    forget_suspects(draft, name)
    draft.drop(server)
    draft.note("server.removed", f"server {name}", "an operator took it out of the domain")
    if authority := draft.authorities.get(MANAGERS):
        draft.put(Departed(server.uid, name, command.now))
        settle_authority(draft, authority)
    settle_level(draft)
    return None


def last_voter(server_id: str) -> Refused:
    """A server has the only voter."""
    return no(
        "last_voter",
        f"Server {server_id} has the only voter of the domain state's etcd, which would be lost with it.",
        "Wait until another server votes: one takes its place some minutes after it went away (voter_replacement_after_ms), "
        "if its member runs on. Now: ",
        action("replaceVoter", server=server_id),
        ".",
    )


def replace_voter(draft: Draft, command: ReplaceVoter) -> Refused | None:
    """The manager that holds the leader lease removes its member and adds another, without waiting as long as it would by itself
    (voter_replacement_after_ms). Its server has a member again when it is back, if one is wanted then.
    """
    server = _away(draft, command.server_id)
    if isinstance(server, Refused):
        return server
    if server.state_member != VOTER:
        return no(
            "no_voter",
            f"Server {server.server_id} has no vote in the domain state's etcd.",
            "The view of the domain says which servers vote.",
        )
    spare = spare_voter(draft.servers, command.now)
    if spare is None:
        return no(
            "no_spare_voter",
            f"No other server can vote in place of {server.server_id}: each that is here and can run etcd has a member already.",
            "Start the manager of another server that has etcd, or let one join.",
        )
    draft.answer.update(by=spare.server_id)
    if not server.gives_up_vote:
        draft.put(replace(server, gives_up_vote=True))
        because = f"an operator does not wait for it any longer; {spare.server_id} can take its place"
        draft.note("server.vote_given_up", f"server {server.server_id}", because)
    return None


# A server in place of another ------------------------------------------------------------------------------------------


def why_not_replaced(draft: Draft, server: Server) -> Refused | None:
    """Why no other data directory may take a server's place: it is here, or what only it has would be given up."""
    away = _away(draft, server.server_id)
    if isinstance(away, Refused):
        return away
    if holds_the_state_alone(draft.servers, server):
        return last_voter(server.server_id)
    for group in {g.key: g for p in draft.processes_on(server.server_id) if (g := draft.group_of(p))}.values():
        if refused := _still_leads(draft, group, server.server_id):
            return refused
    for archive in draft.archives_on(server.server_id):
        why = "" if archive.removed else _needed(draft, archive)
        if why:
            has = f"Server {server.server_id} has {_names([archive])}, which {why}."
            if why is LAST:
                return no("server_in_use", has, "Delete its database, or let the server come back with its data.")
            return no("archive_needed", has, AGAIN)
    return None


def replace_server(draft: Draft, server: Server, *, uid: str, host: str) -> None:
    """Another data directory takes the place of a server that is away: what was there is given up, and each copy that ran is
    requested anew, empty, under its name and its ports. `why_not_replaced` was asked.
    """
    name = server.server_id
    running = draft.processes_on(name)
    lost = draft.archives_on(name)
    for archive in lost:
        draft.put_archive(archive, stopped_by_operator=True)  # nothing is requested of what is gone
    for process in running:
        end(draft, draft.processes[process.start_id], UNPROVEN)
    forget_suspects(draft, name)
    for archive in lost:
        draft.drop(draft.archives[archive.archive_id])
        draft.note(
            "archive.forgotten",
            f"archive {archive.archive_id}",
            "its server was replaced, and its data with it",
            database=archive.database,
            archive_id=archive.archive_id,
        )
    _begin_anew(draft, server, uid, host)
    of_archive = {process.archive_id: process for process in running}
    for archive in lost:
        if not archive.removed:
            _copy_anew(draft, archive, of_archive.get(archive.archive_id))


def _begin_anew(draft: Draft, server: Server, uid: str, host: str) -> None:
    """It is away until its manager joins; its member, if it had one, was of the server before."""
    fresh = Server(server.server_id, uid, host, server.port, server.nuodb_port, boot_id="", alive=False)
    told = replace(fresh, lost_at=draft.command.now, data_dir=server.data_dir, engine_tls=server.engine_tls, labels=server.labels)
    draft.put(replace(told, engine_release=server.engine_release, dkv_release=server.dkv_release, level=server.level))
    draft.note("server.replaced", f"server {server.server_id}", "a server with a new data directory takes its place")
    draft.put(Departed(server.uid, server.server_id, draft.command.now))
    if authority := draft.authorities.get(MANAGERS):
        settle_authority(draft, authority)


def _copy_anew(draft: Draft, lost: Archive, process: Process | None) -> None:
    """An empty archive for one that is lost; a process on it where the lost one had one that was not to stop."""
    database = draft.databases.get(lost.database)
    if database is None or database.stopping or (lost.database, lost.group) not in draft.groups:
        return
    wanted = NewArchive(server_id=lost.server_id, group=lost.group, name=lost.name, path=lost.path)
    with_ports = replace(wanted, cluster_port=lost.cluster_port, client_port=lost.client_port)
    archive = add(draft, lost.database, database, with_ports)
    if isinstance(archive, Refused):  # other servers use them at this address
        archive = add(draft, lost.database, database, wanted)
    if isinstance(archive, Refused):
        because = f"no copy was made in its place: {archive.message}"
        draft.note("archive.not_replaced", f"archive {lost.archive_id}", because, database=lost.database)
        return
    if process is None or process.leaving or process.kill:
        draft.put_archive(archive, stopped_by_operator=lost.stopped_by_operator)
        return
    open_incarnation(draft, lost.database)
    restart(draft, archive, process, because=f"its server was replaced; process {process.start_id} ran there")


def _in_use(draft: Draft, name: str, message: str) -> Refused:
    return no("server_in_use", message, "Delete them, or give them up: ", action("removeServer", server=name), ".")


def _names(archives: list[Archive]) -> str:
    return ", ".join(f"archive {a.archive_id} ({a.name} of {a.database})" for a in archives)


def remove_server_state(draft: Draft, command: RemoveServerState) -> Refused | None:
    """Processes become tombstones whose end is unproven; archives that are safe to lose are deleted, the others stay."""
    server = _away(draft, command.server_id)
    if isinstance(server, Refused):
        return server
    mine = draft.processes_on(server.server_id)
    for group in {g.key: g for p in mine if (g := draft.group_of(p))}.values():
        refused = _still_leads(draft, group, server.server_id)
        if refused:
            return refused
    for process in (draft.processes[p.start_id] for p in mine):  # each as the ends before it left it
        archive = draft.archive_of(process)
        if archive:
            draft.put_archive(archive, stopped_by_operator=True)
        end(draft, process, UNPROVEN)
    remaining, pending = [], False
    for archive in [a for a in draft.archives_on(server.server_id) if not a.removed]:
        why = _needed(draft, archive)
        if why:
            remaining.append(f"{_names([archive])} {why}")
            pending = pending or why is MAY_LEAD
        else:
            remove(draft, archive)
    draft.answer.update(kept=remaining, pending=pending)
    return None


def _still_leads(draft: Draft, group: Group, server_id: str) -> Refused | None:
    """An engine serves on without its manager. As long as a follower has a link to it, no other archive may lead, so it is not
    given up; nor is either end of a handover, of which it is not known yet which one leads."""
    name = f"group {group.name} of {group.database}"
    phase = group.phase
    ends = (phase.leader_process, phase.to_process) if isinstance(phase, HandingOver) else ()
    if any(draft.processes[s].server_id == server_id for s in ends if s in draft.processes):
        return no("server_in_use", f"A handover of {name} is not decided yet.", "Repeat this in a few seconds.")
    leader = draft.leader_of(group)
    if leader is None or leader.server_id != server_id or not group.open:
        return None
    hearing = [p.archive_id for p in living_followers(draft, group) if p.archive_id not in group.silent]
    if not hearing:
        return None
    return no(
        "server_in_use",
        f"Archive {group.leader} on {server_id} leads {name}, and its followers still have their links to it.",
        f"Start the manager of {server_id} again, or end its engines and repeat this 3 s later.",
    )


def _needed(draft: Draft, archive: Archive) -> str:
    """Why an archive cannot be deleted without a word of its manager, or nothing."""
    group = draft.groups.get((archive.database, archive.group))
    if group is None:
        return ""
    if len(draft.archives_in(group)) == 1:
        return LAST
    wanted = {*group.in_sync, *group.required, *group.contested, group.leader, group.enforced}
    if archive.archive_id in wanted:
        return MAY_LEAD
    return ""
