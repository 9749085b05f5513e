"""CLI: how verbs print what they got: repr lines and the lines of `show` as nuocmd has them, or the objects as JSON.

A repr line has every declared property that has a value, by name: `Archive(archive_path=..., db_name=test, ...)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dkv.address import endpoint_text
from dkv.cli.errors import CliError
from dkv.cli.output import in_json, transport_line, waiting_lines
from dkv.cli.session import Session
from dkv.client import Json
from dkv.database_options import ignored

SILENT = 20_000  # ms without a word after which a process is called unreachable (docs/reference/nuodb.md#output)

SHAPES: dict[str, dict[str, str]] = {
    "Archive": {
        "archive_path": "path",
        "db_name": "dbName",
        "id": "id",
        "journal_path": "journalPath",
        "server_id": "host",
        "snapshot_archive_path": "snapshotArchivePath",
        "state": "state",
    },
    "Database": {
        "default_options": "databaseOptions",
        "default_region_id": "defaultRegionId",
        "incarnation": "incarnation",
        "name": "name",
        "server_assignments": "hostAssignments",
        "state": "state",
    },
    "ExitedProcess": {"db_incarnation": "databaseIncarnation", "exit_code": "exitCode", "process": "process", "reason": "reason"},
    "HotCopyResponse": {
        "begin_timestamp": "beginTimestamp",
        "coordinator_start_id": "coordinatorStartId",
        "end_timestamp": "endTimestamp",
        "id": "hotCopyId",
        "message": "message",
        "stage": "stage",
        "status": "status",
    },
    "LoadBalancerConfig": {"db_name": "dbName", "default": "defaultLbQuery", "is_global": "isGlobal", "prefilter": "prefilter"},
    "LoadBalancerPolicy": {"lb_query": "lbQuery", "policy_name": "policyName"},
    "Process": {
        "address": "address",
        "archive_id": "archiveId",
        "db_name": "dbName",
        "durable_state": "durableState",
        "engine_state": "state",
        "engine_type": "type",
        "labels": "labels",
        "node_id": "nodeId",
        "options": "options",
        "pid": "pid",
        "region_name": "regionName",
        "server_id": "host",
        "start_id": "startId",
    },
    "Region": {"id": "id", "name": "name"},
    "Role": {"authorized_requests": "authorizedRequests", "name": "name", "sub_roles": "subRoles"},
    "Server": {
        "address": "address",
        "connected_state": "connectedState.state",
        "id": "id",
        "is_evicted": "isEvicted",
        "is_local": "isLocal",
        "labels": "labels",
        "leader": "localRoleInfo.leaderServerId",
        "peer_state": "peerState",
        "raft_state": "localRoleInfo.lifeCycle",
        "role": "localRoleInfo.role",
        "version": "version",
    },
    "StartProcessRequest": {
        "archive_id": "archiveId",
        "db_name": "dbName",
        "engine_type": "engineType",
        "expected_incarnation_major": "expectedIncarnation.major",
        "expected_incarnation_minor": "expectedIncarnation.minor",
        "labels": "labels",
        "options": "overrideOptions",
        "server_id": "host",
    },
    "StorageGroup": {
        "archive_states": "archiveStates",
        "db_name": "dbName",
        "id": "sgId",
        "leader_candidates": "leaderCandidates",
        "name": "sgName",
        "process_states": "processStates",
        "state": "state",
    },
    "User": {"name": "name", "roles": "roles"},
}
"""What is printed of each kind of object, and the field of the answer it comes from."""

ALWAYS: Json = {"labels": {}, "options": {}, "default_options": {}, "server_assignments": {}, "engine_state": "UNKNOWN"}
"""What is printed of a property that was not sent."""


def repr_line(shape: str, entity: Json) -> str:
    """`Shape(name=value, ...)`, names in order, without those that have no value."""
    values = {name: _field(entity, path) for name, path in SHAPES[shape].items()}
    if shape == "Process":
        values["address"] = address(entity)
    values = {name: ALWAYS.get(name) if value is None else value for name, value in values.items()}
    return f"{shape}({', '.join(f'{n}={text(v)}' for n, v in sorted(values.items()) if v is not None)})"


def _field(entity: Json, path: str) -> Any:
    value: Any = entity
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def text(value: object) -> str:
    """A value as it stands in a repr line."""
    if isinstance(value, Mapping):
        if set(value) == {"major", "minor"}:
            return incarnation(value)
        if "startId" in value:
            return repr_line("Process", dict(value))
        return "{" + ", ".join(f"{k}: {text(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(item) for item in value) + "]"
    return str(value)


def incarnation(value: Mapping[str, Any]) -> str:
    """`(1, 4)`."""
    return f"({value['major']}, {value['minor']})"


# The lines of `show` ---------------------------------------------------------------------------------------------


def server_line(server: Json) -> str:
    """`[server0] server0:48005 (LEADER, Leader=server0) ACTIVE:Connected *`; the star is the one that answers."""
    role = server.get("localRoleInfo") or {}
    state = "Evicted" if server.get("isEvicted") else connected(server)
    star = " *" if server.get("isLocal") else ""
    role_text = f"({role.get('role') or '?'}, Leader={role.get('leaderServerId') or '?'})"
    return f"[{server['id']}] {server['address']} {role_text} {role.get('lifeCycle') or '?'}:{state}{star}"


def connected(server: Json) -> str:
    """Whether a server is there: Connected, or what it is instead."""
    return str((server.get("connectedState") or {}).get("state") or "UNKNOWN")


def engine_line(server: Json) -> str:
    """The program of a server's engines: its release, and whether it has TLS."""
    engine = server.get("engine") or {}
    has = "with TLS" if engine.get("tls") else "without TLS"
    return f"engines of server {server['id']}: Valkey {engine.get('release') or 'unknown'} {has}"


def database_line(database: Json) -> str:
    """`test [RUNNING]`, and whether every client is let in although the domain has access control."""
    return f"{database['name']} [{database['state']}]{', open' if database.get('open') else ''}"


def archive_line(archive: Json, removed: bool = False) -> str:
    """`Archive: [0] server0 : /var/opt/nuodb/archive/test [db = test] RUNNING`."""
    state = f"REMOVED({archive['state']})" if removed else archive["state"]
    return f"Archive: [{archive['id']}] {archive['host']} : {archive['path']} [db = {archive['dbName']}] {state}"


def process_line(process: Json, here: Mapping[str, str]) -> str:
    """A live process; `here` is the state of each server, by id."""
    region = f" ({process.get('regionName') or 'Default'})"
    return f"{_who(process, region)} {states(process, here)}"


def exited_line(tombstone: Json) -> str:
    """A process that ended: the states it had, why it ended, its exit code. Its region is left out."""
    process, code = tombstone["process"], tombstone.get("exitCode")
    was = f"{process['durableState']}:{process.get('state') or 'UNKNOWN'}"
    return f"{_who(process)} EXITED({was}):{tombstone.get('reason')} ({'?' if code is None else code})"


def _who(process: Json, region: str = "") -> str:
    known = {name: "" if process.get(name) is None else process[name] for name in ("pid", "nodeId")}
    return (
        f"[{process['type']}] {address(process) or '<UNKNOWN ADDRESS>'}{region} [start_id = {process['startId']}] "
        f"[server_id = {process['host']}] [pid = {known['pid']}] [node_id = {known['nodeId']}]"
    )


def address(process: Json) -> str | None:
    """`host:port` of a process that has one by now."""
    host, port = process.get("hostname") or process.get("address"), process.get("port")
    return endpoint_text(str(host), port) if host and port else None


def states(process: Json, here: Mapping[str, str]) -> str:
    """`MONITORED:RUNNING`. A process that has not joined yet, or whose server or engine is silent, is unreachable."""
    durable, engine = process["durableState"], process.get("state") or "UNKNOWN"
    progress = process.get("journalRecoveryProgress")
    if durable == "CONFIGURED" and engine == "UNKNOWN" and progress is not None:
        return f"{durable}:RECOVERING_JOURNAL:REPLAY({progress:.0%})"
    joined = durable in ("MONITORED", "REQUESTED_SHUTDOWN")
    silence_ms = process.get("lastHeardFrom")
    if not joined or silence_ms is None or silence_ms > SILENT or here.get(process["host"], "Connected") != "Connected":
        engine = f"UNREACHABLE({engine})"
    return f"{durable}:{engine}"


# Output and files ---------------------------------------------------------------------------------------------------


def show(session: Session, shape: str, entities: Json | Iterable[Json] | None) -> None:
    """An object or a list of them, as repr lines or as JSON."""
    if session.screen.as_json:
        session.screen.data(entities if entities is None or isinstance(entities, dict) else list(entities))
        return
    for entity in [entities] if isinstance(entities, dict) else entities or ():
        session.screen.line(repr_line(shape, entity))


def lines(session: Session, data: object, text: Iterable[str]) -> None:
    """The text of a `show`, or what it was made from as JSON."""
    if session.screen.as_json:
        session.screen.data(data)
        return
    session.screen.lines(text)


def say_transport(session: Session, database: Json) -> None:
    """Print beside the data how a database's engines speak, where that is not plain and on their own machine only."""
    transport = database.get("transport") or {}
    if transport.get("tls") or transport.get("insecure"):
        session.screen.note(f"{database['name']}: {transport_line(transport)}")


def say_waiting(session: Session, database: Json) -> None:
    """Print beside the data what a database, its groups and its options wait for, since when, why, and a hint."""
    items = [item for item in database.get("waiting", ()) if item["kind"] in ("domain", "database", "group", "option")]
    for line in waiting_lines(session.screen, items):
        session.screen.note(line)


def say_ignored(session: Session, options: Json | None) -> None:
    """A warning for each option that was set and has no effect here."""
    for sentence in ignored(options or ()):
        session.screen.note(f"warning: {sentence}.")


def write_json(session: Session, path: str, value: Any) -> None:
    """Write JSON to a file, the way nuocmd does: two spaces, sorted. `-` is stdout. Raises CliError."""
    document = in_json(value, sort_keys=True)
    if path == "-":
        session.screen.block(document)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(document + "\n")
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.", "Name a file that may be written.") from error


def read_json(path: str) -> Any:
    """The JSON of a file. Raises CliError."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}.", "Name a file that was captured before.") from error
    except ValueError as error:
        raise CliError(f"{path} is not JSON: {error}.", "Capture it again.") from error
