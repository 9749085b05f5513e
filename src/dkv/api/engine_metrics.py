"""API: what an engine says of itself (INFO, CLUSTER INFO) in the names and labels of redis_exporter, so that dashboards and rules
that others made for it work as they are. Pure.

Everything but the names follows from Valkey's own fields. What redis_exporter reads by CONFIG GET is taken from INFO, which has
it too; what it reads of keys, slow logs and latency events is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dkv.api.exposition import Metric, Page, joined, labels

UP = Metric("redis_up", "gauge", "Whether the engine answered.")
SCRAPE_ERROR = Metric("redis_exporter_last_scrape_error", "gauge", "Whether the engine could not be read; err says why.")
SCRAPE_SECONDS = Metric("redis_exporter_last_scrape_duration_seconds", "gauge", "How long the engine took to answer.")
INSTANCE = Metric("redis_instance_info", "gauge", "What the engine is: its role, release, port and ids; always 1.")
SINCE = Metric("redis_start_time_seconds", "gauge", "When the engine was started, in seconds since 1970.")
FORK = Metric("redis_latest_fork_seconds", "gauge", "How long the newest fork took.")
COMMANDS = Metric("redis_commands_total", "counter", "Calls of a command, those of managers and followers too.")
COMMAND_SECONDS = Metric("redis_commands_duration_seconds_total", "counter", "Time spent in a command.")
COMMANDS_REJECTED = Metric(
    "redis_commands_rejected_calls_total", "counter", "Calls of a command that were refused before it ran."
)
COMMANDS_FAILED = Metric("redis_commands_failed_calls_total", "counter", "Calls of a command that ended with an error.")
_COUNTERS = (COMMANDS, COMMAND_SECONDS, COMMANDS_REJECTED, COMMANDS_FAILED)
LATENCY = Metric(
    "redis_latency_percentiles_usec", "summary", "Percentiles of a command's time since the engine started, in microseconds."
)
ERRORS = Metric("redis_errors_total", "counter", "Error answers, by their first word.")
KEYS = Metric("redis_db_keys", "gauge", "Keys in a database.")
KEYS_EXPIRING = Metric("redis_db_keys_expiring", "gauge", "Keys in a database that expire.")
TTL = Metric("redis_db_avg_ttl_seconds", "gauge", "Mean time until keys of a database expire.")
REPLICA_OFFSET = Metric("redis_connected_slave_offset_bytes", "gauge", "What a follower acknowledged of the stream, in bytes.")
REPLICA_LAG = Metric("redis_connected_slave_lag_seconds", "gauge", "Time since a follower's newest acknowledgement.")
LINK_UP = Metric("redis_master_link_up", "gauge", "Whether the follower's link to its leader stands.")

LEADER_FIELDS = {
    "slave_repl_offset": Metric("redis_slave_repl_offset", "gauge", "What the follower has of its leader's stream, in bytes."),
    "master_last_io_seconds_ago": Metric("redis_master_last_io_seconds_ago", "gauge", "Time since the leader sent anything."),
    "master_sync_in_progress": Metric("redis_master_sync_in_progress", "gauge", "Whether the follower is being filled anew."),
}
"""Fields of a follower, which carry its leader's address as labels."""

STATES = {
    "aof_last_write_status": Metric(
        "redis_aof_last_write_status", "gauge", "Whether the newest write to the append-only file succeeded."
    ),
    "aof_last_bgrewrite_status": Metric("redis_aof_last_bgrewrite_status", "gauge", "Whether the newest rewrite succeeded."),
    "cluster_state": Metric("redis_cluster_state", "gauge", "Whether the engine knows who serves every hash slot."),
}
"""Fields that say ok or not."""


def _gauge(name: str, help: str) -> Metric:
    return Metric(f"redis_{name}", "gauge", help)


def _counter(name: str, help: str) -> Metric:
    return Metric(f"redis_{name}", "counter", help)


NUMBERS: Mapping[str, tuple[Metric, ...]] = {
    "uptime_in_seconds": (_gauge("uptime_in_seconds", "How long the engine has run."),),
    "process_id": (_gauge("process_id", "The engine's pid."),),
    # Clients
    "connected_clients": (_gauge("connected_clients", "Connections of clients and managers."),),
    "blocked_clients": (_gauge("blocked_clients", "Clients in a blocking command."),),
    "tracking_clients": (_gauge("tracking_clients", "Clients that are told which keys change."),),
    "maxclients": (
        _gauge("max_clients", "Connections that the engine takes at most."),
        _gauge("config_maxclients", "Connections that the engine takes at most, by its configuration."),
    ),
    "total_connections_received": (_counter("connections_received_total", "Connections that were taken."),),
    "rejected_connections": (_counter("rejected_connections_total", "Connections that were refused for want of room."),),
    # Memory
    "used_memory": (_gauge("memory_used_bytes", "Memory in use, as the engine counts it."),),
    "used_memory_rss": (_gauge("memory_used_rss_bytes", "Resident memory of the engine's process."),),
    "used_memory_peak": (_gauge("memory_used_peak_bytes", "The most memory that was in use."),),
    "used_memory_dataset": (_gauge("memory_used_dataset_bytes", "Memory of the data themselves."),),
    "used_memory_overhead": (_gauge("memory_used_overhead_bytes", "Memory of everything but the data."),),
    "maxmemory": (
        _gauge("memory_max_bytes", "Memory that the data may take, 0 without a limit."),
        _gauge("config_maxmemory", "Memory that the data may take, by the engine's configuration."),
    ),
    "mem_fragmentation_ratio": (_gauge("mem_fragmentation_ratio", "Resident memory over memory in use."),),
    "mem_clients_normal": (_gauge("mem_clients_normal", "Memory of clients' buffers, in bytes."),),
    "mem_clients_slaves": (_gauge("mem_clients_slaves", "Memory of followers' buffers, in bytes."),),
    "mem_not_counted_for_evict": (
        _gauge("mem_not_counted_for_eviction_bytes", "Memory in use that does not count against the limit."),
    ),
    "total_system_memory": (_gauge("total_system_memory_bytes", "Memory of the machine."),),
    # Work
    "total_commands_processed": (_counter("commands_processed_total", "Commands that were executed."),),
    "total_net_input_bytes": (_counter("net_input_bytes_total", "Bytes that were read from connections."),),
    "total_net_output_bytes": (_counter("net_output_bytes_total", "Bytes that were written to connections."),),
    "acl_access_denied_cmd": (_counter("acl_access_denied_cmd_total", "Commands that a user may not use."),),
    "acl_access_denied_auth": (_counter("acl_access_denied_auth_total", "Log-ins that were refused."),),
    "used_cpu_sys": (_counter("cpu_sys_seconds_total", "Processor time in the kernel."),),
    "used_cpu_user": (_counter("cpu_user_seconds_total", "Processor time in the engine."),),
    "used_cpu_sys_children": (_counter("cpu_sys_children_seconds_total", "Processor time of its children in the kernel."),),
    "used_cpu_user_children": (_counter("cpu_user_children_seconds_total", "Processor time of its children."),),
    # Keys
    "keyspace_hits": (_counter("keyspace_hits_total", "Reads that found their key."),),
    "keyspace_misses": (_counter("keyspace_misses_total", "Reads that found none."),),
    "expired_keys": (_counter("expired_keys_total", "Keys that expired."),),
    "evicted_keys": (_counter("evicted_keys_total", "Keys that were evicted for want of memory."),),
    "pubsub_channels": (_gauge("pubsub_channels", "Channels with subscribers."),),
    "pubsub_patterns": (_gauge("pubsub_patterns", "Patterns with subscribers."),),
    # Persistence
    "loading": (_gauge("loading_dump_file", "Whether the engine loads its files."),),
    "aof_enabled": (_gauge("aof_enabled", "Whether the engine keeps an append-only file."),),
    "aof_rewrite_in_progress": (_gauge("aof_rewrite_in_progress", "Whether the append-only file is being rewritten."),),
    "aof_rewrite_scheduled": (_gauge("aof_rewrite_scheduled", "Whether it is about to be."),),
    "aof_last_rewrite_time_sec": (_gauge("aof_last_rewrite_duration_sec", "How long the newest rewrite took, -1 if none."),),
    "aof_current_size": (_gauge("aof_current_size_bytes", "Size of the append-only files."),),
    "aof_base_size": (_gauge("aof_base_size_bytes", "Their size after the newest rewrite."),),
    "aof_delayed_fsync": (_gauge("aof_delayed_fsync", "How often an fsync had to wait for the one before it."),),
    "aof_pending_bio_fsync": (_gauge("aof_pending_bio_fsync", "Fsyncs that wait in the background."),),
    "rdb_last_save_time": (_gauge("rdb_last_save_timestamp_seconds", "The newest snapshot; dkv takes none: see hot copies."),),
    "rdb_changes_since_last_save": (_gauge("rdb_changes_since_last_save", "Changes since then."),),
    "rdb_bgsave_in_progress": (_gauge("rdb_bgsave_in_progress", "Whether a snapshot is being written, for a follower."),),
    # Replication
    "connected_slaves": (_gauge("connected_slaves", "Followers that are connected."),),
    "master_repl_offset": (_gauge("master_repl_offset", "Length of the stream so far, in bytes."),),
    "repl_backlog_size": (_gauge("replication_backlog_bytes", "What the stream's backlog holds at most."),),
    "repl_backlog_histlen": (_gauge("repl_backlog_history_bytes", "What it holds."),),
    "sync_full": (_gauge("replica_resyncs_full", "Followers that were filled anew."),),
    "sync_partial_ok": (_gauge("replica_partial_resync_accepted", "Followers that went on where they were."),),
    "sync_partial_err": (_gauge("replica_partial_resync_denied", "Followers that wanted to and could not."),),
    # Cluster
    "cluster_enabled": (_gauge("cluster_enabled", "Whether the engine is one of a cluster; always 1."),),
    "cluster_slots_assigned": (_gauge("cluster_slots_assigned", "Hash slots whose node the engine knows."),),
    "cluster_slots_ok": (_gauge("cluster_slots_ok", "Of these, those whose node answers."),),
    "cluster_slots_pfail": (_gauge("cluster_slots_pfail", "Of these, those whose node the engine does not hear."),),
    "cluster_slots_fail": (_gauge("cluster_slots_fail", "Of these, those whose node counts as failed."),),
    "cluster_known_nodes": (_gauge("cluster_known_nodes", "Nodes that the engine knows, itself too."),),
    "cluster_size": (_gauge("cluster_size", "Leaders with hash slots."),),
    "cluster_current_epoch": (_gauge("cluster_current_epoch", "The newest epoch that the engine knows."),),
    "cluster_my_epoch": (_gauge("cluster_my_epoch", "Its own."),),
    "cluster_stats_messages_sent": (_counter("cluster_messages_sent_total", "Packets sent on the cluster bus."),),
    "cluster_stats_messages_received": (_counter("cluster_messages_received_total", "Packets received there."),),
}
"""Fields that are numbers, and the metrics that say them."""
METRICS = (*_COUNTERS, LATENCY, *(metric for metrics in NUMBERS.values() for metric in metrics))
_PLACES = {metric.name: place for place, metric in enumerate(METRICS)}

INFO_LABELS = (
    *("role", "redis_version", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id", "process_id", "master_replid"),
    "valkey_version",
)


def write_engine(page: Page, fields: Mapping[str, str], common: str, now: float) -> None:
    """One engine's samples. `common` are the labels that each of them has, `now` is in seconds since 1970."""
    written = _written(common)
    page.add(UP, 1, common)
    page.add(INSTANCE, 1, written.labels_of_info(fields))
    if "uptime_in_seconds" in fields:
        page.add(SINCE, f"{now - int(fields['uptime_in_seconds']):.0f}", common)
    if "latest_fork_usec" in fields:
        page.add(FORK, int(fields["latest_fork_usec"]) / 1e6, common)
    layout = written.layout(fields)
    written.write(fields, layout)
    page.add_lines(METRICS, layout.lines)
    for field, state in STATES.items():
        if field in fields:
            page.add(state, int(fields[field] == "ok"), common)
    _write_link(page, fields, common)
    for field in layout.numbered:
        _write_numbered(page, field, _pairs(fields[field]), common)


def write_silent(page: Page, common: str, why: str) -> None:
    """One engine that did not answer."""
    page.add(UP, 0, common)
    page.add(SCRAPE_ERROR, 1, joined(common, labels({"err": why})))


def _of_info(fields: Mapping[str, str], name: str) -> str:
    """redis_mode is called server_mode where the engine does not imitate Redis."""
    return fields.get(name) or (fields.get("server_mode", "") if name == "redis_mode" else "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_NUMBERED = re.compile(r"slave[0-9]|db[0-9]|errorstat_")
_CALLS = re.compile(r"calls=(\d+),usec=(\d+),[^,]*,rejected_calls=(\d+),failed_calls=(\d+)")
_QUANTILES = re.compile(r"p([0-9.]+)=([0-9.]+)")
_ENGINES = 64  # whose lines are kept


@dataclass(slots=True)
class _Memo:
    """What a field said last and, of a command, the line of each metric that came of it: most of what an engine says is the same
    at the next scrape, and most of a line is labels.
    """

    text: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Layout:
    """The fields of one engine by what is written of them, and the lines of METRICS on the newest page."""

    numbers: tuple[tuple[str, _Memo], ...]
    commands: tuple[tuple[str, _Memo], ...]
    percentiles: tuple[tuple[str, _Memo], ...]
    numbered: tuple[str, ...]
    lines: list[str]


class _Written:
    """What was written of one engine last, by the labels that all its samples have."""

    def __init__(self, common: str) -> None:
        self._common = common
        self._before = f"{common}," if common else ""
        self._braces = f"{{{common}}}" if common else ""
        self._info: tuple[list[str], str] = ([], "")
        self._names: list[str] = []
        self._layout = self._laid_out([])

    def layout(self, fields: Mapping[str, str]) -> _Layout:
        """That of an engine that says these fields: the same as last time, until it says one more."""
        names = list(fields)
        if names != self._names:
            self._names, self._layout = names, self._laid_out(names)
        return self._layout

    def _laid_out(self, names: Sequence[str]) -> _Layout:
        known = set(names)
        return _Layout(
            tuple((name, _Memo()) for name in NUMBERS if name in known),
            tuple((name, _Memo()) for name in names if name.startswith("cmdstat_")),
            tuple((name, _Memo()) for name in names if name.startswith("latency_")),
            tuple(name for name in names if _NUMBERED.match(name)),
            [""] * len(METRICS),
        )

    def labels_of_info(self, fields: Mapping[str, str]) -> str:
        """The labels of the sample that says what the engine is."""
        texts = [_of_info(fields, name) for name in INFO_LABELS]
        if texts != self._info[0]:
            self._info = texts, joined(self._common, labels(dict(zip(INFO_LABELS, texts, strict=True))))
        return self._info[1]

    def write(self, fields: Mapping[str, str], layout: _Layout) -> None:
        """Write the lines of METRICS anew whose fields changed; "" for what is no number."""
        for field, memo in layout.numbers:
            text = fields[field]
            if memo.text != text:
                memo.text = text
                line = f"{self._braces} {text}" if _is_number(text) else ""
                for metric in NUMBERS[field]:
                    layout.lines[_PLACES[metric.name]] = line and metric.name + line
        self._write_commands(fields, layout)

    def _write_commands(self, fields: Mapping[str, str], layout: _Layout) -> None:
        """Those of all commands together: half of the page. So what never happened has no line, and the summary no sum and count,
        which are the first two families.
        """
        if _changed(layout.commands, fields, self._command):
            for place in range(len(_COUNTERS)):
                layout.lines[place] = "\n".join([memo.lines[place] for _, memo in layout.commands if memo.lines[place]])
        if _changed(layout.percentiles, fields, self._percentiles):
            layout.lines[_PLACES[LATENCY.name]] = "\n".join(line for _, memo in layout.percentiles for line in memo.lines)

    def _command(self, field: str, text: str) -> tuple[str, ...]:
        """A line for each of _COUNTERS, "" where it says nothing."""
        match = _CALLS.match(text)
        if match is None:
            return ("",) * len(_COUNTERS)
        calls, usec, rejected, failed = match.groups()
        values = (calls, str(int(usec) / 1e6), rejected if rejected != "0" else "", failed if failed != "0" else "")
        named = f'{{{self._before}cmd="{field[8:]}"}}'
        return tuple(value and f"{counter.name}{named} {value}" for counter, value in zip(_COUNTERS, values, strict=True))

    def _percentiles(self, field: str, text: str) -> tuple[str, ...]:
        """The percentiles of a command's times."""
        head = f'{LATENCY.name}{{{self._before}cmd="{field[25:]}",quantile="'
        return tuple(f'{head}{quantile}"}} {value}' for quantile, value in _QUANTILES.findall(text))


def _changed(
    memos: Sequence[tuple[str, _Memo]], fields: Mapping[str, str], lines_of: Callable[[str, str], tuple[str, ...]]
) -> bool:
    """Write the lines of those fields anew whose texts changed; whether there were any."""
    changed = False
    for field, memo in memos:
        text = fields[field]
        if memo.text != text:
            memo.text, memo.lines, changed = text, lines_of(field, text), True
    return changed


@lru_cache(maxsize=_ENGINES)
def _written(common: str) -> _Written:
    return _Written(common)


def _write_link(page: Page, fields: Mapping[str, str], common: str) -> None:
    """A follower's link to its leader."""
    leader = joined(common, labels({name: fields.get(name, "") for name in ("master_host", "master_port")}))
    if "master_link_status" in fields:
        page.add(LINK_UP, int(fields["master_link_status"] == "up"), leader)
    for field, metric in LEADER_FIELDS.items():
        if field in fields:
            page.add(metric, fields[field], leader)


def _write_numbered(page: Page, field: str, values: Mapping[str, str], common: str) -> None:
    """A field of which there are several: of errors, followers and databases."""
    if field.startswith("errorstat_"):
        page.add(ERRORS, values["count"], joined(common, labels({"err": field.removeprefix("errorstat_")})))
    elif field.startswith("slave") and "offset" in values:
        _write_follower(page, values, common)
    elif "keys" in values:
        _write_database(page, values, joined(common, labels({"db": field})))


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


def _write_follower(page: Page, replica: Mapping[str, str], common: str) -> None:
    address = {"slave_ip": replica["ip"], "slave_port": replica["port"], "slave_state": replica["state"]}
    labelled = joined(common, labels(address))
    page.add(REPLICA_OFFSET, replica["offset"], labelled)
    page.add(REPLICA_LAG, replica["lag"], labelled)


def _write_database(page: Page, stats: Mapping[str, str], labelled: str) -> None:
    page.add(KEYS, stats["keys"], labelled)
    page.add(KEYS_EXPIRING, stats.get("expires", "0"), labelled)
    page.add(TTL, int(stats.get("avg_ttl", "0")) / 1000, labelled)
