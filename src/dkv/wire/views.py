"""Wire: the state of the domain, its events and its refusals as JSON.

Field names are camelCase. Times called `at`, `since` or ending in `At` are wall-clock milliseconds. Nothing is
judged here: what a view says beyond the plain state comes from domain/status.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from dkv.address import endpoint_text
from dkv.domain import losses, spread, status
from dkv.domain.command import Command
from dkv.domain.constants import DAY
from dkv.domain.decision import Event, Refused
from dkv.domain.model import (
    Archive,
    Database,
    DatabaseState,
    EngineState,
    Group,
    PositionReport,
    Process,
    ProcessState,
    Server,
    State,
    Tombstone,
)
from dkv.domain.operations import operations
from dkv.domain.options import fsync_in_force
from dkv.domain.orders import ORDERS
from dkv.domain.phases import HandingOver
from dkv.domain.refusals import CATALOGUE, Entry
from dkv.domain.state_members import LEARNER, VOTER
from dkv.hints import Hint
from dkv.wire import schemas
from dkv.wire.commands import WireError, to_wire
from dkv.wire.event_text import sentence
from dkv.wire.hints import parts_view
from dkv.wire.maintenance import operation_view, options_view, restart_view, switchover_view, waiting_view

Json = dict[str, Any]


class Stored(Protocol):
    """An event as a state backend keeps it (store contract, StoredEvent)."""

    @property
    def sequence(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def text(self) -> str: ...


# Refusals ----------------------------------------------------------------------------------------------------


def problem(refused: Refused, entry: Entry | None = None) -> schemas.Problem:
    """A refusal as a problem document; `entry` for codes of the doors that are in no catalogue of the domain."""
    entry = entry or CATALOGUE[refused.code]
    return {
        "type": f"urn:dkv:problem:{refused.code}",
        "title": entry.meaning,
        "status": entry.status,
        "code": refused.code,
        "detail": refused.message,
        "hint": str(refused.hint),
        "hintParts": parts_view(refused.hint),
    }


# Views -------------------------------------------------------------------------------------------------------


def domain_view(
    state: State, revision: int, leader: str, local: str, now: int, *, control: Literal["on", "off"]
) -> schemas.Domain:
    """The domain and its servers; `leader` and `local` are server ids, `now` is wall clock, ms, `control` this manager's access
    control.
    """
    servers = [_server_view(state, server, local, now) for _, server in sorted(state.servers.items())]
    return {
        "uid": state.uid,
        "revision": revision,
        "leaderServer": leader or None,
        "level": state.level,
        "servers": servers,
        "accessControl": control,
    }


def days_left(server: Server, now: int) -> int | None:
    """Whole days that a server's certificate is valid yet; None if it has none."""
    return (server.certificate_until - now) // DAY if server.certificate_until else None


def _server_view(state: State, server: Server, local: str, now: int) -> schemas.Server:
    return {
        "serverId": server.server_id,
        "manager": endpoint_text(server.host, server.port),
        "host": server.host,
        "port": server.port,
        "alive": server.alive,
        "bootId": server.boot_id,
        "labels": dict(server.labels),
        "isLocal": server.server_id == local,
        "certificateUntil": server.certificate_until or None,
        "certificateDaysLeft": days_left(server, now),
        "engine": engine_program_view(state, server, now),
        "stateMember": state_member(server),
        "release": server.dkv_release or None,
        "level": server.level or None,
    }


def state_member(server: Server) -> Literal["voter", "learner"] | None:
    """The role of a server's member of the domain state's etcd; None if it has none."""
    return "voter" if server.state_member == VOTER else "learner" if server.state_member == LEARNER else None


def engine_program_view(state: State, server: Server, now: int) -> schemas.EngineProgram:
    """The program of a server's engines, and how long their certificates are valid yet."""
    shown = [process.runs.certificate for process in state.processes_on(server.server_id)]
    days = [(certificate.ends_at - now) // DAY for certificate in shown if certificate]
    return {"release": server.engine_release, "tls": server.engine_tls, "certificateDaysLeft": min(days, default=None)}


def transport_view(state: State, database: Database) -> schemas.Transport:
    """How a database's engines speak, and what their clients believe."""
    authority = state.authorities.get(database.uid)
    return {
        "tls": database.transport.tls,
        "insecure": database.transport.insecure,
        "authorities": authority.bundle if authority else "",
    }


def stores_of(state: State) -> list[Database]:
    """The databases people still see, by name."""
    return [d for _, d in sorted(state.databases.items()) if d.state is not DatabaseState.TOMBSTONE]


def store_view(state: State, database: Database, revision: int, *, judged: bool = False) -> schemas.Store:
    """A store whole: status, incarnation, groups, instances. `judged`: the domain has access control."""
    options = database.options
    return {
        "name": database.name,
        "status": status.store_status(state, database.name),
        "state": database.state.value,
        "incarnation": {"major": database.major, "minor": database.minor},
        "createdAt": database.created_at,
        "minInSync": options.min_in_sync,
        "replicationFactor": options.replication_factor,
        "appendFsync": fsync_in_force(state, database),
        "options": options_view(state, database),
        "open": judged and database.access.open,
        "transport": transport_view(state, database),
        "tombstonesTrimmed": database.trimmed,
        "waiting": waiting_view(state, database.name),
        "operations": [operation_view(operation) for operation in operations(state, database)],
        "restart": restart_view(state, database),
        "groups": [_group_view(state, group) for group in state.groups_of(database.name)],
        "instances": [_instance_view(state, a) for a in status.instances(state, database.name)],
        "revision": revision,
    }


def _group_view(state: State, group: Group) -> schemas.Group:
    confirmed, writes = status.can_lose(state, group)
    leader = state.archives.get(group.leader) if group.leader is not None else None
    required = [state.archives[i] for i in group.required if i in state.archives]
    return {
        "name": group.name,
        "slots": [list(pair) for pair in group.slots],
        "term": group.term,
        "phase": group.phase.name,
        "open": group.open,
        "serving": group.serving,
        "leader": leader.name if leader else None,
        "leaderStartId": group.leader_process,
        "leaderEndpoint": _client_endpoint(state, leader) if leader else None,
        "inSync": _names(state, group.in_sync),
        "required": [a.name for a in required],
        "requiredEndpoints": [_client_endpoint(state, a) for a in required],
        "readers": _readers(state, group),
        "joining": [{"instance": _name(state, j.archive_id), "stage": j.stage.value} for j in group.joining],
        "enforcements": [
            {
                "instance": _name(state, e.archive_id),
                "term": e.term,
                "bound": e.bound,
                "reason": e.reason,
                "actor": e.actor,
                "at": e.at,
            }
            for e in group.enforcements
        ],
        "handover": {"to": _name(state, group.phase.to_archive)} if isinstance(group.phase, HandingOver) else None,
        "switchover": switchover_view(state, group),
        "waitsFor": _waiting_view(status.waits_for(state, group)),
        "canLoseForConfirmed": confirmed,
        "canLoseForWrites": writes,
        "placement": spread.weakness_of(state, group),
    }


def _readers(state: State, group: Group) -> list[str]:
    """Where a client may read besides the instances: the engines of TEs that hold what their leaders hold."""
    running = (p for p in state.processes_of(group.database) if p.engine_state is EngineState.RUNNING)
    return [where for p in running for name, where in _endpoints(state, p) if p.archive_id is None and name == group.name]


def _endpoints(state: State, process: Process) -> list[tuple[str, str]]:
    """Group and client endpoint of each engine of a process."""
    host = state.servers[process.server_id].host if process.server_id in state.servers else ""
    archive = state.archive_of(process)
    endpoints = [(e.group, e.client_port) for e in process.endpoints]
    if archive:
        endpoints = [(archive.group, archive.client_port)]
    return [(group, endpoint_text(host, port)) for group, port in endpoints]


def bound_view(bound: losses.Bound) -> schemas.Bound:
    """What an enforced leader can cost at most; `since` and `endedAt` are wall-clock ms."""
    behind = bound.behind
    return {
        "instanceName": bound.name,
        "inSync": bound.in_sync,
        "away": [{"instanceName": a.name, "why": a.why, "since": a.since} for a in bound.away],
        "position": _position_view(bound.position),
        "newestKnown": _position_view(bound.newest),
        "behind": {"terms": behind[0], "markers": behind[1], "bytes": behind[2]} if behind else None,
        "endedAt": bound.ended,
        "verdict": bound.verdict,
    }


def _position_view(report: PositionReport | None) -> schemas.Position | None:
    if report is None:
        return None
    return {"term": report.term, "marker": report.sequence, "bytesAfter": report.data_bytes}


def _waiting_view(waiting: status.Waiting | None) -> schemas.Waits | None:
    if waiting is None:
        return None
    return {
        "for": list(waiting.archives),
        "since": waiting.at,
        "reason": waiting.reason,
        "hint": str(waiting.hint),
        "hintParts": parts_view(waiting.hint),
    }


def _instance_view(state: State, archive: Archive) -> schemas.Instance:
    server = state.servers.get(archive.server_id)
    process = state.process_on(archive.archive_id)
    group = state.groups.get((archive.database, archive.group))
    reason = status.why_not_running(state, archive)
    hint = status.instance_hint(state, archive) if reason else Hint()
    return {
        "instanceName": archive.name,
        "archiveId": archive.archive_id,
        "server": archive.server_id,
        "zone": server.spot.zone if server else "",
        "manager": endpoint_text(server.host, server.port) if server else None,
        "host": server.host if server else None,
        "clustronPort": archive.cluster_port,
        "clientPort": archive.client_port,
        "group": archive.group,
        "path": archive.path or None,
        "archiveState": archive.state.value,
        "state": status.instance_state(state, archive),
        "role": status.role(state, archive),
        "inSync": group is not None and archive.archive_id in group.in_sync,
        "reason": reason,
        "hint": str(hint),
        "hintParts": parts_view(hint),
        "process": _run_view(process) if process else None,
    }


def _run_view(process: Process) -> schemas.Run:
    shown = process.state in (ProcessState.MONITORED, ProcessState.REQUESTED_SHUTDOWN)
    return {
        "startId": process.start_id,
        "nodeId": process.node_id if shown else None,
        "pid": process.pid,
        "state": process.state.value,
        "engineState": process.engine_state.value,
        "loadingPercent": process.loading_percent,
    }


def process_view(state: State, process: Process) -> schemas.Process:
    """One live process."""
    return {
        **_run_view(process),
        "store": process.database,
        "instanceName": _name(state, process.archive_id),
        "server": process.server_id,
        "type": process.role.value,
        "group": process.group or None,
        "endpoints": [{"group": group, "address": where} for group, where in _endpoints(state, process)],
        "labels": dict(process.request.labels),
        "requester": process.request.requester.value,
        "restartOf": process.request.restart_of,
        "requestedAt": process.request.at,
    }


def tombstones_view(state: State, store: str | None = None) -> list[schemas.Tombstone]:
    """What is kept of ended processes, newest first. Of one store in the order in which their exits were counted: the
    managers' clocks differ, and one that was away reports late what happened earlier.
    """
    tombstones = [t for t in state.tombstones.values() if store is None or t.process.database == store]
    tombstones.sort(key=lambda t: (t.major, t.minor))
    newest: dict[str, int] = {}
    dated: list[tuple[int, int, Tombstone]] = []
    for number, tombstone in enumerate(tombstones):
        newest[tombstone.process.database] = max(tombstone.at, newest.get(tombstone.process.database, 0))
        dated.append((newest[tombstone.process.database], number, tombstone))
    return [_tombstone_view(state, tombstone) for _, _, tombstone in sorted(dated, key=lambda t: t[:2], reverse=True)]


def _tombstone_view(state: State, tombstone: Tombstone) -> schemas.Tombstone:
    process = tombstone.process
    return {
        **_run_view(process),
        "store": process.database,
        "instanceName": _name(state, process.archive_id),
        "server": process.server_id,
        "cause": tombstone.cause,
        "reason": tombstone.reason,
        "exitCode": tombstone.exit_code,
        "waitStatus": tombstone.wait_status,
        "lastWords": list(tombstone.last_words),
        "incarnation": {"major": tombstone.major, "minor": tombstone.minor},
        "at": tombstone.at,
    }


SECRETS = ("secret", "password")
"""How fields of commands end that are never shown."""


def masked(value: Any) -> Any:
    """Without what nobody is to read, also inside of records, which are kept as the text of an object."""
    if isinstance(value, dict):
        return {name: "***" if name.lower().endswith(SECRETS) and item else masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    if isinstance(value, str) and value.startswith("{"):
        return _masked_text(value)
    return value


def _masked_text(text: str) -> str:
    try:
        inside = json.loads(text)
    except (ValueError, RecursionError):
        return text
    hidden = masked(inside)
    return text if hidden == inside else json.dumps(hidden, sort_keys=True, separators=(",", ":"))


def planned_view(command: Command, events: Sequence[Event], refused: Refused | None) -> schemas.PlannedCommand:
    """One command of a plan: its name and fields, and what it makes true, or why it is refused."""
    return {
        "command": type(command).__name__,
        "fields": masked(to_wire(command)),
        "events": [
            {"kind": e.kind, "subject": e.subject, "change": e.change, "because": e.because, "database": e.database}
            for e in events
        ],
        "refused": problem(refused) if refused else None,
    }


ORDERED = frozenset(order.__name__ for order in ORDERS)


def event_view(stored: Stored) -> schemas.Event:
    """One line of the event log. `cause` is the sequence of the event it follows from, null where a chain begins; zero or
    less where that was reported before this log began. `ordered`: somebody asked for it. `text`: what happened, in words.
    Raises WireError if its text is not an event.
    """
    try:
        event = json.loads(stored.text)
    except ValueError as error:
        raise WireError(f"Event {stored.sequence} is damaged.") from error
    view: schemas.Event = {
        "sequence": stored.sequence,
        "revision": stored.revision,
        "at": event.get("at", 0),
        "database": event.get("database", ""),
        "subject": event.get("subject", ""),
        "kind": event.get("kind", ""),
        "because": event.get("because", ""),
        "change": event.get("change", ""),
        "command": event.get("command", ""),
        "actor": event.get("actor", ""),
        "entry": event.get("entry", ""),
        "startId": event.get("start_id"),
        "archiveId": event.get("archive_id"),
        "cause": stored.sequence - event["back"] if event.get("back") else None,
        "ordered": event.get("command") in ORDERED,
        "text": "",  # made of all the rest
    }
    view["text"] = sentence(view)
    return view


def _client_endpoint(state: State, archive: Archive) -> str:
    server = state.servers.get(archive.server_id)
    return endpoint_text(server.host if server else archive.server_id, archive.client_port)


def _names(state: State, archive_ids: Sequence[int]) -> list[str]:
    return [state.archives[i].name for i in archive_ids if i in state.archives]


def _name(state: State, archive_id: int | None) -> str | None:
    archive = state.archives.get(archive_id) if archive_id is not None else None
    return archive.name if archive else None
