"""The wire room: what commands, views and refusals look like as JSON. Both ends of the managers' API read this.

Field names are camelCase. Times called `at`, `since` or ending in `At` are wall-clock milliseconds. Nothing is
judged here: what a view says beyond the plain state comes from domain/describe.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

from dkv.domain import describe, losses, renewing
from dkv.domain.commands import COMMANDS, Command
from dkv.domain.decision import Event, Refused
from dkv.domain.model import (
    Archive,
    Database,
    DatabaseState,
    Group,
    Process,
    ProcessState,
    Report,
    Server,
    State,
    Tombstone,
)
from dkv.domain.refusals import CATALOGUE, Entry, nearest

Json = dict[str, Any]


class WireTrouble(Exception):
    """JSON that is not what it should be. `hint` says how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Stored(Protocol):
    """An event as a state backend keeps it (store contract, StoredEvent)."""

    @property
    def sequence(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def text(self) -> str: ...


# Commands ----------------------------------------------------------------------------------------------------


def camel(name: str) -> str:
    """`archive_id` as it is written on the wire: `archiveId`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def to_wire(command: Command) -> Json:
    """A command's fields as JSON values; its name travels beside it."""
    plain: Json = _plain(command)
    return plain


def from_wire(name: str, body: Mapping[str, Any]) -> Command:
    """The command of that name. Raises WireTrouble for an unknown name, an unknown or missing field, a wrong type."""
    kind = COMMANDS.get(name)
    if kind is None:
        raise WireTrouble(f"There is no command {name}.", nearest(name, COMMANDS))
    command = _typed(kind, body, name)
    assert isinstance(command, Command)
    return command


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {camel(f.name): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of the annotated type `kind`."""
    if get_origin(kind) in (Union, UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        return None if value is None else _typed(inner[0], value, where)
    if get_origin(kind) is tuple:
        return _typed_tuple(get_args(kind), value, where)
    if is_dataclass(kind):
        return _typed_fields(kind, value, where)
    if issubclass(kind, Enum):
        if value not in [one.value for one in kind]:
            raise WireTrouble(f"{where} is {value!r}.", nearest(str(value), [str(one.value) for one in kind]))
        return kind(value)
    if type(value) is not kind:
        raise WireTrouble(f"{where} is {value!r} and should be of type {kind.__name__}.")
    return value


def _typed_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise WireTrouble(f"{where} is {value!r} and should be a list.")
    if len(kinds) == 2 and kinds[1] is ...:
        return tuple(_typed(kinds[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if len(value) != len(kinds):
        raise WireTrouble(f"{where} has {len(value)} entries and should have {len(kinds)}.")
    return tuple(_typed(kind, one, f"{where}[{i}]") for i, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def _typed_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise WireTrouble(f"{where} is {value!r} and should be an object.")
    known: dict[str, Field[Any]] = {camel(f.name): f for f in fields(kind)}
    hints = get_type_hints(kind)
    for name in value:
        if name not in known:
            raise WireTrouble(f"{where} has no field {name}.", nearest(name, known))
    for name, one in known.items():
        if name not in value and one.default is MISSING and one.default_factory is MISSING:
            raise WireTrouble(f"{where} lacks the field {name}.")
    given = {known[name].name: _typed(hints[known[name].name], one, f"{where}.{name}") for name, one in value.items()}
    return kind(**given)


# Refusals ----------------------------------------------------------------------------------------------------


def problem(refused: Refused, entry: Entry | None = None) -> Json:
    """A refusal as a problem document; `entry` for codes of the doors that are in no catalogue of the domain."""
    entry = entry or CATALOGUE[refused.code]
    return {
        "type": f"urn:dkv:problem:{refused.code}",
        "title": entry.meaning,
        "status": entry.status,
        "code": refused.code,
        "detail": refused.message,
        "hint": refused.hint,
    }


# Views -------------------------------------------------------------------------------------------------------


def endpoint(host: str, port: int) -> str:
    """`host:port` as people write it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def domain_view(state: State, revision: int, leader: str, local: str) -> Json:
    """The domain and its servers; `leader` and `local` are server ids."""
    servers = [_server_view(server, local) for _, server in sorted(state.servers.items())]
    return {"uid": state.uid, "revision": revision, "leaderServer": leader or None, "servers": servers}


def _server_view(server: Server, local: str) -> Json:
    return {
        "serverId": server.server_id,
        "manager": endpoint(server.host, server.port),
        "host": server.host,
        "port": server.port,
        "alive": server.alive,
        "bootId": server.boot_id,
        "isLocal": server.server_id == local,
    }


def stores_of(state: State) -> list[Database]:
    """The databases people still see, by name."""
    return [d for _, d in sorted(state.databases.items()) if d.state is not DatabaseState.TOMBSTONE]


def store_view(state: State, database: Database, revision: int) -> Json:
    """A store whole: status, incarnation, groups, instances."""
    options = database.options
    return {
        "name": database.name,
        "status": describe.store_status(state, database.name),
        "state": database.state.value,
        "incarnation": {"major": database.major, "minor": database.minor},
        "createdAt": database.created_at,
        "minInSync": options.min_in_sync,
        "replicationFactor": options.replication_factor,
        "appendFsync": options.append_fsync,
        "restart": _restart_view(state, database),
        "groups": [_group_view(state, group) for group in state.groups_of(database.name)],
        "instances": [_instance_view(state, a) for a in describe.instances(state, database.name)],
        "revision": revision,
    }


def _group_view(state: State, group: Group) -> Json:
    confirmed, writes = describe.can_lose(state, group)
    leader = state.archives.get(group.leader) if group.leader is not None else None
    required = [state.archives[i] for i in group.required if i in state.archives]
    return {
        "name": group.name,
        "slots": [list(pair) for pair in group.slots],
        "term": group.term,
        "phase": group.phase.value,
        "open": group.open,
        "serving": group.serving,
        "leader": leader.name if leader else None,
        "leaderStartId": group.leader_process,
        "leaderEndpoint": _client_endpoint(state, leader) if leader else None,
        "inSync": _names(state, group.in_sync),
        "required": [a.name for a in required],
        "requiredEndpoints": [_client_endpoint(state, a) for a in required],
        "joining": [{"instance": _name(state, j.archive_id), "stage": j.stage.value} for j in group.joining],
        "enforcements": [
            {"instance": _name(state, e.archive_id), "term": e.term, "bound": e.bound, "reason": e.reason, "actor": e.actor,
             "at": e.at}
            for e in group.enforcements
        ],
        "handover": {"to": _name(state, group.handover.to_archive)} if group.handover else None,
        "switchover": _wish_view(state, group),
        "waitsFor": _waiting_view(describe.waits_for(state, group)),
        "canLoseForConfirmed": confirmed,
        "canLoseForWrites": writes,
    }


def _wish_view(state: State, group: Group) -> Json | None:
    """A change of leader that was asked for and is not done; `to` is null for whichever copy is furthest."""
    wish = group.wish
    if wish is None:
        return None
    target = state.processes.get(wish.to_process) if wish.to_process is not None else None
    return {"to": _name(state, target.archive_id) if target else None, "since": wish.at, "reason": wish.reason}


def _restart_view(state: State, database: Database) -> Json | None:
    """How far a restart is, and what it does or waits for."""
    renewal = database.renewal
    if renewal is None:
        return None
    left = len(renewing.outdated(state, database.name, renewal))
    says = renewing.now(state, database, renewal)
    return {
        "rolling": renewal.rolling, "force": renewal.force, "since": renewal.at, "processes": renewal.of,
        "replaced": max(0, renewal.of - left), "waitsFor": says.whom, "reason": says.reason, "help": says.fix,
    }  # fmt: skip


def bound_view(bound: losses.Bound) -> Json:
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


def _position_view(report: Report | None) -> Json | None:
    if report is None:
        return None
    return {"term": report.term, "marker": report.sequence, "bytesAfter": report.bytes_after}


def _waiting_view(waiting: describe.Waiting | None) -> Json | None:
    if waiting is None:
        return None
    return {"for": list(waiting.archives), "since": waiting.at, "reason": waiting.reason, "help": waiting.help}


def _instance_view(state: State, archive: Archive) -> Json:
    server = state.servers.get(archive.server_id)
    process = state.process_on(archive.archive_id)
    group = state.groups.get((archive.database, archive.group))
    return {
        "instanceName": archive.name,
        "archiveId": archive.archive_id,
        "server": archive.server_id,
        "manager": endpoint(server.host, server.port) if server else None,
        "host": server.host if server else None,
        "clustronPort": archive.cluster_port,
        "clientPort": archive.client_port,
        "group": archive.group,
        "path": archive.path or None,
        "archiveState": archive.state.value,
        "state": describe.instance_state(state, archive),
        "role": describe.role(state, archive),
        "inSync": group is not None and archive.archive_id in group.in_sync,
        "reason": describe.why_not_running(state, archive),
        "process": _run_view(process) if process else None,
    }


def _run_view(process: Process) -> Json:
    shown = process.state in (ProcessState.MONITORED, ProcessState.REQUESTED_SHUTDOWN)
    return {
        "startId": process.start_id,
        "nodeId": process.node_id if shown else None,
        "pid": process.pid,
        "state": process.state.value,
        "engineState": process.engine_state.value,
        "loadingPercent": process.loading_percent,
    }


def process_view(state: State, process: Process) -> Json:
    """One live process."""
    return {
        **_run_view(process),
        "store": process.database,
        "instanceName": _name(state, process.archive_id),
        "server": process.server_id,
        "type": process.engine_type.value,
        "group": process.group or None,
        "requester": process.requester.value,
        "restartOf": process.restart_of,
        "requestedAt": process.requested_at,
    }


def tombstones_view(state: State, store: str | None = None) -> list[Json]:
    """What is kept of ended processes, newest first; exits of the same moment by their incarnation."""
    found = [t for t in state.tombstones.values() if store is None or t.process.database == store]
    found.sort(key=lambda t: (t.at, t.major, t.minor, t.process.start_id))
    return [_tombstone_view(state, tombstone) for tombstone in reversed(found)]


def _tombstone_view(state: State, tombstone: Tombstone) -> Json:
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
        "parked": tombstone.parked,
    }


SECRETS = ("secret", "password")
"""Fields of commands that are never shown."""


def rehearsed_view(command: Command, events: Sequence[Event], refused: Refused | None) -> Json:
    """One command of a plan: its name and fields, and what it makes true, or why it is refused."""
    told = {name: "***" if name in SECRETS and value else value for name, value in to_wire(command).items()}
    return {
        "command": type(command).__name__,
        "fields": told,
        "events": [
            {"kind": e.kind, "subject": e.subject, "change": e.change, "because": e.because, "database": e.database}
            for e in events
        ],
        "refused": problem(refused) if refused else None,
    }


EVENT_TEXTS = ("database", "subject", "kind", "because", "change", "command", "actor")


def event_view(stored: Stored) -> Json:
    """One line of the event log. Raises WireTrouble if its text is not an event."""
    try:
        event = json.loads(stored.text)
    except ValueError as error:
        raise WireTrouble(f"Event {stored.sequence} is damaged.") from error
    return {
        "sequence": stored.sequence,
        "revision": stored.revision,
        "at": event.get("at", 0),
        **{name: event.get(name, "") for name in EVENT_TEXTS},
        "startId": event.get("start_id"),
        "archiveId": event.get("archive_id"),
    }


def _client_endpoint(state: State, archive: Archive) -> str:
    server = state.servers.get(archive.server_id)
    return endpoint(server.host if server else archive.server_id, archive.client_port)


def _names(state: State, archive_ids: Sequence[int]) -> list[str]:
    return [state.archives[i].name for i in archive_ids if i in state.archives]


def _name(state: State, archive_id: int | None) -> str | None:
    archive = state.archives.get(archive_id) if archive_id is not None else None
    return archive.name if archive else None
