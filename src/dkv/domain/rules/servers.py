"""Servers: a manager is here, or its lease ended. Liveness never changes S (docs/reference/safety.md#shrinking-s)."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.access import Departed
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import MemberTroubled, RequestsRefused, ServerJoined, ServerLost, StateMemberSeen
from dkv.domain.model import TOMBSTONES_ON, Server
from dkv.domain.refusals import no, stale_fact
from dkv.domain.rules.levels import known_at, settle_level
from dkv.domain.rules.process_lifecycle import Ending, open_incarnation, restart, stop_memory_only, terminate
from dkv.domain.state_members import LEARNER, VOTER, trouble_text
from dkv.domain.table import items_of
from dkv.hints import action

RESERVED = ("certificates",)
"""Words that stand where a server's id does in the addresses of /api/1 (docs/reference/nuodb.md#transport)."""


def reserved(server_id: str) -> Refused | None:
    """Why no server may have that id; None for one that may be taken."""
    if server_id.casefold() not in RESERVED:
        return None
    return no("bad_name", f"A server cannot be named {server_id}: that word is part of an address.", "Choose another server id.")


def server_joined(draft: Draft, command: ServerJoined) -> Refused | None:
    """A manager is here: first time, again, or after a reboot of its machine."""
    known = draft.servers.get(command.server_id)
    if known is None and (refused := reserved(command.server_id)):
        return refused
    if known and known.uid != command.uid:
        return other_directory(known)
    if departed := draft.departed.get(command.uid):
        return departed_again(departed)
    new = Server(command.server_id, command.uid, command.host, command.port, command.nuodb_port, command.boot_id)
    now = replace(  # what else is known of a server stays when its manager joins again
        known or new,
        host=command.host,
        port=command.port,
        nuodb_port=command.nuodb_port,
        boot_id=command.boot_id,
        data_dir=command.data_dir,
        engine_release=command.engine_release,
        engine_tls=command.engine_tls,
        etcd_port=command.etcd_port,
        alive=True,
        lost_at=0,
        gives_up_vote=False,
        **known_at(draft, command),
    )
    if known == now:
        return None
    draft.put(now)
    if known and now == replace(known, labels=now.labels):
        labels = ", ".join(f"{name}={text}" for name, text in now.labels) or "none"
        draft.note("server.relabelled", f"server {command.server_id}", f"its manager read its settings again; labels: {labels}")
        return None
    draft.note("server.joined", f"server {command.server_id}", "its manager joined and renews its lease")
    settle_level(draft)
    if known and known.boot_id and known.boot_id != command.boot_id:  # one that takes another's place had none yet
        _machine_restarted(draft, command.server_id)
    return None


def other_directory(known: Server) -> Refused:
    """A server's id is taken by another data directory."""
    return no(
        "server_conflict",
        f"Server id {known.server_id} belongs to another data directory, whose manager is at {known.host}:{known.port}.",
        "Choose another server id, or run this manager on its own data directory. If that directory is lost: ",
        action("replaceServer", server=known.server_id),
        ", which prints a token to join with in its place.",
    )


def departed_again(departed: Departed) -> Refused:
    """A server that was deleted is here again."""
    return no(
        "server_departed",
        f"Server {departed.server_id} was deleted from this domain, with this data directory.",
        "To take it back: ",
        action("createJoinToken"),
        ", and start its manager with that.",
    )


def _machine_restarted(draft: Draft, server_id: str) -> None:
    """Nothing of it runs any more; where no process is left anywhere, what is requested again is a cold start."""
    ending = Ending(cause="machine restarted", detail="The machine was restarted.", exit_code=255, reaped=True, budget=False)
    ended = draft.processes_on(server_id)
    forget_suspects(draft, server_id)
    orphans = [(p, archive) for p in ended if (archive := terminate(draft, p, ending))]
    for name in sorted({archive.database for _, archive in orphans}):
        open_incarnation(draft, name)
    for process, archive in orphans:
        restart(draft, archive, process)
    for name in sorted({p.database for p in ended}):
        stop_memory_only(draft, name)


def forget_suspects(draft: Draft, server_id: str) -> None:
    """Processes of a server that had ended without proof need none any more: its machine was restarted, or others lead since."""
    gone = items_of(draft.tombstones, TOMBSTONES_ON, server_id)
    for group in {group.key: group for t in gone if (group := draft.group_of(t.process))}.values():
        suspects = tuple(s for s in group.suspects if s not in {t.process.start_id for t in gone})
        if suspects != group.suspects:
            draft.put_group(group, suspects=suspects)


def server_lost(draft: Draft, command: ServerLost) -> Refused | None:
    """Its lease ended. Answers it gave in a vacancy are dropped with it."""
    server = draft.servers.get(command.server_id)
    if server is None or server.uid != command.uid or not server.alive:
        return stale_fact(f"server {command.server_id} is not known as alive")
    draft.put(replace(server, alive=False, lost_at=command.now))
    draft.note("server.lost", f"server {server.server_id}", "its lease was not renewed")
    for process in draft.processes_on(server.server_id):
        if process.report and process.pid is not None:
            draft.put_process(process, report=None)
    return None


def state_member_seen(draft: Draft, command: StateMemberSeen) -> Refused | None:
    """The etcd cluster lists another role for a server's member."""
    server = draft.servers.get(command.member)
    if server is None:
        return stale_fact(f"server {command.member} is not known")
    if server.state_member == command.role:
        return None
    failed = server.state_member == LEARNER and not command.role and server.alive
    failed_at = command.now if failed else 0 if command.role == VOTER else server.member_failed_at
    given_up = server.gives_up_vote and bool(command.role)
    changed = replace(server, state_member=command.role, state_member_at=command.now, gives_up_vote=given_up)
    draft.put(replace(changed, member_failed_at=failed_at))
    change = {"": "server.member_removed", LEARNER: "server.member_added", VOTER: "server.member_votes"}[command.role]
    draft.note(change, f"server {server.server_id}", command.because)
    return None


def member_troubled(draft: Draft, command: MemberTroubled) -> Refused | None:
    """The manager of a server sees something wrong with its etcd member, or nothing any more."""
    server = draft.servers.get(command.server_id)
    if server is None or server.member_trouble == command.trouble:
        return stale_fact(f"nothing new is known of the member of server {command.server_id}")
    draft.put(replace(server, member_trouble=command.trouble))
    if command.trouble:
        because = trouble_text(command.trouble)
        draft.note("server.member_troubled", f"server {server.server_id}", because)
    else:
        draft.note("server.member_well", f"server {server.server_id}", "its manager sees nothing wrong with it any more")
    return None


def requests_refused(draft: Draft, command: RequestsRefused) -> Refused | None:
    """Nothing changes; the log of events has it."""
    if command.server_id not in draft.servers:
        return stale_fact(f"server {command.server_id} is not known")
    requests = "a request" if command.count == 1 else f"{command.count} requests"
    draft.note(
        "server.refused",
        f"server {command.server_id}",
        f"its access control did not let {requests} of {command.peer} through; the last: {command.last}",
    )
    return None
