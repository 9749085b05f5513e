"""API: what a manager says of the domain and of itself as metrics. Pure.

Every manager says the same of the domain, so that its numbers are there while any manager is: rules take the maximum over them.
A manager that cannot reach the domain says nothing of it. `archive` is the name of an instance, because `instance` is
Prometheus' own label: the address that was scraped. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dkv.api.context import EngineLook
from dkv.api.exposition import Metric, Page, joined, labels
from dkv.control.submit import View
from dkv.control.tally import BOUNDS, Durations, Tally
from dkv.domain import blocked, status
from dkv.domain.held_back import rest_of
from dkv.domain.hotcopy import CopyStage
from dkv.domain.model import Archive, Database, DatabaseState, Group, Process, ProcessState, Server, State
from dkv.domain.states import RESTING, STOPPING
from dkv.domain.writes_refused import takes_writes
from dkv.kernel import Usage


def _gauge(name: str, help: str) -> Metric:
    return Metric(name, "gauge", help)


def _counter(name: str, help: str) -> Metric:
    return Metric(name, "counter", help)


BUILD = _gauge("dkv_build_info", "The manager's version and server; always 1.")
REACHABLE = _gauge("dkv_domain_reachable", "Whether this manager can read and change the domain.")
LAST_SEEN = _gauge("dkv_domain_last_seen_timestamp_seconds", "When this manager last renewed its lease in the domain's state.")
TICKS = _gauge("dkv_domain_ticks", "Whether this manager moves the domain clock.")
REVISION = _gauge("dkv_domain_revision", "The revision of the domain's state.")

SERVER_UP = _gauge("dkv_server_up", "Whether the server's manager holds its lease.")
LEASE_AGE = _gauge("dkv_server_lease_age_seconds", "Time since the server's manager renewed its lease.")
CERTIFICATE = _gauge("dkv_server_certificate_end_timestamp_seconds", "When the certificate of the server's manager ends.")
ENGINE_CERTIFICATE = _gauge("dkv_engine_certificate_end_timestamp_seconds", "When the certificate that an engine shows ends.")

STARTED = _gauge("dkv_store_started", "Whether the store is to run.")
HOT_COPY = _gauge("dkv_hotcopy_last_success_timestamp_seconds", "When the store's newest hot copy succeeded; absent without one.")

SERVING = _gauge("dkv_group_serving", "Whether the group's leader leads.")
TAKES_WRITES = _gauge("dkv_group_takes_writes", "Whether a client's write to the group is taken.")
TERM = _gauge("dkv_group_term", "The group's term: it grows with every change or restart of its leader.")
COPIES = _gauge("dkv_group_copies", "Copies that the group should have.")
IN_SYNC = _gauge("dkv_group_in_sync", "Copies in sync, the leader's included.")
MIN_IN_SYNC = _gauge("dkv_group_min_in_sync", "Copies in sync that a write needs.")
CAN_LOSE = _gauge("dkv_group_can_lose", "Servers that may still be lost without losing confirmed data, or the ability to write.")
LEADER = _gauge("dkv_group_leader", "The archive that leads the group; always 1.")

INSTANCE_STATE = _gauge("dkv_instance_state", "The state of an instance; always 1.")
LOADING = _gauge("dkv_instance_loading_ratio", "How much an instance has loaded, while it loads.")
HELD_BACK = _gauge("dkv_instance_held_back", "An instance that is restarted later, because it ended again and again; always 1.")

WAITING = _gauge("dkv_waiting", "Something waits; always 1. blocks_writes: clients' writes wait with it.")
WAITING_SINCE = _gauge("dkv_waiting_since_timestamp_seconds", "Since when it waits, where that is known.")

FENCED = _gauge("dkv_engine_fenced", "Whether an engine of this server refuses writes by order of its manager.")
ARCHIVE_BYTES = _gauge("dkv_archive_bytes", "Size of an archive's append-only files on this server.")
ARCHIVE_FREE = _gauge("dkv_archive_free_bytes", "Room on the file system that holds the archive.")
ENDS = _counter("dkv_process_ends_total", "Ends of processes of this server since its manager began.")
COMMANDS = _counter("dkv_commands_total", "Commands that this manager decided.")
CONFLICTS = _counter("dkv_commit_conflicts_total", "Commits of this manager that came too late and were decided again.")
COMMITS = Metric("dkv_commit_duration_seconds", "histogram", "Time that a commit of this manager took.")
REQUESTS = _counter("dkv_http_requests_total", "Requests that this manager answered.")
REFUSED = _counter("dkv_http_requests_refused_total", "Requests that access control refused.")

CPU = _counter("process_cpu_seconds_total", "Processor time of the manager.")
RESIDENT = _gauge("process_resident_memory_bytes", "Resident memory of the manager.")
VIRTUAL = _gauge("process_virtual_memory_bytes", "Virtual memory of the manager.")
SINCE = _gauge("process_start_time_seconds", "When the manager was started.")
OPEN_FILES = _gauge("process_open_fds", "Files and connections that the manager has open.")
MOST_FILES = _gauge("process_max_fds", "Files and connections that it may have open.")


@dataclass(frozen=True, kw_only=True)
class ManagerNumbers:
    """What one manager says of itself: `reachable` and `ticks` as below, `seen_at` in s since 1970 or None; `answered` and
    `refused` are requests by HTTP status, and refused ones by code."""

    version: str
    server_id: str
    reachable: bool
    seen_at: float | None
    ticks: bool
    tally: Tally
    answered: Mapping[str, int]
    refused: Mapping[str, int]
    usage: Usage


# This manager --------------------------------------------------------------------------------------------------------


def write_manager(page: Page, manager: ManagerNumbers) -> None:
    """What is true of this manager, whatever it knows of the domain."""
    page.add(BUILD, 1, labels({"version": manager.version, "server": manager.server_id}))
    page.add(REACHABLE, int(manager.reachable))
    if manager.seen_at is not None:
        page.add(LAST_SEEN, round(manager.seen_at, 3))
    page.add(TICKS, int(manager.ticks))
    _write_tally(page, manager.tally)
    for status_code, count in sorted(manager.answered.items()):
        page.add(REQUESTS, count, labels({"code": status_code}))
    for code, count in sorted(manager.refused.items()):
        page.add(REFUSED, count, labels({"code": code}))
    _write_usage(page, manager.usage)


def _write_tally(page: Page, tally: Tally) -> None:
    for (database, cause), count in sorted(tally.ends.items()):
        page.add(ENDS, count, labels({"store": database, "cause": cause}))
    for (command, result), count in sorted(tally.decisions.items()):
        page.add(COMMANDS, count, labels({"command": command, "result": result}))
    page.add(CONFLICTS, tally.conflicts)
    _write_durations(page, COMMITS, tally.commits)


def _write_durations(page: Page, metric: Metric, durations: Durations) -> None:
    below = 0
    for bound, count in zip((*BOUNDS, "+Inf"), durations.counts, strict=True):
        below += count
        page.add(metric, below, labels({"le": str(bound)}), "_bucket")
    page.add(metric, round(durations.total, 6), suffix="_sum")
    page.add(metric, below, suffix="_count")


def _write_usage(page: Page, usage: Usage) -> None:
    page.add(CPU, usage.cpu_seconds)
    page.add(RESIDENT, usage.resident_bytes)
    page.add(VIRTUAL, usage.virtual_bytes)
    page.add(SINCE, round(usage.started, 2))
    page.add(OPEN_FILES, usage.open_files)
    page.add(MOST_FILES, usage.most_files)


# The domain ----------------------------------------------------------------------------------------------------------


def write_domain(page: Page, view: View, lease_ages: Mapping[str, int], now: int) -> None:
    """What every manager says of the domain; `lease_ages` are ms by server, `now` is the wall clock in ms."""
    state = view.state
    page.add(REVISION, view.revision)
    for _, server in sorted(state.servers.items()):
        _write_server(page, server, lease_ages.get(server.server_id))
    for _, database in sorted(state.databases.items()):
        if database.state is not DatabaseState.TOMBSTONE:
            _write_store(page, state, database)
    for item in blocked.blocked(state, None, now):
        about = {"kind": item.kind, "subject": item.subject, "store": item.database}
        page.add(WAITING, 1, labels({**about, "blocks_writes": "true" if item.blocks else "false"}))
        if item.since is not None:
            page.add(WAITING_SINCE, item.since / 1000, labels(about))


def _write_server(page: Page, server: Server, lease_age: int | None) -> None:
    name = labels({"server": server.server_id})
    page.add(SERVER_UP, int(server.alive), name)
    if lease_age is not None:
        page.add(LEASE_AGE, lease_age / 1000, name)
    if server.certificate_until:
        page.add(CERTIFICATE, server.certificate_until / 1000, name)


def _write_store(page: Page, state: State, database: Database) -> None:
    name = labels({"store": database.name})
    page.add(STARTED, int(database.state not in (*RESTING, *STOPPING)), name)
    copied = [c.ended_at for c in state.copies.values() if c.database == database.name and c.stage is CopyStage.COMPLETED]
    if copied:
        page.add(HOT_COPY, max(copied) / 1000, name)
    archives = status.instances(state, database.name)
    for group in state.groups_of(database.name):
        _write_group(page, state, group, sum(archive.group == group.name for archive in archives))
    for archive in archives:
        _write_instance(page, state, archive)


def _write_group(page: Page, state: State, group: Group, copies: int) -> None:
    name = labels({"store": group.database, "group": group.name})
    confirmed, writes = status.can_lose(state, group)
    page.add(SERVING, int(group.serving), name)
    page.add(TAKES_WRITES, int(takes_writes(state, group)), name)
    page.add(TERM, group.term, name)
    page.add(COPIES, copies, name)
    page.add(IN_SYNC, len(group.in_sync), name)
    page.add(MIN_IN_SYNC, state.databases[group.database].options.min_in_sync, name)
    page.add(CAN_LOSE, confirmed, f'{name},promise="confirmed"')
    page.add(CAN_LOSE, writes, f'{name},promise="writes"')
    leader = state.archives.get(group.leader) if group.leader is not None and group.serving else None
    if leader:
        page.add(LEADER, 1, joined(name, labels({"archive": leader.name, "server": leader.server_id})))


def _write_instance(page: Page, state: State, archive: Archive) -> None:
    name = labels(archive_labels(archive))
    process = state.process_on(archive.archive_id)
    page.add(INSTANCE_STATE, 1, f'{name},state="{status.instance_state(state, archive)}"')
    if process is None:
        return
    if process.state is ProcessState.CONFIGURED:
        page.add(LOADING, process.loading_percent / 100, name)
    if rest_of(process):
        page.add(HELD_BACK, 1, name)
    if process.runs.certificate:
        page.add(ENGINE_CERTIFICATE, process.runs.certificate.ends_at / 1000, name)


def archive_labels(archive: Archive) -> dict[str, str]:
    """By which an instance is known on every page."""
    return {"store": archive.database, "group": archive.group, "archive": archive.name, "server": archive.server_id}


def write_engines(page: Page, state: State, looks: Sequence[EngineLook]) -> None:
    """What this manager saw of its engines at its last look."""
    for look in looks:
        process = state.processes.get(look.start_id)
        archive = state.archive_of(process) if process else None
        if archive is None:
            continue
        name = labels(archive_labels(archive))
        page.add(FENCED, int(look.fenced), name)
        page.add(ARCHIVE_BYTES, look.archive_bytes, name)
        if look.free_bytes:
            page.add(ARCHIVE_FREE, look.free_bytes, name)


def engine_labels(state: State, process: Process, group: str) -> dict[str, str]:
    """By which one engine is known where it is scraped; namespace and pod are what public dashboards choose by."""
    archive = state.archive_of(process)
    name = archive.name if archive else f"te-{process.start_id}"
    known = {"store": process.database, "group": group, "archive": name, "server": process.server_id}
    return {"namespace": process.database, "pod": name if archive else f"{name}-{group}", **known}
