"""Domain: everything that waits: for what, since when, why, and what would help. Pure.

A server, database, group, archive or process that is not where it belongs is listed here, or it is a defect. Each entry
answers "waiting for X since T; hint: Y"; an empty hint means that nothing needs to be done. Times are wall-clock ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dkv.domain import authority as rotation
from dkv.domain import operations
from dkv.domain.access import MANAGERS, Authority, RotationPhase
from dkv.domain.actions import start_instance
from dkv.domain.authority import subject_of
from dkv.domain.constants import CERTIFICATE_WARNING, DAY
from dkv.domain.database_users import ALTERED, lacks_users
from dkv.domain.elections import electing_elsewhere
from dkv.domain.held_back import lack_of, rest_of, why_held_back
from dkv.domain.levels import behind
from dkv.domain.model import (
    Archive,
    ArchiveState,
    Database,
    DatabaseState,
    EngineState,
    Group,
    Process,
    ProcessRole,
    ProcessState,
    Server,
    State,
)
from dkv.domain.operations import Operation
from dkv.domain.options import Lag, lags
from dkv.domain.phases import Vacant
from dkv.domain.state_members import trouble_fix, trouble_text
from dkv.domain.states import STOPPING
from dkv.domain.status import hint_of, how_it_joins, instances, last_tombstone, path_of, waits_for
from dkv.domain.unwritten import AsOf
from dkv.domain.writes_refused import WRITE_REFUSALS, leading
from dkv.hints import Hint, action, filled, hint

DISK_FULL = "disk full"  # engine contract, Cause


@dataclass(frozen=True)
class BlockedItem:
    """One thing that waits. `kind` is domain, authority, server, database, group, archive, process, option or users; `since` is
    None if it is not known. `blocks`: clients' writes are refused, or wait, for as long as it does.
    """

    kind: str
    subject: str
    database: str
    waits_for: str
    since: int | None
    reason: str
    hint: Hint = Hint()
    blocks: bool = False


def blocked(state: State, database: str | None = None, now: int = 0) -> list[BlockedItem]:
    """All that waits, or what waits in one database and the servers it needs. `now`: wall clock, ms; 0: not known."""
    items = list(_unwritten(state, database))
    if database is None:
        items += _level(state)
        items += _rotation(state, state.authorities.get(MANAGERS))
        items += [item for server in state.servers.values() for item in _certificate(server, now)]
        items += [item for server in state.servers.values() for item in _member(server)]
    items += [item for server in state.servers.values() for item in _server(state, server, database)]
    for known in sorted(state.databases.values(), key=lambda d: d.name):
        if known.state is not DatabaseState.TOMBSTONE and database in (None, known.name):
            items += _database(state, known, now)
    gone = [a for a in state.archives.values() if a.removed and database in (None, a.database)]
    return items + [item for archive in gone for item in _retiring(state, archive)]


def _database(state: State, database: Database, now: int) -> Iterator[BlockedItem]:
    yield from _whole(state, database)
    yield from _rotation(state, state.authorities.get(database.uid), database.name)
    for group in state.groups_of(database.name):
        yield from _group(state, database, group)
    for archive in instances(state, database.name):
        yield from _archive(state, database, archive)
    for process in state.processes_of(database.name):
        yield from _process(state, process)
        yield from _leaf(state, process, now)
        yield from (_lacking(state, database, process, lag) for lag in lags(database, process))
        if lacks_users(state, database, process):
            yield _without_users(state, database, process)


# The domain itself --------------------------------------------------------------------------------------------------


def _unwritten(state: State, database: str | None) -> Iterator[BlockedItem]:
    """The asked manager cannot write down what it sees; and the groups whose leaders it saw end meanwhile."""
    now = state.unwritten if isinstance(state, AsOf) else None
    if now is None:
        return
    yield BlockedItem(
        "domain",
        "the domain",
        "",
        "its state backend",
        now.at,
        f"no change can be committed: {now.why}; what is shown is "
        f"{now.age} s old, except what the manager of {now.server_id} sees on its own machine; engines go on serving, and "
        "no successor is chosen for a leader that ends",
        now.hint,
        blocks=True,
    )
    for ended in now.ended:
        group = next((g for g in state.groups.values() if g.open and g.leader_process == ended.start_id), None)
        if group is not None and database in (None, group.database):
            name = _name(state, group.leader)
            yield BlockedItem(
                "group",
                group.subject,
                group.database,
                "the state backend",
                now.at,
                f"{name} led it and ended ({ended.reason}); its successor cannot be committed",
                now.hint,
                blocks=True,
            )


def _level(state: State) -> Iterator[BlockedItem]:
    """Managers of an older dkv keep the domain from what another manager could do already."""
    servers = behind(state)
    if not servers:
        return
    names = ", ".join(f"the manager of {server.server_id} (dkv {server.dkv_release or 'unknown'})" for server in servers)
    newest = max(server.level for server in state.servers.values())
    yield BlockedItem(
        "domain",
        "the domain",
        "",
        names,
        None,
        f"its state stays at level {state.level}, while other managers know level {newest}: what came with that is not used",
        hint("Upgrade dkv on each of these servers and restart its manager; delete a server that will not return."),
    )


# Certificates -------------------------------------------------------------------------------------------------------


def _rotation(state: State, authority: Authority | None, store: str = "") -> Iterator[BlockedItem]:
    """An authority is being changed, that of the managers or of a store: for which servers that waits."""
    if authority is None:
        return
    servers = {server.uid: server for server in state.servers.values()}
    missing = [servers[uid] for uid in rotation.missing(authority, rotation.waited_for(state, authority))]
    away = sorted(server.server_id for server in missing if not server.alive)
    if missing:
        names = sorted(server.server_id for server in missing)
        yield BlockedItem(
            "authority",
            subject_of(state, authority.owner),
            store,
            ", ".join(f"the manager of {server_id}" for server_id in names),
            authority.phase_at or None,
            f"it is being changed ({authority.phase.value}): {DUTIES[authority.phase]}",
            _without(store, away[0]) if away else hint(f"Look at the log of the manager of {names[0]}."),
        )
    elif authority.held:
        go_on = action("goOnRotatingStore", store=store) if store else action("goOnRotating")
        yield BlockedItem(
            "authority",
            subject_of(state, authority.owner),
            store,
            "an operator",
            authority.phase_at or None,
            "it is being changed and was to stop once every server trusts the new one beside the old one, as all do now",
            hint("Give clients both certificates, then: ", go_on, "."),
        )


def _without(store: str, server: str) -> Hint:
    """How a change of an authority goes on that waits for a server that is away."""
    leave_out = action("rotateStoreWithout", store=store, server=server) if store else action("rotateWithout", server=server)
    return hint(f"Start the manager of server {server}; or go on: ", leave_out, ".")


DUTIES = {
    RotationPhase.PREPARED: "every server has to trust the new one",
    RotationPhase.SWITCHED: "every server has to use a certificate of the new one",
}


def _certificate(server: Server, now: int) -> Iterator[BlockedItem]:
    """A manager that should have renewed its certificate. One that is away renews it when it starts."""
    if server.alive and (reason := _overdue(server.certificate_until, now)):
        cure = hint(f"Look at the log of the manager of {server.server_id}, at its disk and at its clock.")
        subject, manager = f"server {server.server_id}", f"the manager of {server.server_id}"
        yield BlockedItem("server", subject, "", manager, None, reason, cure)


def _member(server: Server) -> Iterator[BlockedItem]:
    """An etcd member of the domain state that its manager sees in trouble. That of a server that is away waits for the server."""
    if server.alive and server.member_trouble:
        text, fix = trouble_text(server.member_trouble), hint(trouble_fix(server.member_trouble))
        yield BlockedItem("server", f"server {server.server_id}", "", "an operator", None, text, fix)


def _leaf(state: State, process: Process, now: int) -> Iterator[BlockedItem]:
    """A manager that should have given the engines of a process another certificate."""
    shown = process.runs.certificate
    if shown and state.server_alive(process.server_id) and (reason := _overdue(shown.ends_at, now)):
        cure = hint(f"Look at the log of the manager of {process.server_id}.")
        yield _of(state, process, f"the manager of {process.server_id}", reason, cure)


def _overdue(end: int, now: int) -> str:
    """That a certificate should have been renewed, empty if it need not be yet, or nothing is known. Wall clock, ms."""
    left = end - now
    if not end or not now or left > CERTIFICATE_WARNING:
        return ""
    days = left // DAY
    return f"its certificate {f'ends in {days} days' if left > 0 else f'ended {-days} days ago'} and was not renewed"


# Servers and databases ---------------------------------------------------------------------------------------------


def _server(state: State, server: Server, database: str | None) -> Iterator[BlockedItem]:
    held = [a for a in state.archives.values() if a.server_id == server.server_id and not a.removed]
    mine = [a for a in held if database in (None, a.database)]
    runs = [p for p in state.processes.values() if p.server_id == server.server_id and database in (None, p.database)]
    if server.alive or not (mine or runs):
        return
    why = f"its lease ended; archives on it: {len(mine)}, processes: {len(runs)}"
    yield BlockedItem(
        "server",
        f"server {server.server_id}",
        "",
        f"the manager of {server.server_id}",
        server.lost_at or None,
        why,
        hint(f"Start the manager of server {server.server_id}; ", action("startManager", host=server.host), "."),
    )


def _whole(state: State, database: Database) -> Iterator[BlockedItem]:
    subject = f"database {database.name}"
    if operation := operations.restart(state, database):
        yield _under_way("database", operation, f"it is being restarted: {operation.reason}")
    if database.state not in STOPPING:
        return
    live = state.processes_of(database.name)
    tes = [p for p in live if p.role is ProcessRole.TE]
    left = tes if database.state is DatabaseState.REQUESTED_TE_SHUTDOWN and tes else live
    what = "its TEs stop before its SMs" if left is tes else "its SMs stop once every copy in sync has what its leader has"
    names = ", ".join(f"process {p.start_id}" for p in left)
    yield BlockedItem(
        "database",
        subject,
        database.name,
        names,
        database.state_at or None,
        f"it is being shut down: {what}",
        hint("If it takes too long: ", action("forceStopStore", store=database.name), "."),
    )


def _under_way(kind: str, operation: Operation, reason: str) -> BlockedItem:
    """What a long operation waits for."""
    since = operation.since or None
    return BlockedItem(kind, operation.subject, operation.database, operation.waits_for, since, reason, operation.hint)


# Groups ------------------------------------------------------------------------------------------------------------


def _group(state: State, database: Database, group: Group) -> Iterator[BlockedItem]:
    subject = group.subject
    if operation := operations.switchover(state, group):
        yield _under_way("group", operation, operation.reason)
    waiting = waits_for(state, group)
    if waiting:
        since = waiting.at if waiting.at is not None else _open_since(state, group)
        held = not group.serving or group.intrusion is not None or len(group.in_sync) < database.options.min_in_sync
        yield BlockedItem(
            "group", subject, group.database, ", ".join(waiting.archives), since, waiting.reason, waiting.hint, held
        )
    elif group.enforced is not None and isinstance(group.phase, Vacant):
        yield _enforced(state, group)
    yield from _refused(state, group)


def _open_since(state: State, group: Group) -> int | None:
    """Since when an open group is not well: its leader's manager is away, or too few are in sync."""
    leader = state.leader_of(group)
    server = state.servers.get(leader.server_id) if leader else None
    if server and not server.alive:
        return server.lost_at or None
    return group.under_replicated_since or None


def _refused(state: State, group: Group) -> Iterator[BlockedItem]:
    """An open group whose leader's engine lives and takes no writes."""
    leader = state.leader_of(group)
    why = WRITE_REFUSALS.get(leader.health.refuses) if leader and group.open else None
    archive = state.archive_of(leader) if leader else None
    if (
        leader is None
        or archive is None
        or why is None
        or (leader.health.refuses == "NOREPLICAS" and group.under_replicated_since)
    ):
        return  # too few in sync is told with what it waits for
    name = archive.name
    server = state.servers.get(leader.server_id)
    address = f"{server.host if server else leader.server_id}:{archive.client_port}"
    cure = filled(
        why.hint,
        address=address,
        server=leader.server_id,
        kill=action("killProcess", startId=leader.start_id),
        start=start_instance(archive),
        memory=action("setOption", store=group.database, option="max-memory", value="BYTES"),
    )
    yield BlockedItem(
        "group",
        group.subject,
        group.database,
        name,
        leader.health.refuses_at or None,
        f"{name} leads and refuses writes: {why.reason}",
        cure,
        blocks=True,
    )


def _enforced(state: State, group: Group) -> BlockedItem:
    """An operator chose who leads, in a database of which nothing runs."""
    name = _name(state, group.enforced)
    at = group.enforcements[-1].at if group.enforcements else None
    return BlockedItem(
        "group",
        group.subject,
        group.database,
        name,
        at,
        f"an operator enforced {name} as its leader, and it does not run",
        _start(state, group.enforced),
        blocks=True,
    )


def _start(state: State, archive_id: int | None) -> Hint:
    archive = state.archives.get(archive_id) if archive_id is not None else None
    return hint("Start it: ", start_instance(archive), ".") if archive else Hint()


def _name(state: State, archive_id: int | None) -> str:
    archive = state.archives.get(archive_id) if archive_id is not None else None
    return archive.name if archive else "no archive"


# Archives ----------------------------------------------------------------------------------------------------------


def _archive(state: State, database: Database, archive: Archive) -> Iterator[BlockedItem]:
    """An archive without a process, which was not stopped on request, in a database that runs."""
    if state.process_on(archive.archive_id):
        return
    ended = last_tombstone(state, archive.archive_id)
    subject, at = f"archive {archive.archive_id} ({archive.name})", ended.at if ended else None
    now = state.unwritten if isinstance(state, AsOf) else None
    if now and ended and ended.process.start_id in {end.start_id for end in now.ended}:
        yield BlockedItem("archive", subject, archive.database, "the state backend", at, f"it ended: {ended.reason}", now.hint)
        return
    if archive.state is ArchiveState.NOT_RUNNING and not archive.stopped_by_operator and _wants(database):
        why = f"it does not run: {ended.reason or ended.cause}" if ended else "it does not run"
        yield BlockedItem("archive", subject, archive.database, "an operator", at, why, _start(state, archive.archive_id))


def _wants(database: Database) -> bool:
    return database.state not in (DatabaseState.NOT_RUNNING, *STOPPING)


def _retiring(state: State, archive: Archive) -> Iterator[BlockedItem]:
    """Deleted, and its directory is not renamed yet. One that is kept to be brought back waits for nothing."""
    if not archive.kept:
        away = not state.server_alive(archive.server_id)
        yield BlockedItem(
            "archive",
            f"archive {archive.archive_id} ({archive.name})",
            archive.database,
            f"the manager of {archive.server_id}",
            None,
            "it was deleted; its directory is renamed by its manager",
            hint(f"Start the manager of server {archive.server_id}." if away else ""),
        )


# Processes ---------------------------------------------------------------------------------------------------------


def _process(state: State, process: Process) -> Iterator[BlockedItem]:
    if process.health.silent_at:
        yield replace(
            _of(
                state,
                process,
                "its engine",
                "its engine does not answer; its manager ends it after "
                "engine_hang_timeout_ms (30 s unless set), or after ten times that while it computes",
                hint(
                    "Look at its machine: a full disk or a stopped process makes an engine hang. Or end it: ",
                    action("killProcess", startId=process.start_id),
                    ".",
                ),
            ),
            since=process.health.silent_at,
            blocks=leading(state, process) is not None,
        )
    if not state.server_alive(process.server_id):
        away = f"its server is away and it is {process.state.value}"
        evict = action("evictProcess", startId=process.start_id)
        cure = hint(f"Start the manager of server {process.server_id}; or give it up: ", evict, ".")
        yield replace(_of(state, process, f"server {process.server_id}", away, cure), since=_lost_at(state, process))
    elif process.leaving:
        yield _leaving(state, process)
    elif process.state is not ProcessState.MONITORED or process.engine_state is not EngineState.RUNNING:
        yield _coming(state, process)


def _of(state: State, process: Process, waits_for: str, reason: str, cure: Hint | None = None) -> BlockedItem:
    """What a process waits for, since it reached its state."""
    archive = state.archive_of(process)
    name = f" ({archive.name})" if archive else ""
    return BlockedItem(
        "process",
        f"process {process.start_id}{name}",
        process.database,
        waits_for,
        process.state_at or process.request.at or None,
        reason,
        cure or Hint(),
    )


def _lost_at(state: State, process: Process) -> int | None:
    server = state.servers.get(process.server_id)
    return (server.lost_at if server else 0) or None


def _leaving(state: State, process: Process) -> BlockedItem:
    group = state.groups.get((process.database, process.group))
    name, why = "its engine", "it is being killed" if process.kill else "it is being stopped"
    hands_over = group is not None and group.leader_process == process.start_id and len(group.in_sync) > 1
    electing = electing_elsewhere(state, group) if group and hands_over else None
    if electing:
        name, why = f"group {electing.name}", "it leads, and one group hands over at a time before it may stop"
    elif hands_over and not process.kill:
        name, why = "its successor", "it leads and hands over before it stops"
    elif not process.kill and group and process.archive_id in group.in_sync and group.serving:
        name, why = f"the manager of {_name(state, group.leader)}", "it leaves the in-sync set before it stops"
    kill = action("killProcess", startId=process.start_id)
    return _of(state, process, name, why, hint("If it never ends: ", kill, "."))


def _coming(state: State, process: Process) -> BlockedItem:
    rest, archive = rest_of(process), state.archive_of(process)
    if rest and archive:
        lack = lack_of(archive, path_of(state, archive), rest)
        cure = hint_of(state, archive, rest)
        held = _of(state, process, lack.waits_for if lack else "its next try", why_held_back(rest), cure)
        return replace(held, since=rest.since or None)
    if process.state is ProcessState.REQUESTED:
        return _of(
            state,
            process,
            f"the manager of {process.server_id}",
            "its manager has not taken the request yet",
            hint(f"Look at the log of the manager of {process.server_id}."),
        )
    if process.state is ProcessState.CONFIGURED:
        return _of(state, process, "its engine", f"it loads its data, {process.loading_percent} %")
    if process.role is ProcessRole.TE:
        return _entering(state, process)
    if process.state is ProcessState.STARTED:
        return _held(state, process)
    return _joining(state, process)


def _lacking(state: State, database: Database, process: Process, lag: Lag) -> BlockedItem:
    """It runs with an option its database had before."""
    reason = f"it still runs with {lag.option} {lag.runs} instead of {lag.wanted}"
    since = database.options_at or None
    restarts = action("restartRolling", store=database.name)
    if lag.renews:
        item = _of(state, process, "its restart", reason, hint(restarts, "."))
        return replace(item, kind="option", since=since)
    cure = hint("Its manager goes on trying; an engine that refuses it gets it with: ", restarts, ".")
    if not state.server_alive(process.server_id):
        cure = hint(f"Start the manager of server {process.server_id}.")
    return replace(_of(state, process, f"the manager of {process.server_id}", reason, cure), kind="option", since=since)


def _without_users(state: State, database: Database, process: Process) -> BlockedItem:
    """Its engines do not let in whom they should."""
    reason = "a change of the database's users has not reached it yet"
    if process.runs.users == ALTERED:
        reason = "its users were changed on its engine, and are not set again yet"
    away = not state.server_alive(process.server_id)
    cure = hint(f"Start the manager of server {process.server_id}." if away else "Its manager goes on trying.")
    item = _of(state, process, f"the manager of {process.server_id}", reason, cure)
    return replace(item, kind="users", since=max(database.access.changed_at, database.secret_change.at) or None)


def _entering(state: State, process: Process) -> BlockedItem:
    """A TE: it enters when every group of its database is led."""
    led = [g for g in state.groups_of(process.database) if not g.serving]
    names = ", ".join(f"group {g.name}" for g in led) or "its engine"
    if not led:
        return _of(state, process, names, "it copies the data of its leaders")
    why = "it enters the database when every group has its leader"
    return _of(state, process, names, why, hint("Start the archives that the groups wait for."))


def _held(state: State, process: Process) -> BlockedItem:
    group = state.groups[(process.database, process.group)]
    waiting = waits_for(state, group)
    if group.leader is not None or waiting is None:
        return _of(state, process, f"the manager of {process.server_id}", "its engine is being launched")
    return _of(
        state,
        process,
        ", ".join(waiting.archives) or f"group {group.name}",
        f"its group has no leader yet: {waiting.reason}",
        waiting.hint,
    )


def _joining(state: State, process: Process) -> BlockedItem:
    """Loaded: held until its group is led, then on its way into the in-sync set."""
    group = state.groups[(process.database, process.group)]
    leader = _name(state, group.leader)
    if not group.serving:
        waiting = waits_for(state, group)
        names = ", ".join(waiting.archives) if waiting else f"group {group.name}"
        return _of(state, process, names, "it follows as soon as its group has a leader", waiting.hint if waiting else Hint())
    joining = next((j for j in group.joining if j.start_id == process.start_id), None)
    if joining is None:
        return _of(state, process, f"the manager of {leader}", "its leader's manager has not let it join yet")
    awaited, reason = how_it_joins(state, group, joining.stage)
    held = _of(state, process, awaited or leader, reason, Hint() if awaited else _join_hint(state, process))
    return replace(held, since=joining.at or held.since)


def _join_hint(state: State, process: Process) -> Hint:
    ended = last_tombstone(state, process.archive_id) if process.archive_id is not None else None
    if ended and ended.cause == DISK_FULL:
        return hint(f"Its last process ended because the disk was full: make room on the disk of {process.server_id}.")
    return hint(f"If it does not get further: look at disk room and log of its engine on {process.server_id}.")
